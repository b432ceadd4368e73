"""Is the result worth it: one plain classifier trained on the raw rows, and one on the curated ones.

Of a finished run with a test split (by default the ProMix run of bench/baselines.py on CIFAR-10N worst) it trains on
the given labels of all rows, on the corrected labels of all rows, and on the selected rows only. The classifier is
`ce` with its own defaults; test accuracy is taken after its last epoch, mean and deviation over three seeds.

    python -m bench.train_on_result [RUN]      # appends the missing rows to bench/RESULTS.md
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from bench.ablation import spread
from bench.runs import run_folder
from bench.table import Table, processor, today
from curator.engine.run import Run
from curator.engine.source import Resident
from curator.evidence import NoisyDataset
from curator.methods.ce import CrossEntropy
from curator.sources.images import decode_images

SEEDS = (1, 2, 3)


def test_accuracy(images: torch.Tensor, labels: np.ndarray, test: tuple[torch.Tensor, np.ndarray], seed: int) -> float:
    """Accuracy on the test rows of a `small` net trained on the rows."""
    classes = tuple(map(str, range(int(labels.max()) + 1)))
    run = Run(seed=seed, net="small")
    n = len(labels)
    data = NoisyDataset(
        Resident(images, run.device),
        torch.from_numpy(labels),
        classes,
        torch.zeros(n, dtype=torch.bool),
        torch.arange(n),
    )
    for _ in CrossEntropy()(data, run):
        run.close_epoch()
    logits = run.predict(run.registered["nets"], Resident(test[0], run.device), normaliser=run.normaliser(data.inputs))
    return float((logits.argmax(1).numpy() == test[1]).mean())


def main(folder: Path) -> None:
    """Train on each view of the run that has no row yet."""
    from datasets import load_dataset

    splits = load_dataset(str(folder))
    name = folder.name
    decoded = {}
    for split, rows in splits.items():
        images = decode_images(rows, "image", np.arange(len(rows)), (32, 32), 2**33).images
        assert images is not None  # so many bytes hold them
        decoded[split] = images
    train = splits["train"]
    given, corrected, selected = (np.array(train[c]) for c in ("label", "corrected_label", "selected"))
    test = decoded["test"], np.array(splits["test"]["label"])
    everything = np.ones(len(train), bool)
    views = {
        "raw": (given, everything),
        "relabelled": (corrected, everything),
        "filtered": (given, selected),
    }
    table = Table(
        "Plain training on raw and curated rows", ["rows", "test accuracy", "seeds", "date", "machine", "net"]
    )
    for view, (labels, rows) in views.items():
        cell = f"{name} {view}"
        if cell in table:
            continue
        kept = torch.from_numpy(rows)
        scores = [test_accuracy(decoded["train"][kept], labels[rows], test, seed) for seed in SEEDS]
        table.append(cell, [
            f"{int(rows.sum()):,}", spread(scores), ", ".join(f"{s:.4f}" for s in scores), today(), processor(),
            "small, 60 epochs",
        ])  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else run_folder("cifar10n worst 10k promix"))
