"""Two-component mixtures on losses (n,), fitted by expectation maximisation; the family is Gaussian or Beta.

Both families follow from a mean and a variance, and in both the log of a component's density is linear in two
statistics of a loss: x and x^2, or ln x and ln(1 - x). So the log-odds of the components are, too, and one loop serves
both: no density is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

BINS = 4096  # of a fit on many rows
EXACT = 100_000  # rows up to which a fit sees every loss; above it sees bins of them


class Family(NamedTuple):
    """How a component's log-density is made of its mean and variance."""

    statistics: Callable[[Tensor], Tensor]  # of x (n,): (2, n)
    natural: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # of means (2,) and variances: slopes (2, 2), constants


class Components(NamedTuple):
    """The two components, one a row; all float64."""

    mean: Tensor  # (2,)
    var: Tensor  # (2,), as the rows have it, without regularisation
    weight: Tensor  # (2,), sums to 1
    slope: Tensor  # (2, 2), log of weight times density = slope @ statistics + constant
    constant: Tensor  # (2,)

    def ordered(self) -> Components:
        """The component of the smaller mean first."""
        return Components(*(part[self.mean.argsort(stable=True)] for part in self))

    def line(self) -> Tensor:
        """(3,): log-odds of the second component = line[:2] @ statistics + line[2]."""
        return torch.cat([self.slope[1] - self.slope[0], (self.constant[1] - self.constant[0])[None]])

    def log_likelihood(self, statistics: Tensor) -> Tensor:
        """Log-density of the mixture, (n,)."""
        return (self.slope @ statistics + self.constant[:, None]).logsumexp(0)


def log_odds(line: Tensor, statistics: Tensor) -> Tensor:
    """Log-odds (n,) of the second component by Components.line; terms cancel, so no product in bf16 or TF32."""
    return line[0] * statistics[0] + line[1] * statistics[1] + line[2]


def gaussian(reg: float) -> Family:
    """Normal components; `reg` is added to their variances."""
    return Family(lambda x: torch.stack([x, x * x]), partial(_gaussian, reg=reg))


def _gaussian(mean: Tensor, var: Tensor, reg: float) -> tuple[Tensor, Tensor]:
    var = var + reg
    slope = torch.stack([mean / var, -0.5 / var], 1)
    return slope, -0.5 * (mean**2 / var + (2 * torch.pi * var).log())


def beta_parameters(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and beta of Beta distributions by their moments; those of a single value are bounded."""
    mean = mean.clamp(1e-6, 1 - 1e-6)
    total = (mean * (1 - mean) / var.clamp_min(1e-9) - 1).clamp_min(1e-6)
    return mean * total, (1 - mean) * total


def _beta(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    a, b = beta_parameters(mean, var)
    return torch.stack([a - 1, b - 1], 1), torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)


BETA = Family(lambda x: torch.stack([x, 1 - x]).log_(), _beta)  # of x in (0, 1); log1p takes ten times as long


def fit(
    family: Family,
    x: Tensor,  # (n,) float64
    count: Tensor,  # (n,) float64, how often each was seen
    upper: Tensor,  # (n,) float64 in [0, 1], how far each counts to the second component at the start
    *,
    rounds: int,  # of an E- and an M-step, after a first M-step
    tol: float | None = None,  # smallest gain of the mean log-likelihood that continues; None: it is not asked
    settled: float | None = None,  # largest change of a mean or weight that ends it; moments may lose likelihood
) -> Components:
    """Fit by expectation maximisation, the M-step by weighted moments."""
    powers = torch.stack([torch.ones_like(x), x, x * x]) * count
    total, statistics, before = powers.sum(1), family.statistics(x), -float("inf")
    components = _maximise(family, powers @ upper, total)
    for _ in range(rounds):
        last, line = components, components.line()
        components = _maximise(family, powers @ log_odds(line, statistics).sigmoid(), total)
        if tol is not None:
            bound = float((last.log_likelihood(statistics) * count).sum() / total[0])
            if bound - before < tol:  # as scikit-learn: the last responsibilities have their parameters
                break
            before = bound
        if settled is not None:
            moved = torch.stack([components.mean - last.mean, components.weight - last.weight]).abs().max()
            if moved <= settled:
                break
    return components


def _maximise(family: Family, upper: Tensor, total: Tensor) -> Components:
    """Components whose rows, their values and squares sum to total (3,), those of the second one to upper (3,)."""
    sums = torch.stack([(total - upper).clamp_min(0), upper])
    weight = sums[:, 0] + 10 * torch.finfo(sums.dtype).eps
    mean = sums[:, 1] / weight
    var = (sums[:, 2] / weight - mean**2).clamp_min(0)
    weight = weight / weight.sum()
    slope, constant = family.natural(mean, var)
    return Components(mean, var, weight, slope, constant + weight.log())


def binned(x: Tensor, low: Tensor | float, high: Tensor | float) -> tuple[Tensor, Tensor]:
    """Means of the values that fall into each of BINS equal bins of [low, high], and how many they are.

    Values outside and empty bins are left out. Both are float64.
    """
    # A hair less than BINS keeps the highest value in the last bin; one bin more at each end takes what is outside.
    place = ((x - low) * ((1 - 1e-6) * BINS / (high - low))).floor_().clamp_(-1, BINS).int() + 1
    count = torch.bincount(place, minlength=BINS + 2)[1:-1].double()
    sums = torch.bincount(place, x.double(), minlength=BINS + 2)[1:-1]
    there = count > 0
    return sums[there] / count[there], count[there]
