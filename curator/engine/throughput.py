"""How fast a run trains, and how much of the card it uses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import nn

from curator.engine.hardware import forward_flops, peak_flops
from curator.engine.registry import placed
from curator.evidence import NoisyDataset

if TYPE_CHECKING:
    from curator.engine.run import Run


def measure_speed(run: Run, data: NoisyDataset, batch: int, seconds: float = 1.0) -> float:
    """Images per second of all processes in training the run's net, measured on a throw-away copy."""
    net = placed(run.build_net("speed", data), run.device)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, fused=True)
    rows = torch.arange(min(batch, len(data)))
    labels, normaliser = data.labels[rows].to(run.device), run.normaliser(data.inputs)
    steps, started = 0, time.perf_counter()
    while steps < 3 or time.perf_counter() - started < seconds and steps < 50:
        if steps == 1:  # the first step also warms up
            started = time.perf_counter()
        x = normaliser(data.inputs.batch(rows))
        with run.autocast():
            logits = net(x).logits
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        steps += 1
    return (steps - 1) * len(rows) * run.world / (time.perf_counter() - started)


def mfu(run: Run, shape: tuple[int, ...]) -> float | None:
    """Model FLOPs utilisation of the run so far, of nets that read rows of the shape; None off a known GPU.

    The FLOPs of the training passes are held against the card's dense bf16 peak.
    """
    peak = peak_flops(run.device)
    if peak is None or not run.scorers or not run.steps.seconds:
        return None
    flops = 3 * forward_flops(run.scorers[-1][0], shape) * run.steps.images
    return flops / run.steps.seconds / (peak * run.world)
