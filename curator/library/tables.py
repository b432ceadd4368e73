"""Tables and lists of files of Python as a Dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset

from curator.errors import CuratorError


def is_table(value: Any) -> bool:
    """Whether it is a DataFrame, or any other table that can be read as Arrow's."""
    return _is_frame(value) or hasattr(value, "__arrow_c_stream__")


def table_of(value: Any, folder: Path) -> Dataset:
    """Rows of a table; the paths of its images are relative to the folder, or lie in it.

    Raises:
        CuratorError: for columns that Arrow has no type for.
    """
    from curator.sources.tables import rows_of

    try:
        table = pa.Table.from_pandas(value, preserve_index=False) if _is_frame(value) else pa.table(value)
    except (pa.ArrowException, TypeError, ValueError) as e:
        raise CuratorError(f"dataset: the table cannot be read: {' '.join(str(e).split())[:200]}") from e
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # of categories; datasets knows none
            table = table.set_column(i, field.name, table.column(i).cast(field.type.value_type))
    return rows_of(table.replace_schema_metadata(None), folder)


def files_below_one(files: list[str], data_dir: str | Path | None) -> tuple[Path, list[str]]:
    """The folder that holds all files, and their paths in it, with forward slashes.

    Raises:
        CuratorError: where it holds the user's home as well: such paths say more of a machine than of a dataset.
    """
    paths = [os.path.abspath(os.path.expanduser(file)) for file in files]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    folder = Path(data_dir).expanduser().resolve() if data_dir else Path(common)
    if not data_dir and folder in Path.home().resolve().parents:
        raise CuratorError(
            f"dataset: expected files below one folder, found {paths[0]} and others with none in common but {folder}; "
            "name it with --data-dir"
        )
    names = [os.path.relpath(path, folder) for path in paths]
    return folder, [name.replace(os.sep, "/") for name in names]


def _is_frame(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "columns")
