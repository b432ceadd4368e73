"""Columns of a Dataset as Arrow values, and put into it without a rewrite of the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, concatenate_datasets
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars


def column_array(dataset: Dataset, column: str) -> pa.ChunkedArray:
    """A column's Arrow values in row order (the indices of select and shuffle respected)."""
    return dataset.select_columns(column).with_format("arrow")[:][column]


def with_columns(dataset: Dataset, columns: dict[str, tuple[pa.Array, object]]) -> Dataset:
    """The dataset with columns {name: (values, feature)} at its end; nothing that is there is rewritten."""
    table = pa.table({name: values for name, (values, _) in columns.items()})
    features = Features({name: feature for name, (_, feature) in columns.items()})
    with quiet():
        return concatenate_datasets([dataset, Dataset(table.cast(features.arrow_schema))], axis=1)


def replace_column(dataset: Dataset, column: str, values: pa.Array, feature: object | None = None) -> Dataset:
    """The dataset with other values in a column, in its old place and, without a feature, of its old type."""
    names, feature = dataset.column_names, feature or dataset.features[column]
    return with_columns(dataset.remove_columns(column), {column: (values, feature)}).select_columns(names)


def lifted(dataset: Dataset, path: str, name: str) -> Dataset:
    """The dataset with a field of a struct, COLUMN.FIELD, as a column of its own at its end; where it has the field."""
    column, _, field = path.rpartition(".")
    struct = dataset.features.get(column)
    if not isinstance(struct, dict) or field not in struct:
        return dataset
    values = pc.struct_field(column_array(dataset, column), field)
    return with_columns(dataset, {name: (values.combine_chunks(), struct[field])})


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of datasets inside the block."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
