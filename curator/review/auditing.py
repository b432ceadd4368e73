"""The audit: a blind sample, labelled by one reviewer, from which the label-error rate is estimated."""

from __future__ import annotations

from typing import Any

import numpy as np

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.audit import STRATA, audited, draw_sample
from curator.result.read import Rows
from curator.review.sent import field

AUDIT = 10_000  # rows of an audit at most


class Auditing:
    """The part of a Session that draws and judges audits."""

    rows: Rows
    journal: Journal
    code: dict[str, int]

    def audit(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """The reviewer's sample with the reviewer's labels; with "size", a new one is drawn first."""
        size, seed = field(data, "size", int, None), field(data, "seed", int, 0)
        if size is not None:
            if not 1 <= size <= AUDIT:
                raise CuratorError(f"audit: expected 1 to {AUDIT:,} rows, found {size}")
            sample = draw_sample(self.rows.selected, size, seed, self.rows.present)
            strata = np.where(self.rows.selected[sample], *STRATA).tolist()
            rows = list(zip(self.rows.row[sample].tolist(), strata, strict=True))
            self.journal.audits.add(self.rows.verdict, reviewer, seed, rows)
        last = self.journal.audits.last(self.rows.verdict, reviewer)
        if last is None:
            return {"rows": []}
        number, rows = last
        labels = self.journal.audits.labels(number, reviewer)
        codes = {str(row): None if label is None else self.code.get(label) for row, label in labels.items()}
        return {"audit": number, "rows": [row for row, _ in rows], "labels": codes}

    def audit_result(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """The label-error rate before and after, from the reviewer's labels of the current sample.

        After: the run's corrected labels, with what reviewers verified put in and the rows they dropped left out.
        """
        self.journal.sync()
        rows, everything = self.rows, self.rows.present
        after, left = rows.suggested.copy(), everything.copy()
        verified = self.journal.verified().labels
        place = rows.positions(list(verified))
        after[place] = [self.code.get(verified[int(row)], -1) for row in rows.row[place]]
        left[rows.positions(self.journal.dropped())] = False
        return {
            "before": audited(rows, self.journal, reviewer, rows.given, everything)[0],
            "after": audited(rows, self.journal, reviewer, after, left)[0],
        }
