"""All splits of a dataset, where they come from, and which folders are its own."""

from __future__ import annotations

import io
import re
from pathlib import Path

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

from curator.errors import CuratorError
from curator.sources import research as papers
from curator.sources.builders import read_rows
from curator.sources.cards import own_card, said
from curator.sources.files import beside, real_folders, whole_of
from curator.sources.local import Asked, Opened, open_local
from curator.system import is_path
from curator.text import did_you_mean

# name -> Hub id, folder under --data-dir, label column (None: guessed)
NAMED: dict[str, tuple[str | None, str, str | None]] = {
    "digits": (None, "", None),
    "cifar10": ("uoft-cs/cifar10", "cifar10", None),
    "cifar10n": ("uoft-cs/cifar10", "cifar10", None),
    "cifar100": ("uoft-cs/cifar100", "cifar100", "fine_label"),
    "cifar100n": ("uoft-cs/cifar100", "cifar100", "fine_label"),
    **{name: (None, name, None) for name in papers.PAPERS},
}


def open_dataset(dataset: str | Dataset | DatasetDict, asked: Asked, revision: str | None = None) -> Opened:
    """Find a dataset.

    Raises:
        CuratorError: in the user's terms, where there is none, or it cannot be read.
    """
    data_dir, config_name = asked.data_dir, asked.config_name
    if asked.class_level is not None and not (isinstance(dataset, str) and dataset not in NAMED and is_path(dataset)):
        raise CuratorError("--class-level: it is for folders of images on this machine; leave it out")
    if data_dir is not None and not data_dir.is_dir():
        raise CuratorError(f"--data-dir: no folder {data_dir}")
    if isinstance(dataset, Dataset):
        splits = DatasetDict({_split_of(dataset): dataset})
        return Opened(splits, {"id": None, "license": said(dataset.info.license)}, _folders_of(splits))
    if isinstance(dataset, DatasetDict):
        return Opened(dataset, {"id": None}, _folders_of(dataset))
    if not isinstance(dataset, str):
        raise CuratorError(
            f"dataset: expected a name, a folder, a Dataset or a DatasetDict; found {type(dataset).__name__}"
        )
    name = dataset
    if dataset == "digits":
        return Opened(
            _digits(), {"id": "scikit-learn digits", "license": "cc-by-4.0"}, (), notes=_namesakes(dataset, data_dir)
        )
    if dataset in papers.PAPERS:
        splits, home, around = papers.open_paper(dataset, data_dir, config_name)
        source = {**own_card(home), "id": papers.PAPERS[dataset].title}
        return Opened(splits, source, real_folders(around), notes=_namesakes(dataset, data_dir))
    if dataset in NAMED:
        hub, folder, _ = NAMED[dataset]
        if data_dir is None:
            dataset = str(hub)
        else:
            local = data_dir / folder if (data_dir / folder).is_dir() else data_dir
            opened = open_local(local, Asked(), f"--data-dir {data_dir}")
            opened.source, opened.folders = {**own_card(local), "id": hub}, (whole_of(data_dir),)
            return opened
    elif is_path(dataset):
        path = Path(dataset).expanduser()
        if not path.exists():
            raise CuratorError(f"--dataset: no folder {dataset}")
        return open_local(path, asked, f"--dataset {dataset}")
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset):
        raise CuratorError(
            f"--dataset: {dataset!r} is not a named dataset ({', '.join(NAMED)}), a folder or a Hub id (owner/name)"
            + did_you_mean(dataset, NAMED)
        )
    from huggingface_hub.file_download import repo_folder_name

    splits, _ = read_rows(dataset, config_name, revision, f"--dataset {name}")
    own = own_card(dataset, revision)
    own["license"] = own.get("license") or said(next(iter(splits.values())).info.license)
    source = {**own, "id": dataset, "revision": revision, "config": config_name}
    folders = real_folders(_downloads(repo_folder_name(repo_id=dataset, repo_type="dataset")))
    return Opened(splits, source, folders, notes=_namesakes(name, data_dir))


def _namesakes(name: str, data_dir: Path | None) -> list[str]:
    """A line where a folder here has the name of a named dataset, which is another."""
    there = data_dir is None and Path(name).is_dir()
    return [f"{name} is the named dataset; the folder of that name here is --dataset ./{name}"] * there


def _split_of(dataset: Dataset) -> str:
    """A name for the split that a Dataset is: of "train[:50%]" train."""
    parts = re.sub(r"\[[^]]*\]?|\([^)]*\)?", "", str(dataset.split or "train")).split("+")
    return "_".join(dict.fromkeys(part.strip() for part in parts))


def _folders_of(splits: DatasetDict) -> tuple[str, ...]:
    """Folders in which files that a Dataset object names are read, besides --data-dir.

    Where its rows come from is not known: they may be those of a stranger's parquet file, which may name any file. So
    these are the folders of its Arrow files, as load_from_disk has them, and what datasets downloaded.
    """
    arrow = {cache["filename"]: None for split in splits.values() for cache in split.cache_files}
    return real_folders([*(folder for file in arrow for folder in beside(file)), *_downloads()])


def _downloads(repository: str = "") -> list[Path]:
    """Where datasets keeps what it has downloaded from the Hub, of one repository or of all."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return [Path(HF_HUB_CACHE) / repository, Path(datasets.config.HF_DATASETS_CACHE) / "downloads"]


def _digits() -> DatasetDict:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 px as PNG images."""
    from PIL import Image as Pil
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = []
    for pixels in raw.images:
        file = io.BytesIO()
        Pil.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": None})
    features = Features({"image": Image(), "label": ClassLabel(names=[str(i) for i in range(10)])})
    return DatasetDict({"train": Dataset.from_dict({"image": images, "label": raw.target.tolist()}, features=features)})
