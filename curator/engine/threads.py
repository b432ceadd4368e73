"""How many threads of a processor a training pays for: what a second one saves must be more than waiting for it costs.

An operation that two threads share ends when the slower one does; threads that wait spin for a moment before they
sleep (curator/__init__.py). As measured on 2 cores of a Xeon, milliseconds a step with one thread and with two: an MLP
of 512 units on 64 features, 32 rows (0.02 GFLOP a pass) 1.3 and 1.1; on 1,280 features, 128 rows (0.24 GFLOP) 5.1 and
3.2; the small net on images of 8 px, 128 rows (0.7 GFLOP) 25.8 and 16.2. Beside a busy program on each core, `ce` on
the digits takes 10 s with either.
"""

from __future__ import annotations

import torch
from torch import nn

from curator.engine.nets import OF_FEATURES, build_net
from curator.system import threads_per_process

SMALL = ("small", *OF_FEATURES)  # nets; for the others any batch is work enough
FLOPS = 5e7  # of a batch's forward pass, that a thread needs to be worth its while
MANY = 4  # threads with which two nets on features train one after the other, rather than on a core each


def threads_of(net: str, shape: tuple[int, ...], classes: int, rows: int, *, of: int = 0, apart: bool = False) -> int:
    """Threads for a net that trains on so many rows of a shape at once: from one to this process's share of the cores.

    It depends on sizes alone, never on how busy the machine is, since the number of threads changes a result's last
    digits. of: how many rows there are in all, by which an MLP has units; apart: whether it is one of two
    that may train at once (Run.pair); on features they do, on a thread each, where there are fewer than MANY.
    """
    most = threads_per_process()
    if most == 1 or net not in SMALL:
        return most
    if apart and net in OF_FEATURES and most < MANY:
        return 1
    with torch.random.fork_rng(devices=[]):  # the weights of a net that is thrown away
        thrown_away = build_net(net, shape, classes, rows=of).eval()
    return max(1, min(most, int(rows * _flops(thrown_away, shape) / FLOPS)))


def _flops(net: nn.Module, shape: tuple[int, ...]) -> int:
    """FLOPs of a row's products; torch's own counter (hardware.forward_flops) takes longer to load than a small run."""
    found = []
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda m, _, out: found.append(2 * out.numel() * m.weight[0].numel()))
    with torch.no_grad():
        net(torch.zeros(1, *shape))
    return sum(found)
