"""Sets drawn at random: the default beside what is free, where nobody chose rows, classes, features or noise.

    pip install 'label-curator[bench]'; apt-get install dataset-fashion-mnist
    CURATOR_DATA=... python -m bench.drawn              # a process of one thread a core; resumes set by set
    CURATOR_DATA=... python -m bench.drawn render       # the table of RESULTS.md again

A set has 2 to 10 classes of photos of garments, CIFAR-10, Fashion-MNIST or digits, 150 to 5,000 rows, of which half of
the time a long tail is left. Its features are of one of two encoders, 50 principal components of one, or small pixels.
NOISES are the kinds of noise, with a share between 3 and 40 % that some have of one class only, or more or less of. All
of this is drawn from the set's number.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch

from bench.everyday import DEFAULT, FREE, JOBS, WITHIN, figures_of, grid, measure_on, number
from bench.everyday_sets import POOLS, look_alikes, pool
from bench.runs import on_every_core
from bench.table import RESULTS, processor, put_section, today
from curator.sources.noise import inject

LINES = RESULTS.parent / "results" / "drawn.jsonl"
HEADING = "Sets drawn at random: the default and what is free"
COUNT = 240
FIRST = 10_000  # of the numbers; smaller ones were looked at while the default was made
NOISES = {
    "none": "none",
    "random": "any other class",
    "next": "every class as the next one",
    "one way": "one class as one other",
    "bin": "one class is a bin for rows of all others",
    "alike": "the class that it looks most like",
    "by image": "depends on the pixels (Xia et al. 2020)",
    "by a model": "what a model says that learned few rows of another encoder's features",
}
BEHIND = 0.02  # of the best free one


def drawn(number: int) -> tuple[dict[str, Any], torch.Tensor, np.ndarray, np.ndarray]:
    """What a set is, its features (n, d) float32, and its given and true labels (n,) int64."""
    random = np.random.default_rng(number)
    name = str(random.choice(list(POOLS)))
    kept = pool(name)
    classes = np.sort(random.choice(10, int(random.integers(2, 11)), replace=False))
    rows = random.permutation(np.flatnonzero(np.isin(kept["truth"], classes)))
    rows = rows[: int(np.exp(random.uniform(np.log(150), np.log(5000))))]
    tail = float(random.choice([1, 1, 1, 5, 20, 20]))
    truth, keep = np.searchsorted(classes, kept["truth"][rows]), []
    for place, c in enumerate(random.permutation(len(classes))):
        of_class = np.flatnonzero(truth == c)
        keep.append(of_class[: max(8, int(len(of_class) * tail ** (-place / (len(classes) - 1))))])
    at = np.sort(np.concatenate(keep))
    rows, (_, truth) = rows[at], np.unique(truth[at], return_inverse=True)
    seen = str(random.choice(["lite0", "lite2", "components", "pixels"]))
    noise, rate = str(random.choice(list(NOISES))), float(random.uniform(0.03, 0.4))
    given = noisy(truth, noise, rate, {part: kept[part][rows] for part in ("lite2", "pixels")}, number)
    about = {"rows": len(rows), "classes": int(truth.max()) + 1, "set": name, "features": seen, "noise": noise}
    return about, features(kept, seen, rows), given, truth


def features(kept: dict[str, np.ndarray], seen: str, rows: np.ndarray) -> torch.Tensor:
    """Features (n, d) float32 of the rows."""
    if seen == "pixels":
        return torch.from_numpy(kept["pixels"][rows].reshape(len(rows), -1)).float() / 255
    if seen == "components":
        from sklearn.decomposition import PCA

        found = PCA(min(50, len(rows) - 1), random_state=0).fit_transform(kept["lite0"][rows])
        return torch.from_numpy(found).float()
    return torch.from_numpy(kept[seen][rows])


def noisy(truth: np.ndarray, noise: str, rate: float, seen: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """Given labels (n,) int64 under one of NOISES; `seen` has another encoder's features and small pixels."""
    random, given, k = np.random.default_rng([seed, 1]), truth.copy(), int(truth.max()) + 1
    wrong, one = random.random(len(truth)) < rate, int(random.integers(k))
    if noise == "random":
        return inject(truth, tuple(map(str, range(k))), "sym-other", rate, seed)
    if noise == "by image":
        return inject(truth, tuple(map(str, range(k))), "idn-class", rate, seed, seen["pixels"])
    if noise == "by a model":
        z = (seen["lite2"] - seen["lite2"].mean(0)) / seen["lite2"].std(0).clip(1e-6)
        told = np.where(random.random(len(truth)) < 2.5 * rate, by_a_model(z, truth, random), truth)
        return told.astype(truth.dtype)
    if noise == "next":
        given[wrong] = (truth[wrong] + 1) % k
    elif noise == "one way":
        given[wrong & (truth == one)] = (one + 1) % k
    elif noise == "bin":
        given[wrong] = one
    elif noise == "alike":
        given[wrong] = look_alikes(torch.from_numpy(seen["lite2"]), truth)[truth[wrong]]
    return given


