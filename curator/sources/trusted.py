"""Trusted rows: those whose label somebody verified, in any of the forms that --trusted takes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Value

from curator.errors import CuratorError
from curator.review.journal import FILE, Journal
from curator.review.rows import content_of
from curator.sources.images import BrokenImage, encoded, with_bytes
from curator.sources.noise import stratified_sample
from curator.sources.table import Table, column_array
from curator.system import did_you_mean, from_cell

FORMS = "a boolean column, a .csv or .parquet file with the columns row and label, a review journal, or a share as 0.1"

PAIR = ("row", "label")
LINES = 10  # a row of the split, in a file of verified rows


def trust(table: Table, trusted: str | Path | float, seed: int) -> None:
    """Set table.verified, and a note that says how many rows it has.

    Args:
        table: with its noise and its sample drawn.
        trusted: a boolean column of the dataset; a CSV or parquet file `row,label` (row: position in the source split,
            label: a class name or number); a review journal, or the run's folder that holds it; or a share in (0, 1),
            drawn from every class of the reference.
        seed: of the draw.

    Raises:
        CuratorError: naming what does not fit.
    """
    share = _share(trusted)
    if share is not None:
        found, how = _drawn(table, share, seed), "drawn from the reference"
    elif str(trusted) in table.dataset.column_names:
        found, how = _column(table, str(trusted)), f"column {trusted!r}"
    else:
        path = Path(str(trusted)).expanduser()
        columns = did_you_mean(str(trusted), table.dataset.column_names)
        try:
            if path.is_dir():
                path = path / FILE
                if not path.is_file():
                    raise CuratorError(f"--trusted {trusted}: the folder holds no {FILE}; review the run first")
            if not path.is_file():
                raise CuratorError(f"--trusted: expected {FORMS}; found neither a column nor a file {trusted}{columns}")
            found, how = _file(table, path)
        except OSError as e:
            raise CuratorError(f"--trusted {str(trusted)[:100]}: it cannot be read ({e.strerror})") from e
    table.verified = found
    count = int((found >= 0).sum())
    if not count:
        raise CuratorError(f"--trusted {trusted}: it names no row of this dataset; leave it out")
    wrong = int(((found >= 0) & (found != table.labels)).sum())
    table.notes.append(f"{count:,} trusted rows ({how}), of which {wrong:,} were given another label")


def _share(trusted: str | Path | float) -> float | None:
    try:
        share = float(str(trusted))
    except ValueError:
        return None
    if not 0 < share < 1:
        raise CuratorError(f"--trusted: expected a share between 0 and 1, found {trusted}")
    return share


def _drawn(table: Table, share: float, seed: int) -> np.ndarray:
    if table.truth is None:
        raise CuratorError(
            f"--trusted {share:g}: a share is drawn from the true labels, and they are not known; "
            "name their column with --reference-column, or give verified rows"
        )
    found = np.full(len(table.labels), -1)
    chosen = stratified_sample(table.truth, max(1, round(share * len(found))), seed)
    found[chosen] = table.truth[chosen]
    return found


def _column(table: Table, column: str) -> np.ndarray:
    feature = table.dataset.features[column]
    if not (isinstance(feature, Value) and feature.dtype == "bool"):
        raise CuratorError(f"--trusted {column}: expected a boolean column, found {feature}")
    trusted = column_array(table.data, column).fill_null(False).to_numpy()
    return np.where(trusted, table.labels, -1)


def _file(table: Table, path: Path) -> tuple[np.ndarray, str]:
    """Verified labels (n,), and where they come from."""
    with open(path, "rb") as file:
        if file.read(16) == b"SQLite format 3\0":
            return _journal(table, path)
    found = read_columns(path, "--trusted", PAIR, table.source_rows)
    return _placed(table, pairs_of(*found, path, "--trusted"), path), path.name


def _journal(table: Table, path: Path) -> tuple[np.ndarray, str]:
    with closing(Journal(path)) as journal:
        verified, facts = journal.verified(), journal.facts
        counts = ", ".join(f"{count:,} {name}" for name, count in verified.counts.items())
        if facts["split"] != table.split:
            raise CuratorError(
                f"--trusted {path}: its rows are of split {facts['split']!r}, this run is of {table.split!r}; "
                "choose it with --split"
            )
        journal.require(facts["classes"], table.split, lambda rows: _digests(table, rows))
    if not verified.labels:
        raise CuratorError(f"--trusted {path}: no row is verified yet ({counts}); review some first")
    made_on = str(facts["dataset"])
    other = "" if table.name in (made_on, Path(made_on).name) else f" made on dataset {made_on}"
    return _placed(table, verified.labels.items(), path), f"review journal {path.name}{other} ({counts})"


def _digests(table: Table, rows: list[int]) -> dict[str, str]:
    """Rows.digests of a table of images."""
    if table.image_column is None:
        return {}
    places, column = np.flatnonzero(np.isin(table.ids, rows)), table.image_column
    images = encoded(table.dataset.select(places), column)
    ids = table.ids[places]

    def digest(i: int, item: dict) -> str:
        try:
            return content_of(with_bytes(i, item, ids, column, table.access))
        except BrokenImage:  # which the page does not show either
            return content_of(None)

    return {str(ids[i]): digest(i, item) for i, item in images}


class Cell(str):
    """Text of a CSV file, which as_cell may have written."""


def pairs_of(columns: dict[str, list[Any]], names: list[str], path: Path, flag: str) -> list[tuple[int, object]]:
    """(row, label) of the columns of a file, of which it has those of the names.

    Raises:
        CuratorError: beginning with the flag, where they are not these.
    """
    if not columns.keys() >= {*PAIR}:
        raise CuratorError(f"{flag} {path}: expected the columns row and label, found {', '.join(names) or 'none'}")
    return list(zip(row_ids(columns["row"], path, flag), columns["label"], strict=True))


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
        return (_parquet if parquet else _csv)(path, wanted, most, largest)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, _Unfit) as e:
        raise CuratorError(f"{flag} {path}: expected a CSV or parquet file with the columns row and label; {e}") from e
    except OSError as e:  # which is also what Arrow calls a damaged file
        if e.errno is not None:
            raise
        raise CuratorError(f"{flag} {path}: expected a parquet file that can be read; {e}") from e


class _Unfit(ValueError):
    """Why a file is not read."""


def _csv(path: Path, wanted: Sequence[str], most: int, largest: int) -> tuple[dict[str, list[Any]], list[str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        _require_once(names, wanted)
        place = {name: names.index(name) for name in wanted if name in names}
        found: dict[str, list[Any]] = {name: [] for name in place}
        for count, line in enumerate(filter(None, reader)):
            if count == most:
                raise _Unfit(f"it has more than {most:,} lines")
            for name, i in place.items():
                found[name].append(Cell(line[i]) if i < len(line) else None)
    return found, names


def _parquet(path: Path, wanted: Sequence[str], most: int, largest: int) -> tuple[dict[str, list[Any]], list[str]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema, about = file.schema_arrow, file.metadata
    _require_once(schema.names, wanted)
    kinds = {name: schema.field(name).type for name in wanted if name in schema.names}
    odd = next((name for name, kind in kinds.items() if not _is_plain(kind)), None)
    if odd is not None:
        raise _Unfit(f"column {odd} has values of type {kinds[odd]}")
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    count = max(about.num_rows, sum(group.num_rows for group in groups))
    if count > most:
        raise _Unfit(f"it has {count:,} rows, of which at most {most:,} can be right")
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in kinds)
    if size > largest:
        raise _Unfit(f"these take {size:,} bytes, of which at most {largest:,} can be right")
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
        raise _Unfit(f"it has two columns {twice}; keep one")


def row_ids(values: list[Any], path: Path, flag: str) -> list[int]:
    """Ids of rows, from integers or their decimal digits; nothing else that Python takes for a number is one."""
    for value in values:
        if isinstance(value, bool) or not re.fullmatch("[0-9]{1,18}", str(value)):
            hint = "; of integers with a gap among them pandas makes decimals" if isinstance(value, float) else ""
            raise CuratorError(
                f"{flag} {path}: expected row numbers in column row, as 0 or 17; found {str(value)[:100]!r}{hint}"
            )
    return [int(value) for value in values]


def _placed(table: Table, pairs: Iterable[tuple[int, object]], path: Path) -> np.ndarray:
    """Class numbers (n,) of verified (row, label); rows outside a sample (--limit-rows) are left out."""
    last = table.source_rows - 1
    place = {int(row): i for i, row in enumerate(table.rows)}
    number = {name: i for i, name in enumerate(table.classes)}
    found = np.full(len(table.rows), -1)
    seen: dict[int, int] = {}
    for row, label in pairs:
        if row is None or not 0 <= row <= last:
            raise CuratorError(f"--trusted {path}: expected rows 0 to {last} of split {table.split!r}, found {row}")
        code = class_number(label, number)
        if code is None:
            known = did_you_mean(str(label), number)
            raise CuratorError(f"--trusted {path}: row {row} has the label {label!r}, which is not a class{known}")
        if seen.setdefault(row, code) != code:
            raise CuratorError(f"--trusted {path}: row {row} has two labels; keep one")
        if row in place:
            found[place[row]] = code
    lost = len(seen.keys() & set(table.ids[list(table.aside)].tolist()))
    if lost:
        table.notes.append(f"{lost:,} verified rows cannot be used: they are set aside")
    return found


def class_number(label: object, number: dict[str, int]) -> int | None:
    """A class name, or else a class number; None for anything else."""
    if label is None or label != label:  # a missing value, or not a number
        return None
    text = str(label)
    # Of a CSV file 'x is first what as_cell made of x; an older one, or another's, may have it as it is.
    for name in (from_cell(text), text) if isinstance(label, Cell) else (text, from_cell(text)):
        if name in number:
            return number[name]
    digits = re.fullmatch("[0-9]{1,9}", text)
    return int(text) if digits and int(text) < len(number) else None
