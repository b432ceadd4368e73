"""Values of a label column become class numbers, and class numbers its values again."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Value

from curator.decisions.names import Classes, plain
from curator.errors import CuratorError
from curator.sources.columns import column_array
from curator.sources.metadata import require_names

KINDS = "class labels, strings, integers or booleans"
MISSING = (None, "", -1)
SIGNS = [-1, 1]  # two classes; elsewhere -1 stands for no label


def is_string(feature) -> bool:
    """Whether a column holds strings."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def is_integer(feature) -> bool:
    """Whether a column holds integers."""
    return isinstance(feature, Value) and feature.dtype.startswith(("int", "uint"))


def may_be_labels(feature) -> bool:
    """Whether a column may hold labels: of decimals, integers that pandas made decimals since a cell is empty."""
    number = isinstance(feature, Value) and feature.dtype.startswith(("bool", "float"))
    return isinstance(feature, ClassLabel) or is_string(feature) or is_integer(feature) or number


def require_label_type(dataset: Dataset, column: str, flag: str) -> None:
    """Refuse a column that cannot hold labels, one a row."""
    feature = dataset.features[column]
    if not may_be_labels(feature):
        raise CuratorError(
            f"{flag} {column}: expected {KINDS}, one a row, found {feature}; choose another column, or change its type"
        )


def class_names(dataset: Dataset, column: str) -> tuple[str, ...]:
    """Names of the classes: those of the label column; of strings, the sorted values, of booleans False and True.

    Of integers "0" to "max", so that a class number is the value; where fewer than half of these occur (10, 20, 30),
    and for -1 and 1, those that occur. Whole decimals are integers.

    Raises:
        CuratorError: when the column holds something else, or so many values that they are ids and not labels.
    """
    feature, what = dataset.features[column], f"--label-column {column}"
    require_label_type(dataset, column, "--label-column")
    if isinstance(feature, ClassLabel):
        _require_distinct(feature.names, what)
        return tuple(feature.names)
    if isinstance(feature, Value) and feature.dtype == "bool":
        return ("False", "True")
    values = column_array(dataset, column).drop_null().unique()
    names: Sequence[str] = ()
    found: Sequence[int] = ()
    if is_string(feature):
        try:
            names = text_classes(values.to_pylist())
            require_names(names)
        except UnicodeDecodeError as e:
            raise CuratorError(f"{what}: expected UTF-8 text, found other bytes; fix them") from e
        except CuratorError as e:
            raise CuratorError(f"{what}: {e}") from e
    else:
        found = _number_classes(_whole(values, what).to_pylist())
    count = len(found) or len(names)
    if count > most_classes(len(dataset)):
        raise CuratorError(
            f"{what}: {count:,} classes for {len(dataset):,} rows look like ids, not labels; "
            "choose another column, or make it a ClassLabel"
        )
    return tuple(names or map(str, found))


def most_classes(n: int) -> float:
    """How many values the labels of n rows may have; more are ids, or texts."""
    return max(10, n / 2)


def _number_classes(values: list[int]) -> Sequence[int]:
    """Which of the sorted distinct values name classes."""
    if values == SIGNS:
        return values
    found = [value for value in values if value >= 0]
    dense = found and 2 * len(found) >= found[-1] + 1
    return range(found[-1] + 1) if dense else found


def text_classes(texts: Sequence[str]) -> list[str]:
    """Sorted names of the classes of texts: what differs in nothing that can be seen is one class, "" is none."""
    spelled: dict[str, set[str]] = {}
    for text in texts:
        spelled.setdefault(plain(text), set()).add(text.strip())
    return sorted(key if len(forms) > 1 else next(iter(forms)) for key, forms in spelled.items() if key)


def _require_distinct(names: Sequence[str], what: str) -> None:
    """Refuse class names that look the same, of which a column holds the numbers."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(plain(name), name)
        if other != name:
            raise CuratorError(
                f"{what}: the classes {ascii(other)} and {ascii(name)} are one text, but for blanks around it or the "
                "form in which Unicode writes it (NFC, NFD); rename one, as a folder or in the ClassLabel"
            )


def _whole(values: pa.ChunkedArray, what: str) -> pa.Array:
    """Distinct numbers as sorted int64.

    Raises:
        CuratorError: for decimals.
    """
    whole = whole_numbers(values)
    if pa.types.is_floating(values.type):
        odd = [v for v, w in zip(values.to_pylist(), whole.to_pylist(), strict=True) if w is None and v == v]
        if odd:
            raise CuratorError(f"{what}: expected {KINDS}, found decimals as {odd[0]:g}; choose another column")
    return pc.unique(whole.drop_null()).sort()


def whole_numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Integers, booleans and decimals as int64, null where there is no whole number."""
    if pa.types.is_floating(values.type):
        numbers = values.cast(pa.float64()).to_numpy()
        whole = np.isfinite(numbers) & (np.floor(numbers) == numbers) & (np.abs(numbers) < 2**53)
        return pa.chunked_array([pa.array(np.where(whole, numbers, 0).astype(np.int64), mask=~whole)])
    return values.cast(pa.int64(), safe=False)  # beyond 2**63 it is negative, and so no label


