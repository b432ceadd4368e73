"""A version as an imagefolder: images/SPLIT/CLASS with the original bytes, and labels.csv."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curator.errors import CuratorError
from curator.result.facts import (
    read_small,
    reading,
    split_of,
)
from curator.result.layout import QUARANTINE
from curator.result.parquet import ROW_GROUP
from curator.result.read import Rows
from curator.sources.pictures import Decoder, NoPicture
from curator.text import as_cell

FORMATS = ("parquet", "imagefolder")
LONGEST = 200  # bytes of a class's folder name, of which file systems take 255


def batches(file: pq.ParquetFile, path: Path) -> Iterator[pa.RecordBatch]:
    """A file's rows, ROW_GROUP at a time.

    Raises:
        CuratorError: where it is broken.
    """
    found = file.iter_batches(ROW_GROUP)
    while True:
        with reading(path):
            batch = next(found, None)
        if batch is None:
            return
        yield batch


def set_aside(run: Path) -> set[tuple[str, int]]:
    """(split, row) of the rows that the run could not use."""
    table = read_small(run / QUARANTINE, {"split": pa.string(), "row": pa.int64()}, 2**31)
    return set() if table is None else {(item["split"], item["row"]) for item in table.to_pylist()}


def as_imagefolder(folder: Path, rows: Rows, clean: np.ndarray, remarked: Sequence[str] = ()) -> int:
    """Turn data/ into images/SPLIT/CLASS with the original bytes and file names, and labels.csv with the columns.

    The columns of what people remarked (notes, tags) stand at its end. Left out are rows that were set aside,
    and rows of other splits without a label; how many the latter are.
    """
    facts, prefix = rows.facts, rows.prefix
    image, label = facts["image_column"], facts["label_column"]
    names = [prefix + name for name in ("row", "clean_score", "selected", "corrected_label")]
    paths = sorted((folder / "data").iterdir())
    labels = [pq.read_table(path, columns=[label])[label] for path in paths]
    found = {name for column in labels for name in _class_names(rows, column) if name is not None}
    classes = [*rows.classes, *sorted(found - {*rows.classes})]  # other splits may have some of their own
    below = dict(zip(classes, folder_names(classes), strict=True))
    aside, unlabelled, taken = set_aside(rows.folder), 0, set[str]()
    of_row = {row: (int(g), bool(c)) for row, g, c in zip(rows.row.tolist(), rows.given, clean, strict=True)}
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*("split", "row", "file", "source", "label", "given", "suggested", "clean_score", "selected"),
                        "clean", *remarked])  # fmt: skip
        for path in paths:
            split = split_of(path)
            for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP, columns=[image, label, *names, *remarked]):
                part = pa.table(batch)
                values = zip(
                    part[image].to_pylist(), *(part[name].to_pylist() for name in (*names, *remarked)), strict=True
                )
                for now, (item, row, *scores) in zip(_class_names(rows, part[label]), values, strict=True):
                    if (split, row) in aside:
                        continue
                    if not item or item.get("bytes") is None:
                        raise CuratorError(
                            f"--format imagefolder: row {row} of split {split!r} has no image; use parquet"
                        )
                    if now is None:
                        unlabelled += 1
                        continue
                    score, selected, corrected, *more = scores
                    target = _free_name(f"images/{split}/{below[now]}", item, row, taken)
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    (folder / target).write_bytes(item["bytes"])
                    code, is_clean = of_row[row] if split == facts["split"] else (None, "")
                    given = now if code is None else _name(rows, code)
                    cells: list[str] = [target, item.get("path") or "", now, given, _name(rows, corrected)]
                    said = [as_cell("; ".join(v) if isinstance(v, list) else v or "") for v in more]
                    lines.writerow([split, row, *map(as_cell, cells), score, selected, is_clean, *said])
    for name in ("data", "clean"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return unlabelled


def _name(rows: Rows, code: int | None) -> str:
    return "" if code is None or code < 0 else rows.classes[code]


def _class_names(rows: Rows, labels: pa.ChunkedArray) -> list[str | None]:
    """The class of every label by name, of one that the run has not met, too; None for a missing label."""
    known = rows.codes(labels).tolist()
    own = [None if v is None or (isinstance(v, int) and v < 0) else str(v) for v in labels.to_pylist()]
    return [rows.classes[code] if code >= 0 else name for code, name in zip(known, own, strict=True)]


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder for every class: its name, with whatever has a meaning to a file system written as %XX, and unique."""
    found: list[str] = []
    for code, name in enumerate(classes):
        text = re.sub(r"[^\w .-]", lambda m: quote(m[0], safe=""), name)
        text = text.encode()[:LONGEST].decode(errors="ignore").strip(" ._")
        while not text or text.lower() in {other.lower() for other in found}:
            text = f"{text or 'class'}-{code}"
        found.append(text)
    return found


def _free_name(folder: str, item: dict[str, Any], row: int, taken: set[str]) -> str:
    """A path in the folder that no image has yet, in any case of its letters: the image's own name where it can be."""
    source, suffix = (item.get("path") or "").rpartition("/")[2], _suffix(item)
    stem = source[: -len(suffix)] if source.lower().endswith(suffix) else source
    suffix = source[len(stem) :] or suffix
    # What is hidden, or has a meaning to a file system or a pattern of files, is written as %XX.
    stem = "".join(quote(c, safe="") if c in '\\:*?"<>|%' or not c.isprintable() else c for c in stem)
    stem = re.sub(r"^(\.|__)", lambda m: "".join(f"%{ord(c):02X}" for c in m[0]), stem)
    stem = stem.encode()[:LONGEST].decode(errors="ignore") or f"{row:07d}"
    path, number = f"{folder}/{stem}{suffix}", 0
    while path.lower() in taken:
        path, number = f"{folder}/{stem}-{row}{f'-{number}' if number else ''}{suffix}", number + 1
    taken.add(path.lower())
    return path


def _suffix(item: dict[str, Any]) -> str:
    """The image's own file type, that of its name if it has one."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    suffix = Path(item.get("path") or "").suffix.lower()
    if suffix in ImageFolder.EXTENSIONS:
        return suffix
    try:
        return f".{Decoder().look(item['bytes']).format.lower()}"
    except NoPicture:
        return ".png"
