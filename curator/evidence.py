"""What flows through Curator: a noisy dataset in, evidence about its labels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from curator.errors import CuratorError, RunFailed


class Source(Protocol):
    """Rows a method can read, wherever they lie."""

    kind: str  # "images" | "features"
    shape: tuple[int, ...]  # of one row: (c, h, w), or (d,)

    def __len__(self) -> int:
        """Number of rows."""

    def batch(self, rows: Tensor) -> Tensor:
        """The rows (b,) int64 as uint8 (b, c, h, w) or float32 (b, d), on the run's device."""

    def expect(self, parts: Sequence[Tensor]) -> None:
        """Batches of rows that will be asked for, in their order, so that they can be made ready."""

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over all rows; float32, on the CPU.

        They are per channel (c,) in [0, 1] or per feature (d,).
        """


@dataclass(frozen=True)
class NoisyDataset:
    """Rows with labels of which some are wrong. The truth is not a field: no method can reach it.

    Attributes:
        inputs: the rows themselves.
        labels: (n,) int64 in [0, k) on the CPU; a trusted row holds its verified label.
        classes: the k class names.
        trusted: (n,) bool, rows whose label was verified.
        rows: (n,) int64, 0-based positions in the source split.
        source_rows: how many the source split has; 0 where that is not known.
    """

    inputs: Source
    labels: Tensor
    classes: tuple[str, ...]
    trusted: Tensor
    rows: Tensor
    source_rows: int = 0

    def __post_init__(self):
        n, k = len(self.inputs), len(self.classes)
        for name, dtype in (("labels", torch.int64), ("trusted", torch.bool), ("rows", torch.int64)):
            value = getattr(self, name)
            if value.shape != (n,) or value.dtype != dtype or value.device.type != "cpu":
                raise CuratorError(
                    f"NoisyDataset.{name}: expected {dtype} of shape ({n},) on the CPU, "
                    f"found {value.dtype} of shape {tuple(value.shape)} on {value.device}"
                )
        if n < 2 or k < 2:
            raise CuratorError(f"expected at least two rows and two classes, found {n} rows and {k} classes")
        if self.labels.min() < 0 or self.labels.max() >= k:
            raise CuratorError(
                f"labels: expected 0 to {k - 1}, found {int(self.labels.min())} to {int(self.labels.max())}"
            )

    def named(self, *labels: int) -> list[str]:
        """Classes as a message names them: quoted, the first 30 characters."""
        return [repr(self.classes[label][:30]) for label in labels]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Evidence:
    """What a method says about each of n rows; all on the CPU.

    Attributes:
        probs: (n, k) float32, the ensemble's soft label; rows sum to 1.
        clean_score: (n,) float32 in [0, 1], 1 = the given label is surely right.
        selected: (n,) bool, the method keeps the given label as clean.
        corrected: (n,) int64 in [0, k), the given label where selected, else the method's suggestion.
        ambiguous: (n,) bool, both the given and another label are likely; None where nobody has looked.
    """

    probs: Tensor
    clean_score: Tensor
    selected: Tensor
    corrected: Tensor
    ambiguous: Tensor | None = None

    def check(self, data: NoisyDataset) -> Evidence:
        """Return self if shapes, types and values fit the dataset.

        Raises:
            RunFailed: naming the first field that does not fit.
        """
        n, k = len(data), len(data.classes)
        wanted = {
            "probs": ((n, k), torch.float32),
            "clean_score": ((n,), torch.float32),
            "selected": ((n,), torch.bool),
            "corrected": ((n,), torch.int64),
        }
        for name, (shape, dtype) in wanted.items():
            value = getattr(self, name)
            if tuple(value.shape) != shape or value.dtype != dtype:
                raise RunFailed(f"Evidence.{name}: expected {dtype} {shape}, found {value.dtype} {tuple(value.shape)}")
        if not torch.isfinite(self.probs).all() or not torch.allclose(self.probs.sum(1), torch.ones(n), atol=1e-3):
            raise RunFailed("Evidence.probs: expected finite rows that sum to 1")
        if not ((self.clean_score >= 0) & (self.clean_score <= 1)).all():
            raise RunFailed("Evidence.clean_score: expected values in [0, 1]")
        if self.corrected.min() < 0 or self.corrected.max() >= k:
            raise RunFailed(f"Evidence.corrected: expected 0 to {k - 1}")
        return self


@dataclass(frozen=True)
class Present:
    """Which classes of a dataset methods are shown: those that some label names.

    A part of a dataset often keeps the names of all of its classes. Each that no row has would be a class more to learn
    and to share doubt with, and none that a row could be of.

    Attributes:
        numbers: (k,) int64, ascending: their numbers in the dataset.
        total: how many the dataset has.
    """

    numbers: Tensor
    total: int

    @classmethod
    def of(cls, labels: Sequence[Tensor], total: int) -> Present:
        """Those that labels (n,) int64 name; all, where they name fewer than two."""
        named = torch.cat(list(labels)).unique()
        return cls(named if len(named) > 1 else torch.arange(total), total)

    def names(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Their names, of those of all."""
        return tuple(classes[number] for number in self.numbers.tolist())

    def inside(self, labels: Tensor) -> Tensor:
        """Labels (n,) int64 of the dataset as numbers from 0 to k - 1; -1 for another class, and for -1."""
        places = torch.full((self.total,), -1)
        places[self.numbers] = torch.arange(len(self.numbers))
        return torch.where(labels >= 0, places[labels], -1)

    def probs(self, probs: Tensor) -> Tensor:
        """Probabilities (n, k) as those (n, total) of all classes."""
        return probs.new_zeros(len(probs), self.total).index_copy_(1, self.numbers.to(probs.device), probs)

    def evidence(self, found: Evidence) -> Evidence:
        """What a method says, in the numbers of the dataset."""
        return replace(found, probs=self.probs(found.probs), corrected=self.numbers[found.corrected])


