"""Policies: which label a row gets in a version, and whether it is in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curator.decisions.journal import Journal
from curator.result.read import Rows

POLICIES = ("annotate", "relabel", "filter")
ORIGINAL = "original_label"


@dataclass(frozen=True)
class Verdict:
    """What the policy says of the n rows."""

    labels: np.ndarray  # (n,) int32
    kept: np.ndarray  # (n,) bool: in config clean
    verified: np.ndarray  # (n,) bool
    dropped: np.ndarray  # (n,) bool


def verdict(rows: Rows, journal: Journal | None, policy: str, min_confidence: float) -> Verdict:
    """Labels and rows by the policy. Verified are the rows that the run trusted, and those that reviewers verified.

    A row on which reviewers conflict is as if nobody had looked, and not clean.
    """
    n = len(rows)
    verified, dropped, contested = (np.zeros(n, bool) for _ in range(3))
    label_of = rows.given.copy()
    found = dict(rows.trusted)
    if journal is not None:
        found |= journal.verified().labels
        contested[rows.positions(journal.conflicts())] = True
        dropped[rows.positions(journal.dropped())] = True
    places = rows.positions(list(found))
    code = {name: i for i, name in enumerate(rows.classes)}
    verified[places] = True
    label_of[places] = [code[found[int(row)]] for row in rows.row[places]]
    verified &= ~contested
    labels = label_of if policy == "filter" else rows.given.copy()
    if policy == "relabel":
        labels = np.where(verified, label_of, np.where(rows.confidence >= min_confidence, rows.suggested, rows.given))
    right = verified if policy != "annotate" else verified & (label_of == rows.given)
    kept = np.where(verified, right, rows.selected) & rows.present & ~dropped & ~contested
    return Verdict(labels.astype(np.int32), kept, verified, dropped)


def inside_default(said: Verdict, policy: str) -> np.ndarray:
    """(n,) bool: rows of config default."""
    return said.kept if policy == "filter" else np.ones(len(said.kept), bool)
