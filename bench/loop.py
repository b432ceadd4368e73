"""The loop: what reviewed rows are worth, on frozen features of all of CIFAR-10N worst.

    CURATOR_DATA=... python -m bench.loop        # one cell a core; resumes cell by cell
    CURATOR_DATA=... python -m bench.loop plot   # the picture again

A run without reviewed rows gives an order (least sure first, or random); its first rows are decided as a reviewer who
knows the truth would, into a journal like the page's, and a second run starts from scratch with `--verified JOURNAL`.
Runs without reviewed rows are those of bench/arena.py; PUDistill, which needs some, gets the order of ProMix's. "Put
in": the first run's labels with the verified ones put in, without a second run.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.arena import cell, our_run
from bench.runs import Cores, finished_run, has_data, run_folder
from bench.table import Table, processor, today

METHODS = ("promix", "confident", "pudistill")
FIRST = {"pudistill": "promix"}  # whose run gives the order where a method cannot begin without verified rows
BY = ("least sure", "random")
COUNTS = (100, 500, 2000)
SEEDS = (1, 2, 3)
ONE_SEED = ("pudistill",)
COLUMNS = [
    "label accuracy of all rows", "±", "put in, no second run", "of the rows not reviewed", "noisy F1",
    "wrong among the reviewed", "date", "machine",
]  # fmt: skip
HEADING = "The loop: reviewed rows of CIFAR-10N worst, frozen features, three seeds"
PLOT = Path(__file__).with_name("loop.png")


def main() -> None:
    """Fill the cells that have no row yet, then draw the picture."""
    if not has_data("loop", "$CURATOR_DATA"):
        return
    table = Table(HEADING, COLUMNS)
    cores = Cores()
    for method in METHODS:
        if method not in FIRST and f"{method} 0" not in table:
            base = [cores.submit(our_run, "worst", method, seed) for seed in SEEDS]
            add(table, f"{method} 0", [without_review(f.result()) for f in base])
        for count in COUNTS:
            missing = [by for by in BY if f"{method} {count} {by}" not in table]
            seeds = SEEDS[:1] if method in ONE_SEED else SEEDS
            jobs = {by: [cores.submit(reviewed_run, method, by, count, seed) for seed in seeds] for by in missing}
            for by, futures in jobs.items():
                add(table, f"{method} {count} {by}", [future.result() for future in futures])
    plot(table)


def without_review(metrics: dict[str, Any]) -> dict[str, Any]:
    """Figures of a run without trusted rows."""
    return {**metrics, "put_in": metrics["label_accuracy_after_all"], "wrong": 0.0}


def reviewed_run(method: str, by: str, count: int, seed: int, core: int) -> dict[str, Any]:
    """Figures of a run that trusts the first `count` rows of an order, decided by one who knows the truth."""
    import numpy as np
    from datasets import load_dataset

    from curator.result.read import Rows
    from curator.review.queue import order

    first, flags = cell("worst", FIRST.get(method, method), seed)
    finished_run(first, flags, core)
    rows, (_, flags) = Rows(run_folder(first)), cell("worst", method, seed)
    truth = np.array(load_dataset(str(rows.folder), split="train")["true_label"])
    positions = np.random.default_rng(seed).permutation(len(rows)) if by == "random" else order([rows], by)
    chosen = positions[:count]
    name = f"loop {method} {count} {by} {seed}"
    journal = run_folder(name).with_suffix(".sqlite")
    if not journal.exists():
        whole = journal.with_suffix(".new")
        whole.unlink(missing_ok=True)
        review(whole, rows, chosen, truth)
        whole.rename(journal)
    facts = finished_run(name, f"{flags} --verified {journal}", core)
    put_in = rows.suggested.copy()
    put_in[chosen] = truth[chosen]
    wrong = float((rows.given[chosen] != truth[chosen]).mean())
    return {**facts["metrics"], "put_in": float((put_in == truth).mean()), "wrong": wrong}


def review(path: Path, rows, chosen, truth) -> None:
    """A journal in which the rows are kept or relabelled by the truth."""
    from curator.decisions.journal import Journal

    facts = {"classes": rows.classes, "dataset": rows.facts["dataset"], "split": rows.facts["split"]}
    names = rows.classes
    steps = [
        {"key": str(i), "kind": "do", "rows": [(int(rows.row[i]), action, names[truth[i]])]}
        for i in chosen.tolist()
        for action in ["keep" if rows.given[i] == truth[i] else "relabel"]
    ]
    with closing(Journal(path, facts)) as journal:
        journal.save(steps, "truth")


def add(table: Table, name: str, runs: list[dict[str, Any]]) -> None:
    """Append the row of a cell's three runs, unless it is there."""
    if name in table:
        return

    def mean(key: str) -> float:
        return statistics.mean(run[key] for run in runs)

    after = [run["label_accuracy_after_all"] for run in runs]
    spread = f"{statistics.stdev(after):.4f}" if len(after) > 1 else "–"
    table.append(name, [
        f"{mean('label_accuracy_after_all'):.4f}", spread, f"{mean('put_in'):.4f}",
        f"{mean('label_accuracy_after'):.4f}", f"{mean('noisy_f1'):.4f}", f"{mean('wrong'):.2f}", today(), processor(),
    ])  # fmt: skip


def plot(table: Table) -> None:
    """Label accuracy against reviewed rows, a panel a method, from the rows of the table."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, method in zip(figure.subplots(1, len(METHODS)), METHODS, strict=True):
        for by, colour in zip(BY, ("tab:blue", "tab:orange"), strict=True):
            cells = [
                (0, table.row(f"{FIRST.get(method, method)} 0")),
                *((n, table.row(f"{method} {n} {by}")) for n in COUNTS),
            ]
            there = [(n, row) for n, row in cells if row]
            x = [n for n, _ in there]
            after, put_in, spread = (
                [float(row[c].replace("–", "0")) for _, row in there] for c in (COLUMNS[0], COLUMNS[2], COLUMNS[1])
            )
            own = slice(method in FIRST, None)  # the point without reviewed rows is not of this method
            axes.errorbar(x[own], after[own], spread[own], color=colour, marker="o", capsize=2, label=f"{by} first")
            axes.plot(x, put_in, color=colour, linestyle=":", label=f"{by}, put in, no second run")
        axes.set(title=method, xlabel="reviewed rows", xlim=(-20, 3000))
        axes.set_xscale("symlog", linthresh=100)
        axes.set_xticks([0, *COUNTS], map(str, (0, *COUNTS)))
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.axes[0].set_ylabel("label accuracy of all 50,000 rows")
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    if sys.argv[1:2] == ["plot"]:
        plot(Table(HEADING, COLUMNS))
    else:
        main()
