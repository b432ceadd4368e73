"""Tables as people write them, in a spreadsheet or by a script: CSV of any dialect, JSON, JSON lines, parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curator.errors import CuratorError
from curator.sources.listing import IMAGES
from curator.sources.metadata import require_room
from curator.system import free_memory
from curator.text import decoded

GROWTH = 20  # bytes of memory, at most, that a byte of text takes as Python's strings
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")  # 01 is a name
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
NOTHING = {"", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None"}  # among numbers; else a text is a text
TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}


def read_table(file: Path) -> pa.Table:
    """The rows of a table's file.

    Cells of a CSV file are integers, numbers or true and false where all of a column are, and else text, as they are:
    an empty cell is missing, 01 and None are names.

    Raises:
        CuratorError: naming the file, for what is no such table or takes more memory than is free.
    """
    kind = file.suffix.lower()
    try:
        if kind == ".parquet":
            require_room([str(file)], str(file))
            return pq.read_table(file)
        size, free = file.stat().st_size, free_memory()
        if size * GROWTH > free:
            raise CuratorError(f"{file}: it has {size / 2**20:,.0f} MiB, too much for the free memory; use parquet")
        text = decoded(file.read_bytes())
        return _csv(text, "\t" if kind == ".tsv" else None) if kind in (".csv", ".tsv") else _json(text)
    except CuratorError as e:
        raise e if str(e).startswith(str(file)) else CuratorError(f"{file}: {e}") from e
    except (csv.Error, pa.ArrowException, ValueError, RecursionError, OverflowError, TypeError) as e:
        raise CuratorError(f"{file}: expected a table of rows; {' '.join(str(e).split())[:200]}") from e
    except OSError as e:
        raise CuratorError(f"{file}: it cannot be read ({e.strerror or e})") from e


def _csv(text: str, separator: str | None) -> pa.Table:
    head = text[: text.find("\n") + 1] or text
    if given := re.fullmatch(r"sep=(.)\s*", head, re.IGNORECASE):  # Excel's own line
        separator, text = given[1], text[len(head) :]
        head = text[: text.find("\n") + 1] or text
    separator = separator or max(",;\t|", key=re.sub('"[^"]*"', "", head).count)
    (_, names), *rows = _lines(text, separator) or [(1, [])]
    if not any(names):
        raise CuratorError("expected a line of column names, found an empty file; write one")
    if any(_is_image(name) for name in names):  # they are the first row
        rows.insert(0, (1, names))
        names = [*["file_name", "label"][: len(names)], *(f"column {i}" for i in range(2, len(names)))]
    names = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(names)]  # as pandas calls its own index
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CuratorError(f"it has two columns {twice!r}; rename one")
    for number, line in rows:
        if len(line) > len(names) and any(line[len(names) :]):
            raise CuratorError(
                f"line {number} has {len(line)} cells, the first line {len(names)}; put quotes around text that holds "
                f"{separator!r}"
            )
    columns = [[line[i] if i < len(line) else "" for _, line in rows] for i in range(len(names))]
    return pa.table({name: _typed(cells) for name, cells in zip(names, columns, strict=True)})


def _lines(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """The cells of every row, and the number of its last line.

    Rows are counted as pandas does: an empty line is none, one of empty cells is a row, unless nothing follows. Where
    quotes do not fit, they are text if there are no others; a blank may stand before one that opens a cell.
    """
    rows, fault = _cells(text, delimiter=separator, strict=True)
    if any(cell.startswith(" ") and cell.lstrip(" ").startswith('"') for _, line in rows for cell in line):
        rows, fault = _cells(text, delimiter=separator, strict=True, skipinitialspace=True)
    if fault is not None:  # what follows, up to the next quote, would be part of the cell
        line = rows[-1][0] + 1 if rows else 1
        rows, other = _cells(text, delimiter=separator, quoting=csv.QUOTE_NONE)
        if other is not None:
            raise other
        quoted = any(len(cell) > 1 and cell[0] == cell[-1] == '"' for _, cells in rows for cell in cells)
        if quoted or len({len(cells) for _, cells in rows}) > 1:
            raise CuratorError(
                f"line {line}: a quote begins a cell and does not end it ({fault}); write quotes inside of quotes twice"
            )
    while rows and not any(rows[-1][1]):
        rows.pop()
    return rows


def _cells(text: str, **dialect: Any) -> tuple[list[tuple[int, list[str]]], csv.Error | None]:
    """The rows of a dialect, and the error that ended them."""
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    try:
        for line in reader:
            if line:
                rows.append((reader.line_num, line))
    except csv.Error as e:
        return rows, e
    return rows, None


def _is_image(cell: str) -> bool:
    return PurePosixPath(cell.strip()).suffix.lower() in IMAGES


def _typed(cells: list[str]) -> pa.Array:
    said = {cell for cell in cells} - NOTHING
    missing: list[str | None] = [None if cell in NOTHING else cell for cell in cells]
    if said and all(map(INTEGER.fullmatch, said)):
        return pa.array([None if cell is None else int(cell) for cell in missing], pa.int64())
    if said and all(map(NUMBER.fullmatch, said)) and not any(re.match("-?0[0-9]", cell) for cell in said):
        return pa.array([None if cell is None else float(cell) for cell in missing], pa.float64())
    if said and said <= TRUTH.keys():
        return pa.array([None if cell is None else TRUTH[cell] for cell in missing], pa.bool_())
    return pa.array([cell or None for cell in cells], pa.string())


def _json(text: str) -> pa.Table:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = [json.loads(line) for line in text.split("\n") if line.strip()]
    if isinstance(value, dict) and value and all(_is_image(name) for name in value):  # file -> label
        value = [{"file_name": name, "label": label} for name, label in value.items()]
    rows: list[dict[str, Any]] = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise CuratorError('expected objects of one row each, as {"file_name": "a.png", "label": "cat"}')
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
