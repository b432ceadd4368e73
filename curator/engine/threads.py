"""How many threads of a processor a training pays for: what a second one saves must be more than waiting for it costs.

An operation that two threads share ends when the slower one does, and beside other programs that is a slice of the
system's time later: a small step takes ten times as long, for nothing. As measured on 2 cores of an EPYC, idle, ce and
promix for a few epochs, seconds with one thread and with two: images of 8 px and the small net (0.7 GFLOP a batch and
pass) 6.6 and 6.8, with promix 18.5 and 26.4; features of 1,280 numbers and the MLP (0.5 GFLOP) half as much work again
with two (in processor seconds); images of 32 px and the small net (2.8 GFLOP) 13.4 and 10.9.
"""

from __future__ import annotations

import torch
from torch import nn

from curator.engine.nets import OF_FEATURES, build_net
from curator.system import threads_per_process

SMALL = ("small", *OF_FEATURES)  # nets; for the others any batch is work enough
FLOPS = 1e9  # of a batch's forward pass, that a thread needs to be worth its while


def threads_of(net: str, shape: tuple[int, ...], classes: int, rows: int) -> int:
    """Threads for a net that trains on so many rows of a shape at once: from one to this process's share of the cores.

    It hangs on sizes alone, never on how busy the machine is, since the number of threads changes a result's last
    digits.
    """
    most = threads_per_process()
    if most == 1 or net not in SMALL:
        return most
    with torch.random.fork_rng(devices=[]):  # the weights of a net that is thrown away
        thrown_away = build_net(net, shape, classes).eval()
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
