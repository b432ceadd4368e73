"""What the page asks about many rows at once: the map, an area of it, and rows by their ids."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from curator.decisions.decision import ACTIONS
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.result.read import Rows
from curator.review.map import CORNERS
from curator.review.queue import Queue, View
from curator.review.sent import field

LOOKED_AT = 64  # rows that are shown at once, at most
FLAGGED = 1  # a row's mark on the map


def numbers(data: Any, name: str, most: int) -> tuple[int, ...]:
    """A field of whole numbers from 0 on, at most so many; () where it is missing.

    Raises:
        CuratorError: for anything else.
    """
    found = field(data, name, list, [])
    if len(found) > most:
        raise CuratorError(f"{name}: expected at most {most:,} numbers, found {len(found):,}")
    return tuple(field({name: value}, name, int) for value in found)


def packed_as_text(values: np.ndarray, kind: str) -> str:
    """Numbers as the base64 text of their bytes, little-endian."""
    return base64.b64encode(np.ascontiguousarray(values.astype(np.dtype(kind).newbyteorder("<"))).tobytes()).decode()


class Overview:
    """The part of a Session that sees many rows at once."""

    rows: Rows
    journal: Journal
    queue: Queue
    cards: Callable[..., list[dict[str, Any]]]  # what is shown of rows at positions, to a reviewer

    def map(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """The map, or how far it is; it is begun where there is none.

        Of the m rows on it: ids uint32, places uint16, labels uint16, scores uint8, marks uint8, and what the reviewer
        decided, uint8 (0, or 1 + the place in "actions"). With "known" the decisions alone.
        """
        state, known = self.queue.map.state(), field(data, "known", int, 0)
        if state["state"] != "done":
            return state
        grid = self.queue.map.grid()
        assert grid is not None
        on = np.flatnonzero(grid[:, 0] >= 0)
        rows = self.rows
        said = {"state": "done", "actions": ACTIONS, "rows": int(rows.present.sum())}
        decided = {"decided": packed_as_text(self._decided_as(reviewer)[on], "u1")}
        if known:
            return {**said, **decided}
        return {
            **said, **decided,
            "row": packed_as_text(rows.row[on], "u4"),
            "x": packed_as_text(grid[on, 0], "u2"),
            "y": packed_as_text(grid[on, 1], "u2"),
            "given": packed_as_text(rows.given[on], "u2"),
            "suggested": packed_as_text(rows.suggested[on], "u2"),
            "score": packed_as_text(np.round(255 * rows.score[on]), "u1"),
            "marks": packed_as_text(np.where(rows.flagged[on], FLAGGED, 0), "u1"),
            "clusters": self.queue.map.clusters(),
        }  # fmt: skip

    def _decided_as(self, reviewer: str) -> np.ndarray:
        """(n,) uint8: 0, or 1 + the place in ACTIONS of what the reviewer decided."""
        self.journal.sync()
        found = np.zeros(len(self.rows), np.uint8)
        for position in np.flatnonzero(self.queue.decided(reviewer)).tolist():
            made = self.journal.decision(int(self.rows.row[position]), reviewer)
            if made is not None and made.action in ACTIONS:
                found[position] = 1 + ACTIONS.index(made.action)
        return found

    def area(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """The rows in an area of the map: [id, given, suggested, flagged] of each."""
        view = View(show="all", area=numbers(data, "area", 2 * CORNERS))
        found = self.queue.open(view, reviewer)
        rows = self.rows
        columns = (rows.row[found], rows.given[found], rows.suggested[found], rows.flagged[found].astype(int))
        return {"rows": np.stack(columns, 1).tolist() if len(found) else []}

    def look(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """The cards of rows by their ids."""
        self.journal.sync()
        at = self.journal.last
        places = self.rows.positions(list(numbers(data, "rows", LOOKED_AT)))
        return {"cards": self.cards(places, reviewer), "at": at}
