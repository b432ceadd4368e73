"""How long a step of ProMix takes: two ResNet-18, batch 256, all views, 90 % of the rows selected.

Ours in float32, with channels last, and with bf16; on a GPU also recorded as a CUDA graph, and compiled; against
bench/reference_step.py, the same step written the straightforward way (its strong view is torchvision's RandAugment
with erasing). Images/s are rows of the batch per second of a whole step, views included.

    python -m bench.step            # appends the missing rows to bench/RESULTS.md
    python -m bench.step --net small --batch 64 --print     # anything else, only printed
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bench.table import PENDING, RESULTS, Table, processor, today
from curator.engine.hardware import forward_flops, no_accelerator, peak_flops
from curator.engine.nets import Block, PreactBlock
from curator.engine.optim import sgd
from curator.engine.run import Run
from curator.engine.source import Resident
from curator.evidence import NoisyDataset
from curator.methods.promix import Epoch, ProMix
from curator.system import cores

CLASSES, SELECTED = 10, 0.9
COLUMNS = ["images/s", "seconds per step", "times the reference", "MFU", "peak GiB", "date", "machine", "versions"]
OURS: dict[str, dict[str, Any]] = {
    "float32": {"mixed_precision": "no", "channels_last": False},
    "float32, channels last": {"mixed_precision": "no"},
    "bf16, channels last": {"mixed_precision": "bf16"},
}
PADDED: dict[str, Any] = {"mixed_precision": "bf16", "subset": "pad"}
ON_GPU: dict[str, dict[str, Any]] = {
    "bf16, channels last, padded": PADDED,
    "bf16, channels last, padded, compiled": {**PADDED, "compile": True},
    "bf16, channels last, padded, recorded": {**PADDED, "record": True},  # what a GPU run does
    "bf16, channels last, padded, recorded, compiled": {**PADDED, "record": True, "compile": True},  # with --compile
    "bf16, channels last, padded, recorded, weights cast once": {**PADDED, "record": True, "cast_once": True},
    "bf16, channels last, padded, recorded, two streams": {**PADDED, "record": True, "streams": True},
    "bf16, channels last, padded, recorded, blocks compiled": {**PADDED, "record": True, "blocks": True},
    "bf16, channels last, padded, recorded, two streams, compiled": {
        **PADDED, "record": True, "streams": True, "compile": True,
    },
}  # fmt: skip


def rows(batch: int) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Random images (n, 32, 32, 3), labels, and flags (2, n) of the rows that both nets select."""
    rng = np.random.default_rng(0)
    n = 4 * batch
    images = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, n), torch.from_numpy(rng.random((2, n)) < SELECTED)


def ours(
    net: str,
    batch: int,
    *,
    channels_last: bool = True,
    subset: Literal["exact", "pad"] = "exact",
    record: bool = False,
    blocks: bool = False,  # compile each residual block: its batch norms, ReLUs and sum become few kernels
    method: dict[str, Any] | None = None,  # settings of ProMix
    **settings: Any,  # of the run
) -> Iterator[Run]:
    """Steps of ProMix on the run's device; each yield is one step."""
    images, labels, flags = rows(batch)
    run = Run(seed=0, net=net, **settings)
    n = len(images)
    source = Resident(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), run.device)
    data = NoisyDataset(
        source, torch.from_numpy(labels), tuple("abcdefghij"), torch.zeros(n, dtype=torch.bool), torch.arange(n)
    )
    promix = ProMix(lga_epochs=600, subset=subset, **(method or {}))  # MHCS and LGA run, as in the reference
    layout = torch.channels_last if channels_last else torch.contiguous_format
    nets = [
        run.register(f"net{i}", run.build_net(f"net{i}", data, auxiliary=True)).to(memory_format=layout) for i in (0, 1)
    ]
    if blocks:
        compile_blocks(nets)
    optimizer = sgd([p for m in nets for p in m.parameters()], 0.05, 5e-4)
    priors = torch.full((2, 2, CLASSES), 1 / CLASSES, device=run.device)
    plain = run.normaliser(source)

    def normaliser(x: torch.Tensor) -> torch.Tensor:
        return plain(x).contiguous(memory_format=layout)

    generator = run.generator("views")
    here = Epoch(
        [run.prepare(m) for m in nets], optimizer, priors, data.labels.to(run.device), flags.to(run.device), normaliser,
        generator, 50, run.pair(source),
    )  # fmt: skip
    train = partial(promix.train, here, run)
    step = run.recorded(train, generator) if record else train
    for epoch in range(10**6):
        batches = run.batches(source, torch.arange(n), batch, epoch, drop_last=True)
        for part, weights in zip(batches, promix.draw_weights(run, len(batches), epoch), strict=True):
            step(source.batch(part), part, weights)
            yield run


