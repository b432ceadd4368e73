"""Two-component Gaussian mixtures on losses: the component of small losses holds the clean rows."""

from __future__ import annotations

import torch
from torch import Tensor

from curator.signals.em import EXACT, binned, fit, gaussian, log_odds


def normalised(losses: Tensor) -> Tensor:
    """Losses (n,) stretched to [0, 1] float64; all 0 where they are all equal."""
    losses = losses.double()
    low, high = losses.min(), losses.max()
    return (losses - low) / (high - low) if high > low else torch.zeros_like(losses)


def two_means(values: Tensor, counts: Tensor | None = None) -> Tensor:
    """Exact 2-means of values (n,) float64, each counted so often (once by default), as a bool (n,): the upper cluster.

    Every split of the sorted values is tried by prefix sums, so that no seed decides (k-means in scikit-learn does).
    """
    ordered, order = values.sort(stable=True)
    count = torch.ones_like(values) if counts is None else counts[order]
    low, sums = count.cumsum(0), (ordered * count).cumsum(0)  # of the lower cluster, for every place of the split
    between = sums[:-1] ** 2 / low[:-1] + (sums[-1] - sums[:-1]) ** 2 / (low[-1] - low[:-1])
    upper = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    upper[order[int(between.argmax()) + 1 :]] = True
    return upper


def clean_posterior(
    losses: Tensor,  # (n,) on a scale where `reg` means something, usually `normalised`
    *,
    iterations: int = 10,
    tol: float = 1e-2,  # smallest gain of the mean log-likelihood that continues
    reg: float = 5e-4,  # added to the variances
    exact: int = EXACT,  # rows up to which the fit sees every loss
) -> Tensor:  # (n,) float64 in [0, 1], on the losses' device
    """Posterior of the component with the smaller mean, as in DivideMix (section 3.1), started from exact 2-means.

    Every loss is scored exactly, however it was fitted. Fewer than two distinct losses tell nothing: all rows are then
    taken to be clean.
    """
    x = losses.double()
    if len(x) < 2 or x.min() == x.max():
        return torch.ones_like(x)
    values, count = (x, torch.ones_like(x)) if len(x) <= exact else binned(x, x.min(), x.max())
    family, upper = gaussian(reg), two_means(values, count).double()
    components = fit(family, values, count, upper, rounds=iterations, tol=tol).ordered()
    return (-log_odds(components.line(), family.statistics(x))).sigmoid()


def clean_posterior_by_class(
    losses: Tensor,  # (n,), normalised over all rows
    classes: Tensor,  # (n,) int64
    **settings,  # of clean_posterior
) -> Tensor:  # (n,) float64
    """One mixture for the rows of every class."""
    posterior = torch.ones(len(losses), dtype=torch.float64, device=losses.device)
    for c in classes.unique():
        members = classes == c
        posterior[members] = clean_posterior(losses[members], **settings)
    return posterior
