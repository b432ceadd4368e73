"""Terms of losses that several methods share."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def negative_entropy(logits: Tensor, *, released: bool = False) -> Tensor:
    """Mean over rows of sum p log p; ProMix's released code first clamps the logits (b, k) from below at 1e-12."""
    log_p = (logits.clamp_min(1e-12) if released else logits).log_softmax(1)
    return (log_p.exp() * log_p).sum(1).mean()


def prior_divergence(log_mean: Tensor, prior: Tensor | None = None) -> Tensor:
    """Penalty on collapse: KL divergence of the prior from the mean prediction, 0-d (Tanaka et al. 2018, equation 8).

    Args:
        log_mean: log of the mean prediction (k,).
        prior: (k,); uniform by default.
    """
    if prior is None:
        return -(math.log(len(log_mean)) + log_mean).mean()
    return (torch.xlogy(prior, prior) - prior * log_mean).sum()


def log_mean_prediction(log_p: Tensor) -> Tensor:
    """Log (k,) of the mean over rows of predictions given as logs (m, k); finite where a mean underflows."""
    return log_p.logsumexp(0) - math.log(len(log_p))
