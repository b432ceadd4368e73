"""What this machine can do at most, and how near to it the tool comes: products, memory, JPEGs, the start of Python.

    python -m bench.floor             # on idle cores; one core for all but what is said
    python -m bench.floor precision   # whether a run is quicker in bf16 here: a table with a row a machine
    python -m bench.floor smoke       # small and quick; also `precision smoke`

Limits are the best of several tries, in processor seconds of one thread. The share of a step of ProMix on features is
that of the products which its two nets cannot do without, at the speed of the limit, in the seconds that it takes; of
steps from scratch (two ResNet-18) that of all products and convolutions that torch counts. Times over the reference are
those of bench/reference_step.py in float32, and at most what they would be if nothing took time but convolutions.
"""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from bench.step import ours, reference
from bench.table import Table, processor, today
from curator.engine.hardware import Precision, best_precision
from curator.engine.nets import UNITS
from curator.engine.run import Run
from curator.engine.source import Features, Resident
from curator.evidence import NoisyDataset
from curator.methods.dividemix import DivideMix
from curator.methods.promix import ProMix

HEADING = "The machine's limits, and the shares reached, one core"
COLUMNS = ["figure", "unit", "date", "machine"]
PRECISION = "bf16 or float32 on a CPU, one core", [
    "a run takes", "products, GFLOP/s", "convolutions, GFLOP/s", "a step of ProMix on features, ms", "date",
]  # fmt: skip
ROWS, WIDTH = 256, 1280  # of a batch of features
PASSES = 3  # forward, and backward by weights and by inputs
# Multiplications and additions of a row and net: the first layer of both views by weights and forward; the second of
# both and of mixed rows, all three passes.
FIRST, SECOND = 2 * WIDTH * UNITS, 2 * UNITS * UNITS


def best(work: Callable[[], object], tries: int) -> float:
    """Processor seconds of the quickest of some tries, after one that does not count."""
    work()
    found = []
    for _ in range(tries):
        started = time.thread_time()
        work()
        found.append(time.thread_time() - started)
    return min(found)


def products(kind: torch.dtype, tries: int) -> float:
    """FLOP/s of products as large as those of a batch of features."""
    x, w = torch.randn(ROWS, WIDTH).to(kind), torch.randn(UNITS, WIDTH).to(kind)
    return 2 * ROWS * WIDTH * UNITS / best(lambda: torch.nn.functional.linear(x, w), tries)


def convolutions(kind: torch.dtype, tries: int) -> float:
    """FLOP/s of a convolution of ResNet-18: 128 channels of 16 x 16, 32 images."""
    x, w = torch.randn(32, 128, 16, 16).to(kind), torch.randn(128, 128, 3, 3).to(kind)
    x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
    return 2 * 32 * 128 * 128 * 9 * 16 * 16 / best(lambda: torch.nn.functional.conv2d(x, w, padding=1), tries)


def copies(megabytes: int, tries: int) -> float:
    """Bytes/s of a copy in memory, read and written counted once."""
    x = torch.zeros(megabytes * 2**20, dtype=torch.uint8)
    y = torch.ones_like(x)
    return x.numel() / best(lambda: y.copy_(x), tries)


def jpegs(tries: int) -> float:
    """Images/s that Pillow decodes of 500 x 375."""
    from PIL import Image

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return 1 / best(lambda: Image.open(io.BytesIO(file.getvalue())).convert("RGB").load(), tries)


def starts(words: list[str], tries: int) -> float:
    """Seconds of a Python process; the quickest."""
    found = []
    for _ in range(tries):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        found.append(time.perf_counter() - started)
    return min(found)


