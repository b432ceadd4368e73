"""Ordinary datasets of 500 to 5,000 rows: every method, the default and what is free, on the same features.

    pip install 'label-curator[bench]'; apt-get install dataset-fashion-mnist
    CURATOR_DATA=... python -m bench.everyday                       # two processes of one thread; resumes cell by cell
    CURATOR_DATA=... python -m bench.everyday posterior k-NN        # these methods only
    CURATOR_DATA=... python -m bench.everyday render                # the tables of RESULTS.md again

The sets, their noise and their features are in bench/everyday_sets.py; two seeds draw noise and training. A cell is a
method on one set, encoder, noise and seed: a line of results/everyday.jsonl. Methods have the settings that the command
gives them (`--features-column`, `--method NAME`; elr+ and sop+: `--recipe features-NAME:plus`); the default is what it
takes without `--method`. Free are `linear` (logistic regression in folds, its argmax), cleanlab's rule on the
probabilities of `linear`, and a vote of the 20 nearest rows. PUDistill is not here: it needs verified rows.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch

from bench.everyday_sets import SETS, encoders, features, noises, noisy_labels
from bench.runs import on_every_core
from bench.table import RESULTS, processor, put_section, today
from curator.evidence import Evidence, NoisyDataset
from curator.methods import ON_FEATURES

LINES = RESULTS.parent / "results" / "everyday.jsonl"
SEEDS = (1, 2)
# What runs together, since one needs the other: methods of ours, and what is made of them.
JOBS = {
    "posterior": ("posterior",),
    "promix": ("promix", "confident", "promix,confident"),
    "dividemix": ("dividemix",),
    "cpc": ("cpc",),
    "bootstrap": ("bootstrap",),
    "elr": ("elr",),
    "elr+": ("elr+",),
    "sop": ("sop",),
    "sop+": ("sop+",),
    "ce": ("ce",),
    "mixup": ("mixup",),
    "linear": ("linear", "cleanlab"),
    "k-NN": ("k-NN",),
}
RECIPES = {f"{name}+": f"features-{name}:plus" for name in ("elr", "sop")}  # of what --method does not name
DEFAULT = ON_FEATURES
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
    x, truth = features(cell.set, cell.encoder)
    return measure_on(x, noisy_labels(cell.set, cell.noise, cell.seed), truth, cell.seed, job)


def measure_on(x: torch.Tensor, given: np.ndarray, truth: np.ndarray, seed: int, job: str) -> dict[str, dict[str, Any]]:
    """The same on features (n, d) float32 with given and true labels (n,) int64."""
    from curator.engine.source import Features
    from curator.methods.confident import Confident
    from curator.methods.ensemble import mean_evidence

    n, classes = len(given), tuple(map(str, range(int(truth.max()) + 1)))
    data = NoisyDataset(
        Features(x), torch.from_numpy(given), classes, torch.zeros(n, dtype=torch.bool), torch.arange(n)
    )
    found: dict[str, Evidence] = {}
    seconds: dict[str, float] = {}
    for name in JOBS[job]:
        started = time.perf_counter()
        if name == "promix,confident":
            found[name] = mean_evidence([found["promix"], found["confident"]], data)
            seconds[name] = seconds["promix"] + seconds["confident"]
            continue
        if name == "cleanlab":
            found[name] = Confident().clean(found["linear"].probs, data)
        elif name == "k-NN":
            found[name] = neighbours(x, data)
        else:
            found[name] = by_method(name, data, seed)
        seconds[name] = time.perf_counter() - started + (seconds["linear"] if name == "cleanlab" else 0)
    return {name: {**figures(f, data, truth), "seconds": round(seconds[name], 2)} for name, f in found.items()}


def by_method(name: str, data, seed: int):
    """Evidence of a method as the command sets it."""
    from curator.config.resolve import resolve
    from curator.engine.run import Run

    chosen = {"recipe": RECIPES[name]} if name in RECIPES else {"method": name}
    resolved = resolve({"dataset": "rows", "features_column": "features", **chosen})
    run = Run(seed=seed, net="mlp", threads=1, views=resolved.settings.views())
    for found in resolved.method(data, run):  # noqa: B007 (the last one is the result)
        run.close_epoch()
    return found.check(data)


def neighbours(x: torch.Tensor, data):
    """The vote of the 20 nearest rows."""
    from curator.evidence import evidence
    from curator.signals.neighbours import neighbour_vote

    mean, std = data.inputs.moments()
    z, n = (x - mean) / std, len(x)
    return evidence(neighbour_vote(z.__getitem__, n, data.labels, torch.arange(n), len(data.classes)), data)


def figures(found: Evidence, data: NoisyDataset, truth: np.ndarray) -> dict[str, Any]:
    """What a cell tells, as JSON values."""
    from curator.result.columns import columns_of
    from curator.result.metrics import metrics, precision_recall_f1, reliability

    given = data.labels.numpy()
    columns = columns_of(found, given, data.trusted.numpy(), np.arange(len(given)))
    out = metrics(columns, given, truth, data.trusted.numpy())
    kept = ("auroc", "noisy_precision", "noisy_recall", "noisy_f1", "label_accuracy_before", "label_accuracy_after")
    wrong, flagged = given != truth, ~columns.selected
    sizes = np.bincount(truth)
    third = np.argsort(np.argsort(sizes, kind="stable")) * 3 // len(sizes)  # of the classes by size: 0, the smallest

    def digits(figure: float | None) -> float | None:
        return None if figure is None else round(figure, 5)

    return {
        **{name: digits(out[name]) for name in kept},
        "changed": round(float((columns.corrected != given).mean()), 5),
        **{name: digits(out[name]) for name in ("calibration_error", "wrong_above_95")},
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
    on_every_core("bench.everyday", *jobs)
    render()


HEADING = "Ordinary datasets: the default, every method and what is free"
SHORT = {"label_accuracy_after": "label accuracy", "noisy_f1": "F1", "auroc": "AUROC"}
WITHIN = {"auroc": 0.002, "noisy_f1": 0.01, "label_accuracy_after": 0.01}  # of the best, to count as at it
ALL_CELLS = [
    "method", "AUROC", "F1", "label accuracy", "AUROC at the best", "F1 at the best free", "accuracy at the best free",
    "labels made worse", "changed where none is wrong", "wrong of those scored .95 to 1", "seconds",
]  # fmt: skip
CALIBRATION = [
    "set, features", "expected calibration error", "wrong of those scored .95 to 1, worst noise", "small", "middle",
    "large",
]  # fmt: skip
Means = dict[tuple[str, str, str], dict[str, dict[str, Any]]]  # (set, encoder, noise) -> method -> mean of the seeds


def render() -> None:
    """Put the section into RESULTS.md, in the place of the one that is there."""
    rows = finished()
    put_section(RESULTS, HEADING, where(rows), *section_parts(means(rows)))


def means(rows: dict[tuple[Cell, str], dict[str, Any]]) -> Means:
    """Figures of every method on every set, encoder and noise, averaged over the seeds."""
    found: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells():
        for name in METHODS:
            if row := rows.get((cell, name)):
                found[cell.set, cell.encoder, cell.noise][name].append(row)
    return {key: {name: average(runs) for name, runs in methods.items()} for key, methods in found.items()}


def average(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of the runs' figures; None where no run has the figure."""
    out: dict[str, Any] = {}
    for name in (*WITHIN, "label_accuracy_before", "changed", "calibration_error", "wrong_above_95", "seconds"):
        there = [run[name] for run in runs if run[name] is not None]
        out[name] = sum(there) / len(there) if there else None
    out["by_size"] = np.mean([run["by_size"] for run in runs], 0)
    return out


