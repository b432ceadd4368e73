"""Other splits get the columns of the one that is curated: classes by their names, numbers by their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Audio, ClassLabel, Dataset, Features, Image, Value

from curator.sources.columns import column_array, replace_column
from curator.sources.labels import codes_of, is_missing, is_string, label_codes, text_classes


def align(splits: Mapping[str, Dataset], chosen: str) -> tuple[dict[str, Dataset], list[str]]:
    """The splits with the columns and types of the chosen one, and what the user should know of them.

    Classes that only another split has are added behind those of the chosen one. Splits that cannot be made to fit are
    left out.
    """
    target, notes, fitting = Features(splits[chosen].features), [], {}
    for name, part in splits.items():
        for column, feature in target.items():
            known = part.features.get(column, feature)
            if isinstance(feature, ClassLabel) and known != feature:
                new = [text for text in _names_in(part, column) if text not in feature.names]
                target[column] = ClassLabel(names=[*feature.names, *new])
                if new:
                    shown = ", ".join(repr(text[:50]) for text in new[:5]) + ", …" * (len(new) > 5)
                    notes.append(f"column {column!r}: classes of split {name!r}, not of {chosen!r}: {shown}")
    for name, part in splits.items():
        found = _fitted(part, target) if len(part) or name == chosen else "it has no row"  # datasets reads none back
        if isinstance(found, str):
            notes.append(f"split {name!r} is left out: {found}")
        else:
            fitting[name] = found
    return fitting, notes


def _fitted(part: Dataset, target: Features) -> Dataset | str:
    """A split with the features, or why it cannot have them."""
    if differing := set(target) ^ set(part.features):
        return f"its columns differ ({', '.join(sorted(differing)[:5])})"
    for column, feature in target.items():
        own = part.features[column]
        if own != feature:
            values = _as(column_array(part, column), own, feature)
            if values is None:
                return f"its column {column!r} is {own}, which cannot be read as {feature}"
            part = replace_column(part, column, values, feature)
    return part if part.column_names == list(target) else part.select_columns(list(target))


def _names_in(part: Dataset, column: str) -> list[str]:
    """Names of classes in a column of names."""
    feature = part.features[column]
    if isinstance(feature, ClassLabel):
        return feature.names
    return text_classes(column_array(part, column).drop_null().unique().to_pylist()) if is_string(feature) else []


def _as(values: pa.ChunkedArray, feature: Any, target: Any) -> pa.Array | None:
    """Values of one feature as those of another; None where they cannot be that."""
    if isinstance(target, ClassLabel) and isinstance(feature, ClassLabel | Value):
        codes = codes_of(values, target.names, getattr(feature, "names", None))
        unknown = values.take(pa.array(np.flatnonzero(codes < 0))).to_pylist()
        return pa.array(codes, mask=codes < 0) if all(map(is_missing, unknown)) else None
    if isinstance(feature, ClassLabel) and isinstance(target, Value):
        known = pc.and_(pc.greater_equal(values, 0), pc.less(values, len(feature.names)))
        values = pa.array(feature.names).take(pc.if_else(known, values, None).combine_chunks())
    elif not (isinstance(feature, Value) and isinstance(target, Value)):
        alike = isinstance(target, Image | Audio) and type(feature) is type(target)
        return values.combine_chunks() if alike else None
    try:
        found = values.cast(target.pa_type)
    except pa.ArrowException:
        return None
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def unknown_labels(splits: Mapping[str, Dataset], column: str, classes: tuple[str, ...]) -> list[str]:
    """What to say of splits in which rows have labels that are none of the classes: no net judges them."""
    notes = []
    for name, part in splits.items():
        bad = np.flatnonzero(label_codes(part, column, classes) < 0)
        values = column_array(part, column).take(pa.array(bad)).to_pylist()
        odd = [value for value in values if not is_missing(value)]
        if odd:
            shown = ", ".join(repr(str(value)[:50]) for value in list(dict.fromkeys(odd))[:5])
            notes.append(f"split {name!r}: {len(odd):,} rows have labels of no class, and are not scored: {shown}")
    return notes


def number_alike(files: Iterable[str]) -> bool:
    """Whether parquet files give the classes of every column the same numbers: datasets takes those of the first."""
    seen: dict[str, list[str]] = {}
    for file in files:
        try:
            features = Features.from_arrow_schema(pq.read_schema(file))
        except Exception:  # noqa: S112 - a stranger's metadata: datasets will say why they cannot be read
            continue
        for column, feature in features.items():
            if isinstance(feature, ClassLabel) and seen.setdefault(column, feature.names) != feature.names:
                return False
    return True