def promix_step(steps: int, precision: Precision | None = None) -> tuple[float, float]:
    """Processor seconds of a step of ProMix on features, the quickest tenth, and FLOPs of its products."""
    n = ROWS * 10
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (n,), generator=generator)
    centres = 0.15 * torch.randn(10, WIDTH, generator=generator)
    rows = centres[labels] + torch.randn(n, WIDTH, generator=generator)
    data = NoisyDataset(Features(rows), labels, tuple("abcdefghij"), torch.zeros(n).bool(), torch.arange(n))
    run = Run(net="mlp", threads=1, mixed_precision=precision)
    moments: list[float] = []
    run.steps.watch = lambda: moments.append(time.process_time())
    epochs = 1 + -(-steps // 10)
    settings = {**ProMix.small_net, "epochs": epochs, "warmup": 1, "gamma_ramp": 1, "lambda_u_ramp": 1}
    for _ in ProMix(**{**settings, "lga_epochs": 1, "batch_size": ROWS, "tau": 0.5})(data, run):
        pass
    took = np.sort(np.diff(moments[10:]))
    return float(took[len(took) // 10]), 2 * ROWS * (2 * 2 * FIRST + 3 * PASSES * SECOND)


def second(steps: Iterator, tries: int) -> float:
    """Processor seconds of the quickest step of some, after one that does not count."""
    return best(lambda: next(steps), tries)


def counted(steps: Iterator) -> float:
    """FLOPs of the products and convolutions of a step, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as found:
        next(steps)
    return float(found.get_total_flops())


def promix(batch: int) -> Iterator[Run]:
    """Steps of ProMix in bf16, nine of ten rows selected."""
    return ours("resnet18", batch, mixed_precision="bf16", threads=1)


def dividemix(batch: int) -> Iterator[None]:
    """Steps of one net of DivideMix in bf16: so many labelled rows, and as many unlabelled ones, an epoch."""
    n = 2 * batch
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels, nobody, rows = torch.arange(n) % 10, torch.zeros(n).bool(), torch.arange(n)
    data = NoisyDataset(Resident(images), labels, tuple("abcdefghij"), nobody, rows)
    run, method = Run(net="resnet18", threads=1, mixed_precision="bf16"), DivideMix(batch_size=batch)
    here, other = method.build(data, run)
    other.net.eval()
    split = (rows < batch).double()
    for epoch in itertools.count(method.warmup):
        method.train(here, lambda view, _: other.model(view).logits, split, data, run, rows, epoch)
        yield


def precision(tries: int) -> None:
    """The row of this machine: both figures in bf16 and in float32, and which of them a run takes."""

    def both(figures: list[float], digits: int) -> str:
        return f"{figures[0]:.{digits}f} in bf16, {figures[1]:.{digits}f} in float32"

    kinds: tuple[tuple[torch.dtype, Precision], ...] = ((torch.bfloat16, "bf16"), (torch.float32, "no"))
    row = [
        {"bf16": "bf16", "no": "float32"}[best_precision(torch.device("cpu"))],
        both([products(kind, tries) / 1e9 for kind, _ in kinds], 0),
        both([convolutions(kind, tries) / 1e9 for kind, _ in kinds], 0),
        both([1000 * promix_step(2 * tries, name)[0] for _, name in kinds], 1),
    ]
    print(processor(), *row, sep="; ")
    if tries > 3:
        Table(*PRECISION).append(processor(), [*row, today()])


def main(words: list[str]) -> None:
    """Measure everything; with "smoke" only try."""
    smoke = "smoke" in words
    torch.set_num_threads(1)
    tries = 3 if smoke else 30
    if words[:1] == ["precision"]:
        precision(tries)
        return
    bf16, float32 = products(torch.bfloat16, tries), products(torch.float32, tries)
    seconds, flops = promix_step(10 if smoke else 60)
    batch, few = (8, 1) if smoke else (32, 5)
    released, scratch, mixed = (
        (second(steps, few), counted(steps))
        for steps in (reference("resnet18", batch), promix(batch), dividemix(batch))
    )
    python = starts(["-c", "pass"], 1 if smoke else 5)
    help_ = starts(["-m", "curator.cli", "--help"], 1 if smoke else 5)
    size = f"{ROWS} x {WIDTH:,} x {UNITS}"
    rows = {
        f"products in bf16, {size}": (f"{bf16 / 1e9:.0f}", "GFLOP/s"),
        f"products in float32, {size}": (f"{float32 / 1e9:.0f}", "GFLOP/s"),
        "copy of memory": (f"{copies(16 if smoke else 256, tries) / 2**30:.1f}", "GiB/s"),
        "JPEGs of 500 x 375, Pillow": (f"{jpegs(tries):.0f}", "images/s"),
        "Python that does nothing": (f"{python:.2f}", "s"),
        "label-curator --help": (f"{help_:.2f}", "s"),
        "a step of ProMix on features, 256 rows": (f"{1000 * seconds:.1f}", "ms"),
        "  its products at the limit in bf16": (f"{1000 * flops / bf16:.1f}", "ms"),
        "  share of the limit": (f"{flops / bf16 / seconds:.0%}", ""),
        f"the reference's step of ProMix from scratch, {batch} rows": (f"{released[0]:.2f}", "s"),
        f"a step of ProMix from scratch, {batch} rows": (f"{scratch[0]:.2f}", "s"),
        "  its share of the limit": (f"{scratch[1] / bf16 / scratch[0]:.0%}", ""),
        "  times the reference": (f"{released[0] / scratch[0]:.2f}", ""),
        "  times the reference at the limit": (f"{released[0] * bf16 / scratch[1]:.2f}", ""),
        f"a step of a net of DivideMix from scratch, {batch} labelled rows": (f"{mixed[0]:.2f}", "s"),
        "  DivideMix's share of the limit": (f"{mixed[1] / bf16 / mixed[0]:.0%}", ""),
    }
    table = None if smoke else Table(HEADING, COLUMNS)
    for name, (figure, unit) in rows.items():
        print(f"{name}: {figure} {unit}")
        if table is not None:
            table.append(name.strip(), [figure, unit, today(), processor()])


if __name__ == "__main__":
    main(sys.argv[1:])
