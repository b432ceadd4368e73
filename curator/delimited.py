"""CSV as people and programs write it: which separator it has, and the cells of its lines."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from curator.errors import CuratorError

Line = tuple[int, list[str]]  # a row's cells, and the number of its last line
SEPARATORS = "\t;|,"  # the last one stands in texts, too
LOOKED_AT = 10  # lines, for the separator


def lines_of(
    text: str,
    *,
    loose: bool = False,  # of decisions: what stands in notes behind them does not count
    most: int | None = None,  # rows below the names; None: any number
) -> list[Line]:
    """The cells of every row, the names' first.

    Rows are counted as pandas does: an empty line is none, one of empty cells is a row, unless nothing follows (loose:
    none either). Where quotes do not fit, they are text if there are no others; a blank may stand around quoted cells.

    Raises:
        CuratorError: for a quote that is not closed, more cells than names (loose: one more in every row), and more
            rows than the most.
        csv.Error: for a cell of more than 128 KiB.
    """
    separator = None
    if given := re.match(r"sep=(.)\s*?(\r\n|\r|\n)", text, re.IGNORECASE):  # Excel's own line
        separator, text = given[1], "\n" + text[given.end() :]  # an empty line in its place: lines keep their numbers
    separator = separator or _separator(text)
    rows = _rows(text, separator, loose, most)
    while rows and not any(rows[-1][1]):
        rows.pop()
    wide = len(rows[0][1]) if rows else 0
    longer = [(number, cells) for number, cells in rows if any(cells[wide:])]
    named = len(longer) == len(rows) - 1 and all(len(cells) == wide + 1 for _, cells in longer)  # R's names of rows
    if longer and (named or not loose):
        number, cells = longer[0]
        raise CuratorError(
            f"line {number} has {len(cells)} cells, the first line {wide}; put quotes around text that holds "
            f"{separator!r}"
        )
    return rows


def _separator(text: str) -> str:
    """What stands as often in each of the first lines, or else most often in the first."""
    head = re.sub('"[^"]*"', "", text[: 2**16]).splitlines()
    lines = [line for line in head if line.strip()][:LOOKED_AT] or [""]
    counts = {s: [line.count(s) for line in lines] for s in SEPARATORS}
    alike = [s for s in SEPARATORS if counts[s][0] and len({*counts[s]}) == 1]
    return max(alike or reversed(SEPARATORS), key=lambda s: counts[s][0])


def _rows(text: str, separator: str, loose: bool, most: int | None) -> list[Line]:
    """The rows, whatever their quotes are like."""

    def cells(text: str, **dialect: Any) -> tuple[list[Line], csv.Error | None]:
        return _cells(text, loose, most, delimiter=separator, **dialect)

    rows, fault = cells(text, strict=True)
    if any(cell.startswith(" ") and cell.lstrip(" ").startswith('"') for _, line in rows for cell in line):
        rows, fault = cells(text, strict=True, skipinitialspace=True)
    if fault is None:
        return rows
    line = rows[-1][0] + 1 if rows else 1
    blanks = " " if separator == "\t" else " \t"
    trimmed = re.sub(rf'"[{blanks}]+(?=[{re.escape(separator)}\r\n]|$)', '"', text)
    rows, other = cells(trimmed, strict=True, skipinitialspace=True)
    if other is None:
        return rows
    if loose:  # text behind a quoted word, where no cell goes over several lines
        rows, other = cells(text)
        if other is None and not any("\n" in cell or "\r" in cell for _, line in rows for cell in line):
            return rows
    # What follows, up to the next quote, would be part of the cell.
    rows, other = cells(text, quoting=csv.QUOTE_NONE)
    if other is not None:
        raise other
    found = [cell.strip() for _, line in rows for cell in line]
    quoted = any(cell.startswith('"') for cell in found) and any(cell.endswith('"') for cell in found)
    if quoted or len({len(line) for _, line in rows}) > 1:
        raise CuratorError(
            f"line {line}: a quote begins a cell and does not end it ({fault}); write quotes inside of quotes twice"
        )
    return rows


def _cells(text: str, loose: bool, most: int | None, **dialect: Any) -> tuple[list[Line], csv.Error | None]:
    """The rows of a dialect, and the error that ended them."""
    rows: list[Line] = []
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    try:
        for line in reader:
            if any(line) if loose else line:  # a spreadsheet keeps lines that were cleared
                rows.append((reader.line_num, line))
                if most is not None and len(rows) > most + 1:
                    raise CuratorError(f"it has more than {most:,} lines")
    except csv.Error as e:
        return rows, e
    return rows, None
