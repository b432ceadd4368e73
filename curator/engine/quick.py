"""Frozen nets made fast: weights in bf16, and code compiled for them where that pays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from curator.system import cores

# As bench/backbones.py measures on EPYC with avx512_bf16: seconds that a core takes to compile a net, and that its code
# then saves for an image, besides those for every 10^9 FLOPs.
COMPILING, SAVED, SAVED_BY_GFLOP = 45.0, 0.0008, 0.0007


def plain_attention(net: nn.Module) -> bool:
    """Have timm's attention as products of matrices, and whether there is any: on a CPU faster than torch's fused one.

    ViT-S/16 at 224 px with bf16 weights, images a second and core, 32 and 8 at once: fused 27 and 26, plain 24 and 32;
    compiled 30 and 30, 38 and 39.
    """
    found: list[Any] = [m for m in net.modules() if getattr(m, "fused_attn", False)]
    for module in found:
        module.fused_attn = False
    return bool(found)


def pays(net: nn.Module, side: int, device: torch.device, rows: int) -> bool:
    """Whether to compile a net for so many images of a side: where that takes less time than it saves.

    It hangs on the numbers of rows and cores alone, never on how fast the machine is just now: a run that is continued
    goes on as it began. On a GPU nothing is compiled.
    """
    if device.type != "cpu" or not (shutil.which("g++") or shutil.which("clang++")):  # torch needs one of them
        return False
    most = rows / cores()  # images of a core
    if most * SAVED_BY_GFLOP * 1000 < COMPILING:  # FLOPs need not be counted
        return False
    return most * (SAVED + SAVED_BY_GFLOP * _flops(net, side) / 1e9) > COMPILING


def _flops(net: nn.Module, side: int) -> float:
    """FLOPs of an image; 0 where they cannot be counted."""
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            net(torch.zeros(1, 3, side, side, dtype=torch.uint8))
        return float(counter.get_total_flops())
    except Exception:  # whatever it does not like about them, its first real images will tell
        return 0.0


def frozen(net: nn.Module) -> Callable:
    """The net compiled with its weights as constants, so that they are packed as the processor likes them.

    What cannot be compiled of it runs as it is.
    """
    import torch._dynamo.config
    import torch._inductor.config

    compiled = torch.compile(net, dynamic=False)

    def call(images: torch.Tensor) -> torch.Tensor:
        with (
            torch._inductor.config.patch(freezing=True),
            torch._dynamo.config.patch(suppress_errors=True),
        ):
            return compiled(images)

    return call
