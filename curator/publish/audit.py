"""The audit: how many labels are wrong, before and after, estimated from a random sample that is labelled blind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.result.read import Rows

STRATA = ("selected", "flagged")
DRAWS = 10_000


@dataclass(frozen=True)
class Stratum:
    """Rows of the same kind: how many there are, how many of them were labelled, how many of these are wrong."""

    size: int
    labelled: int
    wrong: int


@dataclass(frozen=True)
class Rate:
    """A share of wrong labels in [0, 1], with a 95 % interval."""

    estimate: float
    low: float
    high: float


def draw_sample(selected: np.ndarray, size: int, seed: int, among: np.ndarray | None = None) -> np.ndarray:
    """Positions (m,) of a random sample of the rows `among` (n,), half selected and half flagged ones, shuffled.

    Where one kind has fewer rows than half of the sample, the other fills it. The flagged rows are few and mostly
    wrong, the others many and mostly right: equal parts leave little doubt about either.
    """
    rng = np.random.default_rng(seed)
    among = np.ones(len(selected), bool) if among is None else among
    kinds = [np.flatnonzero(selected & among), np.flatnonzero(~selected & among)]
    size = min(size, int(among.sum()))
    first = min(len(kinds[0]), max(size - size // 2, size - len(kinds[1])))
    counts = first, min(len(kinds[1]), size - first)
    chosen = [rng.choice(kind, count, replace=False) for kind, count in zip(kinds, counts, strict=True)]
    return rng.permutation(np.concatenate(chosen))


def error_rate(strata: list[Stratum], seed: int = 0) -> Rate | None:
    """Share of wrong labels over all strata, each weighted by its size; None where nothing was labelled.

    Of x wrong among n labelled, a stratum's rate is drawn 10,000 times from Beta(1/2 + x, 1/2 + n - x) (Jeffreys'
    interval); the interval holds the middle 95 % of the weighted sums, and the estimate, the weighted sum of x / n
    (of 1/2 for a stratum of which nothing was labelled).
    """
    from scipy.stats import beta

    strata = [s for s in strata if s.size]
    if not any(s.labelled for s in strata):
        return None
    rng, total = np.random.default_rng(seed), sum(s.size for s in strata)
    draws, estimate = np.zeros(DRAWS), 0.0
    for s in strata:
        draws += s.size / total * beta.rvs(0.5 + s.wrong, 0.5 + s.labelled - s.wrong, size=DRAWS, random_state=rng)
        estimate += s.size / total * (s.wrong / s.labelled if s.labelled else 0.5)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Rate(estimate, min(float(low), estimate), max(float(high), estimate))


def audited(
    rows: Rows, journal: Journal, reviewer: str, codes: np.ndarray, inside: np.ndarray
) -> tuple[dict[str, Any], int]:
    """What a reviewer's latest audit of a run says of labels: the rate with its strata, and how many rows it rests on.

    Args:
        rows: the run.
        journal: with the sample and its blind labels.
        reviewer: whose audit it is.
        codes: (n,) class numbers of the labels to judge.
        inside: (n,) bool, the rows that have them; others are left out.

    Returns:
        {"strata": [{"name", "size", "labelled", "wrong"}], "estimate", "low", "high"}, the estimate None where nothing
        was labelled; and the number of rows labelled.

    Raises:
        CuratorError: where the reviewer has drawn no sample of this run.
    """
    last = journal.audits.last(rows.verdict, reviewer)
    if last is None:
        raise CuratorError("audit: there is no sample yet")
    number, sample = last
    labels = {row: label for row, label in journal.audits.labels(number, reviewer).items() if label is not None}
    strata = []
    for name in STRATA:
        members = (rows.selected if name == STRATA[0] else ~rows.selected) & inside
        asked = [(rows.position(row), labels[row]) for row, stratum in sample if stratum == name and row in labels]
        judged = [(place, label) for place, label in asked if place is not None and inside[place]]
        wrong = sum(rows.classes[codes[place]] != label for place, label in judged)
        strata.append(Stratum(int(members.sum()), len(judged), int(wrong)))
    rate = error_rate(strata)
    shown = [{"name": name, **vars(s)} for name, s in zip(STRATA, strata, strict=True)]
    return {"strata": shown, **(vars(rate) if rate else {"estimate": None})}, len(labels)