def evidence(
    probs: Tensor,  # (n, k), rows sum to 1
    data: NoisyDataset,
    *,
    selected: Tensor | None = None,  # (n,) bool; by default argmax == given label
    clean_score: Tensor | None = None,  # (n,); by default probs[given label]
    corrected: Tensor | None = None,  # (n,) int64, of rows that are not selected; by default argmax
) -> Evidence:
    """Make Evidence from predictions: the default rules of every method, and trusted rows kept as they are."""
    probs = probs.float().cpu()
    guess = probs.argmax(1) if corrected is None else corrected
    given = probs.gather(1, data.labels[:, None]).squeeze(1)
    selected = guess == data.labels if selected is None else selected.cpu()
    clean_score = given if clean_score is None else clean_score.float().cpu()
    selected = selected | data.trusted
    clean_score = torch.where(data.trusted, 1.0, clean_score).clamp(0, 1)
    return Evidence(probs, clean_score, selected, torch.where(selected, data.labels, guess)).check(data)


COLLAPSED = 0.9  # share of the rows predicted to be of one class from which a net may have collapsed


def collapsed_into(
    found: Evidence,
    data: NoisyDataset,
) -> int | None:
    """The class of nearly all predictions, where far fewer labels name it: the net has given up the other classes."""
    k = len(data.classes)
    seen = found.probs.amax(1) > found.probs.amin(1)  # a run cut short has no prediction of the others
    predicted = torch.bincount(found.probs[seen].argmax(1), minlength=k) / max(1, int(seen.sum()))
    given = torch.bincount(data.labels, minlength=k) / len(data)
    most = int(predicted.argmax())
    return most if predicted[most] > COLLAPSED and given[most] < 0.6 * predicted[most] else None


def collapse_warning(name: str) -> str:
    """What to say of a net that has collapsed into the class."""
    return (
        f"the net predicts {name[:60]!r} for nearly all rows and ignores the other classes, so its suggestions "
        "are useless: try a lower --method.lr, fewer --epochs or another --method"
    )
