"""A linear model by least squares, and what it would say of every row had it not learned it: both from one solution.

Ridge regression on the classes as zeros and ones has the left-out residual in closed form (Allen's PRESS): that of the
fit, over one less the row's leverage. So seconds give out-of-sample scores of all rows, for several strengths of the
penalty, where logistic regression in folds takes minutes; the scores become logits by one temperature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

POWERS = range(-4, 4)  # of ten, the penalties that are tried, times the mean variance along the axes
LEAST = 0.01  # share of a row's fit that the other rows decide
HOTTEST = 60.0


@dataclass(frozen=True)
class Ridge:
    """A fitted model.

    Attributes:
        weight: (d, k) and bias: (k,) float32, of logits.
        left_out: (n, k) float32, logits of its own rows by the model without each.
    """

    weight: Tensor
    bias: Tensor
    left_out: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (b, k) of rows (b, d) that it did not learn."""
        return x @ self.weight + self.bias


def axes_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Squared lengths (r,) of all rows (n, d) together along their r principal axes, and these (d, r)."""
    wide = x.shape[1] > len(x)
    s, v = torch.linalg.eigh((x @ x.T if wide else x.T @ x).double())
    kept = s > 1e-6 * s[-1].clamp_min(1e-12)
    s, v = s[kept].to(x.dtype), v[:, kept].to(x.dtype)
    return s, (x.T @ v) / s.sqrt() if wide else v


def fit_ridge(
    x: Tensor,  # (n, d) float32, each feature of mean 0 and deviation 1
    labels: Tensor,  # (n,) int64 in [0, classes)
    classes: int,
    axes: tuple[Tensor, Tensor] | None = None,  # of x, which is most of the work
) -> Ridge:
    """Fit, with the penalty under which the left-out residuals are the smallest."""
    y = F.one_hot(labels, classes).to(x.dtype)
    share = y.mean(0)
    y = y - share
    s, v = axes or axes_of(x)
    u = x @ v
    uy, squares = u.T @ y, u * u
    best: tuple[float, Tensor, Tensor] | None = None
    for power in POWERS:
        shrunk = 1 / (s + float(s.mean()) * 10.0**power)
        left = 1 - squares @ shrunk - 1 / len(x)
        if left.min() < LEAST and power != POWERS[-1]:
            continue  # a row that decides its own fit says nothing of what the fit would be without it
        residual = (y - (u * shrunk) @ uy) / left.clamp_min(LEAST)[:, None]
        press = float(residual.square().mean())
        if best is None or press < best[0]:
            best = press, shrunk, y - residual + share
    assert best is not None
    _, shrunk, scores = best
    a = _temperature(scores, labels)
    return Ridge(a * (v * shrunk) @ uy, a * share, a * scores)


def _temperature(scores: Tensor, labels: Tensor) -> Tensor:
    """The factor of the scores under which the labels are the likeliest, by Newton's method."""
    a = torch.tensor(5.0, device=scores.device)
    given = scores.gather(1, labels[:, None]).squeeze(1)
    for _ in range(30):
        q = (a * scores).softmax(1)
        mean = (q * scores).sum(1)
        curve = ((q * scores * scores).sum(1) - mean * mean).sum()
        a = (a + (given - mean).sum() / curve.clamp_min(1e-9)).clamp(0.1, HOTTEST)
    return a
