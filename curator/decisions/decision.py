"""One reviewer's word on a row."""

from __future__ import annotations

from typing import NamedTuple

ACTIONS = ("keep", "relabel", "drop", "unsure", "both")
CLEAR = "clear"  # what undo appends for a row that had no decision before
MACHINE = "cleanlab"  # whose imported decisions are no person's


class Decision(NamedTuple):
    """One reviewer's word on a row.

    The label is the class name that holds from now on, None for drop and unsure: for keep and both the given one.
    `also` is the second right label of both, None for anything else.
    """

    id: int
    row: int
    action: str
    label: str | None
    reviewer: str
    time: str
    previous: int | None  # id of the decision of the same row and reviewer that it replaces
    step: int
    repeats: int | None  # id of the decision that an undo or redo brought back with this one
    also: str | None = None

    @property
    def origin(self) -> int:
        """Id of the decision that said so first."""
        return self.repeats or self.id
