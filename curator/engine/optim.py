"""Optimizers and learning rates, as the papers here set them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.9  # of SGD, in every paper here


class SGD(torch.optim.SGD):
    """torch's, without the marks for compilers on its methods: to set them it loads torch._dynamo, a second or more.

    No optimizer is compiled here; nets may be.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    _step = inspect.unwrap(torch.optim.SGD.step)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step by the gradients of the parameters."""
        return self._step(closure)


def sgd(
    parameters: Iterable[nn.Parameter] | list[dict],
    lr: float,
    weight_decay: float,  # on all parameters
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """SGD with momentum, its kernels fused."""
    return SGD(parameters, lr, momentum=MOMENTUM, weight_decay=weight_decay, nesterov=nesterov, fused=True)


def rates(values: Iterable[float], device: torch.device) -> Tensor:
    """Learning rates (m,) of steps: exact on a CPU, float32 on a GPU, as fused optimizers read them there."""
    return torch.tensor(list(values), dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)


def set_rate(optimizer: torch.optim.Optimizer, lr: float | Tensor) -> None:
    """Let the optimizer make its next steps at this learning rate; one (0-d) on a GPU stays there.

    A recorded step then reads what stands in its place, where it would know a number as it was when it was recorded.
    """
    rate = lr if isinstance(lr, Tensor) and lr.device.type != "cpu" else float(lr)
    for group in optimizer.param_groups:
        group["lr"] = rate


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
