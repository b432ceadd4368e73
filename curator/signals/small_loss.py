"""Small loss: in each class, the rows with the smallest loss count as clean."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Quota = Literal["auto", "balanced", "proportional"]
BALANCED = 2.0  # times the smallest class that the largest one may have for classes to count as balanced


def quotas(
    sizes: Tensor,  # (k,) int64, rows of each class
    rate: float,  # share of the rows that is to be selected, in [0, 1]
    kind: Quota = "balanced",
) -> Tensor:  # (k,) int64
    """How many rows of each class are selected.

    balanced: ceil(n / k * rate) of every class, at least 1 and at most its rows (ProMix section 3.1, released code);
    proportional: floor(rate * its rows), for long tails (ProMix appendix B.1; the rounding is ours);
    auto: balanced where classes are (in a long tail it takes small classes whole, wrong labels and all), else
    proportional.
    """
    if kind == "auto":
        kind = "balanced" if sizes.max() <= BALANCED * sizes.min() else "proportional"
    if kind == "proportional":
        return (sizes.double() * rate + 1e-9).floor().long()
    quota = math.ceil(int(sizes.sum()) / len(sizes) * rate - 1e-9)  # 100 * .55 is a little more than 55
    return sizes.clamp_max(max(1, quota))


def smallest_of_class(
    losses: Tensor,  # (n,) float
    classes: Tensor,  # (n,) int64 in [0, k)
    quota: Tensor,  # (k,) int64
) -> Tensor:  # (n,) bool
    """The rows that are among the quota[c] smallest losses of their class c; ties go to the lower row."""
    order = losses.argsort(stable=True)
    order = order[classes[order].argsort(stable=True)]  # by class, in it by loss
    sizes = torch.bincount(classes, minlength=len(quota))
    rank = torch.arange(len(losses)) - (sizes.cumsum(0) - sizes)[classes[order]]
    selected = torch.zeros(len(losses), dtype=torch.bool)
    selected[order] = rank < quota[classes[order]]
    return selected
