"""The table: one split with its columns guessed, its labels as class numbers, and what goes with it to the output."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from datasets import ClassLabel, Dataset, Features, Image, Value, concatenate_datasets
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from curator.errors import CuratorError
from curator.sources.images import NO_FILES, Access
from curator.sources.metadata import require_names

# The columns Curator writes: never taken for input.
COLUMNS = ("clean_score", "selected", "corrected_label", "teacher_soft_label", "row")
TRUE_LABEL = "true_label"
MOST_ASIDE = 0.05  # share of the rows that may be set aside without being asked


@dataclass
class Table:
    """A split ready to be curated.

    Attributes:
        name: for the output folder and the card.
        split: name of the split.
        dataset: its rows, in source order, with every original column; the label column holds the given labels.
        ids: 0-based positions in the source split of the rows of dataset; the split has source_rows of them.
        aside: reasons, by position in dataset, of rows that no method can read; they keep their place in the output.
        others: the other splits, with the same features.
        classes: the k class names; labels (n,) int64 in [0, k) and truth, where it is known, index them. Like verified,
            they are of the n rows that are not set aside.
        verified: (n,) int64, the label of a trusted row, -1 where the row is not.
        digest: hash of what was read, for resuming and for curation.json.
        access: what may be read of its files.
    """

    name: str
    split: str
    dataset: Dataset
    others: dict[str, Dataset]
    image_column: str | None  # None: a dataset of embeddings
    label_column: str
    classes: tuple[str, ...]
    labels: np.ndarray
    ids: np.ndarray
    reference_column: str | None = None
    truth: np.ndarray | None = None
    source_rows: int = 0
    verified: np.ndarray | None = None
    source: dict[str, Any] = field(default_factory=dict)  # id, revision, config, LICENSE, text of its card: for ours
    digest: str = ""
    notes: list[str] = field(default_factory=list)  # what the user should know of the loading
    aside: dict[int, str] = field(default_factory=dict)
    access: Access = NO_FILES

    @property
    def kept(self) -> np.ndarray:
        """(n,) positions in dataset of the rows that are not set aside."""
        return remaining(len(self.ids), self.aside)

    @property
    def rows(self) -> np.ndarray:
        """(n,) int64, positions in the source split of the rows that are not set aside."""
        return self.ids[self.kept]

    @property
    def data(self) -> Dataset:
        """The n rows that are not set aside."""
        return self.dataset.select(self.kept) if self.aside else self.dataset

    def set_aside(self, reasons: dict[int, str]) -> None:
        """Set rows aside, by position among those that are not."""
        if not reasons:
            return
        kept, left = self.kept, np.ones(len(self.labels), bool)
        left[list(reasons)] = False
        self.aside = dict(sorted({**self.aside, **{int(kept[i]): why for i, why in reasons.items()}}.items()))
        self.labels = self.labels[left]
        self.truth = None if self.truth is None else self.truth[left]
        self.verified = None if self.verified is None else self.verified[left]

    def require_few_aside(self, allowed: bool) -> None:
        """Refuse to continue where more than MOST_ASIDE of the rows are set aside.

        Raises:
            CuratorError: naming how many they are, and the first one.
        """
        share = len(self.aside) / len(self.ids)
        if share > MOST_ASIDE and not allowed:
            first = next(iter(self.aside))
            raise CuratorError(
                f"{len(self.aside):,} of {len(self.ids):,} rows cannot be used (row {self.ids[first]}: "
                f"{self.aside[first]}); fix or remove them, or continue without them with --allow-quarantine"
            )

    @property
    def trusted(self) -> np.ndarray:
        """(n,) bool, rows whose label was verified."""
        return np.zeros(len(self.labels), bool) if self.verified is None else self.verified >= 0

    @property
    def learned(self) -> np.ndarray:
        """(n,) int64, the labels that methods learn from: of a trusted row the verified one."""
        return self.labels if self.verified is None else np.where(self.trusted, self.verified, self.labels)

    def verified_digest(self) -> str | None:
        """Hash of which rows are trusted, with which labels; None where there is none."""
        if self.verified is None:
            return None
        pairs = np.stack([self.rows, self.verified])[:, self.trusted]
        return hashlib.blake2b(np.ascontiguousarray(pairs).tobytes(), digest_size=16).hexdigest()

    def take(self, index: np.ndarray) -> None:
        """Keep the rows at the positions (sorted), in source order; those set aside are in no sample."""
        kept = self.kept[index]
        self.dataset, self.ids, self.aside = self.dataset.select(kept), self.ids[kept], {}
        self.labels = self.labels[index]
        self.truth = None if self.truth is None else self.truth[index]

    def relabel(self, labels: np.ndarray) -> None:
        """Give the rows other labels (class numbers); what they were becomes the truth and the column `true_label`."""
        if TRUE_LABEL in self.dataset.column_names or self.truth is not None:
            raise CuratorError(
                f"--label-noise: the true labels are known (column {self.reference_column or TRUE_LABEL!r}), "
                "so the given labels are noisy already; leave the flag out"
            )
        self.truth, self.labels = self.labels, labels
        self.reference_column = TRUE_LABEL
        feature = ClassLabel(names=list(self.classes))
        given, known = column_array(self.dataset, self.label_column).combine_chunks(), np.zeros(len(self.ids), bool)
        known[self.kept] = True
        given = pa.compute.replace_with_mask(given, pa.array(known), self.encode(labels))
        truth = np.full(len(self.ids), -1)
        truth[self.kept] = self.truth
        true_label = pa.array(truth, pa.int64(), mask=~known)
        self.dataset = with_columns(
            replace_column(self.dataset, self.label_column, given), {TRUE_LABEL: (true_label, feature)}
        )
        for split, other in self.others.items():
            codes = label_codes(other, self.label_column, self.classes)
            self.others[split] = with_columns(other, {TRUE_LABEL: (pa.array(codes, mask=codes < 0), feature)})

    def encode(self, labels: np.ndarray) -> pa.Array:
        """Class numbers as values of the label column's own type."""
        return encoded_labels(labels, self.classes, self.dataset.features[self.label_column])


