"""Optimizers and learning rates, as the papers here set them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

MOMENTUM = 0.9  # of SGD, in every paper here


def sgd(
    parameters: Iterable[nn.Parameter] | list[dict],
    lr: float,
    weight_decay: float,  # on all parameters
) -> torch.optim.Optimizer:
    """SGD with momentum, its kernels fused."""
    return torch.optim.SGD(parameters, lr, momentum=MOMENTUM, weight_decay=weight_decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Let the optimizer make its next steps at this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def cosine(lr: float, epoch: float, epochs: int, floor: float = 0.0) -> float:
    """Learning rate after `epoch` of `epochs` on a cosine from lr down to floor."""
    return floor + (lr - floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def dropped(lr: float, epoch: float, *drops: int, factor: float = 0.1) -> float:
    """Learning rate of an epoch: `factor` of it from each of the epochs `drops` on; 0 is none."""
    return lr * factor ** sum(epoch >= drop for drop in drops if drop)


def ramp(value: float, epochs: float, length: int) -> float:
    """The value after so many epochs of a linear ramp from 0 that takes `length` of them."""
    return value * min(1.0, max(0.0, epochs / length)) if length else value


def sigmoid_ramp(value: float, epochs: float, length: int) -> float:
    """The value after so many epochs of a rise exp(-5 (1 - s)^2) that takes `length` of them (Laine & Aila 2017)."""
    return value * math.exp(-5 * (1 - min(1.0, epochs / length)) ** 2) if length else value
