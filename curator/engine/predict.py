"""Prediction: what trained nets say of rows, shared among the processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from curator.engine.hardware import Precision, autocast
from curator.engine.loop import Steps
from curator.engine.pair import Pair
from curator.engine.processes import Processes
from curator.engine.views import Normaliser
from curator.evidence import Source


class Predictor:
    """A function of nets and rows, in a run's precision, by all of its processes."""

    def __init__(
        self,
        processes: Processes,
        steps: Steps,
        precision: Precision,
        normaliser: Callable[[Source], Normaliser],  # where a call names none
        apart: Callable[[Source], bool],  # whether two threads see half of the rows each
    ):
        self.processes, self.steps, self.precision = processes, steps, precision
        self.normaliser, self.apart = normaliser, apart
        self.pair = Pair(apart=True)

    def __call__(
        self,
        nets: nn.Module | Sequence[nn.Module],  # registered, not prepared
        inputs: Source,
        rows: Tensor | None = None,  # (m,) int64; all by default
        *,
        normaliser=None,
        batch: int = 1024,
        output: Callable[[Any], Tensor] = attrgetter("logits"),  # of what the net gives, usually an Output
    ) -> Tensor:  # (m, k) float32 on the CPU, in the order of rows; or as wide as the output
        """Mean output of the nets in evaluation mode, without augmentation; rows are shared among the processes.

        Features (what a net's head reads) and projections of several nets are not alike: ask one net for them.
        """
        self.steps.finite_losses()  # a net that broke is named as that, not as wrong probabilities
        device = self.processes.device
        nets = [nets] if isinstance(nets, nn.Module) and not isinstance(nets, nn.ModuleList) else list(nets)
        rows = torch.arange(len(inputs)) if rows is None else rows
        normaliser = normaliser or self.normaliser(inputs)
        modes = [net.training for net in nets]
        for net in nets:
            self.processes.share_buffers(net)
            net.eval()
        mine = torch.arange(len(rows))[self.processes.rank :: self.processes.world]
        parts = mine.split(batch)  # one empty part where this process has no row
        inputs.expect([rows[part] for part in parts])

        def seen(part: Tensor) -> Tensor:
            with torch.no_grad(), autocast(device, self.precision):
                x = normaliser(inputs.batch(rows[part]))
                outputs = [output(net(x)) for net in nets]
                return (outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(0)).float()

        if len(parts) > 1 and self.apart(inputs):
            halves = self.pair(lambda i: [seen(part) for part in parts[i::2]])
            found = [halves[j % 2][j // 2] for j in range(len(parts))]
        else:
            found = [seen(part) for part in parts]
        out = torch.cat(found)
        if self.processes.world > 1:
            out = torch.zeros(len(rows), out.shape[1], device=device).index_copy_(0, mine.to(device), out)
        if not torch.isfinite(out).all():
            raise self.steps.broke("the net's predictions stopped being numbers")
        for net, mode in zip(nets, modes, strict=True):
            net.train(mode)
        return self.processes.summed(out).cpu()