def by_a_model(z: np.ndarray, truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What logistic regression says (n,) of either half of the rows, having learned some of the other half."""
    from sklearn.linear_model import LogisticRegression

    out, half = truth.copy(), random.random(len(truth)) < 0.5
    for part in (half, ~half):
        learned = random.permutation(np.flatnonzero(~part))
        learned = learned[: max(4 * (int(truth.max()) + 1), int(len(learned) * random.uniform(0.05, 0.6)))]
        if len(np.unique(truth[learned])) > 1 and part.any():
            out[part] = LogisticRegression(C=1e-3, max_iter=300).fit(z[learned], truth[learned]).predict(z[part])
    return out


@cache
def finished() -> dict[int, dict[str, Any]]:
    """The lines that are there, by the number of the set."""
    lines = LINES.read_text().splitlines() if LINES.exists() else ()
    return {line["number"]: line for line in map(json.loads, lines)}


def work(part: int, parts: int) -> None:
    """Measure every parts-th missing set in this process."""
    torch.set_num_threads(1)
    for number_of in range(FIRST + part, FIRST + COUNT, parts):
        if number_of in finished():
            continue
        about, x, given, truth = drawn(number_of)
        found: dict[str, Any] = {}
        for job in (DEFAULT, *(job for job, names in JOBS.items() if set(names) & set(FREE))):
            for name, figures in measure_on(x, given, truth, number_of, job).items():
                found[name] = {what: figures[what] for what in (*WITHIN, "changed", "seconds")}
        about |= {"number": number_of, "right": round(float((given == truth).mean()), 5), "methods": found}
        with LINES.open("a") as file:
            file.write(json.dumps({**about, "date": today(), "machine": processor()}) + "\n")


def main() -> None:
    """Fill the sets that have no line yet, then render the table."""
    if not os.environ.get("CURATOR_DATA"):
        print("skipped: drawn (CURATOR_DATA is not set)")
        return
    for name in POOLS:
        pool(name)  # before two processes make the same
    on_every_core("bench.drawn")
    render()


def render() -> None:
    """Put the section into RESULTS.md, in the place of the one that is there."""
    finished.cache_clear()
    lines = list(finished().values())
    groups = {"all": lines}
    for kind, what in NOISES.items():
        of_kind = [line for line in lines if line["noise"] == kind]
        groups[f"noise: {what}"] = of_kind if kind != "none" else [line for line in lines if line["right"] == 1]
    for features_of in dict.fromkeys(line["features"] for line in lines):
        groups[f"features: {features_of}"] = [line for line in lines if line["features"] == features_of]
    groups["fewer than 500 rows"] = [line for line in lines if line["rows"] < 500]
    groups["500 rows and more"] = [line for line in lines if line["rows"] >= 500]
    groups["two classes"] = [line for line in lines if line["classes"] == 2]
    columns = ["sets", "number", "labels right", *(f"`{name}`" for name in (DEFAULT, *FREE)), "default behind"]
    table = grid(columns, [row(name, there) for name, there in groups.items() if there])
    dates, machines = sorted({line["date"] for line in lines}), dict.fromkeys(line["machine"] for line in lines)
    about = (
        f"`bench/drawn.py`, {' and '.join(machines)}, a run of one thread a core, {dates[0]} to {dates[-1]}: "
        f"{len(lines)} sets. Rows, classes, features, kind and share of noise are drawn at random, from numbers that "
        "were not looked at while the default was made; the pictures are those of the ordinary datasets above. AUROC, "
        "F1, label accuracy, means; where no label is wrong the share of labels changed. *Default behind*: sets in "
        f"which it is more than {BEHIND} below the best of the three free ones, in AUROC, F1 and label accuracy."
    )
    put_section(RESULTS, HEADING, about, table)


def row(name: str, lines: list[dict[str, Any]]) -> list[str]:
    """A row of the table."""
    noisy_ones = [line for line in lines if line["right"] < 1]
    if not noisy_ones:
        changed = [f"{np.mean([line['methods'][m]['changed'] for line in lines]):.1%}" for m in (DEFAULT, *FREE)]
        return [name, str(len(lines)), "1", *changed, "–"]
    figures = [figures_of({what: mean(noisy_ones, m, what) for what in WITHIN}) for m in (DEFAULT, *FREE)]
    behind = [
        sum(
            line["methods"][DEFAULT][what] < max(line["methods"][m][what] for m in FREE) - BEHIND for line in noisy_ones
        )
        for what in WITHIN
    ]
    right = number(float(np.mean([line["right"] for line in noisy_ones])))
    return [name, str(len(noisy_ones)), right, *figures, " ".join(map(str, behind))]


def mean(lines: list[dict[str, Any]], method: str, what: str) -> float:
    """Of a method's figure."""
    return float(np.mean([line["methods"][method][what] for line in lines]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["part"]:
        work(int(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["render"]:
        render()
    else:
        main()
