"""All splits of a dataset, where they come from, and which folders are its own."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from datasets.exceptions import DatasetGenerationError

from curator.errors import CuratorError
from curator.sources import research as papers
from curator.sources.files import beside, real_folders, whole_of
from curator.sources.metadata import (
    CARDS,
    require_card,
    require_own_files,
    require_own_repository,
    require_room,
)
from curator.sources.network import HubLimit, hub_limits
from curator.system import is_path
from curator.text import did_you_mean, printable

# name -> Hub id, folder under --data-dir, label column (None: guessed)
NAMED: dict[str, tuple[str | None, str, str | None]] = {
    "digits": (None, "", None),
    "cifar10": ("uoft-cs/cifar10", "cifar10", None),
    "cifar10n": ("uoft-cs/cifar10", "cifar10", None),
    "cifar100": ("uoft-cs/cifar100", "cifar100", "fine_label"),
    "cifar100n": ("uoft-cs/cifar100", "cifar100", "fine_label"),
    **{name: (None, name, None) for name in papers.PAPERS},
}
LICENSE = ("license", "license_name", "license_link")  # of a card's YAML


def open_dataset(
    dataset: str | Dataset | DatasetDict, data_dir: Path | None, config_name: str | None, revision: str | None
) -> tuple[DatasetDict, dict[str, Any], tuple[str, ...]]:
    """All splits, where they come from (Table.source), and their own folders (Access.folders)."""
    if data_dir is not None and not data_dir.is_dir():
        raise CuratorError(f"--data-dir: no folder {data_dir}")
    if isinstance(dataset, Dataset):
        splits = DatasetDict({str(dataset.split or "train"): dataset})
        return splits, {"id": None, "license": _said(dataset.info.license)}, _folders_of(splits)
    if isinstance(dataset, DatasetDict):
        return dataset, {"id": None}, _folders_of(dataset)
    if not isinstance(dataset, str):
        raise CuratorError(
            f"dataset: expected a name, a folder, a Dataset or a DatasetDict; found {type(dataset).__name__}"
        )
    if dataset == "digits":
        return _digits(), {"id": "scikit-learn digits", "license": "cc-by-4.0"}, ()
    if dataset in papers.PAPERS:
        splits, home, around = papers.open_paper(dataset, data_dir, config_name)
        return splits, {**_own_card(home), "id": papers.PAPERS[dataset].title}, real_folders(around)
    if dataset in NAMED:
        hub, folder, _ = NAMED[dataset]
        if data_dir is None:
            dataset = str(hub)
        else:
            local = data_dir / folder if (data_dir / folder).is_dir() else data_dir
            splits = _read(str(local), None, None, f"--data-dir {data_dir}")
            return splits, {**_own_card(local), "id": hub}, (whole_of(data_dir),)
    elif is_path(dataset):
        path = Path(dataset).expanduser()
        if not path.exists():
            raise CuratorError(f"--dataset: no folder {dataset}")
        splits = _read(str(path), config_name, None, f"--dataset {dataset}")
        folders = real_folders(beside(path)) if path.is_file() else (whole_of(path),)
        return splits, {**_own_card(path), "id": None}, folders
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset):
        raise CuratorError(
            f"--dataset: {dataset!r} is not a named dataset ({', '.join(NAMED)}), a folder or a Hub id (owner/name)"
            + did_you_mean(dataset, NAMED)
        )
    from huggingface_hub.file_download import repo_folder_name

    splits = _read(dataset, config_name, revision, f"--dataset {dataset}")
    own = _own_card(dataset, revision)
    own["license"] = own.get("license") or _said(next(iter(splits.values())).info.license)
    source = {**own, "id": dataset, "revision": revision, "config": config_name}
    return splits, source, real_folders(_downloads(repo_folder_name(repo_id=dataset, repo_type="dataset")))


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


def _own_card(source: str | Path, revision: str | None = None) -> dict[str, Any]:
    """What a folder's or a Hub id's README.md says of its license, and its text; empty where there is none to read."""
    from huggingface_hub import DatasetCard

    try:
        if isinstance(source, Path):
            path = source / "README.md"
            require_own_files([str(path)], source, "README.md")
        else:
            path = _from_hub(source, "README.md", revision)
        card = DatasetCard(require_card(path, "README.md"), ignore_metadata_errors=True)
    except Exception:  # a stranger's text: no file, no network, no UTF-8, no YAML; the rows are what was asked for
        return {}
    licenses = {name: _said(card.data.get(name)) for name in LICENSE}
    text = "\n".join(printable(line.expandtabs(4)) for line in card.text.strip().splitlines())
    return {**{name: value for name, value in licenses.items() if value}, "text": text or None}


def _said(value: Any) -> str | list[str] | None:
    """What a card says of its license: a text or several, not at any length; None for anything else."""
    if isinstance(value, list):
        return [printable(text[:200]) for text in value[:20] if isinstance(text, str)]
    return printable(value[:500]) if isinstance(value, str) else None


def _from_hub(repo: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    with hub_limits():
        return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))


def _require_cards(source: str | Path, revision: str | None, flag: str) -> None:
    """Refuse a folder or a Hub id whose cards are not fit to be read by datasets."""
    for name in CARDS:
        try:
            file = source / name if isinstance(source, Path) else _from_hub(source, name, revision)
            if file.exists() and not file.is_file():
                raise CuratorError(f"{flag}: {name} is not a file; remove it")
            require_card(file, f"{flag}: {name}")
        except CuratorError:
            raise
        except Exception:  # noqa: S112 - it is not there, or datasets will say why it cannot be read
            continue


def _read(path: str, config_name: str | None, revision: str | None, flag: str) -> DatasetDict:
    """load_dataset, with its many errors as one line, and of a stranger's dataset nothing but its own files."""
    local, log = Path(path), logging.getLogger("datasets")
    before = log.level
    log.setLevel(logging.CRITICAL)  # what it logs of an error, in many lines, stands in ours
    try:
        if local.is_file():
            kind = {".parquet": "parquet", ".arrow": "arrow"}.get(local.suffix)
            if kind is None:
                raise CuratorError(f"{flag}: expected a folder or a .parquet file, found {local.name}")
            require_room([path] if kind == "parquet" else [], flag)
            loaded = datasets.load_dataset(kind, data_files=path, cache_dir=_cache_of(local))
        elif (local / "dataset_dict.json").exists() or (local / "state.json").exists():
            loaded = datasets.load_from_disk(path)
            parts = loaded.values() if isinstance(loaded, DatasetDict) else [loaded]
            require_own_files([file["filename"] for part in parts for file in part.cache_files], local, flag)
        else:  # what load_dataset does, with a look at the files in between
            with nullcontext() if local.is_dir() else hub_limits():
                _require_cards(local if local.is_dir() else path, revision, flag)
                builder = datasets.load_dataset_builder(
                    path, config_name, revision=revision, cache_dir=_cache_of(local) if local.is_dir() else None
                )
                pictures = getattr(builder, "EXTENSIONS", ())  # of folders of files, each of which is a row
                files = [str(file) for part in (builder.config.data_files or {}).values() for file in part]
                rows = [file for file in files if os.path.splitext(file)[1].lower() not in pictures]
                if local.is_dir():
                    require_own_files(rows, local, flag)
                    require_room(rows, flag)
                else:
                    require_own_repository(files, path)
                builder.download_and_prepare()
                loaded = builder.as_dataset()
    except HubLimit as e:
        raise CuratorError(f"{flag}: it could not be loaded ({e})") from e
    except CuratorError:
        raise
    except Exception as e:
        e = e.__cause__ if isinstance(e, DatasetGenerationError) and e.__cause__ is not None else e  # it says nothing
        text = " ".join(str(e).split()) or type(e).__name__
        hint = "" if local.exists() else "; check the name and the network, and log in (hf auth login) if it is private"
        raise CuratorError(f"{flag}: it could not be loaded ({type(e).__name__}: {text[:300]}){hint}") from e
    finally:
        log.setLevel(before)
    if isinstance(loaded, Dataset):
        loaded = DatasetDict({str(loaded.split or "train"): loaded})
    return loaded


def _cache_of(source: Path) -> str:
    """A cache folder for this state of a local folder or file.

    Where a folder's card names its data files, datasets 5.2 keys its cache by these patterns alone: after the files
    changed, or for another folder of the same name, it would return old rows. A file can be replaced by one of its size
    and time, but not without another number or time of change (ctime), which nobody can set.
    """

    def refuse(error: OSError) -> None:
        raise error  # a folder that may not be read: datasets would leave its rows out without a word

    digest = hashlib.blake2b(str(source.resolve()).encode("utf-8", "surrogateescape"), digest_size=8)
    walked = os.walk(source, onerror=refuse) if source.is_dir() else ()
    found = [source, *(Path(base, name) for base, _, names in walked for name in names)]
    for file in sorted(p for p in found if p.is_file()):
        stat = file.stat()
        state = f"{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_dev}\0{stat.st_ino}\n"
        digest.update(os.fsencode(file) + f"\0{state}".encode())
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "label-curator" / digest.hexdigest())


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
