"""What several reviewers say together, of the latest decisions by row and reviewer."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from curator.decisions.decision import ACTIONS, Decision

ByRow = Mapping[int, Mapping[str, Decision]]  # row -> reviewer -> their latest decision
Labels = Mapping[str, Mapping[int, str | None]]  # reviewer -> row -> the label it has for them, None where dropped


@dataclass
class Verified:
    """The rows whose label reviewers verified, and how many were left out and why."""

    labels: dict[int, str] = field(default_factory=dict)
    also: dict[int, str] = field(default_factory=dict)  # second right labels
    counts: dict[str, int] = field(default_factory=dict)  # keep, relabel, drop, unsure, both, conflict


def reviewers(rows: ByRow) -> dict[str, int]:
    """Rows decided by every reviewer who decided any."""
    return dict(Counter(reviewer for of in rows.values() for reviewer in of))


def conflicts(rows: ByRow) -> list[int]:
    """Rows, in order, to which reviewers gave different labels, or one a label and another dropped it.

    Who is unsure does not contradict anybody.
    """
    return sorted(row for row, of in rows.items() if len(_outcomes(of.values())) > 1)


def dropped(rows: ByRow) -> list[int]:
    """Rows, in order, that reviewers dropped and nobody kept or relabelled."""
    return sorted(row for row, of in rows.items() if _outcomes(of.values()) == {None})


def verified(rows: ByRow) -> Verified:
    """The rows to trust: the latest keep or both is the given label, the latest relabel its label.

    Dropped rows, rows on which all are unsure, and rows on which reviewers conflict are not.
    """
    found, counts = Verified(), Counter(dict.fromkeys((*ACTIONS, "conflict"), 0))
    for row, of in sorted(rows.items()):
        if not of:
            continue
        sure = [d for d in of.values() if d.action != "unsure"]
        if len(_outcomes(sure)) > 1:
            counts["conflict"] += 1
        elif not sure:
            counts["unsure"] += 1
        else:
            latest = max(sure, key=lambda d: d.id)
            counts[latest.action] += 1
            if latest.label is not None:
                found.labels[row] = latest.label
            if latest.also is not None:
                found.also[row] = latest.also
    found.counts = dict(counts)
    return found


def labels(rows: ByRow) -> Labels:
    """What every reviewer who was sure of any row says."""
    found: dict[str, dict[int, str | None]] = {}
    for row, of in rows.items():
        for reviewer, d in of.items():
            if d.action != "unsure":
                found.setdefault(reviewer, {})[row] = d.label
    return found


def agreement(named: Labels) -> list[dict[str, Any]]:
    """For every two reviewers the rows both decided, the share they agree on, and Cohen's kappa if defined.

    To drop a row is a label like any other.
    """
    codes: dict[str | None, int] = {}
    out = []
    for a, b in itertools.combinations(sorted(named), 2):
        rows = named[a].keys() & named[b].keys()
        first, second = ([codes.setdefault(named[who][row], len(codes)) for row in rows] for who in (a, b))
        if rows:
            share = sum(x == y for x, y in zip(first, second, strict=True)) / len(rows)
            out.append({"reviewers": [a, b], "rows": len(rows), "agreement": share, "kappa": _kappa(first, second)})
    return out


def _kappa(first: list[int], second: list[int]) -> float | None:
    """Cohen's kappa of two reviewers' labels; None where both gave one and the same to all rows."""
    if len({*first, *second}) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(first, second))


def _outcomes(decisions: Iterable[Decision]) -> set[str | None]:
    return {d.label for d in decisions if d.action != "unsure"}
