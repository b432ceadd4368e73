"""What the training device is and can do."""

from __future__ import annotations

import functools
import itertools
import os
import platform
import re
import sys
import time
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import nn

from curator.errors import CuratorError
from curator.system import cores, free_memory, local_processes

if TYPE_CHECKING:
    from accelerate import Accelerator

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


def accelerator(track: str | None = None, track_dir: Path | None = None) -> Accelerator:
    """Accelerate, with a tracker (tensorboard, wandb, trackio) where one is named.

    Raises:
        CuratorError: when the tracker is unknown or not installed.
    """
    from accelerate import Accelerator

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no supported trackers")  # refused below
            # Autocast is ours (see autocast), so that two runs of one process may differ in precision.
            found = Accelerator(mixed_precision="no", cpu=no_accelerator(), log_with=track, project_dir=track_dir)
    except (ImportError, ValueError) as e:
        raise CuratorError(f"--track {track}: {e}; pip install 'label-curator[track]'") from e
    if track and not found.log_with:
        raise CuratorError(f"--track {track}: the package is not installed; pip install 'label-curator[track]'")
    return found


def best_precision(device: torch.device) -> Precision:
    """bf16 where the hardware computes in it, and on a CPU is quicker so: one that has it need not be."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if device.type == "cpu" and _bf16_pays() else "no"


@functools.cache
def _bf16_pays() -> bool:
    """Whether products in bf16 take clearly less time of this CPU than in float32: measured once, in about 50 ms.

    AVX512-BF16 makes them 4.5 times as fast on an EPYC (Zen 4), and on a Xeon that shows no AMX half as fast, as are
    convolutions and whole runs there.
    """
    if not any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("amx_tile", "avx512_bf16")):
        return False
    took = {}
    for kind in (torch.bfloat16, torch.float32):
        x, w = torch.ones(256, 1280, dtype=kind), torch.ones(512, 1280, dtype=kind)
        moments = [time.perf_counter()]
        for _ in range(6):
            nn.functional.linear(x, w)
            moments.append(time.perf_counter())
        took[kind] = min(b - a for a, b in itertools.pairwise(moments))
    return took[torch.bfloat16] < 0.8 * took[torch.float32]


def launched_precision() -> Precision | None:
    """What `accelerate launch --mixed_precision` asks for; None without the flag.

    The launcher's variable ACCELERATE_MIXED_PRECISION cannot tell: it is "no" where nothing was said, too. So the
    launcher's own command line is read, up to the script, whose flags are others.

    Raises:
        CuratorError: for a precision that there is none of here.
    """
    if "ACCELERATE_MIXED_PRECISION" not in os.environ:
        return None
    words = list(itertools.takewhile(lambda word: word != sys.argv[0], _launcher()))
    for word, following in itertools.pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") == "--mixed-precision":
            asked = (value if equals else following).lower()
            if asked not in get_args(Precision):
                raise CuratorError(
                    f"accelerate launch {flag} {asked}: expected one of {', '.join(get_args(Precision))}; leave it out "
                    "for bf16 where the hardware is quicker in it"
                )
            return cast(Precision, asked)
    return None


def _launcher() -> list[str]:
    """The command line of the process that started this one; empty where it cannot be read."""
    import psutil

    try:
        return psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return []


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """The precision of forward passes inside the block."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def device_name(device: torch.device) -> str:
    """The card's or processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.processor() or platform.machine()}, {cores()} cores)"


def peak_memory(device: torch.device) -> int:
    """Peak bytes this process has held: of the GPU where it trains on one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory_of(device: torch.device) -> float:
    """Bytes for images of this process: they are decoded on the host, then held by the device; processes share both."""
    free = free_memory()
    if device.type == "cuda":
        free = min(free, float(torch.cuda.mem_get_info(device)[0]) * local_processes())
    return free / local_processes()


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
