"""Near duplicates among a million rows of 384 numbers: seconds, memory, and how many planted ones are found.

python -m bench.lookalikes [ROWS]    # about 5 minutes on 2 cores; 3 GiB
Rows come in 2,000 heaps, their numbers in 64 directions of falling spread and noise in all: features of so many real
pictures are not at hand. Of ROWS / 100 rows there is a second one at a cosine of 0.94 to 1.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import torch

from bench.table import Table, processor, today
from curator.result.duplicates import ALIKE
from curator.signals.approximate import close_pairs
from curator.system import cores

HEADING = "Near duplicates among a million rows"
COLUMNS = [
    "planted pairs",
    "found",
    "others found",
    "seconds",
    "processor seconds",
    "peak memory, GiB",
    "date and machine",
]
WIDTH = 384


def rows_of(n: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Features (n, WIDTH) float32 and planted pairs (n // 100, 2): position i < n // 100 and its twin at the end."""
    random = torch.Generator().manual_seed(seed)
    pairs = n // 100
    spread = torch.linspace(1, 0.2, 64)
    axes = torch.linalg.qr(torch.randn(WIDTH, 64, generator=random))[0]
    heaps = torch.randn(2000, 64, generator=random) * spread
    x = torch.empty(n, WIDTH)
    for start in range(0, n, 2**16):
        part = x[start : start + 2**16]
        heap = heaps[torch.randint(2000, (len(part),), generator=random)]
        inside = heap + 0.7 * spread * torch.randn(len(part), 64, generator=random)
        part.copy_(inside @ axes.T + 0.02 * torch.randn(len(part), WIDTH, generator=random))
    twin = x[:pairs]
    noise = torch.randn(pairs, WIDTH, generator=random)
    apart = torch.linspace(0, 0.35, pairs)[:, None]  # cosine 1 to 0.94
    x[-pairs:] = twin + apart * twin.norm(dim=1, keepdim=True) * noise / noise.norm(dim=1, keepdim=True)
    return x, np.stack([np.arange(pairs), np.arange(n - pairs, n)], 1)


def main(n: int = 1_000_000) -> None:
    """Measure and write a row of the table."""
    torch.set_num_threads(cores())
    x, planted = rows_of(n)
    started, before = time.perf_counter(), time.process_time()
    found = close_pairs(x, ALIKE)
    seconds, used = time.perf_counter() - started, time.process_time() - before
    known = {(int(a), int(b)) for a, b in planted}
    hits = sum((int(a), int(b)) in known for a, b in found)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row = [f"{len(planted):,}", f"{hits / len(planted):.1%}", f"{len(found) - hits:,}", f"{seconds:.0f}", f"{used:.0f}"]
    print(row, f"{memory:.1f} GiB", flush=True)
    Table(HEADING, COLUMNS).append(f"{n:,} x {WIDTH}", [*row, f"{memory:.1f}", f"{today()}, {processor()}"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
