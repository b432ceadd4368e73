"""The audit: how many labels are wrong, before and after, estimated from a random sample that is labelled blind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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


def draw_sample(selected: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Positions (m,) of a random sample, half of it selected rows and half flagged ones, shuffled.

    Where one kind has fewer rows than half of the sample, the other fills it. The flagged rows are few and mostly
    wrong, the others many and mostly right: equal parts leave little doubt about either.
    """
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(selected), np.flatnonzero(~selected)]
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
