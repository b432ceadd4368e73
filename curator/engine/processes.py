"""The processes that train one run together, and what they compute with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")


def of_main(value: T, world: int) -> T:
    """The main process's value, in all of them."""
    if world > 1:
        from accelerate.utils import broadcast_object_list

        (value,) = broadcast_object_list([value])
    return value


class Processes:
    """This process among those of the run: its device, its rank, and sums over all of them."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes

    def summed(self, values: Tensor) -> Tensor:
        """The tensor added up over the processes."""
        return self.accelerator.reduce(values, "sum") if self.world > 1 else values

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it, so that all of them stop at the same epoch."""
        return bool(self.summed(torch.tensor(float(wish), device=self.device)) > 0)

    def of_main(self, value: T) -> T:
        """The main process's value, in all of them."""
        return of_main(value, self.world)

    def mean_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the gradients of the optimizer's parameters over the processes, in place."""
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        means = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), "mean")
        for grad, mean in zip(grads, means.split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    def share_rows(self, values: Tensor, before: Tensor) -> None:
        """Give all processes, in place, what others have changed of the rows since `before`; each row one of them."""
        if self.world > 1:
            values.copy_(before + self.summed(values - before))

    def share_buffers(self, net: nn.Module) -> None:
        """Give all processes rank 0's BatchNorm statistics: all score alike and a checkpoint holds everything."""
        if self.world > 1:
            from accelerate.utils import broadcast

            for buffer in net.buffers():
                buffer.copy_(broadcast(buffer))
