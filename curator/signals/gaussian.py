"""Two-component Gaussian mixtures on losses: the component of small losses holds the clean rows."""

from __future__ import annotations

import torch
from torch import Tensor


def normalised(losses: Tensor) -> Tensor:
    """Losses (n,) stretched to [0, 1] float64; all 0 where they are all equal."""
    losses = losses.double()
    low, high = losses.min(), losses.max()
    return (losses - low) / (high - low) if high > low else torch.zeros_like(losses)


def two_means(values: Tensor) -> Tensor:
    """Exact 2-means of values (n,) float64, as a bool (n,): the upper cluster.

    Every split of the sorted values is tried by prefix sums, so that no seed decides (k-means in scikit-learn does).
    """
    ordered, order = values.sort(stable=True)
    n, sums = len(values), ordered.cumsum(0)
    low = torch.arange(1, n, dtype=values.dtype)  # sizes of the lower cluster
    between = sums[:-1] ** 2 / low + (sums[-1] - sums[:-1]) ** 2 / (n - low)
    upper = torch.zeros(n, dtype=torch.bool)
    upper[order[int(between.argmax()) + 1 :]] = True
    return upper


def clean_posterior(
    losses: Tensor,  # (n,) on a scale where `reg` means something, usually `normalised`
    *,
    iterations: int = 10,
    tol: float = 1e-2,  # smallest gain of the mean log-likelihood that goes on
    reg: float = 5e-4,  # added to the variances
) -> Tensor:  # (n,) float64 in [0, 1]
    """Posterior of the component with the smaller mean, as in DivideMix (section 3.1), started from exact 2-means.

    Fewer than two distinct losses tell nothing: all rows are then held to be clean.
    """
    x = losses.double()
    if len(x) < 2 or x.min() == x.max():
        return torch.ones_like(x)
    upper = two_means(x).double()
    resp = torch.stack([1 - upper, upper], 1)
    before = -float("inf")
    for _ in range(iterations):
        mean, var, weight = _maximise(x, resp, reg)
        joint = _log_joint(x, mean, var, weight)
        resp = joint.softmax(1)
        bound = float(joint.logsumexp(1).mean())
        # scikit-learn's order: the posterior is taken from the parameters fitted to the last responsibilities
        if bound - before < tol:
            break
        before = bound
    mean, var, weight = _maximise(x, resp, reg)
    return _log_joint(x, mean, var, weight).softmax(1)[:, mean.argmin()]


def _maximise(x: Tensor, resp: Tensor, reg: float) -> tuple[Tensor, Tensor, Tensor]:
    total = resp.sum(0) + 10 * torch.finfo(x.dtype).eps
    mean = (resp * x[:, None]).sum(0) / total
    var = (resp * (x[:, None] - mean) ** 2).sum(0) / total + reg
    return mean, var, total / total.sum()


def _log_joint(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor) -> Tensor:
    """Log of weight times density, (n, 2)."""
    return weight.log() - 0.5 * ((x[:, None] - mean) ** 2 / var + (2 * torch.pi * var).log())


def clean_posterior_by_class(
    losses: Tensor,  # (n,), normalised over all rows
    classes: Tensor,  # (n,) int64
    **fit,  # of clean_posterior
) -> Tensor:  # (n,) float64
    """One mixture for the rows of every class."""
    posterior = torch.ones(len(losses), dtype=torch.float64)
    for c in classes.unique():
        members = classes == c
        posterior[members] = clean_posterior(losses[members], **fit)
    return posterior