def where(rows: dict[tuple[Cell, str], dict[str, Any]]) -> str:
    """What the cells are, and on which machines and days they were measured."""
    machines = dict.fromkeys(row["machine"] for row in rows.values())
    dates = sorted(row["date"] for row in rows.values())
    there, seconds = len({cell[:3] for cell, _ in rows}), sum(row["seconds"] for row in rows.values())
    return (
        f"`bench/everyday.py`, {' and '.join(machines)}, two runs of one thread at a time beside other work, "
        f"{dates[0]} to {dates[-1]}: {there} cells (a set, its features, a noise), two seeds each, "
        f"{seconds / 3600:.1f} core hours in all. "
        + "Seconds of different machines do not compare. "
        * (len(machines) > 1)
        + "Methods are without the guard. The sets, their noise and the emulated features are described in "
        "bench/everyday_sets.py; every run is a line "
        "of results/everyday.jsonl. Free: `linear` (logistic regression, 5 folds, strength by held-out likelihood, "
        "argmax), cleanlab on its probabilities, a vote of the 20 nearest rows. These are development sets: the "
        "default was chosen on them, first on seed 1 with Lite0 features, and changed once more after a look at the "
        "whole table, both seeds and both encoders, again for the 40 classes, and for one-way noise; nothing here is "
        "held out from it."
    )