def remaining(n: int, aside: Iterable[int]) -> np.ndarray:
    """Positions among n rows of those that are not set aside."""
    return np.delete(np.arange(n), list(aside))


def encoded_labels(codes: np.ndarray, classes: Sequence[str], feature) -> pa.Array:
    """Class numbers as values of a label column's type."""
    if isinstance(feature, ClassLabel):
        return pa.array(codes, pa.int64())
    values = [classes[i] for i in codes]
    return pa.array(values if is_string(feature) else [int(v) for v in values]).cast(feature.pa_type)


def is_string(feature) -> bool:
    """Whether a column holds strings."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def is_integer(feature) -> bool:
    """Whether a column holds integers."""
    return isinstance(feature, Value) and feature.dtype.startswith(("int", "uint"))


def with_columns(dataset: Dataset, columns: dict[str, tuple[pa.Array, object]]) -> Dataset:
    """The dataset with columns {name: (values, feature)} at its end; nothing that is there is rewritten."""
    table = pa.table({name: values for name, (values, _) in columns.items()})
    features = Features({name: feature for name, (_, feature) in columns.items()})
    with quiet():
        return concatenate_datasets([dataset, Dataset(table.cast(features.arrow_schema))], axis=1)


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


def replace_column(dataset: Dataset, column: str, values: pa.Array) -> Dataset:
    """The dataset with other values in a column, in its old place and of its old type."""
    names, feature = dataset.column_names, dataset.features[column]
    return with_columns(dataset.remove_columns(column), {column: (values, feature)}).select_columns(names)


def column_array(dataset: Dataset, column: str) -> pa.ChunkedArray:
    """A column's Arrow values in row order (the indices of select and shuffle respected)."""
    return dataset.select_columns(column).with_format("arrow")[:][column]


def guess_image_column(features: Features, wanted: str | None, *, needed: bool = True) -> str | None:
    """The wanted column, or the only image column; None where there is not one and none is needed.

    Raises:
        CuratorError: when it is not there, or none or several could be meant.
    """
    candidates = [name for name, feature in features.items() if isinstance(feature, Image)]
    if not needed and wanted is None and len(candidates) != 1:
        return None
    column = _pick("--image-column", wanted, candidates, list(features), "an image column (type Image)")
    if column not in candidates:
        raise CuratorError(f"--image-column {column}: expected a column of type Image, found {features[column]}")
    return column


