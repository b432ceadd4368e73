"""What the training device is and can do."""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import nn

Precision = Literal["no", "bf16"]

# Dense bf16 peak of a card, FLOP/s (datasheets), for MFU.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


def no_accelerator() -> bool:
    """Whether to train on the CPU.

    Accelerate must be told, or it takes the processes of torchrun for runs of their own.
    """
    return not torch.accelerator.is_available()


def process_state():
    """Accelerate's view of this process: device, process_index, num_processes, wait_for_everyone()."""
    from accelerate import PartialState

    return PartialState(cpu=no_accelerator())


def best_precision(device: torch.device) -> Precision:
    """bf16 where the hardware computes in it: recent GPUs, and CPUs with AMX or AVX512-BF16."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if device.type == "cpu":
        fast = (getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("amx_tile", "avx512_bf16"))
        return "bf16" if any(fast) else "no"
    return "no"


def forward_flops(net: nn.Module, shape: tuple[int, ...]) -> float:
    """FLOPs of one row's forward pass (a multiplication and an addition are two); a training pass is three times it."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next(net.parameters()).device
    training = net.training
    net.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, *shape, device=device))
    net.train(training)
    return float(counter.get_total_flops())


def peak_flops(device: torch.device) -> float | None:
    """The card's dense bf16 peak in FLOP/s; None for a CPU or a card that is not in the table."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for card, peak in PEAKS.items() if re.search(rf"\b{card}\b", name)), None)