def section_parts(table: Means) -> list[str]:
    """The section's tables."""
    noisy = {key: methods for key, methods in table.items() if key[2] != "none"}
    clean = {key: methods for key, methods in table.items() if key[2] == "none"}
    kinds = list(dict.fromkeys(noise for _, _, noise in table))
    return [
        "**All cells.** Means; *at the best*: share of cells in which a method is at or above the best of all rows "
        f"(AUROC, within {WITHIN['auroc']}) or the best free one (F1 and label accuracy, within {WITHIN['noisy_f1']}).",
        grid(ALL_CELLS, [summary(name, noisy, clean) for name in METHODS]),
        "**By kind of noise.** AUROC / F1 / label accuracy, means over sets and features (no noise: labels changed).",
        grid(["noise", *METHODS], [[noise, *(of_noise(name, noise, table) for name in METHODS)] for noise in kinds]),
        "**Where something is ahead of the default** by more than the gates (AUROC against all rows .002, F1 and label "
        "accuracy against the free ones .01; no noise: more than 1 % of the labels changed), means of two seeds.",
        grid(["set, features, noise", "what", "default", "ahead"], losses(noisy, clean)),
        "**The default's clean score as a probability**, and precision / recall of its flags by the size of classes "
        "(thirds of the classes, by their true rows).",
        grid(CALIBRATION, calibration(noisy)),
        "**Every cell.** AUROC F1 label accuracy (no noise: share of labels changed), means of two seeds; in brackets "
        "the label accuracy of the given labels.",
        grid(
            ["set, features, noise", *METHODS],
            [
                [f"{', '.join(key)} ({given(methods):.3f})", *(figures_of(methods.get(name)) for name in METHODS)]
                for key, methods in table.items()
            ],
        ),
    ]


def grid(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [columns, ["---"] * len(columns), *rows])


def given(methods: dict[str, dict[str, Any]]) -> float:
    """Label accuracy of the given labels."""
    return next(iter(methods.values()))["label_accuracy_before"]


