"""Notes and tags that reviewers leave on rows: appended, like decisions; of a reviewer and a row the latest counts."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from typing import NamedTuple

from curator.decisions.database import Database, TakenKey, timestamp
from curator.errors import CuratorError

TABLE = "remarks"  # which older journals do not have
NOTE, TAG, TAGS = 2000, 60, 20  # characters of a note and of a tag, and tags of a row and reviewer, at most


class Remark(NamedTuple):
    """What a reviewer says of a row."""

    row: int
    note: str
    tags: list[str]
    reviewer: str
    time: str


class Remarks:
    """The notes and tags in a journal's file, those of other processes among them."""

    def __init__(self, db: Database):
        self._db = db
        self._read: tuple[int, dict[int, dict[str, Remark]]] = 0, {}

    def save(self, row: int, note: str, tags: list[str], reviewer: str, key: str) -> None:
        """Append what a reviewer says of a row now; it is on the disk when this returns. Sent twice it counts once.

        Raises:
            TakenKey: the key is that of another remark; nothing was saved.
        """
        said = row, note, json.dumps(tags), reviewer
        with self._db.transaction():
            self._db.execute(
                f"INSERT OR IGNORE INTO {TABLE} (row, note, tags, reviewer, key, time) VALUES (?, ?, ?, ?, ?, ?)",
                (*said, key, timestamp()),
            )
            found = self._db.execute(f"SELECT row, note, tags, reviewer FROM {TABLE} WHERE key = ?", (key,)).fetchone()
            if found != said:
                raise TakenKey(key)

    @property
    def last(self) -> int:
        """Id of the latest remark: another one where something is new."""
        self.by_row()
        return self._read[0]

    def by_row(self) -> dict[int, dict[str, Remark]]:
        """Row -> reviewer -> the latest remark, those that say nothing any more left out.

        Raises:
            CuratorError: for tags that nobody wrote here.
        """
        with self._db.lock:
            seen, found = self._read
            try:
                new = self._db.execute(
                    f"SELECT id, row, note, tags, reviewer, time FROM {TABLE} WHERE id > ? ORDER BY id", (seen,)
                ).fetchall()
            except sqlite3.OperationalError:  # an older journal that is only read
                return found
            for number, row, note, text, reviewer, time in new:
                seen, of_row = number, found.setdefault(row, {})
                of_row.pop(reviewer, None)
                tags = self._tags(text)
                if tags or note:
                    of_row[reviewer] = Remark(row, note, tags, reviewer, time)
                elif not of_row:
                    del found[row]
            self._read = seen, found
            return found

    def _tags(self, text: str) -> list[str]:
        try:
            tags = json.loads(text)
        except (ValueError, RecursionError):
            tags = None
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise CuratorError(f"{self._db.path}: it holds tags that nobody wrote here; restore a copy of it")
        return tags

    def of_row(self, row: int) -> list[Remark]:
        """The latest remarks on a row, by reviewer."""
        return [remark for _, remark in sorted(self.by_row().get(row, {}).items())]

    def tags(self) -> dict[str, int]:
        """Rows of every tag, the most frequent first."""
        of_rows = ({tag for remark in of.values() for tag in remark.tags} for of in self.by_row().values())
        return dict(Counter(tag for tags in of_rows for tag in tags).most_common())

    def rows(self, tag: str) -> list[int]:
        """Rows that somebody gave the tag."""
        return [row for row, of in self.by_row().items() if any(tag in remark.tags for remark in of.values())]

    def columns(self) -> dict[int, tuple[str, list[str]]]:
        """What is published of a row that has any: its notes, one a line, and its tags in order; nobody's name."""
        return {
            row: (
                "\n".join(remark.note for _, remark in sorted(of.items()) if remark.note),
                sorted({tag for remark in of.values() for tag in remark.tags}),
            )
            for row, of in self.by_row().items()
        }
