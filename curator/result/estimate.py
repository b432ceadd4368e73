"""How many labels are wrong, before anybody has looked: an estimate, and how far such ones were from the truth."""

from __future__ import annotations

from typing import NamedTuple

# Of the default, over the measured runs (bench/estimate.py): what truth / flagged was above, but for 1 run in 100 in
# which labels are wrong; what truth / doubt was below in 95 of 100; and what was flagged at most where none is wrong.
MEASURED = "posterior"
LOW, HIGH = 0.84, 1.08
FALSE_FLAGS = 0.02


class Estimate(NamedTuple):
    """Wrong labels among the rows; low and high are None where nobody has measured how far it may be off."""

    about: float
    low: float | None = None
    high: float | None = None


def wrong_labels(method: str, rows: int, flagged: float, doubt: float) -> Estimate:
    """An estimate between two counts, of which the first is mostly a little too low and the second too high.

    Args:
        method: what flagged them.
        rows: in all.
        flagged: rows that are not selected.
        doubt: sum of 1 - clean score over all rows.
    """
    count = (2 * flagged + doubt) / 3
    if method != MEASURED:
        return Estimate(count)
    low = 0.0 if flagged <= FALSE_FLAGS * rows else LOW * flagged
    return Estimate(count, min(low, count), min(max(HIGH * doubt, count), rows))
