"""Pairs row -> label, as files of people and of other tools hold them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curator.delimited import lines_of
from curator.errors import CuratorError
from curator.text import decoded

if TYPE_CHECKING:
    from curator.decisions.places import Places

PAIR = ("row", "label")
KEYS = (*PAIR, "file")  # of these rows, or those that have these files
LINES = 10  # a row of the split, in a file of verified rows


class Cell(str):
    """Text of a CSV file, which as_cell may have written."""


def pairs_of(
    columns: dict[str, list[Any]], names: list[str], path: Path, flag: str, places: Callable[[], Places]
) -> list[tuple[int, Any]]:
    """(row, label) of the columns of a file, of which it has those of the names; rows by number, or by their files.

    What gives the rows by their files is asked only where the table names files.

    Raises:
        CuratorError: beginning with the flag, where they are not these, for a file that is no row's or of several, and
            where row and file contradict each other.
    """
    if "label" not in columns or columns.keys().isdisjoint(("row", "file")):
        raise CuratorError(
            f"{flag} {path}: expected the columns row and label, found {', '.join(names) or 'none'}; "
            "in place of row, file will do: paths in the dataset's folder"
        )
    labels = columns["label"]
    if "file" not in columns:
        return list(zip(row_ids(columns["row"], path, flag), labels, strict=True))
    known = places()
    if "row" not in columns:
        found = [(known.row(file, path, flag), label) for file, label in zip(columns["file"], labels, strict=True)]
        return [(row, label) for row, label in found if row is not None]
    ids = row_ids(columns["row"], path, flag)
    for row, file in zip(ids, columns["file"], strict=True):
        if not known.agree(row, file):
            raise CuratorError(
                f"{flag} {path}: row {row} is not the file {str(file)[:200]!r} here; it is a table of other rows: "
                "leave out column row, and the files will be looked for"
            )
    return list(zip(ids, labels, strict=True))


def read_columns(path: Path, flag: str, wanted: Sequence[str], rows: int) -> tuple[dict[str, list[Any]], list[str]]:
    """The wanted columns of a CSV (as Cells) or parquet file about so many rows, and the names of all it has.

    Of a file that is small, parquet can be the short form of any amount: what it would become is asked first.

    Raises:
        CuratorError: beginning with the flag, for what is neither, or too large, or has a wanted column twice.
    """
    most, largest = LINES * rows, 2**26 + 2**10 * rows
    if path.stat().st_size > largest:
        raise CuratorError(f"{flag} {path}: expected at most {largest:,} bytes for {rows:,} rows; it is larger")
    with open(path, "rb") as file:
        parquet = file.read(4) == b"PAR1"
    try:
        return _parquet(path, wanted, most, largest) if parquet else _csv(path, wanted, most)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, CuratorError) as e:
        raise CuratorError(f"{flag} {path}: expected a CSV or parquet file with the columns row and label; {e}") from e
    except OSError as e:  # which is also what Arrow calls a damaged file
        if e.errno is not None:
            raise
        raise CuratorError(f"{flag} {path}: expected a parquet file that can be read; {e}") from e


def _csv(path: Path, wanted: Sequence[str], most: int) -> tuple[dict[str, list[Any]], list[str]]:
    (_, names), *lines = lines_of(decoded(path.read_bytes()), loose=True, most=most) or [(1, [])]
    names = [name.strip() for name in names]
    _require_once(names, wanted)
    place = {name: names.index(name) for name in wanted if name in names}
    return {name: [Cell(line[i]) if i < len(line) else None for _, line in lines] for name, i in place.items()}, names


def _parquet(path: Path, wanted: Sequence[str], most: int, largest: int) -> tuple[dict[str, list[Any]], list[str]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema, about = file.schema_arrow, file.metadata
    _require_once(schema.names, wanted)
    kinds = {name: schema.field(name).type for name in wanted if name in schema.names}
    odd = next((name for name, kind in kinds.items() if not _is_plain(kind)), None)
    if odd is not None:
        raise CuratorError(f"column {odd} has values of type {kinds[odd]}")
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    count = max(about.num_rows, sum(group.num_rows for group in groups))
    if count > most:
        raise CuratorError(f"it has {count:,} rows, of which at most {most:,} can be right")
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in kinds)
    if size > largest:
        raise CuratorError(f"these take {size:,} bytes, of which at most {largest:,} can be right")
    texts = [name for name, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
    # A text that stands in many rows is held once: as a dictionary here, as one object in the list.
    table = pq.read_table(path, columns=list(kinds), read_dictionary=texts)
    return {name: _values(table[name]) for name in kinds}, schema.names


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers or text."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    types = pa.types
    return types.is_primitive(kind) or types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind)


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_dictionary(column.type):
        return column.to_pylist()
    found: list[Any] = []
    for chunk in column.chunks:
        values = [*chunk.dictionary.to_pylist(), None]
        found += [values[-1 if i is None else i] for i in chunk.indices.to_pylist()]
    return found


def _require_once(names: Sequence[str], wanted: Sequence[str]) -> None:
    twice = next((name for name in wanted if name and names.count(name) > 1), None)
    if twice is not None:
        raise CuratorError(f"it has two columns {twice}; keep one")


def row_ids(values: list[Any], path: Path, flag: str) -> list[int]:
    """Ids of rows, from integers or their decimal digits; nothing else that Python takes for a number is one."""
    for value in values:
        if isinstance(value, bool) or not re.fullmatch("[0-9]{1,18}", str(value)):
            decimal = re.fullmatch(r"[0-9]+\.0", str(value))
            hint = "; of integers with a gap among them pandas makes decimals" if decimal else ""
            raise CuratorError(
                f"{flag} {path}: expected row numbers in column row, as 0 or 17; found {str(value)[:100]!r}{hint}"
            )
    return [int(value) for value in values]
