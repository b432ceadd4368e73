"""The noisy datasets of the papers, from the files as they are handed out: no script here downloads them.

A row names its image file; nothing is decoded or copied, so a million rows load in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from curator.errors import CuratorError

# As the dataset's page numbers them; there are users who hold 4 and 5, cheetah and jaguar, to be swapped in its files.
ANIMALS = ("cat", "lynx", "wolf", "coyote", "cheetah", "jaguar", "chimpanzee", "orangutan", "hamster", "guinea pig")
CLOTHES = (
    "T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker", "Jacket", "Down Coat", "Suit",
    "Shawl", "Dress", "Vest", "Underwear",
)  # fmt: skip
WEBVISION_CLASSES = 50  # the "mini" WebVision of the papers: its first ones
# Where ImageNet's validation images may lie, as (folder of Kaggle's solution file, folder of the images below it).
IMAGENET = (("imagenet", "val"), ("imagenet", "ILSVRC/Data/CLS-LOC/val"), ("", "ILSVRC/Data/CLS-LOC/val"))

Rows = dict[str, int]  # path of an image -> its class number, -1 where it has none


class Paper(NamedTuple):
    """A dataset of the papers."""

    title: str
    home: str  # where it is to be had
    layout: str  # what its folder holds, for errors
    marks: tuple[str, ...]  # by these its folder is known
    read: Callable[[Path, str | None], dict[str, Dataset]]  # from its folder and the configuration
    configs: tuple[str, ...] = ()
    beside: str = ""  # a folder of images that may lie beside its folder


def open_paper(
    name: str, data_dir: Path | None, config_name: str | None = None
) -> tuple[DatasetDict, Path, list[Path]]:
    """The splits of one of PAPERS, the folder that holds it, and one outside of --data-dir that its images may lie in.

    Every split has the columns image (files, by path) and label (ClassLabel), Clothing1M also verified (bool). The rows
    are in the order of the dataset's lists, or else sorted by file name.

    Args:
        name: a key of PAPERS.
        data_dir: the dataset's folder, or one that holds it up to two levels below.
        config_name: for clothing1m: "noisy" leaves the verified rows out of the split train.

    Raises:
        CuratorError: for files that are missing or not as expected, naming the file and what to do.
    """
    paper = PAPERS[name]
    if config_name not in (None, *paper.configs):
        known = f"expected {' or '.join(paper.configs)} for {name}" if paper.configs else f"{name} has none"
        raise CuratorError(f"--config-name: {known}, found {config_name!r}; or leave it out")
    if data_dir is None:
        raise CuratorError(
            f"--data-dir: {name} is not downloaded by Curator: get it from {paper.home}, unpack it and name its "
            f"folder, which holds {paper.layout}"
        )
    below = (place for depth in ("*", "*/*") for place in sorted(data_dir.glob(depth)))
    places = chain((data_dir / name, data_dir), below)  # one after the other: a folder below may hold 50,000 images
    folder = next((place for place in places if all((place / mark).exists() for mark in paper.marks)), None)
    if folder is None:
        found = sorted(os.listdir(data_dir))
        raise CuratorError(
            f"--data-dir {data_dir}: expected {paper.title}, that is {paper.layout}, in it or up to two folders below; "
            f"found {', '.join(found[:6]) or 'nothing'}{', …' if len(found) > 6 else ''}; get it from {paper.home}"
        )
    splits = DatasetDict(paper.read(folder, config_name))
    if empty := next((split for split, rows in splits.items() if not len(rows)), None):
        raise CuratorError(f"--data-dir {folder}: split {empty!r} has no images; expected {paper.layout}")
    return splits, folder, [folder.parent / paper.beside] if paper.beside else []


def _animal10n(folder: Path, _: str | None) -> dict[str, Dataset]:
    def rows(part: str) -> Rows:
        return {f"{folder}/{part}/{name}": _number(name.partition("_")[0]) for name in _images(folder / part)}

    return {"train": _dataset(rows("training"), ANIMALS), "test": _dataset(rows("testing"), ANIMALS)}


def _clothing1m(lists: Path, config: str | None) -> dict[str, Dataset]:
    noisy, clean = _numbered(lists / "noisy_label_kv.txt"), _numbered(lists / "clean_label_kv.txt")
    parts = ("noisy_train", "clean_train", "clean_val", "clean_test")
    keys = {part: _lines(lists / f"{part}_key_list.txt") for part in parts}
    # The lists lie beside the folder images, or in a folder of their own beside it.
    base = _holder((lists, lists.parent), next(iter(keys["noisy_train"]), ""))
    named = _holder((lists, base), "category_names_eng.txt") / "category_names_eng.txt"
    classes = _lines(named) if named.is_file() else CLOTHES

    def rows(part: str, labels: Rows) -> Rows:
        return {f"{base}/{key}": labels.get(key, -1) for key in keys[part]}

    # A million noisy labels; the rows of the clean list come after them, and are what --verified verified takes.
    # An image of both lists is one row, with its clean label.
    verified = {} if config == "noisy" else rows("clean_train", clean)
    validation, test = rows("clean_val", clean), rows("clean_test", clean)
    return {
        "train": _dataset(rows("noisy_train", noisy) | verified, classes, verified),
        "validation": _dataset(validation, classes, validation),
        "test": _dataset(test, classes, test),
    }


def _webvision(folder: Path, _: str | None) -> dict[str, Dataset]:
    imagenet = next((pair for pair in IMAGENET if (folder / pair[0] / pair[1]).is_dir()), None)
    synsets = folder / "info" / "synsets.txt"
    words = _words(synsets, " ") if synsets.is_file() or imagenet else {}
    wnids = list(words)[:WEBVISION_CLASSES]
    classes = _class_names(wnids, words) or [str(i) for i in range(WEBVISION_CLASSES)]

    def rows(listed: str, *places: str) -> Rows:
        keys = {key: c for key, c in _numbered(folder / "info" / listed).items() if c < WEBVISION_CLASSES}
        base = _holder([folder / place for place in places], next(iter(keys), ""))
        return {f"{base}/{key}": label for key, label in keys.items()}

    train = rows("train_filelist_google.txt", ".", "google_resized_256")
    splits = {"train": train, "validation": rows("val_filelist.txt", "val_images_256", "val_images")}
    if imagenet:
        splits["imagenet"] = _imagenet(folder / imagenet[0], folder / imagenet[0] / imagenet[1], wnids)
    return {split: _dataset(found, classes) for split, found in splits.items()}


def _imagenet(folder: Path, images: Path, wnids: list[str]) -> Rows:
    """ImageNet's validation images of some classes: in folders named by wnid, or as Kaggle has them."""
    if any((images / wnid).is_dir() for wnid in wnids):
        return {f"{images}/{wnid}/{name}": c for c, wnid in enumerate(wnids) for name in _images(images / wnid)}
    number = {wnid: c for c, wnid in enumerate(wnids)}
    solution = (line.split(",") for line in _lines(folder / "LOC_val_solution.csv"))  # name,wnid x1 y1 x2 y2 wnid …
    found = sorted((name, boxes.partition(" ")[0]) for name, boxes, *_ in ([*cells, ""] for cells in solution))
    return {f"{images}/{name}.JPEG": number[wnid] for name, wnid in found if wnid in number}


