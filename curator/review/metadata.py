"""Columns of the dataset that rows are sorted and filtered by: names of files, and whatever else is one value a row."""

from __future__ import annotations

import re
from collections import OrderedDict

import numpy as np
import pyarrow as pa

from curator.errors import CuratorError
from curator.result.read import SCORES, SOFT, Rows

FILE = "file"  # the name of the image's file
FURTHER = ("typicality", "ambiguous", "also")  # columns of a run that not every run has
KEPT = 16  # columns whose values are kept
RANGE = re.compile(r"\s*(-?[\d.]+(?:e-?\d+)?)?\s*\.\.\s*(-?[\d.]+(?:e-?\d+)?)?\s*", re.IGNORECASE)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_value(kind: pa.DataType) -> bool:
    others = pa.types.is_string(kind), pa.types.is_large_string(kind), pa.types.is_boolean(kind)
    return _is_number(kind) or any(others) or pa.types.is_temporal(kind) or pa.types.is_dictionary(kind)


class Metadata:
    """The columns of a run; not what the run says of its rows, nor their true labels, which nobody is to see.

    Attributes:
        names: of the columns; "file" comes first where rows have files.
    """

    def __init__(self, rows: Rows):
        self.rows = rows
        facts = rows.facts
        others = {rows.prefix + name for name in (*SCORES, SOFT, *FURTHER)} | {
            facts["label_column"], facts.get("reference_column"), facts.get("text_column"),
        }  # fmt: skip
        columns = [field.name for field in rows.schema if _is_value(field.type) and field.name not in others]
        self._of = {name: name for name in columns if rows.schema.names.count(name) == 1}
        if facts["image_column"] is not None and FILE not in self._of:
            self._of = {FILE: None, **self._of}  # type: ignore[dict-item]
        self.names = list(self._of)
        self._values: OrderedDict[str, np.ndarray] = OrderedDict()

    def values(self, name: str) -> np.ndarray:
        """(n,) float64, nan where there is none, of a column of numbers; else (n,) object, texts, "" where none is.

        Raises:
            CuratorError: where there is no such column.
        """
        if name not in self._of:
            raise CuratorError(f"column: expected one of {', '.join(self.names) or 'none'}; found {name[:60]!r}")
        values = self._values.pop(name, None)
        if values is None:
            column = self._of[name]
            values = np.array(self.rows.files, object) if column is None else self._read(column)
        self._values[name] = values
        while len(self._values) > KEPT:
            self._values.popitem(last=False)
        return values

    def _read(self, column: str) -> np.ndarray:
        found = self.rows.column(column)
        names = self.rows.names_of_column(column)
        if _is_number(found.type) and names is None:
            return found.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        texts = [
            "" if value is None else names[value] if names and 0 <= value < len(names) else str(value)
            for value in found.to_pylist()
        ]
        return np.array(texts, object)

    def shown(self, name: str, position: int) -> str:
        """A value as text; "" where there is none."""
        value = self.values(name)[position]
        if isinstance(value, str):
            return value
        return "" if np.isnan(value) else f"{value:.15g}"

    def fits(self, name: str, text: str) -> np.ndarray:
        """(n,) bool: rows whose value fits: a number, or a range as 3..5, ..5 or 3..; of texts, those that hold it.

        Raises:
            CuratorError: where a column of numbers is asked for what is none.
        """
        values = self.values(name)
        if values.dtype == object:
            part = text.strip().casefold()
            return np.fromiter((part in value.casefold() for value in values), bool, len(values))
        try:
            if found := RANGE.fullmatch(text):
                low, high = (float(part) if part else None for part in found.groups())
                return (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
            return values == float(text)
        except ValueError:
            raise CuratorError(f"{name}: expected a number, or a range as in 3..5; found {text[:60]!r}") from None

    def order(self, name: str) -> np.ndarray:
        """Positions (n,) int32 by the column, rows without a value last, alike ones in the order of their ids."""
        values = self.values(name)
        if values.dtype != object:
            return np.argsort(values, kind="stable").astype(np.int32)
        key = [(not value, _natural(value)) for value in values]
        return np.array(sorted(range(len(values)), key=key.__getitem__), np.int32)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """What sorts img2 before img10."""
    parts = re.split(r"(\d{1,18})", text.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
