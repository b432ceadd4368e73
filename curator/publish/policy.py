"""Policies: which label a row gets in a version, and whether it is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curator.decisions.journal import FILE, Journal
from curator.errors import CuratorError
from curator.result.read import Rows

POLICIES = ("annotate", "relabel", "filter")


@dataclass(frozen=True)
class Verdict:
    """What the policy says of the n rows."""

    labels: np.ndarray  # (n,) int32
    kept: np.ndarray  # (n,) bool: in config clean
    verified: np.ndarray  # (n,) bool
    dropped: np.ndarray  # (n,) bool
    also: np.ndarray  # (n,) int32, class of the second right label where people said so, else -1
    leaked: np.ndarray | None = None  # (n,) bool: in no config, since they stand in the training split


def verdict(rows: Rows, journal: Journal | None, policy: str, min_confidence: float) -> Verdict:
    """Labels and rows by the policy. Verified are the rows that the run trusted, and those that reviewers verified.

    A row on which reviewers conflict is as if nobody had looked, and not clean.
    """
    n, code = len(rows), {name: i for i, name in enumerate(rows.classes)}
    also = np.full(n, -1, np.int32)
    verified, dropped, contested = (np.zeros(n, bool) for _ in range(3))
    label_of = rows.given.copy()
    found = dict(rows.trusted)
    if journal is not None:
        people = journal.verified()
        found |= people.labels
        places = rows.positions(list(people.also))
        also[places] = [code[people.also[int(row)]] for row in rows.row[places]]
        contested[rows.positions(journal.conflicts())] = True
        dropped[rows.positions(journal.dropped())] = True
    places = rows.positions(list(found))
    verified[places] = True
    label_of[places] = [code[found[int(row)]] for row in rows.row[places]]
    verified &= ~contested
    labels = label_of if policy == "filter" else rows.given.copy()
    if policy == "relabel":
        sure = (rows.confidence >= min_confidence) & ~rows.ambiguous  # which of two right labels, people say
        labels = np.where(verified, label_of, np.where(sure, rows.suggested, rows.given))
    right = verified if policy != "annotate" else verified & (label_of == rows.given)
    kept = np.where(verified, right, rows.selected) & rows.present & ~dropped & ~contested
    return Verdict(labels.astype(np.int32), kept, verified, dropped, also)


def inside_default(said: Verdict, policy: str) -> np.ndarray:
    """(n,) bool: rows of config default."""
    inside = said.kept if policy == "filter" else np.ones(len(said.kept), bool)
    return inside if said.leaked is None else inside & ~said.leaked


@contextmanager
def decisions(rows: Rows, journal: Path | None) -> Iterator[Journal | None]:
    """The journal of a run, by default its own; None where it has none.

    Raises:
        CuratorError: for a journal that is not there, or of other rows.
    """
    path = journal or rows.folder / FILE
    if journal is not None and not path.is_file():
        raise CuratorError(f"--journal {journal}: no such file")
    if not path.is_file():
        yield None
        return
    with closing(Journal(path)) as opened:
        opened.require(rows.classes, rows.facts["split"], rows.digests)
        yield opened


def require_share(min_confidence: float) -> None:
    """Refuse a confidence that is none."""
    if not 0 <= min_confidence <= 1:
        raise CuratorError(f"--min-confidence: expected a number from 0 to 1, found {min_confidence}")


@dataclass(frozen=True)
class Fix:
    """A row whose label is wrong, or that is no row of the dataset.

    Attributes:
        row: its id; at: its position; file: its source file, "" where there is none.
        given: class number of the given label.
        label: class number of the one in its place; None where reviewers dropped the row.
    """

    row: int
    at: int
    file: str
    given: int
    label: int | None


def fixes_of(rows: Rows, journal: Journal | None, min_confidence: float | None = None) -> list[Fix]:
    """Rows to which people gave another label, or which they dropped, in order.

    With min_confidence also those that publish relabels with it: of whose other label the nets are that sure.
    """
    said = verdict(rows, journal, "filter" if min_confidence is None else "relabel", min_confidence or 0)
    labels = said.labels if min_confidence is not None else np.where(said.verified, said.labels, rows.given)
    changed = (said.dropped | (labels != rows.given)) & (rows.given >= 0)
    return [
        Fix(int(rows.row[i]), i, rows.files[i], int(rows.given[i]), None if said.dropped[i] else int(labels[i]))
        for i in np.flatnonzero(changed).tolist()
    ]
