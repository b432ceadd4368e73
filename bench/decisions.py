"""How many decisions a reviewer makes until the labels are right, row by row and by group, with the truth as reviewer.

    CURATOR_DATA=... python -m bench.decisions    # appends the missing rows to bench/RESULTS.md

On the default's run on CIFAR-10N worst (frozen features, the arena's). A decision sets one row to its true label. In a
group the reviewer first sets every row apart whose true label is not the most frequent one of the group, one decision
each, and then decides the rest at once: every label of the group is right then. "The best order of all" puts
groups first by the wrong corrected labels that each decision settles, which nobody can know. Two figures each: from the
given labels (a reviewer who takes nothing unseen), and from the run's corrected ones.
"""

from __future__ import annotations

import numpy as np

from bench.runs import finished_run, has_data, run_folder
from bench.table import Table, processor, today

HEADING = "Decisions to the right labels, CIFAR-10N worst"
COLUMNS = [
    "given to .90", "given to .93", "corrected to .90", "corrected to .93", "all of it", "label accuracy then", "date",
    "machine",
]  # fmt: skip
GOALS = (0.90, 0.93)
Steps = list[tuple[np.ndarray, int]]  # positions that are right after so many further decisions


def main() -> None:
    """Measure the orders that have no row yet."""
    from bench.arena import cell
    from curator.result.read import Rows
    from curator.review.groups import groups_of
    from curator.review.queue import order

    name, flags = cell("worst", "posterior", 1)
    if not has_data("decisions", flags):
        return
    table = Table(HEADING, COLUMNS)
    finished_run(name, flags)
    rows = Rows(run_folder(name))
    assert rows.truth is not None
    groups = groups_of(rows)
    flagged = ~rows.selected

    def by_row(name: str, shown: np.ndarray) -> Steps:
        places = order([rows], name)
        return [(np.array([place]), 1) for place in places[shown[places]]]

    everything = np.ones(len(rows), bool)
    orders = {
        "row by row, least clean of the flagged": by_row("least clean", flagged),
        "row by row, margin of all rows (peers)": by_row("margin", everything),
        "row by row, least sure of all rows": by_row("least sure", everything),
        "by group": by_group(groups, rows.truth, 1),
        "by group, a row set apart counts twice": by_group(groups, rows.truth, 2),
    }
    parts, wrong = orders["by group"], rows.suggested != rows.truth
    orders |= {
        "by group, most expected errors first": by_gain(parts, 1 - rows.confidence, 1 - rows.confidence),
        "by group, in the best order of all": by_gain(parts, wrong, None),
    }
    for cell_name, steps in orders.items():
        if cell_name not in table:
            values = [made(steps, start, rows.truth) for start in (rows.given, rows.suggested)]
            counts = [f"{n:,}" if n else "never" for found, *_ in values for n in found]
            (_, total, accuracy), _ = values
            table.append(cell_name, [*counts, f"{total:,}", f"{accuracy:.4f}", today(), processor()])


def by_group(groups: np.ndarray, truth: np.ndarray, apart: int) -> Steps:
    """The groups (n,) in their order; a row that is set apart counts `apart` decisions."""
    places = np.argsort(groups, kind="stable")
    places = places[groups[places] >= 0]
    parts = np.split(places, np.flatnonzero(np.diff(groups[places])) + 1)
    return [(part, 1 + apart * (len(part) - int(np.bincount(truth[part]).max()))) for part in parts]


def by_gain(steps: Steps, gains: np.ndarray, apart: np.ndarray | None) -> Steps:
    """Groups by what each decision on them gains, most first: gains (n,) of rows over decisions, or 1 + apart (n,)."""

    def gain(step: tuple[np.ndarray, int]) -> float:
        places, count = step
        return float(gains[places].sum()) / (count if apart is None else 1 + float(apart[places].sum()))

    return sorted(steps, key=gain, reverse=True)


def made(steps: Steps, start: np.ndarray, truth: np.ndarray) -> tuple[list[int | None], int, float]:
    """Decisions until each of GOALS is reached by labels (n,) that begin as `start`; in all, and the accuracy then."""
    wrong = start != truth
    accuracy = 1 - (wrong.sum() - np.cumsum([wrong[places].sum() for places, _ in steps])) / len(truth)
    decisions = np.cumsum([count for _, count in steps])
    first = [int(np.searchsorted(accuracy, goal)) for goal in GOALS]
    return [int(decisions[i]) if i < len(steps) else None for i in first], int(decisions[-1]), float(accuracy[-1])


if __name__ == "__main__":
    main()
