"""What the page shows of its reviewers: who decided how much, how far they agree, and how often each is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from curator.decisions.agreement import agreement_by_class, qualities
from curator.decisions.journal import Journal
from curator.result.read import Rows

MOST = 50  # classes in the table of agreement
CHUNK = 10_000  # rows whose probabilities are read at once


def standing(rows: Rows, journal: Journal) -> dict[str, Any]:
    """Rows decided and quality by reviewer, agreement by pairs, in all and by class, and what would be verified."""
    named, rulings = journal.labels(), journal.rulings()
    settled = {row: made.label for row, made in rulings.items() if made.action != "unsure"}
    kappa, by_class = agreement_by_class(named)
    return {
        "reviewers": journal.reviewers(),
        "quality": qualities(named, settled, lambda ids, names: _probabilities(rows, ids, names)),
        "agreement": journal.agreement(),
        "kappa": kappa,
        "by_class": [{"label": label, "rows": n, "kappa": of} for label, n, of in by_class[:MOST]],
        "rulings": len(rulings),
        "verified": journal.verified().counts,
    }


def _probabilities(rows: Rows, ids: list[int], names: Sequence[str]) -> np.ndarray:
    """(n, k) the run's probabilities of rows for some classes; zeros for rows that the run does not have."""
    code = {name: i for i, name in enumerate(rows.classes)}
    chosen, found = [code[name] for name in names], np.zeros((len(ids), len(names)), np.float32)
    there = [(i, place) for i, row in enumerate(ids) if (place := rows.position(row)) is not None]
    for start in range(0, len(there), CHUNK):
        at, places = zip(*there[start : start + CHUNK], strict=True)
        found[list(at)] = rows.soft(np.array(places))[:, chosen]
    return np.nan_to_num(found)
