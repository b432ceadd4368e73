"""Class prototypes: does a row look like the class of its given label, as in CPC (arXiv 2212.10766)?

A projected feature v and the prototypes c_1 to c_k are compared by sigmoid(v . c), class by class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def prototype_loss(
    scores: Tensor,  # (b, k), dot products of projected features and prototypes
    labels: Tensor,  # (b,) int64, the given ones
    clean: Tensor,  # (b,) bool: rows of the labelled part of the mixture's split
    pulled: Tensor,  # (b,) int64: for confident rows of the other part their predicted class, else -1
    alpha: float,
) -> Tensor:  # 0-d
    """L_C = L_X + L_U + alpha L_P (equation 5), each a mean over its rows, 0 where it has none.

    L_X draws a clean row to its class and pushes it, by 1 / k each, from the others (equation 2); L_U pushes the other
    rows from the class of their given label (equation 3); L_P draws the confident ones to the predicted class (4).
    """
    k = scores.shape[1]
    is_in, is_out = F.logsigmoid(scores), F.logsigmoid(-scores)  # log s and log(1 - s)
    given = labels[:, None]
    own_in, own_out = is_in.gather(1, given)[:, 0], is_out.gather(1, given)[:, 0]
    drawn = is_in.gather(1, pulled.clamp_min(0)[:, None])[:, 0]
    loss = -_mean(own_in + (is_out.sum(1) - own_out) / k, clean) - _mean(own_out, ~clean)
    return loss - alpha * _mean(drawn, pulled >= 0)


def pulled_classes(
    probs: Tensor,  # (n, k), the net's
    labels: Tensor,  # (n,) int64
    clean: Tensor,  # (n,) bool
) -> Tensor:  # (n,) int64
    """The predicted class of a row that is not clean, where the net is surer of it than of the clean rows given it.

    The threshold of a class is the mean, over clean rows given it, of their probability for it (section 3 of the
    paper, above equation 4). Elsewhere, and for classes without clean rows, -1.
    """
    k = probs.shape[1]
    own = probs.gather(1, labels[:, None])[:, 0].double()
    sums, counts = (
        torch.zeros(k, dtype=torch.float64, device=probs.device).index_add_(0, labels[clean], values[clean])
        for values in (own, torch.ones_like(own))
    )
    threshold = torch.where(counts > 0, sums / counts.clamp_min(1), torch.inf)
    confidence, guess = probs.double().max(1)
    return torch.where(~clean & (confidence > threshold[guess]), guess, -1)


def prototype_score(
    projected: Tensor,  # (n, d)
    prototypes: Tensor,  # (k, d)
    labels: Tensor,  # (n,) int64
) -> Tensor:  # (n,) in [0, 1]
    """How much a row looks like the class of its given label: sigmoid(v . c_label). The row is clean above tau."""
    return (projected * prototypes[labels]).sum(1).sigmoid()


def _mean(values: Tensor, of: Tensor) -> Tensor:
    """Mean of the values (b,) over the rows that are `of` it; 0 where there is none."""
    weight = of.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1)
