"""Audits: random samples of a run's rows, and the blind labels that their reviewers gave them."""

from __future__ import annotations

from collections.abc import Sequence

from curator.decisions.database import Database, TakenKey, timestamp


class Audits:
    """The audits of a journal's file; samples and labels are appended, and nothing is changed or removed."""

    def __init__(self, db: Database):
        self._db = db

    def add(self, run: str, reviewer: str, seed: int, rows: Sequence[tuple[int, str]]) -> None:
        """Write down a reviewer's sample of a run, (row, stratum) in the order in which it is to be labelled."""
        with self._db.transaction():
            number = self._db.execute(
                "INSERT INTO audits (run, reviewer, seed, time) VALUES (?, ?, ?, ?)", (run, reviewer, seed, timestamp())
            ).lastrowid
            places = ((number, place, row, stratum) for place, (row, stratum) in enumerate(rows))
            self._db.executemany("INSERT INTO audit_rows VALUES (?, ?, ?, ?)", places)

    def last(self, run: str, reviewer: str) -> tuple[int, list[tuple[int, str]]] | None:
        """Number and (row, stratum) of the reviewer's latest sample of a run, in the order of labelling."""
        with self._db.lock:
            latest = "SELECT max(id) FROM audits WHERE run = ? AND reviewer = ?"
            number = self._db.execute(latest, (run, reviewer)).fetchone()[0]
            if number is None:
                return None
            rows = self._db.execute("SELECT row, stratum FROM audit_rows WHERE audit = ? ORDER BY place", (number,))
            return number, rows.fetchall()

    def reviewers(self, run: str) -> list[str]:
        """Who has drawn a sample of a run."""
        with self._db.lock:
            found = self._db.execute("SELECT DISTINCT reviewer FROM audits WHERE run = ? ORDER BY reviewer", (run,))
            return [name for (name,) in found]

    def save_label(self, audit: int, row: int, label: str | None, reviewer: str, key: str) -> bool:
        """Append a blind label (None: it cannot be told), once, and only for a row of the reviewer's sample.

        Whether it is there.

        Raises:
            TakenKey: the key is that of another label; nothing was saved.
        """
        with self._db.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO audit_labels (key, audit, row, label, reviewer, time) "
                "SELECT ?, a.id, r.row, ?, a.reviewer, ? FROM audits a JOIN audit_rows r ON r.audit = a.id "
                "WHERE a.id = ? AND r.row = ? AND a.reviewer = ?",
                (key, label, timestamp(), audit, row, reviewer),
            )
            there = "SELECT audit, row, label, reviewer FROM audit_labels WHERE key = ?"
            found = self._db.execute(there, (key,)).fetchone()
            if found is not None and found != (audit, row, label, reviewer):
                raise TakenKey(key)
            return found is not None

    def labels(self, audit: int, reviewer: str) -> dict[int, str | None]:
        """The reviewer's latest label of every row of the sample that has one."""
        with self._db.lock:
            found = self._db.execute(
                "SELECT row, label FROM audit_labels WHERE audit = ? AND reviewer = ? ORDER BY id", (audit, reviewer)
            )
            return dict(found.fetchall())
