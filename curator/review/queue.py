"""The queue: which rows a reviewer sees, and in which order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curator.decisions.decision import MACHINE
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.result.read import Rows
from curator.result.suspects import Suspects
from curator.review.groups import groups_of
from curator.review.likeness import directions, likeness
from curator.review.map import CORNERS, GRID, Map
from curator.review.metadata import Metadata
from curator.review.owed import owed
from curator.review.words import Words

ORDERS = ("least clean", "least sure", "margin", "given class", "pair", "cluster", "disagreement", "row", "column")
SHOW = (
    "flagged", "all", "duplicates", "junk", "picture faults", "look-alikes", "leaks", "ambiguous", "borderline",
    "conflicts",
)  # fmt: skip
# In the order of their finding, whatever the view's: alike rows stand together, the worst rows first.
OF_THEIR_OWN = ("duplicates", "junk", "picture faults", "look-alikes", "leaks")
DECIDED = ("any", "undecided", "open", "mine", "conflicts", "owed")
KEPT = 8  # opened views that are kept
ALIKE = 1000  # rows that others can be like
WORDS = 300  # characters of a search


@dataclass(frozen=True)
class View:
    """What to show.

    Attributes:
        order: one of ORDERS.
        show: "flagged" (rows that are not selected, nor verified before the run), "all",
            "duplicates" (rows whose image is there more than once, with different labels), "junk" (rows like
            nothing in the dataset), "picture faults",
            "look-alikes" (there more than once, whatever their labels), "leaks" (in another split, too), "ambiguous"
            (rows that may have two right labels), "borderline" (what a method may have missed: of the rows that it
            selected the least clean ones, as many as it flagged) or "conflicts" (rows of which reviewers say different
            things and nobody has ruled).
        given, suggested: only rows of these classes; None for all.
        decided: "any"; "undecided" by the reviewer; "open", undecided by everybody; "mine", decided by the reviewer;
            "conflicts" between reviewers; "owed", those that the reviewer has still to decide where each row is to be
            decided by several people.
        by: only rows that this reviewer decided; None for all.
        tag: only rows with this tag; None for all.
        column, has: only rows whose value in a column of the dataset fits a text (see Metadata.fits); the order
            "column" sorts by it, or by the first one.
        split: only rows that stand in this other split of the dataset, too; None for all.
        low, high: only rows with a clean score from low to below high, both in [0, 1]; a high of 1 is one of them.
        area: only rows in this polygon of the map, x, y, x, y, ... on its grid; () for all.
        like: ids of rows: those most like them come first, whatever the order; () for none.
        words: rows whose images or texts are most like these words come first, whatever the order; "" for none.
    """

    order: str = "least clean"
    show: str = "flagged"
    given: int | None = None
    suggested: int | None = None
    decided: str = "any"
    by: str | None = None
    tag: str | None = None
    column: str | None = None
    has: str = ""
    split: str | None = None
    low: float | None = None
    high: float | None = None
    area: tuple[int, ...] = ()
    like: tuple[int, ...] = ()
    words: str = ""

    @property
    def grouped(self) -> bool:
        """Whether rows of a group stand together, on one page."""
        return self.order == "cluster" and self.show not in OF_THEIR_OWN and not self.words and not self.like

    def __post_init__(self):
        for name, known in (("order", ORDERS), ("show", SHOW), ("decided", DECIDED)):
            if getattr(self, name) not in known:
                raise CuratorError(f"{name}: expected one of {', '.join(known)}; found {getattr(self, name)[:60]!r}")
        if self.area and (len(self.area) % 2 or not 6 <= len(self.area) <= 2 * CORNERS or max(self.area) > GRID):
            raise CuratorError(f"area: expected 3 to {CORNERS} corners, each two numbers up to {GRID:,}")
        if len(self.like) > ALIKE or len(self.words) > WORDS:
            raise CuratorError(f"expected at most {ALIKE:,} rows to be like, and {WORDS} characters of words")


class Queue:
    """Positions of rows in the order of a view.

    An opened view is a snapshot: its pages stay where they are while rows are decided. A page is a slice of it.
    """

    def __init__(self, runs: Sequence[Rows], journal: Journal, overlap: int = 1, accounts: Sequence[str] = ()):
        """Take the runs; overlap: people who are to decide each row, of the accounts where these are known."""
        self.runs, self.rows, self.journal = runs, runs[0], journal
        self.overlap, self.accounts = overlap, accounts
        for other in runs[1:]:
            if other.classes != self.rows.classes or not (
                np.array_equal(other.row, self.rows.row) and np.array_equal(other.given, self.rows.given)
            ):
                raise CuratorError(
                    f"{other.folder}: expected a run on the rows, classes and given labels of {self.rows.folder}; "
                    "open it by itself"
                )
        self.map, self.words = Map(self.rows), Words(self.rows)
        self.suspects = Suspects(self.rows)
        self._opening, self._lock = threading.Lock(), threading.Lock()
        self._decided: dict[str | None, tuple[int, np.ndarray]] = {}
        self._orders: dict[str, np.ndarray] = {}
        self._views: OrderedDict[tuple[View, str, int], np.ndarray] = OrderedDict()
        self.metadata = Metadata(self.rows)

    def open(self, view: View, reviewer: str) -> np.ndarray:
        """Positions (m,) int32 of the view's rows as decided now."""
        if view.words and self.rows.features is not None:  # here, so that no other view waits for a download
            self.words.vector(view.words, self.rows.features.shape[1])
        elif view.grouped:
            _ = self.groups
        changing = view.decided != "any" or view.by is not None or view.tag is not None or view.show == "conflicts"
        key = view, reviewer, self.journal.last + self.journal.remarks.last if changing else 0
        with self._opening:
            found = self._views.pop(key, None)
            if found is None:
                order = self._order_of(view)
                found = order[self._mask(view, reviewer)[order]]
            self._views[key] = found
            while len(self._views) > KEPT:
                self._views.popitem(last=False)
            return found

    def _mask(self, view: View, reviewer: str) -> np.ndarray:
        rows = self.rows
        mask = self.shown(view.show)
        if view.given is not None:
            mask &= rows.given == view.given
        if view.suggested is not None:
            mask &= rows.suggested == view.suggested
        if view.column is not None and view.has.strip():
            mask &= self.metadata.fits(view.column, view.has)
        if view.split is not None:
            mask &= self.suspects.elsewhere.get(view.split, np.zeros(len(rows), bool))
        if view.low is not None:
            mask &= rows.score >= view.low
        if view.high is not None:
            mask &= (rows.score.astype(np.float64) < view.high) | (view.high == 1)
        if view.by is not None:
            mask &= self.decided(view.by)
        if view.tag is not None:
            mask &= self.among(self.journal.remarks.rows(view.tag))
        if view.area:
            mask &= self.map.inside(view.area)
        if view.decided == "conflicts":
            mask &= self.among(self.journal.conflicts())
        elif view.decided == "owed":
            mask &= self.owed(reviewer)
        elif view.decided != "any":
            decided = self.decided(None if view.decided == "open" else reviewer)
            mask &= decided if view.decided == "mine" else ~decided
        return mask

    def shown(self, show: str) -> np.ndarray:
        """(n,) bool: rows that are shown; those that the run could not use never are."""
        rows = self.rows
        if show == "flagged":
            return rows.flagged.copy()
        if show == "borderline":
            return self.borderline.copy()
        if show == "picture faults":
            mask = np.zeros(len(rows), bool)
            mask[list(self.suspects.faults)] = True
            return mask & rows.present
        of = {"junk": "junk", "look-alikes": "twins", "leaks": "leaks"}.get(show)
        if of is not None:
            return rows.present & getattr(self.suspects, of)
        if show == "ambiguous":
            return rows.present & rows.ambiguous
        if show == "conflicts":
            return rows.present & self.among(self.journal.conflicts())
        return rows.present & (rows.duplicates >= 0) if show == "duplicates" else rows.present.copy()

    @cached_property
    def borderline(self) -> np.ndarray:
        """(n,) bool: of the selected rows the least clean ones, as many as are flagged."""
        rows = self.rows
        selected = np.flatnonzero(rows.selected & rows.present)
        mask = np.zeros(len(rows), bool)
        mask[selected[np.argsort(rows.score[selected], kind="stable")][: int(rows.flagged.sum())]] = True
        return mask

    def decided(self, reviewer: str | None) -> np.ndarray:
        """(n,) bool: rows decided by the reviewer, or by anybody; only what is new in the journal is looked up."""
        with self._lock:
            seen, mask = self._decided.get(reviewer, (0, np.zeros(len(self.rows), bool)))
            new = self.journal.log(seen)
            places = self.rows.positions(list(set(new)))
            of_rows = map(self.journal.of_row, self.rows.row[places].tolist())
            mask[places] = [bool(of) if reviewer is None else reviewer in of for of in of_rows]
            self._decided[reviewer] = seen + len(new), mask
            return mask.copy()

    def owed(self, reviewer: str) -> np.ndarray:
        """(n,) bool: rows that the reviewer has still to decide, so that several people decide each; see owed."""
        people = [name for name in self.journal.reviewers() if name != MACHINE]
        decided = {name: self.decided(name) for name in people}
        mask = owed(self.rows.row, self.overlap, reviewer, self.accounts, decided)
        return mask & self.rows.present & ~self.among(list(self.journal.rulings()))

    def among(self, ids: list[int]) -> np.ndarray:
        """(n,) bool: rows with one of the ids."""
        mask = np.zeros(len(self.rows), bool)
        mask[self.rows.positions(ids)] = True
        return mask

    def _order_of(self, view: View) -> np.ndarray:
        """All positions (n,) int32 in the order of a view."""
        if view.words or view.like:
            return np.argsort(-self._likeness(view), kind="stable").astype(np.int32)
        return self._order(view.show if view.show in OF_THEIR_OWN else view.order, view.column)

    def _likeness(self, view: View) -> np.ndarray:
        """Cosine (n,) float32 of each row with the words, or with the mean of the rows that others shall be like.

        Raises:
            CuratorError: where the run has no features, or its encoder does not read words.
        """
        features = self.rows.features
        if features is None:
            raise CuratorError("search: this run has no features.npy, by which rows are found")
        if view.words:
            return likeness(features, self.words.vector(view.words, features.shape[1]))
        places = self.rows.positions(list(view.like))
        if not len(places):
            raise CuratorError("search: the run has none of the rows that others should be like")
        return likeness(features, directions(features, places).mean(0))

    def _order(self, name: str, column: str | None = None) -> np.ndarray:
        """All positions (n,) int32 in an order; made once."""
        if name == "column" and self.metadata.names:
            return self.metadata.order(column or self.metadata.names[0])
        if name not in self._orders:
            if name == "cluster":
                found = by_groups(self.groups)
            else:
                found = self._of_suspects(name) if name in OF_THEIR_OWN[1:] else order(self.runs, name)
            self._orders[name] = found.astype(np.int32)
        return self._orders[name]

    def _of_suspects(self, show: str) -> np.ndarray:
        """All positions (n,), those of a queue of OF_THEIR_OWN in its order."""
        if show == "junk":
            return np.argsort(self.suspects.typicality, kind="stable")
        if show == "picture faults":
            worst = np.array(list(self.suspects.faults), np.int64)
            return np.concatenate([worst, np.delete(np.arange(len(self.rows)), worst)])
        return np.argsort(self.suspects.groups, kind="stable")

    @cached_property
    def groups(self) -> np.ndarray:
        """(n,) int32: the group of a flagged row in the order "cluster", -1 for others."""
        return groups_of(self.rows)

    def group(self, position: int) -> int:
        """The group of a row; -1 where it has none, or nobody has asked for groups."""
        return int(self.groups[position]) if "groups" in self.__dict__ else -1

    def left(self, reviewer: str) -> dict[str, int] | None:
        """Groups with rows that the reviewer has not decided, and these rows; None before anybody asked for groups."""
        if "groups" not in self.__dict__:
            return None
        rest = self.groups[~self.decided(reviewer)]
        rest = rest[rest >= 0]
        return {"groups": len(np.unique(rest)), "rows": len(rest)}

    def pairs(self, show: str, most: int = 2000) -> list[tuple[int, int, int]]:
        """The most frequent (given, suggested, rows), most frequent first."""
        rows, k, mask = self.rows, len(self.rows.classes), self.shown(show)
        codes, counts = np.unique(rows.given[mask].astype(np.int64) * k + rows.suggested[mask], return_counts=True)
        first = np.argsort(-counts, kind="stable")[:most]
        return [(int(codes[i] // k), int(codes[i] % k), int(counts[i])) for i in first]


def by_groups(groups: np.ndarray) -> np.ndarray:
    """All positions (n,) with groups (n,) together, those without one last; in a group in the order of their ids."""
    return np.argsort(np.where(groups < 0, len(groups), groups), kind="stable")


def order(runs: Sequence[Rows], name: str) -> np.ndarray:
    """All positions (n,) of the first run in an order of ORDERS; rows that are alike stay in the order of their ids.

    "least sure" puts rows first whose suggested label has the lowest probability, and those last that were verified
    before the run or that it could not use; "margin" those first whose given label is farthest below the best other
    one; "disagreement" those for which most pairs of runs suggest different labels, then those with the largest spread
    of clean scores; "given class" and "pair" (the largest pair first) put the least clean rows first within each.
    """
    rows = runs[0]
    if name == "row":
        return np.arange(len(rows))
    if name == "least sure":
        return np.lexsort((rows.confidence, rows.verified | ~rows.present))
    if name == "duplicates":
        return np.argsort(rows.duplicates, kind="stable")
    if name == "margin":
        return np.argsort(rows.margin, kind="stable")
    if name == "given class":
        return np.lexsort((rows.score, rows.given))
    if name == "pair":
        pair = rows.given.astype(np.int64) * len(rows.classes) + rows.suggested
        _, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
        return np.lexsort((rows.score, pair, -counts[inverse]))
    if name == "disagreement":
        suggested, scores = np.stack([r.suggested for r in runs]), np.stack([r.score for r in runs])
        differ = sum((suggested[i] != suggested[j]).astype(np.int32) for j in range(len(runs)) for i in range(j))
        return np.lexsort((-np.ptp(scores, axis=0), -differ * np.ones(len(rows), np.int32)))
    return np.argsort(rows.score, kind="stable")
