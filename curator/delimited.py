"""CSV as people and programs write it: which separator it has, and the cells of its lines."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from curator.errors import CuratorError

Line = tuple[int, list[str]]  # a row's cells, and the number of its last line


def lines_of(
    text: str,
    separator: str | None = None,  # None: as the file says, or what its first line has most of
    most: int | None = None,  # rows below the names; None: any number
) -> list[Line]:
    """The cells of every row, the names' first.

    Rows are counted as pandas does: an empty line is none, one of empty cells is a row, unless nothing follows. Where
    quotes do not fit, they are text if there are no others; a blank may stand before one that opens a cell.

    Raises:
        CuratorError: for a quote that is not closed, more cells than names, and more than the most lines.
        csv.Error: for a cell of more than 128 KiB.
    """
    head = text[: text.find("\n") + 1] or text
    if given := re.fullmatch(r"sep=(.)\s*", head, re.IGNORECASE):  # Excel's own line
        separator, text = given[1], "\n" + text[len(head) :]  # an empty line in its place: lines keep their numbers
    separator = separator or max(",;\t|", key=re.sub('"[^"]*"', "", head).count)  # of many countries ;
    rows, fault = _cells(text, most, delimiter=separator, strict=True)
    if any(cell.startswith(" ") and cell.lstrip(" ").startswith('"') for _, line in rows for cell in line):
        rows, fault = _cells(text, most, delimiter=separator, strict=True, skipinitialspace=True)
    if fault is not None:  # what follows, up to the next quote, would be part of the cell
        line = rows[-1][0] + 1 if rows else 1
        rows, other = _cells(text, most, delimiter=separator, quoting=csv.QUOTE_NONE)
        if other is not None:
            raise other
        quoted = any(len(cell) > 1 and cell[0] == cell[-1] == '"' for _, cells in rows for cell in cells)
        if quoted or len({len(cells) for _, cells in rows}) > 1:
            raise CuratorError(
                f"line {line}: a quote begins a cell and does not end it ({fault}); write quotes inside of quotes twice"
            )
    while rows and not any(rows[-1][1]):
        rows.pop()
    wide = len(rows[0][1]) if rows else 0
    for number, cells in rows:
        if any(cells[wide:]):
            raise CuratorError(
                f"line {number} has {len(cells)} cells, the first line {wide}; put quotes around text that holds "
                f"{separator!r}"
            )
    return rows


def _cells(text: str, most: int | None, **dialect: Any) -> tuple[list[Line], csv.Error | None]:
    """The rows of a dialect, and the error that ended them."""
    rows: list[Line] = []
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    try:
        for line in reader:
            if line:
                rows.append((reader.line_num, line))
                if most is not None and len(rows) > most + 1:
                    raise CuratorError(f"it has more than {most:,} lines")
    except csv.Error as e:
        return rows, e
    return rows, None
