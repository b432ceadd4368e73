"""Tables and lists of files of Python as a Dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, Image

from curator.errors import CuratorError
from curator.sources.columns import with_columns
from curator.sources.tables import path_column, rows_of


def is_table(value: Any) -> bool:
    """Whether it is a DataFrame, or any other table that can be read as Arrow's."""
    return _is_frame(value) or hasattr(value, "__arrow_c_stream__")


def table_of(value: Any, folder: Path, image_column: str | None) -> Dataset:
    """Rows of a table.

    Args:
        value: a DataFrame, or anything of Arrow's interface.
        folder: what the paths of its images are relative to.
        image_column: that of the images; by default every one that looks so.

    Raises:
        CuratorError: for columns that Arrow has no type for.
    """
    try:
        table = _of_frame(value) if _is_frame(value) else pa.table(value)
    except (pa.ArrowException, TypeError, ValueError) as e:
        raise CuratorError(f"dataset: the table cannot be read: {' '.join(str(e).split())[:200]}") from e
    table = table.replace_schema_metadata(None)  # of pandas, which would outlive the columns it speaks of
    return rows_of(table, None if _has_whole_paths(table) else folder, image_column)


def rows_of_files(
    files: Sequence[str | os.PathLike[str]], columns: dict[str, pa.Array], data_dir: str | Path | None
) -> tuple[Dataset, Path]:
    """Image files with the columns beside them, and the folder that holds them all.

    Raises:
        CuratorError: where that folder holds the user's home, too: paths in it would tell where they lie.
    """
    paths = [os.path.abspath(os.path.expanduser(file)) for file in files]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    folder = Path(data_dir).expanduser().resolve() if data_dir else Path(common)
    if not data_dir and folder in Path.home().resolve().parents:
        raise CuratorError(
            f"dataset: expected files below one folder, found {paths[0]} and others with none in common but {folder}; "
            "name it with --data-dir"
        )
    images = with_columns(Dataset(pa.table(columns)), {"image": (path_column(paths), Image())})
    return images.select_columns(["image", *columns]), folder


def _of_frame(frame: Any) -> pa.Table:
    """A DataFrame as a table, with Path objects as texts."""
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    for name in frame.select_dtypes("object").columns if frame.columns.is_unique else ():
        if any(isinstance(item, os.PathLike) for item in frame[name]):
            texts = [os.fspath(item) if isinstance(item, os.PathLike) else item for item in frame[name]]
            frame = frame.assign(**{name: texts})
    return pa.Table.from_pandas(frame, preserve_index=False)


def _is_frame(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "columns")


def _has_whole_paths(table: pa.Table) -> bool:
    """Whether paths of a table are absolute, so that no folder has to be searched for what they mean."""
    first = [value for column in table.columns for value in column.drop_null()[:1].to_pylist()]
    return any(isinstance(value, str) and os.path.isabs(value) for value in first)
