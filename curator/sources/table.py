"""The table: one split with its columns guessed, its labels as class numbers, and what goes with it to the output."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from datasets import ClassLabel, Dataset, Features, Image

from curator.errors import CuratorError
from curator.sources.columns import column_array, replace_column, with_columns
from curator.sources.images import NO_FILES, Access
from curator.sources.labels import KINDS, encoded_labels, is_integer, is_string, label_codes, may_be_labels

# The columns Curator writes: never taken for input.
COLUMNS = (
    "clean_score", "selected", "corrected_label", "teacher_soft_label", "row", "typicality", "ambiguous",
)  # fmt: skip
TRUE_LABEL = "true_label"
ORIGINAL = "original_label"  # of a published version, whose labels were corrected: those that were given
NAMES = ("label", "labels")  # of a label column, if there is one of such a name
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
    image_column: str | None  # None: a dataset of texts or embeddings
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
    text_column: str | None = None  # of rows of text

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


def guess_image_column(features: Features, wanted: str | None, *, needed: bool = True) -> str | None:
    """The wanted column, or the only image column; None where there is not one and none is needed.

    Raises:
        CuratorError: when it is not there, or none or several could be meant.
    """
    candidates = [name for name, feature in features.items() if isinstance(feature, Image)]
    if not needed and wanted is None and len(candidates) != 1:
        return None
    if not candidates and wanted is None:
        raise CuratorError(
            f"expected an image column (type Image), found none among {', '.join(features)}; name it with "
            "--image-column, or a column of texts with --text-column"
        )
    column = _pick("--image-column", wanted, candidates, list(features), "an image column (type Image)")
    if column not in candidates:
        raise CuratorError(f"--image-column {column}: expected a column of type Image, found {features[column]}")
    return column


def guess_label_column(features: Features, wanted: str | None, reference: str | None) -> str:
    """The wanted column; or the only one named label or labels or of class labels; or the only one of values.

    Raises:
        CuratorError: where there is not exactly one, and where the one that is named so cannot hold labels.
    """
    skip = {*COLUMNS, TRUE_LABEL, ORIGINAL, reference}
    kinds = {name: feature for name, feature in features.items() if name not in skip and not name.startswith("__")}
    named = [name for name in kinds if name.lower() in NAMES]
    odd = next((name for name in named if not may_be_labels(kinds[name])), None)
    if odd is not None and wanted is None:
        raise CuratorError(
            f"column {odd!r}: expected {KINDS}, one a row, found {kinds[odd]}; make it one of these, or name another "
            "column with --label-column"
        )
    candidates = [name for name, feature in kinds.items() if name in named or isinstance(feature, ClassLabel)]
    candidates = candidates or [name for name, feature in kinds.items() if is_string(feature) or is_integer(feature)]
    columns = [*features, *_fields(features)]
    return _pick("--label-column", wanted, candidates, columns, "a label column (class labels, integers or strings)")


def _fields(features: Features) -> list[str]:
    """COLUMN.FIELD of every struct."""
    return [f"{column}.{field}" for column, inner in features.items() if isinstance(inner, dict) for field in inner]


def field_of_labels(features: Features, wanted: str | None) -> str | None:
    """COLUMN.FIELD of a struct, as webdataset makes one of .json files, that holds the labels; None where none does.

    It is the wanted one, or the only one named label or labels where no column is and none holds class labels.
    """
    fields = _fields(features)
    if wanted is not None:
        return wanted if wanted in fields and wanted not in features else None
    if any(name.lower() in NAMES or isinstance(feature, ClassLabel) for name, feature in features.items()):
        return None
    named = [field for field in fields if field.rpartition(".")[2].lower() in NAMES]
    return named[0] if len(named) == 1 else None


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