def guess_label_column(features: Features, wanted: str | None, reference: str | None) -> str:
    """The wanted column, or the only one of class labels, or else the only one of integers or strings."""
    skip = {*COLUMNS, TRUE_LABEL, reference}
    kinds = {name: feature for name, feature in features.items() if name not in skip}
    candidates = [name for name, feature in kinds.items() if isinstance(feature, ClassLabel)]
    candidates = candidates or [name for name, feature in kinds.items() if is_string(feature) or is_integer(feature)]
    return _pick(
        "--label-column", wanted, candidates, list(features), "a label column (class labels, integers or strings)"
    )


def _pick(flag: str, wanted: str | None, candidates: list[str], columns: list[str], what: str) -> str:
    if wanted is not None:
        if wanted not in columns:
            raise CuratorError(f"{flag}: no column {wanted!r}; the columns are {', '.join(columns)}")
        return wanted
    if not candidates:
        raise CuratorError(f"expected {what}, found none among {', '.join(columns)}; name it with {flag}")
    if len(candidates) > 1:
        raise CuratorError(f"expected one column to be {what}, found {', '.join(candidates)}; choose one with {flag}")
    return candidates[0]


def class_names(dataset: Dataset, column: str) -> tuple[str, ...]:
    """Names of the classes: those of the label column; of strings, the sorted values; of integers, "0" to "max".

    Raises:
        CuratorError: when the column holds something else, or so many values that they are ids and not labels.
    """
    feature = dataset.features[column]
    require_label_type(dataset, column, "--label-column")
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    values = column_array(dataset, column).drop_null().unique()
    if is_string(feature):
        values = values.filter(pa.compute.not_equal(values, ""))  # no label, as a table's empty cell
    count = len(values) if is_string(feature) else max(0, pa.compute.max(values).as_py() or 0) + 1
    if count > max(10, len(dataset) / 2):
        raise CuratorError(
            f"--label-column {column}: {count:,} classes for {len(dataset):,} rows look like ids, not labels; "
            "choose another column, or make it a ClassLabel"
        )
    if not is_string(feature):
        return tuple(str(i) for i in range(count))
    try:
        names = sorted(values.to_pylist())
        require_names(names)
    except UnicodeDecodeError as e:
        raise CuratorError(f"--label-column {column}: expected UTF-8 text, found other bytes; fix them") from e
    except CuratorError as e:
        raise CuratorError(f"--label-column {column}: {e}") from e
    return tuple(names)


def require_label_type(dataset: Dataset, column: str, flag: str) -> None:
    """Refuse a column that cannot hold labels."""
    feature = dataset.features[column]
    if not (isinstance(feature, ClassLabel) or is_string(feature) or is_integer(feature)):
        raise CuratorError(f"{flag} {column}: expected class labels, integers or strings, found {feature}")


def label_codes(dataset: Dataset, column: str, classes: tuple[str, ...]) -> np.ndarray:
    """Class numbers (n,) int64 of a label column; -1 where the label is missing or not one of the classes."""
    values = column_array(dataset, column)
    if is_string(dataset.features[column]):
        codes = pa.compute.index_in(values, value_set=pa.array(classes))
        return codes.fill_null(-1).to_numpy().astype(np.int64)
    codes = values.cast(pa.int64()).fill_null(-1).to_numpy()
    feature = dataset.features[column]
    if isinstance(feature, ClassLabel) and set(feature.names) & set(classes):  # by name: the order may differ
        number = {name: i for i, name in enumerate(classes)}
        by_code = np.array([*(number.get(name, -1) for name in feature.names), -1])
        return by_code[np.where((codes >= 0) & (codes < len(feature.names)), codes, -1)]
    return np.where((codes >= 0) & (codes < len(classes)), codes, -1)


def missing_labels(dataset: Dataset, column: str, codes: np.ndarray) -> dict[int, str]:
    """Why rows whose code (n,) is -1 have no label, by position."""
    bad = np.flatnonzero(codes < 0)
    values = column_array(dataset, column).take(pa.array(bad)).to_pylist()
    return {
        position: "the label is missing"
        if value in (None, "", -1)
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
