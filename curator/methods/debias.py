"""What a step's losses of ProMix are made of: class priors that shift losses and pseudo-labels (section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from curator.engine.nets import Net, Output
from curator.engine.run import Run


class Looked(NamedTuple):
    """What a step's losses are made of; lists and first dimensions are by net."""

    models: list[Net]
    views: list[tuple[Output, Output]]  # weak and strong
    mixes: Sequence[Iterable[tuple[Tensor, Tensor, list[int], Tensor]]]  # rows begun, targets, heads, which count
    probs: Tensor  # (2, b, k), of weak views
    selected: Tensor  # (2, b) bool
    goals: Tensor  # (2, b, k), of selected rows
    pseudo: list[Tensor]  # (b, k), pseudo-labels of the others; none where they weigh nothing
    log_priors: Tensor  # (2, 2, k)
    ramps: tuple[float, float]  # gamma and lambda_u


def debiased_loss(
    logits: Tensor,  # (..., b, k)
    targets: Tensor,  # (b, k), rows sum to 1
    log_prior: Tensor,  # (k,), alpha * log of the class prior
) -> Tensor:  # (..., b)
    """Debiased margin loss (equation 5): cross-entropy of the logits shifted by the prior."""
    return -(targets * (logits + log_prior).log_softmax(-1)).sum(-1)


def debiased_pseudo_labels(
    logits: Tensor,  # (b, k)
    log_prior: Tensor,  # (k,), alpha * log of the class prior
    temperature: float,
) -> Tensor:  # (b, k)
    """Softmax of the logits without the prior (equation 6), sharpened: p ** (1 / T) / sum is softmax(logits / T)."""
    return ((logits - log_prior) / temperature).softmax(1)


def move_priors(
    priors: Tensor,  # (2 nets, 2, k): of the selected rows and of the rest; moved in place
    probs: Tensor,  # (2, b, k)
    selected: Tensor,  # (2, b) bool
    momentum: float,
    run: Run,
) -> None:
    """Moving averages of the predictions on selected and other rows (equation 7); no row, no move."""
    groups = torch.stack([selected, ~selected], 1).to(probs.dtype)  # (2, 2, b)
    sums = run.summed(torch.cat([groups @ probs, groups.sum(2, keepdim=True)], 2))
    means, count = sums[..., :-1] / sums[..., -1:].clamp_min(1), sums[..., -1:]
    priors.copy_(torch.where(count > 0, momentum * priors + (1 - momentum) * means, priors))