def number(value: float | None, digits: int = 3) -> str:
    """As 0.983, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def figures_of(row: dict[str, Any] | None) -> str:
    """AUROC, F1 and label accuracy; the share of changed labels where none is wrong."""
    if row is None:
        return "not measured"
    if row["auroc"] is None:
        return f"{row['changed']:.1%}"
    return " ".join(f"{row[name]:.3f}".lstrip("0") for name in WITHIN)


def at_best(name: str, what: str, methods: dict[str, dict[str, Any]]) -> bool:
    """Whether the method is at the best: of all rows in AUROC, of the free ones else."""
    rivals = METHODS if what == "auroc" else FREE
    best = max((methods[rival][what] for rival in rivals if rival in methods), default=0.0)
    return methods[name][what] >= best - WITHIN[what]


def summary(name: str, noisy: Means, clean: Means) -> list[str]:
    """A method's row over all cells."""
    there = [methods for methods in noisy.values() if name in methods]
    if not there:
        return [f"`{name}`", *["not measured"] * 10]
    mean = {what: sum(m[name][what] for m in there) / len(there) for what in WITHIN}
    best = {what: sum(at_best(name, what, m) for m in there) / len(there) for what in WITHIN}
    worse = sum(m[name]["label_accuracy_after"] < given(m) for m in there)
    sure = [m[name]["wrong_above_95"] for m in there if m[name]["wrong_above_95"] is not None]
    changed = [m[name]["changed"] for m in clean.values() if name in m]
    every = [m[name]["seconds"] for m in [*there, *clean.values()] if name in m]
    return [
        f"`{name}` (default)" if name == DEFAULT else f"`{name}`", *(number(mean[what]) for what in WITHIN),
        *(f"{best[what]:.0%}" for what in WITHIN), f"{worse} of {len(there)}",
        f"{np.mean(changed):.1%} (at most {max(changed):.1%})" if changed else "not measured",
        f"{np.mean(sure):.1%} (at most {max(sure):.1%})" if sure else "–", f"{np.mean(every):.1f}",
    ]  # fmt: skip


def of_noise(name: str, noise: str, table: Means) -> str:
    """A method's means over the cells of a kind of noise."""
    there = [methods[name] for key, methods in table.items() if key[2] == noise and name in methods]
    if not there:
        return "not measured"
    mean = {what: None if there[0][what] is None else np.mean([row[what] for row in there]) for what in WITHIN}
    return figures_of({**mean, "changed": np.mean([row["changed"] for row in there])})


def losses(noisy: Means, clean: Means) -> list[list[str]]:
    """What the default does not reach."""
    out = []
    for key, methods in noisy.items():
        for what in WITHIN:
            if DEFAULT in methods and not at_best(DEFAULT, what, methods):
                rivals = METHODS if what == "auroc" else FREE
                best = max((r for r in rivals if r in methods), key=lambda r: methods[r][what])  # noqa: B023
                out.append(
                    [
                        ", ".join(key),
                        SHORT[what],
                        number(methods[DEFAULT][what]),
                        f"{best} {number(methods[best][what])}",
                    ]
                )
        if DEFAULT in methods and methods[DEFAULT]["label_accuracy_after"] < given(methods):
            after = methods[DEFAULT]["label_accuracy_after"]
            out.append([", ".join(key), "label accuracy", number(after), f"given labels {number(given(methods))}"])
    for key, methods in clean.items():
        if DEFAULT in methods and methods[DEFAULT]["changed"] > 0.01:
            out.append([", ".join(key), "labels changed", f"{methods[DEFAULT]['changed']:.1%}", "none is wrong"])
    return out or [["none", "", "", ""]]


def calibration(noisy: Means) -> list[list[str]]:
    """Calibration and class sizes of the default, a row a set and encoder."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for (name, encoder, _), methods in noisy.items():
        if DEFAULT in methods:
            groups[name, encoder].append(methods[DEFAULT])
    out = []
    for key, rows in groups.items():
        sizes = np.mean([row["by_size"] for row in rows], 0)
        worst = max(row["wrong_above_95"] or 0 for row in rows)
        error = np.mean([row["calibration_error"] for row in rows])
        out.append([", ".join(key), number(error), f"{worst:.1%}", *(f"{p:.3f} / {r:.3f}" for p, r in sizes)])
    return out


if __name__ == "__main__":
    if sys.argv[1:2] == ["part"]:
        work(sys.argv[4:], int(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["render"]:
        render()
    else:
        main(sys.argv[1:])