def codes_of(values: pa.ChunkedArray, classes: Sequence[str], names: Sequence[str] | None = None) -> np.ndarray:
    """Class numbers (n,) int64 of labels; -1 where the label is missing or not one of the classes.

    Args:
        values: strings, integers, booleans or whole decimals.
        classes: the k names.
        names: of the numbers, where the column has some (ClassLabel): their order may be another than that of classes.
    """
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        if names is not None or pa.types.is_boolean(values.type):
            return _by_position(values, classes, ("False", "True") if names is None else names)
        values = whole_numbers(values)
    known = Classes(classes)
    by_number = not known.numeric and pa.types.is_integer(values.type)
    found = values.dictionary_encode().combine_chunks()
    codes = [_code(known, value, by_number) for value in found.dictionary.to_pylist()]
    return np.array([*codes, -1])[found.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)]


def _code(known: Classes, value: str | int, by_number: bool) -> int:
    """The class of a value of a column: one that is held as text is as it was written."""
    if isinstance(value, str):
        code = known.written(value)
    else:
        code = known.numbered(value) if by_number else known.named(value)
    return -1 if code is None else code


def _by_position(values: pa.ChunkedArray, classes: Sequence[str], names: Sequence[str]) -> np.ndarray:
    codes = values.cast(pa.int64()).fill_null(-1).to_numpy()
    if set(names) & set(classes):
        number = {name: i for i, name in enumerate(classes)}
        by_code = np.array([*(number.get(name, -1) for name in names), -1])
        return by_code[np.where((codes >= 0) & (codes < len(names)), codes, -1)]
    return np.where((codes >= 0) & (codes < len(classes)), codes, -1)


def label_codes(dataset: Dataset, column: str, classes: Sequence[str]) -> np.ndarray:
    """codes_of a label column."""
    feature = dataset.features[column]
    return codes_of(column_array(dataset, column), classes, getattr(feature, "names", None))


def encoded_labels(codes: np.ndarray, classes: Sequence[str], feature) -> pa.Array:
    """Class numbers as values of a label column's type."""
    if isinstance(feature, ClassLabel):
        return pa.array(codes, pa.int64())
    if is_string(feature):
        values: list = list(classes)
    elif feature.dtype == "bool":
        values = [name == "True" for name in classes]
    else:
        values = [int(name) for name in classes]
    return pa.array(values).take(pa.array(codes, pa.int64())).cast(feature.pa_type)


def is_missing(value: object) -> bool:
    """Whether a value of a label column says that there is no label."""
    return value in MISSING or value != value or (isinstance(value, str) and not value.strip())


def are_values(classes: Sequence[str], kind: pa.DataType) -> bool:
    """Whether names of classes can be values of a label column of a type, as encoded_labels writes them."""
    if pa.types.is_boolean(kind):
        return set(classes) <= {"False", "True"}
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return text or all(re.fullmatch("-?[0-9]{1,18}", name) for name in classes)


def missing_labels(dataset: Dataset, column: str, codes: np.ndarray) -> dict[int, str]:
    """Why rows whose code (n,) is -1 have no label, by position."""
    bad = np.flatnonzero(codes < 0)
    values = column_array(dataset, column).take(pa.array(bad)).to_pylist()
    return {
        position: "the label is missing"
        if is_missing(value) and str(value) not in ("-1", "-1.0")
        else f"the label is {value}, which stands for none: give a class a name"
        if is_missing(value)
        else f"the label {str(value)[:60]!r} is not one of the classes"
        for position, value in zip(bad.tolist(), values, strict=True)
    }


def require_labels(dataset: Dataset, column: str, classes: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
    """Class numbers of a column in which every row must have one.

    Raises:
        CuratorError: naming the first row without a valid label.
    """
    codes = label_codes(dataset, column, classes)
    bad = np.flatnonzero(codes < 0)
    if len(bad):
        value = column_array(dataset, column)[int(bad[0])].as_py()
        raise CuratorError(
            f"column {column!r}: expected one of {len(classes)} classes in every row, "
            f"found {value!r} in row {rows[bad[0]]} ({len(bad)} such rows); correct or remove them"
        )
    return codes


def notes_on_labels(dataset: Dataset, column: str, classes: Sequence[str]) -> list[str]:
    """What the user should know of how the values of a label column became classes."""
    feature = dataset.features[column]
    if isinstance(feature, ClassLabel):
        return []
    if is_string(feature):
        texts = [text for text in column_array(dataset, column).unique().to_pylist() if text and text.strip()]
        odd = sorted(ascii(text) for text in texts if text not in classes)
        shown = ", ".join(odd[:3]) + ", …" * (len(odd) > 3)
        return [f"labels that differ but in blanks or in the form of Unicode are one class: {shown}"] if odd else []
    if feature.dtype != "bool" and list(classes) != [str(i) for i in range(len(classes))]:
        return [
            f"the labels {', '.join(classes[:3])}{', …' * (len(classes) > 3)} are the names of the classes, which "
            "corrected_label numbers from 0"
        ]
    return []
