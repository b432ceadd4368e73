"""How many decisions a reviewer makes until the labels are right, row by row and by group, with the truth as reviewer.

    CURATOR_DATA=... python -m bench.decisions    # appends the missing rows to bench/RESULTS.md

On the default's run on CIFAR-10N worst (frozen features, the arena's). A decision sets one row to its true label. In a
group the reviewer first sets every row apart whose true label is not the most frequent one of the group, one decision
each, and then decides the rest at once: every label of the group is right then. Two figures each: from the given labels
(a reviewer who takes nothing unseen), and from the run's corrected ones. "A second run after" so many decisions by
group learns from the rows that they verified (`--verified`), and the review goes on with its groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.runs import finished_run, has_data, run_folder
from bench.table import Table, processor, today

if TYPE_CHECKING:
    from curator.result.read import Rows

HEADING = "Decisions to the right labels, CIFAR-10N worst"
COLUMNS = [
    "given to .90", "given to .93", "corrected to .90", "corrected to .93", "all of it", "label accuracy then", "date",
    "machine",
]  # fmt: skip
GOALS = (0.90, 0.93)
BEFORE = (500, 1000)  # decisions by group before the second run
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
    for cell_name, steps in orders.items():
        if cell_name not in table:
            add(table, cell_name, steps, rows.given, rows.suggested, rows.truth)
    for before in BEFORE:
        if (cell_name := f"by group, a second run after {before:,}") not in table:
            add(table, cell_name, *after_a_second_run(flags, rows, orders["by group"], before), rows.truth)


def add(table: Table, name: str, steps: Steps, given: np.ndarray, corrected: np.ndarray, truth: np.ndarray) -> None:
    """Append a row: labels (n,) that begin as the given, and as the corrected ones."""
    values = [made(steps, start, truth) for start in (given, corrected)]
    counts = [f"{n:,}" if n else "never" for found, *_ in values for n in found]
    (_, total, accuracy), _ = values
    table.append(name, [*counts, f"{total:,}", f"{accuracy:.4f}", today(), processor()])


def after_a_second_run(flags: str, first: Rows, steps: Steps, before: int) -> tuple[Steps, np.ndarray, np.ndarray]:
    """Steps whose first one stands for the decisions of the first review; given and corrected labels (n,) after it."""
    from bench.loop import review
    from curator.result.read import Rows
    from curator.review.groups import groups_of

    count = int(np.searchsorted(np.cumsum([n for _, n in steps]), before, "right"))
    seen, spent = np.concatenate([places for places, _ in steps[:count]]), sum(n for _, n in steps[:count])
    truth, name = first.truth, f"decisions {before}"
    assert truth is not None
    journal = run_folder(name).with_suffix(".sqlite")
    if not journal.exists():
        whole = journal.with_suffix(".new")
        whole.unlink(missing_ok=True)
        review(whole, first, seen, truth)
        whole.rename(journal)
    finished_run(name, f"{flags} --verified {journal}")
    rows = Rows(run_folder(name))
    verified = np.zeros(len(rows), bool)
    verified[seen] = True
    groups = np.where(verified, -1, groups_of(rows))
    return [(seen, spent), *by_group(groups, truth, 1)], rows.given, rows.suggested


def by_group(groups: np.ndarray, truth: np.ndarray, apart: int) -> Steps:
    """The groups (n,) in their order; a row that is set apart counts `apart` decisions."""
    places = np.argsort(groups, kind="stable")
    places = places[groups[places] >= 0]
    parts = np.split(places, np.flatnonzero(np.diff(groups[places])) + 1)
    return [(part, 1 + apart * (len(part) - int(np.bincount(truth[part]).max()))) for part in parts]


def made(steps: Steps, start: np.ndarray, truth: np.ndarray) -> tuple[list[int | None], int, float]:
    """Decisions until each of GOALS is reached by labels (n,) that begin as `start`; in all, and the accuracy then."""
    wrong = start != truth
    accuracy = 1 - (wrong.sum() - np.cumsum([wrong[places].sum() for places, _ in steps])) / len(truth)
    decisions = np.cumsum([count for _, count in steps])
    first = [int(np.searchsorted(accuracy, goal)) for goal in GOALS]
    return [int(decisions[i]) if i < len(steps) else None for i in first], int(decisions[-1]), float(accuracy[-1])


if __name__ == "__main__":
    main()
