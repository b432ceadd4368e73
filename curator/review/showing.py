"""What the page asks about a row, a class or all scores, beside what the queue shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.audit import STRATA, Stratum, error_rate
from curator.result.read import Rows
from curator.review.pictures import SMALL, whole
from curator.review.queue import Queue
from curator.review.sent import field
from curator.review.thumbnails import Thumbnails
from curator.sources.pictures import Decoder

BINS = 200  # of the clean scores
EXAMPLES = 6
NAME, VALUE = 300, 500  # characters of a reviewer's or class's name, and of a column's value, that travel
SHORT = 400  # of a text in the grid
STORY = 200  # decisions on a row that are told, at most


def shortened(text: str, most: int) -> str:
    """At most so many characters of a text."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Showing:
    """The part of a Session that only reads."""

    rows: Rows
    journal: Journal
    queue: Queue
    decoder: Decoder
    code: dict[str, int]
    thumbnails: Thumbnails

    # Of a row

    def held_back(self, position: int) -> list[str]:
        """What is to be said of a row that is verified, or keeps its label since no class is sure (the guard)."""
        rows = self.rows
        if (verified := rows.trusted.get(int(rows.row[position]))) is not None:
            return [f"verified before this run: {verified[:NAME]}"]
        kept = not rows.selected[position] and rows.suggested[position] == rows.given[position]
        return ["no class is sure: look for yourself"] if kept else []

    def whole(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """A row's image at its own resolution."""
        position = self.rows.position(field(data, "row", int))
        if position is None:
            raise CuratorError(f"no row {field(data, 'row', int)}")
        ((image, _),) = self.rows.images(np.array([position]))
        return {"image": whole(image, self.decoder)}

    def remarks_on(self, row: int) -> list[dict[str, Any]]:
        """Notes and tags on a row."""
        return [
            {"reviewer": of.reviewer[:NAME], "note": of.note, "tags": of.tags, "time": of.time}
            for of in self.journal.remarks.of_row(row)
        ]

    def people_and_tags(self) -> dict[str, Any]:
        """Names that a filter may have."""
        return {"reviewers": list(self.journal.reviewers()), "tags": list(self.journal.remarks.tags())}

    def story(self, row: int) -> list[dict[str, Any]]:
        """What was decided on a row, the latest first: who, when, what."""
        return [
            {
                "time": time,
                "reviewer": reviewer[:NAME],
                "action": action,
                "label": None if label is None else self.code.get(label),
                "kind": kind,
            }
            for time, reviewer, action, label, kind in self.journal.story(row)[: -STORY - 1 : -1]
        ]

    def values_at(self, position: int) -> list[tuple[str, str]]:
        """What the dataset's other columns say of a row."""
        metadata = self.queue.metadata
        return [(name, metadata.shown(name, position)[:VALUE]) for name in metadata.names if name != "file"]

    def near(self, position: int, label: int) -> list[dict[str, Any]]:
        """The nearest rows whose corrected label is a class; without features, the cleanest ones."""
        found = self.rows.nearest(position, label) if self.rows.features is not None else self.examples(label, position)
        return self.small_ones(found)

    def small_ones(self, found: np.ndarray) -> list[dict[str, Any]]:
        """Rows at positions, as examples."""
        shown = zip(found.tolist(), self.thumbnails.of(found, SMALL), self.rows.texts(found), strict=True)
        return [
            {"row": int(self.rows.row[p]), "image": image, "text": shortened(text, SHORT)}
            for p, (image, _), text in shown
        ]

    # Of a class

    def examples(self, label: int, besides: int = -1) -> np.ndarray:
        """Positions of the cleanest selected rows of a class."""
        rows = self.rows
        found = np.flatnonzero((rows.given == label) & rows.selected & rows.present)
        found = found[found != besides]
        return found[np.argsort(-rows.score[found], kind="stable")[:EXAMPLES]]

    def of_class(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """A class: how many rows, how many are wrong, what it is confused with, good examples and suspicious ones.

        "wrong" is the share of wrong given labels with a 95 % interval, from the rows of the class that people decided
        (flagged and selected ones weighed by their number); None where nobody decided any.
        """
        label, rows = field(data, "label", int), self.rows
        if label >= len(rows.classes):
            raise CuratorError(f"no class {label}")
        self.journal.sync()
        mine = (rows.given == label) & rows.present
        verified, strata = {**rows.trusted, **self.journal.verified().labels}, []
        for selected in (rows.selected, ~rows.selected):
            members = mine & selected
            told = [verified[row] for row in rows.row[members].tolist() if row in verified]
            wrong = sum(name != rows.classes[label] for name in told)
            strata.append(Stratum(int(members.sum()), len(told), wrong))
        rate = error_rate(strata)
        flagged = np.flatnonzero(mine & rows.flagged)
        return {
            "label": label,
            "rows": int(mine.sum()),
            "flagged": len(flagged),
            "decided": {name: stratum.labelled for name, stratum in zip(STRATA, strata, strict=True)},
            "wrong": vars(rate) if rate else None,
            "expected": float((1.0 - rows.score[mine]).sum()),
            "becomes": _most_frequent(rows.suggested[flagged]),
            "comes_from": _most_frequent(rows.given[(rows.suggested == label) & rows.flagged]),
            "good": self.small_ones(self.examples(label)),
            "suspicious": self.small_ones(flagged[np.argsort(rows.score[flagged], kind="stable")[:EXAMPLES]]),
        }

    def classes(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Of every class: rows, flagged rows, errors expected from the scores."""
        rows, k = self.rows, len(self.rows.classes)
        here, flagged = rows.given[rows.present], rows.given[rows.flagged]
        expected = np.bincount(here, 1.0 - rows.score[rows.present], minlength=k)
        counts = np.bincount(here, minlength=k).tolist(), np.bincount(flagged, minlength=k).tolist()
        return {"classes": list(zip(*counts, np.round(expected, 1).tolist(), strict=True))}

    # Of all

    def scores(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """The clean scores in BINS bins over [0, 1]: rows, flagged rows, and errors expected (sum of 1 - score)."""
        rows = self.rows
        score, flagged = rows.score[rows.present], rows.flagged[rows.present]
        place = np.minimum((score.astype(np.float64) * BINS).astype(np.int64), BINS - 1)
        counted = (None, flagged.astype(np.float64), 1.0 - score.astype(np.float64))
        rows_of, flagged_of, wrong_of = (np.bincount(place, weights, minlength=BINS) for weights in counted)
        return {
            "rows": rows_of.astype(int).tolist(),
            "flagged": flagged_of.astype(int).tolist(),
            "expected": np.round(wrong_of, 3).tolist(),
        }


def _most_frequent(labels: np.ndarray, most: int = 10) -> list[tuple[int, int]]:
    """(label, rows), the most frequent first."""
    found, counts = np.unique(labels, return_counts=True)
    return [(int(found[i]), int(counts[i])) for i in np.argsort(-counts, kind="stable")[:most]]