def _tiny_imagenet(folder: Path, _: str | None) -> dict[str, Dataset]:
    wnids = sorted(_lines(folder / "wnids.txt"))  # numbered as an image folder numbers them, not as the file does
    classes = _class_names(wnids, _words(folder / "words.txt", "\t"))
    number = {wnid: c for c, wnid in enumerate(wnids)}
    places = {wnid: folder / "train" / wnid / "images" for wnid in wnids}
    train = {f"{place}/{name}": number[wnid] for wnid, place in places.items() for name in _images(place)}
    listed = ([*line.split("\t"), ""] for line in _lines(folder / "val" / "val_annotations.txt"))  # name, wnid, box
    val = {f"{folder}/val/images/{name}": number.get(wnid, -1) for name, wnid, *_ in listed}
    return {"train": _dataset(train, classes), "validation": _dataset(val, classes)}


PAPERS = {
    "animal10n": Paper(
        "ANIMAL-10N",
        "https://dm.kaist.ac.kr/datasets/animal-10n",
        "the folders training and testing with images named LABEL_ID.jpg",
        ("training", "testing"),
        _animal10n,
    ),
    "clothing1m": Paper(
        "Clothing1M",
        "its authors (https://github.com/Cysu/noisy_label)",
        "noisy_train_key_list.txt, clean_train_key_list.txt, clean_val_key_list.txt, clean_test_key_list.txt, "
        "noisy_label_kv.txt and clean_label_kv.txt beside the folder images, or in a folder annotations",
        ("noisy_train_key_list.txt",),
        _clothing1m,
        ("noisy",),
        "images",
    ),
    "webvision": Paper(
        "WebVision 1.0",
        "https://data.vision.ee.ethz.ch/cvl/webvision/download.html",
        "info/train_filelist_google.txt, info/val_filelist.txt and the folders google and val_images_256",
        ("info/train_filelist_google.txt",),
        _webvision,
    ),
    "tiny-imagenet": Paper(
        "Tiny ImageNet",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "wnids.txt, words.txt, train/WNID/images, val/images and val/val_annotations.txt",
        ("wnids.txt",),
        _tiny_imagenet,
    ),
}


