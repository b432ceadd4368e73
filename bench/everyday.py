"""Ordinary datasets of 500 to 5,000 rows: every method, the default and what is free, side by side on the same features.

    pip install 'label-curator[bench]'; apt-get install dataset-fashion-mnist
    CURATOR_DATA=... python bench/everyday.py                       # two processes of one thread; resumes cell by cell
    CURATOR_DATA=... python bench/everyday.py posterior k-NN        # these methods only
    CURATOR_DATA=... python bench/everyday.py render                # the tables of RESULTS.md again

The sets, their noise and their features are in bench/everyday_sets.py; two seeds draw noise and training. A cell is a
method on one set, encoder, noise and seed: a line of bench/everyday.jsonl. Methods have the settings that the command
gives them (`--features-column`, `--method NAME`); the default is what it takes without `--method`. Free are `linear`
(logistic regression in folds, its argmax), cleanlab's rule on the probabilities of `linear`, and a vote of the 20 nearest
rows. PUDistill is not here: it needs verified rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench.everyday_sets import SETS, encoders, features, noises, noisy_labels  # noqa: E402
from bench.table import RESULTS, processor, today  # noqa: E402

LINES = Path(__file__).with_name("everyday.jsonl")
SEEDS = (1, 2)
# What runs together, since one needs the other: methods of ours, and what is made of them.
JOBS = {
    "posterior": ("posterior",),
    "promix": ("promix", "confident", "promix,confident"),
    "dividemix": ("dividemix",),
    "cpc": ("cpc",),
    "bootstrap": ("bootstrap",),
    "ce": ("ce",),
    "mixup": ("mixup",),
    "linear": ("linear", "cleanlab"),
    "k-NN": ("k-NN",),
}
DEFAULT = "posterior"
FREE = ("linear", "cleanlab", "k-NN")
METHODS = (DEFAULT, *(name for names in JOBS.values() for name in names if name not in (DEFAULT, *FREE)), *FREE)


class Cell(NamedTuple):
    """One set as a method sees it."""

    set: str
    encoder: str
    noise: str
    seed: int


def cells() -> Iterator[Cell]:
    """All cells, the first seed first."""
    for seed in SEEDS:
        for name in SETS:
            for encoder in encoders(name):
                for noise in noises(name):
                    yield Cell(name, encoder, noise, seed)


def finished() -> dict[tuple[Cell, str], dict[str, Any]]:
    """The lines that are there, by cell and method; the last one of each counts."""
    found = {}
    for line in LINES.read_text().splitlines() if LINES.exists() else ():
        row = json.loads(line)
        found[Cell(row["set"], row["encoder"], row["noise"], row["seed"]), row["method"]] = row
    return found


def work(jobs: list[str], part: int, parts: int) -> None:
    """Measure every parts-th missing cell in this process."""
    torch.set_num_threads(1)
    there = finished()
    for cell in list(cells())[part::parts]:
        for job in jobs:
            if any((cell, name) not in there for name in JOBS[job]):
                for name, figures in measure(cell, job).items():
                    row = {**cell._asdict(), "method": name, **figures, "date": today(), "machine": processor()}
                    with LINES.open("a") as file:
                        file.write(json.dumps(row) + "\n")


def measure(cell: Cell, job: str) -> dict[str, dict[str, Any]]:
    """Figures of all methods of a job by name."""
    from curator.engine.source import Features
    from curator.evidence import NoisyDataset
    from curator.methods.ensemble import mean_evidence

    x, truth = features(cell.set, cell.encoder)
    given, k = noisy_labels(cell.set, cell.noise, cell.seed), int(truth.max()) + 1
    n = len(given)
    classes = tuple(map(str, range(k)))
    data = NoisyDataset(
        Features(x), torch.from_numpy(given), classes, torch.zeros(n, dtype=torch.bool), torch.arange(n)
    )
    found, seconds = {}, {}
    for name in JOBS[job]:
        started = time.perf_counter()
        if name == "promix,confident":
            found[name] = mean_evidence([found["promix"], found["confident"]], data)
            seconds[name] = seconds["promix"] + seconds["confident"]
            continue
        if name == "cleanlab":
            found[name] = cleanlab(found["linear"].probs, data)
        elif name == "k-NN":
            found[name] = neighbours(x, data)
        else:
            found[name] = by_method(name, data, cell.seed)
        seconds[name] = time.perf_counter() - started + (seconds["linear"] if name == "cleanlab" else 0)
    return {name: {**figures(f, data, truth), "seconds": round(seconds[name], 2)} for name, f in found.items()}


def by_method(name: str, data, seed: int):
    """Evidence of a method as the command sets it."""
    from curator.engine.run import Run
    from curator.settings import resolve

    method = resolve({"dataset": "rows", "features_column": "features", "method": name}).method
    run = Run(seed=seed, net="mlp", threads=1)
    for found in method(data, run):  # noqa: B007 (the last one is the result)
        run.close_epoch()
    return found.check(data)


def cleanlab(probs: torch.Tensor, data):
    """Cleanlab's defaults on out-of-fold probabilities."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    from curator.evidence import evidence

    labels, p = data.labels.numpy(), probs.double().numpy()
    issues, quality = find_label_issues(labels, p, n_jobs=1), get_label_quality_scores(labels, p)
    return evidence(probs, data, selected=torch.from_numpy(~issues), clean_score=torch.from_numpy(quality))


