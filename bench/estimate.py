"""How far the report's estimate of the number of wrong labels is from the truth, on the runs of bench/everyday.py.

python -m bench.estimate        # puts its table into RESULTS.md; it trains nothing
"""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np

from bench.everyday import LINES, grid
from bench.table import RESULTS, put_section, today
from curator.result.estimate import MEASURED, wrong_labels

HEADING = "How many labels are wrong: the report's estimate"
COLUMNS = [
    "noise", "runs", "truth", "flagged", "1 - clean score", "estimate", "truth / estimate: 5 %, median, 95 %",
    "truth inside the interval",
]  # fmt: skip


def shares(row: dict) -> tuple[float, float, float]:
    """Of the rows of a run, those that are wrong, those flagged, and the sum of 1 - clean score by 20 bins."""
    counts = np.array([rows for rows, _ in row["reliability"]])
    middle = (np.arange(len(counts)) + 0.5) / len(counts)
    return 1 - row["label_accuracy_before"], row["changed"], float((counts * (1 - middle)).sum() / counts.sum())


def line(noise: str, runs: list[tuple[float, float, float]]) -> list[str]:
    """A row of the table."""
    truth, flagged, doubt = np.array(runs).T
    found = [wrong_labels(MEASURED, 1, f, d) for f, d in zip(flagged, doubt, strict=True)]
    bounds = [(e.low, e.high) for e in found if e.low is not None and e.high is not None]  # MEASURED has them
    inside = [low - 1e-9 <= t <= high for (low, high), t in zip(bounds, truth, strict=True)]
    of = truth / [e.about for e in found]
    spread = " ".join(f"{q:.2f}" for q in np.quantile(of, (0.05, 0.5, 0.95))) if truth.any() else "–"
    means = (truth.mean(), flagged.mean(), doubt.mean(), np.mean([e.about for e in found]))
    return [noise, str(len(runs)), *(f"{m:.1%}" for m in means), spread, f"{sum(inside)} of {len(inside)}"]


def main() -> None:
    """Put the section into RESULTS.md, in the place of the one that is there."""
    by: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for text in LINES.read_text().splitlines():
        row = json.loads(text)
        if row["method"] == MEASURED:
            by[row["noise"]].append(shares(row))
    noisy = [run for noise, runs in by.items() if noise != "none" for run in runs]
    rows = [line(noise, runs) for noise, runs in by.items()]
    rows += [line("all in which labels are wrong", noisy), line("all", noisy + by["none"])]
    put_section(
        RESULTS,
        HEADING,
        f"`bench/estimate.py`, computed {today()} from the runs of the default in results/everyday.jsonl (one line a "
        "run; hardware as in the section on ordinary datasets). The estimate is two thirds the rows that are flagged "
        "and one third the sum of 1 - clean score; its interval (curator/result/estimate.py) was fitted on these same "
        "runs, so that the last column shows the fit and not a test.",
        grid(COLUMNS, rows),
    )


if __name__ == "__main__":
    main()