def _dataset(rows: Rows, classes: Iterable[str], verified: Container[str] | None = None) -> Dataset:
    """Rows as a Dataset; verified: the images whose label is, for a column that says so.

    Built from Arrow arrays, since Dataset.from_dict would look at every image by itself.
    """
    names = list(classes)
    labels = np.fromiter(rows.values(), np.int64, len(rows))
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        label = labels[wrong[0]]
        raise CuratorError(
            f"--data-dir: {list(rows)[wrong[0]]}: expected a label among the {len(names)} classes, "
            f"found {'none' if label < 0 else label}; the lists and the images do not match: unpack them again"
        )
    first = next(iter(rows), None)
    if first is not None and not os.path.isfile(first):
        raise CuratorError(f"--data-dir: no image {first}, the first on the list; unpack the images there")
    try:
        features = Features({"image": Image(), "label": ClassLabel(names=names)})
    except ValueError as e:
        raise CuratorError(f"--data-dir: expected one name for every class, found {', '.join(names)[:99]}") from e
    paths = pa.array(rows, pa.string())
    image = pa.StructArray.from_arrays([pa.nulls(len(rows), pa.binary()), paths], ["bytes", "path"])
    columns: dict[str, pa.Array] = {"image": image, "label": pa.array(labels)}
    if verified is not None:
        features["verified"] = Value("bool")
        columns["verified"] = pa.array([path in verified for path in rows], pa.bool_())
    return Dataset(pa.table(columns).cast(features.arrow_schema))


def _images(folder: Path) -> list[str]:
    """Names of the images in a folder, sorted; hidden ones are what macOS leaves beside them."""
    try:
        names = (name for name in os.listdir(folder) if not name.startswith("."))
        return sorted(name for name in names if name.lower().endswith((".jpg", ".jpeg", ".png")))
    except OSError as e:
        raise CuratorError(f"--data-dir: expected a folder of images {folder} ({e.strerror}); unpack it there") from e


def _lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty, without what surrounds them."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or "it is no UTF-8 text"
        raise CuratorError(f"--data-dir: expected the list {file} ({reason}); unpack it there") from e
    return [stripped for line in lines if (stripped := line.strip())]


def _numbered(file: Path) -> Rows:
    """A list of lines `KEY NUMBER`."""
    pairs = (line.rpartition(" ") for line in _lines(file))
    rows = {key: _number(number) for key, _, number in pairs}
    if "" in rows or -1 in rows.values():
        line = next(line for line in _lines(file) if " " not in line or _number(line.rpartition(" ")[2]) < 0)
        raise CuratorError(f"--data-dir: {file}: expected lines of a file and a class number, found {line[:100]!r}")
    return rows


def _number(text: str) -> int:
    """A class number; -1 where the text is none."""
    return int(text) if text.isascii() and text.isdecimal() else -1


def _words(file: Path, separator: str) -> dict[str, str]:
    """What the wnids mean, in the file's order."""
    return {wnid: words for wnid, _, words in (line.partition(separator) for line in _lines(file))}


def _class_names(wnids: list[str], words: dict[str, str]) -> list[str]:
    """The first of the words of every wnid; with the wnid where two classes share it (there are two cranes)."""
    first = [words.get(wnid, "").split(",")[0].strip() or wnid for wnid in wnids]
    return [word if first.count(word) == 1 else f"{word} ({wnid})" for wnid, word in zip(wnids, first, strict=True)]


def _holder(folders: Iterable[Path], file: str) -> Path:
    """The first of the folders that holds a file; the first of all where none does."""
    places = list(folders)
    return next((folder for folder in places if (folder / file).is_file()), places[0])
