"""The files of a dataset on the Hub that hold its labels, and the same files with other labels and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from curator.errors import CuratorError
from curator.result.facts import open_parquet
from curator.result.parquet import WRITER
from curator.result.read import Rows
from curator.sources.labels import codes_of, encoded_labels
from curator.sources.metadata import require_own_repository

FORMS = "parquet files, or images in folders named by their class"


@dataclass(frozen=True)
class Layout:
    """The files of a split at a commit, in the order of its rows; each is a table, or an image of a class's folder."""

    files: list[str]
    images: bool


def layout_of(repo: str, commit: str, facts: Mapping[str, Any]) -> Layout:
    """Which files of a repository hold the rows of a run's split, as load_dataset finds them.

    Raises:
        CuratorError: for a dataset of another form.
    """
    import datasets

    builder = datasets.load_dataset_builder(repo, facts["source"].get("config"), revision=commit)
    found = [str(file) for file in (builder.config.data_files or {}).get(facts["split"], [])]
    require_own_repository(found, repo)
    files = [file.partition("@")[2].partition("/")[2] for file in found]
    suffixes = {Path(file).suffix.lower() for file in files}
    images = suffixes <= set(getattr(builder, "EXTENSIONS", ()))
    if not files or not (images or suffixes == {".parquet"}):
        raise CuratorError(
            f"{repo}: expected {FORMS}; found {', '.join(sorted(suffixes)) or 'none'} in split {facts['split']!r}; "
            "publish a version to an id of your own instead"
        )
    return Layout(files, images)


def changed_since(repo: str, what: str) -> CuratorError:
    """The error where the source is not what the run has seen."""
    return CuratorError(
        f"{repo}: {what}; it has changed since the run was made, or the run was made otherwise; run again"
    )


def codes_in(values: pa.ChunkedArray, rows: Rows) -> np.ndarray:
    """(n,) class numbers of a label column of the source."""
    feature = Features.from_arrow_schema(rows.schema)[rows.facts["label_column"]]
    return codes_of(values, rows.classes, getattr(feature, "names", None))


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
        same &= old.equals(new)
    if not same or before.metadata.num_row_groups != after.metadata.num_row_groups:
        raise CuratorError("the source's parquet cannot be written again as it is; publish to another id instead")


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
