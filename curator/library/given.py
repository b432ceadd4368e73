"""What curate() was given, as the settings of a run and the rows that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict

from curator.engine.held import Held
from curator.engine.identity import array_hash, name_of_callable
from curator.errors import CuratorError
from curator.library.tables import is_table, rows_of_files, table_of

FEATURES = "features"  # the column of an array of features
TAKEN = "a name, a folder, a Hub id, a Dataset, a DatasetDict, a DataFrame, or a list of image files with their labels"


def given_in_python(dataset: Any, settings: dict[str, Any]) -> tuple[dict[str, Any], Dataset | DatasetDict | None]:
    """Settings by the names of flags, objects among them held by a name, and the rows where they are no flag.

    Raises:
        CuratorError: for what is no dataset, and objects of other types or shapes than are taken.
    """
    given = {name: v.item() if isinstance(v, np.generic) else v for name, v in settings.items()}
    labels, features = given.pop("labels", None), given.pop("features", None)
    if features is not None:
        if given.get("features_column") is not None or given.get("backbone") is not None:
            raise CuratorError("features, --features-column and --backbone: give only one of them")
        given["features_column"] = Held(FEATURES, _numbers("features", features).astype(np.float32))
    if (probs := given.get("pred_probs")) is not None and not isinstance(probs, str | os.PathLike):
        array = _numbers("pred_probs", probs)
        given["pred_probs"] = Held(f"python-array-{array_hash(array)}", array)
    if not isinstance(verified := given.get("verified"), str | os.PathLike | int | float | None):
        raise CuratorError(
            "--verified: expected a file (a table of row,label or file,label; a journal), the name of a boolean column "
            f"or a share; found {type(verified).__name__}: write it to a file"
        )
    if (call := given.get("backbone")) is not None and not isinstance(call, str):
        if isinstance(call, type) or not callable(call):
            raise CuratorError(f"--backbone: expected a name, a function or a module, found {type(call).__name__}")
        given["backbone"] = Held(f"python-{name_of_callable(call)}", call)
    return _with_rows(given, dataset, labels)


def _with_rows(given: dict[str, Any], dataset: Any, labels: Any) -> tuple[dict[str, Any], Dataset | DatasetDict | None]:
    if labels is not None and (dataset is None or _is_list(dataset)):
        return _labelled(given, dataset, labels)
    if labels is not None:
        of = f", not of {type(dataset[0]).__name__}" if isinstance(dataset, list | tuple) and dataset else ""
        raise CuratorError(
            f"labels: they go with a list of files{of}; a dataset has its own: name them by --label-column"
        )
    arrays = {FEATURES: given.get("features_column"), "pred_probs": given.get("pred_probs")}
    alone = next((name for name, value in arrays.items() if isinstance(value, Held)), None)
    if dataset is None and alone is not None and given.get("recipe") is None:  # rows of the default dataset are others
        beside = ", or labels=[...], one for each" if alone == FEATURES else ""
        raise CuratorError(f"{alone}: expected the dataset whose rows these are{beside}")
    if dataset is None or isinstance(dataset, str):
        return given if dataset is None else {**given, "dataset": dataset}, None
    if isinstance(dataset, os.PathLike):
        path = Path(dataset).expanduser()
        return {**given, "dataset": str(path) if path.is_absolute() else f"./{path}"}, None  # never a name
    if isinstance(dataset, Dataset | DatasetDict):
        return {**given, "dataset": "dataset"}, dataset
    if is_table(dataset):
        folder = Path(given.get("data_dir") or "").expanduser().resolve()
        return {**given, "data_dir": folder, "dataset": "dataset"}, table_of(dataset, folder, given.get("image_column"))
    if _is_list(dataset):
        raise CuratorError("dataset: a list of files needs labels=[...], one for each")
    raise CuratorError(f"dataset: expected {TAKEN}; found {type(dataset).__name__}")


def _labelled(given: dict[str, Any], files: Any, labels: Any) -> tuple[dict[str, Any], Dataset]:
    """Rows of files, or of features alone, with labels beside them."""
    values = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise CuratorError(f"labels: expected a list or an array, one for each row; found {type(labels).__name__}")
    values = list(values)
    try:
        columns = {"label": pa.array(values, from_pandas=True)}  # NaN is no label
    except pa.ArrowException as e:
        raise CuratorError(f"labels: expected texts or whole numbers, one a row; {e}") from e
    given = {**given, "dataset": "dataset"}
    if files is None:
        if "features_column" not in given:
            raise CuratorError("labels: expected the files or the features that they belong to")
        return given, Dataset(pa.table(columns))
    if len(files) != len(values):
        raise CuratorError(f"labels: expected one for each of the {len(files):,} files, found {len(values):,}")
    rows, folder = rows_of_files(files, columns, given.get("data_dir"))
    return {**given, "data_dir": folder}, rows


def _is_list(value: Any) -> bool:
    """Whether it is a list, an array or a Series of paths."""
    if isinstance(value, str | bytes | dict) or not (isinstance(value, Sequence) or hasattr(value, "tolist")):
        return False
    return len(value) > 0 and all(isinstance(item, str | os.PathLike) for item in value)


def _numbers(name: str, value: Any) -> np.ndarray:
    """An array, a tensor or a list of lists as floats (n, d)."""
    if np.ma.is_masked(value):  # its mask would be lost without a word
        value = value.astype(float).filled(np.nan)
    try:
        array = np.asarray(value.detach().float().cpu() if hasattr(value, "detach") else value)
    except (ValueError, TypeError) as e:
        raise CuratorError(f"{name}: expected an array of numbers; {e}") from e
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise CuratorError(f"{name}: expected numbers of shape (n, d), found {array.dtype} {array.shape}")
    return array
