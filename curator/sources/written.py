"""Tables as people write them, in a spreadsheet or by a script: CSV of any dialect, JSON, JSON lines, parquet."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curator.delimited import lines_of
from curator.errors import CuratorError
from curator.sources.listing import IMAGES
from curator.sources.metadata import require_distinct, require_readable
from curator.system import free_memory
from curator.text import decoded

GROWTH = 20  # bytes of memory, at most, that a byte of text takes as Python's strings
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")  # 01 is a name
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
FILE = "file_name"  # the column of a table that has none for its files
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
            require_readable([str(file)], str(file))
            return pq.read_table(file)
        size, free = file.stat().st_size, free_memory()
        if size * GROWTH > free:
            raise CuratorError(f"{file}: it has {size / 2**20:,.0f} MiB, too much for the free memory; use parquet")
        text = decoded(file.read_bytes())
        return _csv(text) if kind in (".csv", ".tsv") else _json(text, lines=kind != ".json")
    except CuratorError as e:
        raise e if str(e).startswith(str(file)) else CuratorError(f"{file}: {e}") from e
    except (csv.Error, pa.ArrowException, ValueError, RecursionError, OverflowError, TypeError) as e:
        raise CuratorError(f"{file}: expected a table of rows; {' '.join(str(e).split())[:200]}") from e
    except OSError as e:
        raise CuratorError(f"{file}: it cannot be read ({e.strerror or e})") from e


def _csv(text: str) -> pa.Table:
    (_, names), *rows = lines_of(text) or [(1, [])]
    if not any(names):
        raise CuratorError("expected a line of column names, found an empty file; write one")
    if any(_is_image(name) for name in names):  # they are the first row
        rows.insert(0, (1, names))
        names = [*[FILE, "label"][: len(names)], *(f"column {i}" for i in range(2, len(names)))]
    names = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(names)]  # as pandas calls its own index
    require_distinct(names, "it")
    columns = [[line[i] if i < len(line) else "" for _, line in rows] for i in range(len(names))]
    return pa.table({name: _typed(cells) for name, cells in zip(names, columns, strict=True)})


def _is_image(cell: str) -> bool:
    return PurePosixPath(cell.strip()).suffix.lower() in IMAGES


def _typed(cells: list[str]) -> pa.Array:
    said = {cell for cell in cells} - NOTHING
    missing: list[str | None] = [None if cell in NOTHING else cell for cell in cells]
    if said and all(map(INTEGER.fullmatch, said)) and len(set(map(int, said))) == len(said):
        return pa.array([None if cell is None else int(cell) for cell in missing], pa.int64())
    numbers = said and all(map(NUMBER.fullmatch, said)) and not any(re.match("-?0[0-9]", cell) for cell in said)
    if numbers and len(set(map(float, said))) == len(said):  # 1.1 and 1.10 are two names
        return pa.array([None if cell is None else float(cell) for cell in missing], pa.float64())
    if said and said <= TRUTH.keys():
        return pa.array([None if cell is None else TRUTH[cell] for cell in missing], pa.bool_())
    return pa.array([cell or None for cell in cells], pa.string())


def _json(text: str, *, lines: bool) -> pa.Table:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = [_json_line(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if isinstance(value, dict):
        value = [value] if lines else _rows_of(value)
    rows: list[dict[str, Any]] = value
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise CuratorError('expected objects of one row each, as {"file_name": "a.png", "label": "cat"}')
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _json_line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as e:
        raise ValueError(f"line {number}: {e.msg}") from e


def _rows_of(value: dict[str, Any]) -> list[Any]:
    """The rows of a JSON object: as pandas has them by column, by row, split or as a table, lists, or by file."""
    names, parts = list(value), list(value.values())
    if value and all(map(_is_image, names)):  # file -> label, or what else is said of it
        return [{FILE: name, **(cell if isinstance(cell, dict) else {"label": cell})} for name, cell in value.items()]
    data, columns = value.get("data"), value.get("columns")
    if isinstance(data, list) and isinstance(columns, list):  # split
        rows = [dict(zip(map(str, columns), row, strict=True)) for row in data]
        return _with_files(rows, value.get("index") or [])
    if isinstance(data, list) and names in (["data"], ["schema", "data"]):  # table
        return data
    if parts and all(isinstance(part, dict) for part in parts):
        inner = list(dict.fromkeys(name for part in parts for name in part))
        numbers, within = (all(name.isdecimal() for name in keys) for keys in (names, inner))  # pandas' names of rows
        if len(names) > len(inner) if numbers == within else numbers:
            return parts
        return _with_files([{name: part.get(row) for name, part in value.items()} for row in inner], inner)
    lists = all(isinstance(part, list) and not any(isinstance(cell, dict) for cell in part) for part in parts)
    if parts and lists and len({*map(len, parts)}) == 1:
        return [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]
    return [value]


def _with_files(rows: list[dict[str, Any]], index: list[Any]) -> list[dict[str, Any]]:
    """The rows, and the files that pandas had as their index."""
    if len(index) != len(rows) or not all(isinstance(name, str) and _is_image(name) for name in index):
        return rows
    return [{FILE: name, **row} for name, row in zip(index, rows, strict=True)]
