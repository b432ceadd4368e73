"""What this machine can do at most, and how near to it the tool comes: products, memory, JPEGs, the start of Python.

    python -m bench.floor             # on idle cores; one core for all but what is said
    python -m bench.floor smoke       # small and quick

Limits are the best of several tries, in processor seconds of one thread. The share of a step of ProMix on features is
that of the products which its two nets cannot do without, at the speed of the limit, in the seconds that it takes.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from bench.table import Table, processor, today
from curator.engine.nets import MLP
from curator.engine.run import Run
from curator.engine.source import Features
from curator.evidence import NoisyDataset
from curator.methods.promix import ProMix

HEADING = "The machine's limits, and the shares reached, one core"
COLUMNS = ["figure", "unit", "date", "machine"]
ROWS, WIDTH = 256, 1280  # of a batch of features
PASSES = 3  # forward, and backward by weights and by inputs
# Multiplications and additions of a row and net: the first layer of both views by weights and forward; the second of
# both and of mixed rows, all three passes.
FIRST, SECOND = 2 * WIDTH * MLP, 2 * MLP * MLP


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
    x, w = torch.randn(ROWS, WIDTH).to(kind), torch.randn(MLP, WIDTH).to(kind)
    return 2 * ROWS * WIDTH * MLP / best(lambda: torch.nn.functional.linear(x, w), tries)


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


def promix_step(steps: int) -> tuple[float, float]:
    """Processor seconds of a step of ProMix on features, the quickest tenth, and FLOPs of its products."""
    n = ROWS * 10
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (n,), generator=generator)
    centres = 0.15 * torch.randn(10, WIDTH, generator=generator)
    rows = centres[labels] + torch.randn(n, WIDTH, generator=generator)
    data = NoisyDataset(Features(rows), labels, tuple("abcdefghij"), torch.zeros(n).bool(), torch.arange(n))
    run = Run(net="mlp", threads=1)
    moments: list[float] = []
    run.steps.watch = lambda: moments.append(time.process_time())
    epochs = 1 + -(-steps // 10)
    settings = {**ProMix.small_net, "epochs": epochs, "warmup": 1, "gamma_ramp": 1, "lambda_u_ramp": 1}
    for _ in ProMix(**{**settings, "lga_epochs": 1, "batch_size": ROWS, "tau": 0.5})(data, run):
        pass
    took = np.sort(np.diff(moments[10:]))
    return float(took[len(took) // 10]), 2 * ROWS * (2 * 2 * FIRST + 3 * PASSES * SECOND)


def main(words: list[str]) -> None:
    """Measure everything; with "smoke" only try."""
    smoke = words == ["smoke"]
    torch.set_num_threads(1)
    tries = 3 if smoke else 30
    bf16, float32 = products(torch.bfloat16, tries), products(torch.float32, tries)
    seconds, flops = promix_step(10 if smoke else 60)
    python = starts(["-c", "pass"], 1 if smoke else 5)
    help_ = starts(["-m", "curator.cli", "--help"], 1 if smoke else 5)
    rows = {
        "products in bf16, 256 x 1,280 x 512": (f"{bf16 / 1e9:.0f}", "GFLOP/s"),
        "products in float32, 256 x 1,280 x 512": (f"{float32 / 1e9:.0f}", "GFLOP/s"),
        "copy of memory": (f"{copies(16 if smoke else 256, tries) / 2**30:.1f}", "GiB/s"),
        "JPEGs of 500 x 375, Pillow": (f"{jpegs(tries):.0f}", "images/s"),
        "Python that does nothing": (f"{python:.2f}", "s"),
        "label-curator --help": (f"{help_:.2f}", "s"),
        "a step of ProMix on features, 256 rows": (f"{1000 * seconds:.1f}", "ms"),
        "  its products at the limit in bf16": (f"{1000 * flops / bf16:.1f}", "ms"),
        "  share of the limit": (f"{flops / bf16 / seconds:.0%}", ""),
    }
    table = None if smoke else Table(HEADING, COLUMNS)
    for name, (figure, unit) in rows.items():
        print(f"{name}: {figure} {unit}")
        if table is not None:
            table.append(name.strip(), [figure, unit, today(), processor()])


if __name__ == "__main__":
    main(sys.argv[1:])