def compile_blocks(nets: Iterable[torch.nn.Module]) -> None:
    """Compile the residual blocks of nets, which takes less time than whole nets; each has shapes of its own."""
    torch._dynamo.config.recompile_limit = 64
    for module in itertools.chain(*(net.modules() for net in nets)):
        if isinstance(module, Block | PreactBlock):
            module.compile(dynamic=False)


def reference(net: str, batch: int) -> Iterator[float]:
    """Steps of the reference."""
    from bench.reference_step import Reference

    images, labels, flags = rows(batch)
    workers = 0 if no_accelerator() else min(16, torch.get_num_threads())
    return Reference(images, labels, CLASSES, batch, flags, workers, net).steps()


def timed(steps: Iterator, warm: int, count: int) -> float:
    """Seconds of one step: the median of `count` after `warm` that do not count."""
    seconds = []
    for i in range(warm + count):
        started = time.perf_counter()
        next(steps)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if i >= warm:
            seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2]


def measure(
    net: str,
    batch: int,
    warm: int,
    count: int,
    report: Callable[[str, list[str]], None],
    there: Table | None = None,  # whose rows are skipped
    cells: Mapping[str, dict[str, Any] | None] | None = None,  # None: all; settings of `ours`, None is the reference
    until: float = math.inf,  # seconds of time.monotonic() from which no other one is begun
) -> None:
    """Measure the reference and ours, and report one row each."""
    gpu = torch.cuda.is_available()
    if not gpu:
        torch.set_num_threads(cores())
    cells = cells or {"reference": None, **OURS, **(ON_GPU if gpu else {})}
    missing = [name for name in cells if there is None or cell_name(net, batch, gpu, name) not in there]
    before = there.row(cell_name(net, batch, gpu, "reference")) if there is not None else {}
    same = before.get("date") == today() and before.get("machine") == machine()
    base = float(before["seconds per step"]) if same else 0.0  # of the reference: ratios are of one day and machine
    wanted = [] if same or "reference" not in cells else ["reference"]
    for name in dict.fromkeys([*wanted, *missing]) if missing else ():
        if time.monotonic() > until:
            return
        cell, settings = cell_name(net, batch, gpu, name), cells[name]
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(reference(net, batch) if settings is None else ours(net, batch, **settings), warm, count)
        base = seconds if settings is None else base
        if name not in missing:
            continue
        peak, mfu = peak_flops(torch.device("cuda" if gpu else "cpu")), PENDING
        if peak and settings is not None:
            flops = 3 * forward_flops(Run(net=net).build_net("flops", _one_row()), (3, 32, 32))
            mixed = 4 if settings.get("method", {}).get("mix_per_head", True) else 2
            mfu = f"{flops * batch * 2 * (2 + mixed * SELECTED) / seconds / peak:.1%}"
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if gpu else PENDING
        report(cell, [
            f"{batch / seconds:,.1f}", f"{seconds:.3f}", f"{base / seconds:.2f}" if base else PENDING, mfu,
            memory, today(), machine(), f"torch {torch.__version__}",
        ])  # fmt: skip


def machine() -> str:
    """The GPU, or the processor where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def cell_name(net: str, batch: int, gpu: bool, name: str) -> str:
    """The name of a row."""
    return f"{net}, batch {batch}, {'GPU' if gpu else 'CPU'}: {name}"


def _one_row() -> NoisyDataset:
    images = Resident(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    return NoisyDataset(images, torch.zeros(2).long(), tuple("abcdefghij"), torch.zeros(2).bool(), torch.arange(2))


def table(path: Path = RESULTS) -> Table:
    """Where the rows go."""
    return Table("A step of ProMix", COLUMNS, path)


def main() -> None:
    """Measure the cells that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet18")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--print", action="store_true", help="print the rows instead of appending them")
    flags = parser.parse_args()
    if flags.print:
        measure(flags.net, flags.batch, flags.warm, flags.count, lambda cell, values: print(cell, *values, sep=" | "))
    else:
        measure(flags.net, flags.batch, flags.warm, flags.count, table().append, there=table())


if __name__ == "__main__":
    main()
