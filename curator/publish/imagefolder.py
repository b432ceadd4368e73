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


def as_imagefolder(folder: Path, rows: Rows, clean: np.ndarray) -> None:
    """Turn data/ into images/SPLIT/CLASS/ROW.png with the original bytes, and labels.csv with the columns.

    Rows without a label (of other splits) and those that were set aside are left out.
    """
    facts, prefix = rows.facts, rows.prefix
    image, label = facts["image_column"], facts["label_column"]
    names = [prefix + name for name in ("row", "clean_score", "selected", "corrected_label")]
    below = dict(zip(rows.classes, folder_names(rows.classes), strict=True))
    aside = set_aside(rows.folder)
    of_row = {row: (int(g), bool(c)) for row, g, c in zip(rows.row.tolist(), rows.given, clean, strict=True)}
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["split", "row", "file", "label", "given", "suggested", "clean_score", "selected", "clean"])
        for path in sorted((folder / "data").iterdir()):
            split = split_of(path)
            for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP, columns=[image, label, *names]):
                part = pa.table(batch)
                labels = rows.codes(part[label]).tolist()
                values = zip(part[image].to_pylist(), *(part[name].to_pylist() for name in names), strict=True)
                for now, (item, row, score, selected, corrected) in zip(labels, values, strict=True):
                    if (split, row) in aside:
                        continue
                    if not item or item.get("bytes") is None:
                        raise CuratorError(
                            f"--format imagefolder: row {row} of split {split!r} has no image; use parquet"
                        )
                    if now < 0:
                        continue
                    target = f"images/{split}/{below[rows.classes[now]]}/{row:07d}{_suffix(item)}"
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    (folder / target).write_bytes(item["bytes"])
                    given, is_clean = of_row[row] if split == facts["split"] else (now, "")
                    texts = ["" if c is None or c < 0 else as_cell(rows.classes[c]) for c in (now, given, corrected)]
                    lines.writerow([split, row, as_cell(target), *texts, score, selected, is_clean])
    for name in ("data", "clean"):
        shutil.rmtree(folder / name, ignore_errors=True)


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
