"""Which column of a table names image files, which holds labels: guessed by what they hold, and by their names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curator.sources.matching import Files, is_address

LABELS = (
    "label", "labels", "class", "classname", "category", "target", "classlabel", "labelname", "categoryname",
    "species", "breed", "diagnosis", "tag", "groundtruth", "gt", "y", "classid", "labelid", "categoryid", "annotation",
)  # fmt: skip
FILES = ("filename", "file", "path", "filepath", "image", "imagepath", "imagename", "imagefile", "img", "name", "url")


@dataclass
class Named:
    """A table whose rows name images.

    Attributes:
        table: its n rows; `column` names the images, and `label`, if there is one, holds labels by its name.
        name: of its file, relative to the folder.
        files: (n,) the image that each row means, relative to the folder; None where there is none.
        others: columns that may hold labels by their names, too, where none is called label and none was named.
    """

    table: pa.Table
    name: str
    column: str
    label: str | None
    files: list[str | None]
    others: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The folder in which the table lies, as "" or `train/`."""
        return self.name[: self.name.rfind("/") + 1]

    def missing(self, folder: Path, cell: str) -> str:
        """Where the file of a cell would be that means none."""
        return cell if is_address(cell) or os.path.isabs(cell) else str(folder / (self.base + cell))


def named_in(
    table: pa.Table, name: str, files: Files | None, base: str, image: str | None, label: str | None, *, exact: bool
) -> Named | None:
    """The table with what its columns are; None where none names images.

    Args:
        table: the rows.
        name: of the table's file, relative to the folder of the images.
        files: None where nothing may be looked at: the column is told by its name.
        base: the folder of the table in that of the files.
        image: the column of images that the user named.
        label: that of labels.
        exact: whether only a column file_name counts, as in metadata.csv.
    """
    names: list[str] = table.column_names
    base = f"{base}/" if base else ""
    best: tuple[str, list[str | None]] | None = None
    most = 0.0
    for column in [image] if image in names else ["file_name"] if exact else names:
        if column is None or column not in names or not _may_name(table[column].type):
            continue
        cells = [None if cell is None else str(cell) for cell in table[column].to_pylist()]
        means: list[str | None] = files.found(cells, base) if files else [None] * len(cells)
        if not any(means) and files:
            means = files.found(cells, base, stems=True)
            distinct = len({path for path in means if path})
            if column != image and not exact and (column == label or 2 * distinct < sum(map(bool, means))):
                continue  # classes or ratings, and files that happen to be called 1.png
        score = len({path for path in means if path}) + (0.5 if plain(column) in FILES else 0)
        sure = column == image or exact or (files is None and plain(column) in FILES)
        fits = sure or (any(means) and 2 * sum(map(bool, means)) >= sum(cell is not None for cell in cells))
        if fits and (best is None or score > most):
            best, most = (column, means), score
    if best is None:
        return None
    labels = {plain(c): c for c in reversed(names) if c != best[0]}
    may = [labels[n] for n in LABELS if n in labels]
    known = label if label in names else may[0] if may else None
    sure = label in names or known is None or plain(known) in LABELS[:2]
    return Named(table, name, best[0], known, best[1], () if sure else tuple(may[1:]))


def notes_on_columns(tables: list[Named]) -> list[str]:
    """A line where another column than that of the labels may be it."""
    first = next((table for table in tables if table.others), None)
    if first is None:
        return []
    return [f"the labels are column {first.label}; {', '.join(first.others)} may be, too: --label-column names another"]


def plain(column: str) -> str:
    """A column's name as it is compared: File_Name is filename."""
    return re.sub(r"[\W_]", "", column.casefold())


def _may_name(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