def neighbours(x: torch.Tensor, data):
    """The vote of the 20 nearest rows."""
    from curator.evidence import evidence
    from curator.signals.neighbours import neighbour_vote

    mean, std = data.inputs.moments()
    return evidence(neighbour_vote((x - mean) / std, data.labels, len(data.classes)), data)


def figures(found, data, truth: np.ndarray) -> dict[str, Any]:
    """What a cell tells, as JSON values."""
    from curator.curation.columns import columns_of
    from curator.curation.metrics import metrics, precision_recall_f1, reliability

    given = data.labels.numpy()
    columns = columns_of(found, given, data.trusted.numpy(), np.arange(len(given)))
    out = metrics(columns, given, truth, data.trusted.numpy())
    kept = ("auroc", "noisy_precision", "noisy_recall", "noisy_f1", "label_accuracy_before", "label_accuracy_after")
    wrong, flagged = given != truth, ~columns.selected
    sizes = np.bincount(truth)
    third = np.argsort(np.argsort(sizes, kind="stable")) * 3 // len(sizes)  # of the classes by size: 0, the smallest
    return {
        **{name: None if out[name] is None else round(out[name], 5) for name in kept},
        "changed": round(float((columns.corrected != given).mean()), 5),
        "calibration_error": round(float(out["calibration_error"]), 5),
        "wrong_above_95": None if out["wrong_above_95"] is None else round(out["wrong_above_95"], 5),
        "reliability": [[row["rows"], row["right"]] for row in reliability(columns.clean_score, ~wrong)],
        "by_size": [
            [round(v, 4) for v in precision_recall_f1(flagged[here], wrong[here])[:2]]
            for here in (third[given] == i for i in range(3))
        ],
    }


def main(words: list[str]) -> None:
    """Fill the cells that have no line yet, then render the tables."""
    if not os.environ.get("CURATOR_DATA"):
        print("skipped: everyday (CURATOR_DATA is not set)")
        return
    jobs = [word for word in words if word in JOBS] or list(JOBS)
    for name in SETS:
        for encoder in encoders(name):
            features(name, encoder)  # before two processes make the same
    cores = sorted(os.sched_getaffinity(0))
    parts = [
        subprocess.Popen(["taskset", "-c", str(core), sys.executable, __file__, "part", str(i), str(len(cores)), *jobs])
        for i, core in enumerate(cores)
    ]
    if any([part.wait() for part in parts]):
        raise SystemExit("a part failed")
    render()


def render() -> None:
    """Placeholder, replaced below."""


if __name__ == "__main__":
    if sys.argv[1:2] == ["part"]:
        work(sys.argv[4:], int(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["render"]:
        render()
    else:
        main(sys.argv[1:])
