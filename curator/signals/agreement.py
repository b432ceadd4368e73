"""Which rows' labels the nets agree with, and where they agree with each other (ProMix, Wang et al., IJCAI 2023)."""

from __future__ import annotations

import torch
from torch import Tensor


def match_confident(
    probs: Tensor,  # (nets, b, k)
    labels: Tensor,  # (b,) int64
    tau: float,
    *,
    inclusive: bool,  # select at exactly tau too
) -> Tensor:  # (nets, b) bool
    """Matched high-confidence selection (equation 3): the given label has a probability above tau.

    For tau >= 1/2 that is the paper's rule: the argmax is the given label and its probability reaches tau.
    """
    given = probs.gather(2, labels.expand(len(probs), -1)[..., None]).squeeze(2)
    return given >= tau if inclusive else given > tau


def guess_by_agreement(
    probs: Tensor,  # (2, b, k)
    selected: Tensor,  # (2, b) bool
    tau: float,
    rho: float,  # share of the batch up to which rows are added
) -> Tensor:  # (2, b) bool, the rows that each net adds
    """Label guessing by agreement (equation 8): both nets are sure of one label, and the net has not selected the row.

    Where there is not room for all, the rows of the highest mean confidence are added.
    """
    confidence, guess = probs.max(2)
    agreed = (confidence > tau).all(0) & (guess[0] == guess[1])
    candidate = agreed & ~selected
    room = int(rho * probs.shape[1]) - selected.sum(1, keepdim=True)
    score = torch.where(candidate, confidence.mean(0), -1.0)
    rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return candidate & (rank < room)
