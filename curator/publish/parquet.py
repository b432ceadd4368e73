"""A parquet file with other labels: row groups, types, order, metadata and all other columns as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from datasets import Features

from curator.errors import CuratorError
from curator.publish.files import INSTEAD
from curator.result.facts import open_parquet
from curator.result.parquet import WRITER
from curator.result.read import Rows
from curator.sources.labels import encoded_labels


def rewritten(path: Path, out: Path, rows: Rows, labels: Mapping[int, int]) -> None:
    """The same parquet file with other labels: row groups, types, order, metadata and all other columns as they are.

    Args:
        path: the source's file.
        out: to be written.
        rows: of the run.
        labels: place in the file -> class number.

    Raises:
        CuratorError: where another column would not be the same.
    """
    column, file = rows.facts["label_column"], open_parquet(path)
    feature, start = Features.from_arrow_schema(rows.schema)[column], 0
    with pq.ParquetWriter(out, file.schema_arrow, **_settings(file)) as writer:
        for group in range(file.metadata.num_row_groups):
            table = file.read_row_group(group)
            here = {at - start: code for at, code in labels.items() if start <= at < start + len(table)}
            start += len(table)
            if here:
                place = table.column_names.index(column)
                mask = np.zeros(len(table), bool)
                mask[list(here)] = True
                new = encoded_labels(np.array([here[at] for at in sorted(here)]), rows.classes, feature)
                old = table.column(place).combine_chunks()
                values = pa.compute.replace_with_mask(old, pa.array(mask), new.cast(old.type))
                table = table.set_column(place, table.schema.field(place), values)
            writer.write_table(table, row_group_size=max(1, len(table)))
    _require_rest(file, open_parquet(out), column)


def _require_rest(before: pq.ParquetFile, after: pq.ParquetFile, column: str) -> None:
    """Refuse a file that is another in more than the column."""
    same = before.schema_arrow.equals(after.schema_arrow, check_metadata=True)
    for group in range(before.metadata.num_row_groups if same else 0):
        old, new = (file.read_row_group(group).drop_columns([column]) for file in (before, after))
        same &= alike(old, new)
    if not same or before.metadata.num_row_groups != after.metadata.num_row_groups:
        raise CuratorError(f"the source's parquet cannot be written again as it is; {INSTEAD}")


def alike(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables of the same columns hold the same; what is no number (NaN) is the same as itself."""
    pairs = zip(one.columns, other.columns, strict=True)
    return all(a.equals(b) or (a.type == b.type and str(a.to_pylist()) == str(b.to_pylist())) for a, b in pairs)


def _settings(file: pq.ParquetFile) -> dict[str, Any]:
    """How a file was written, as the writer is told."""
    meta = file.metadata
    if not meta.num_row_groups:
        return dict(WRITER)
    first = [meta.row_group(0).column(i) for i in range(meta.num_columns)]
    kinds = {c.path_in_schema: "NONE" if c.compression == "UNCOMPRESSED" else c.compression for c in first}
    coded = [c.path_in_schema for c in first if any("DICTIONARY" in e for e in c.encodings)]
    return {
        **WRITER, "compression": kinds, "use_dictionary": coded or False,
        "write_page_index": all(c.has_offset_index for c in first),
    }  # fmt: skip
