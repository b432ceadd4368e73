"""Evidence becomes the columns of the output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, List, Value

from curator.sources.columns import with_columns
from curator.sources.table import COLUMNS

if TYPE_CHECKING:  # publishing needs no torch
    from curator.evidence import Evidence


@dataclass(frozen=True)
class Columns:
    """The columns of one split, for n rows and k classes; `present` marks the rows that have them (others are null).

    Of a run without features nothing says how typical a row is: NaN, which becomes null.
    """

    clean_score: np.ndarray  # (n,) float32 in [0, 1]
    selected: np.ndarray  # (n,) bool
    corrected: np.ndarray  # (n,) int64
    soft: np.ndarray  # (n, k) float32
    rows: np.ndarray  # (n,) int64
    present: np.ndarray  # (n,) bool
    typicality: np.ndarray  # (n,) float32 in [0, 1] or NaN
    ambiguous: np.ndarray | None = None  # (n,) bool; None where nobody has looked


def columns_of(
    found: Evidence, given: np.ndarray, trusted: np.ndarray, rows: np.ndarray, typicality: np.ndarray | None = None
) -> Columns:
    """Columns of the curated split. A trusted row's label is verified: the given one is right if it equals that."""
    selected, corrected = found.selected.numpy(), found.corrected.numpy()
    right = corrected == given
    return Columns(
        clean_score=np.where(trusted, right, found.clean_score.numpy()).astype(np.float32),
        selected=np.where(trusted, right, selected),
        corrected=np.where(trusted | ~selected, corrected, given),
        soft=found.probs.numpy(),
        rows=rows,
        present=np.ones(len(rows), bool),
        typicality=_unknown(len(rows)) if typicality is None else typicality,
        ambiguous=None if found.ambiguous is None else found.ambiguous.numpy(),
    )


def columns_of_other(probs: np.ndarray, labels: np.ndarray) -> Columns:
    """Columns of another split by the default rules, from the nets' soft labels (n, k); null where labels are -1."""
    present = labels >= 0
    guess = probs.argmax(1)
    score = np.where(present, probs[np.arange(len(probs)), np.maximum(labels, 0)], 0)
    rows = np.arange(len(probs))
    return Columns(score.astype(np.float32), guess == labels, guess, probs, rows, present, _unknown(len(rows)))


def no_columns(n: int, k: int) -> Columns:
    """Columns of a split that was not scored: all null but `row`."""
    zeros = np.zeros(n, np.float32)
    labels, soft = zeros.astype(np.int64), np.zeros((n, k), np.float32)
    return Columns(zeros, zeros > 0, labels, soft, np.arange(n), zeros > 0, _unknown(n))


def _unknown(n: int) -> np.ndarray:
    return np.full(n, np.nan, np.float32)


def spread(columns: Columns, places: np.ndarray, ids: np.ndarray) -> Columns:
    """The same columns at places (n,) of more rows, whose ids (m,) are positions in the source; the others are null."""

    def put(values: np.ndarray) -> np.ndarray:
        out = np.zeros((len(ids), *values.shape[1:]), values.dtype)
        out[places] = values
        return out

    if len(places) == len(ids):
        return columns
    parts = {name: put(value) for name, value in vars(columns).items() if name != "rows" and value is not None}
    return Columns(**parts, rows=ids)


def flag_worst(columns: Columns, given: np.ndarray, trusted: np.ndarray, count: int) -> Columns:
    """The same with exactly the `count` least clean rows not selected, trusted rows left out (a review budget).

    Of those that the method flags they have its suggestion; the others their given label, as nobody says that another
    would mend them.
    """
    candidates = np.flatnonzero(~trusted)
    worst = candidates[np.argsort(columns.clean_score[candidates], kind="stable")[:count]]
    selected = np.where(trusted, columns.selected, True)
    selected[worst] = False
    corrected = np.where(trusted | ~selected, columns.corrected, given)
    return replace(columns, selected=selected, corrected=corrected)


def least_clean(columns: Columns, most: int | None = None) -> np.ndarray:
    """Positions (m,) of the rows that are not selected, the least clean first."""
    wrong = np.flatnonzero(~columns.selected)
    return wrong[np.argsort(columns.clean_score[wrong], kind="stable")][:most]


def add_columns(dataset: Dataset, columns: Columns, classes: tuple[str, ...], prefix: str = "") -> Dataset:
    """The dataset with the columns at its end, as DESIGN's types; no value that is there is rewritten."""
    null = ~columns.present
    k = len(classes)
    soft = pa.FixedSizeListArray.from_arrays(
        pa.array(columns.soft.reshape(-1)), k, mask=pa.array(null) if null.any() else None
    )
    unsure = np.zeros(len(null), bool) if columns.ambiguous is None else columns.ambiguous
    values = (
        (pa.array(columns.clean_score, mask=null), Value("float32")),
        (pa.array(columns.selected, mask=null), Value("bool")),
        (pa.array(columns.corrected, mask=null), ClassLabel(names=list(classes))),
        (soft, List(Value("float32"), length=k)),
        (pa.array(columns.rows), Value("int64")),
        (pa.array(columns.typicality, mask=null | np.isnan(columns.typicality)), Value("float32")),
        (pa.array(unsure, mask=null | (columns.ambiguous is None)), Value("bool")),
    )
    return with_columns(dataset, {prefix + name: value for name, value in zip(COLUMNS, values, strict=True)})


def pairs(given: np.ndarray, now: np.ndarray, k: int, most: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent (given, now, rows) among the changed labels (class numbers below k)."""
    changed = now != given
    codes, counts = np.unique(given[changed].astype(np.int64) * k + now[changed], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(int(codes[i] // k), int(codes[i] % k), int(counts[i])) for i in order]
