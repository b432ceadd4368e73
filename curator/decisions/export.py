"""Tables of decisions as parquet and CSV, which overwrite nothing but an earlier export of the same journal."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from curator.decisions.decision import Decision
from curator.system import atomic
from curator.text import as_cell

MARK = b"label-curator"  # metadata of parquet files that write_table wrote


def export(
    decisions: Sequence[tuple], verified: Mapping[int, str], folder: Path, owner: str, files: Sequence[str] = ()
) -> list[Path]:
    """Write the tables decisions (the fields of Decision) and verified (row, label: a file for --verified).

    Args:
        decisions: all of a journal, as they came.
        verified: row -> label.
        folder: that the files are written to.
        owner: id of the journal.
        files: source files of the verified rows, "" for none: a column file, where there are any.

    Returns:
        The four files.
    """
    import pyarrow as pa

    columns = Decision._fields
    kinds = (pa.int64(), pa.int64(), *[pa.string()] * 4, *[pa.int64()] * 3, pa.string())
    by_column = list(zip(*decisions, strict=True)) or [()] * len(columns)
    of_all = {c: pa.array(v, t) for c, v, t in zip(columns, by_column, kinds, strict=True)}
    labels = {"row": pa.array(verified, pa.int64()), "label": pa.array(verified.values(), pa.string())}
    if any(files):
        labels["file"] = pa.array(files, pa.string())
    return [
        *write_table(pa.table(of_all), folder / "decisions", owner),
        *write_table(pa.table(labels), folder / "verified", owner),
    ]


def write_table(table, path: Path, owner: str) -> list[Path]:
    """Write path.parquet and path.csv, each whole or not at all; in the CSV no text is taken for a formula.

    Files of somebody else that lie there stay, and so do ours that somebody changed: then path-2 is written.

    Args:
        table: to be written.
        path: without suffix.
        owner: whose tables these are; only those of the same are replaced.

    Returns:
        The two files.
    """
    import pyarrow.parquet as pq

    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        writer.writerow([as_cell(value) if isinstance(value, str) else value for value in row])
    content = lines.getvalue().encode()
    places = itertools.chain([path], (path.with_name(f"{path.name}-{i}") for i in itertools.count(2)))
    path = next(place for place in places if _is_free(place, owner))
    files = [path.with_suffix(".parquet"), path.with_suffix(".csv")]
    with atomic(files[1]) as temporary:
        temporary.write_bytes(content)
    with atomic(files[0]) as temporary:
        pq.write_table(table.replace_schema_metadata({MARK: json.dumps([owner, _hash(content)])}), temporary)
    return files


def _is_free(path: Path, owner: str) -> bool:
    """Whether nothing lies at path.parquet and path.csv but what write_table wrote there for the owner."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet, lines = path.with_suffix(".parquet"), path.with_suffix(".csv")
    if not os.path.lexists(parquet):
        return not os.path.lexists(lines)
    try:
        said = json.loads((pq.read_schema(parquet).metadata or {}).get(MARK, b"null"))
        return said == [owner, said[1]] and (not os.path.lexists(lines) or _hash(lines.read_bytes()) == said[1])
    except (OSError, TypeError, ValueError, IndexError, pa.ArrowException):
        return False


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
