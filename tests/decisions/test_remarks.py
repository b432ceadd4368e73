"""Notes and tags: of a reviewer and a row the latest counts; older journals have none."""

import sqlite3
from contextlib import closing

import pytest

from curator.decisions.database import TakenKey
from curator.decisions.journal import Journal
from curator.errors import CuratorError

FACTS = {"classes": ["a", "b"], "dataset": "d", "split": "train"}


def test_the_latest_counts(tmp_path):
    with closing(Journal(tmp_path / "j.sqlite", FACTS)) as journal, closing(Journal(tmp_path / "j.sqlite")) as other:
        remarks = journal.remarks
        remarks.save(1, "old", ["x"], "ann", "first")
        remarks.save(1, "new", ["y", "x"], "ann", "second")
        remarks.save(1, "", ["x"], "ben", "third")
        remarks.save(2, "gone", [], "ann", "fourth")
        assert [of.row for of in remarks.of_row(2)] == [2]
        remarks.save(2, "", [], "ann", "fifth")
        remarks.save(1, "new", ["y", "x"], "ann", "second")  # sent twice
        with pytest.raises(TakenKey):
            remarks.save(1, "other", [], "ann", "second")
        for seen in (remarks, other.remarks):  # another process sees it
            assert [(of.reviewer, of.note, of.tags) for of in seen.of_row(1)] == [
                ("ann", "new", ["y", "x"]), ("ben", "", ["x"]),
            ]  # fmt: skip
            assert seen.of_row(2) == [] and seen.tags() == {"x": 1, "y": 1} and seen.rows("y") == [1]
            assert seen.columns() == {1: ("new", ["x", "y"])} and seen.last == 5
        assert journal.story(1) == []


def test_a_journal_of_before(tmp_path):
    """It is read without them as it is, and has them once it was opened for a review."""
    path = tmp_path / "j.sqlite"
    with closing(Journal(path, FACTS)) as journal:
        journal.save([{"key": "k" * 8, "kind": "do", "rows": [(1, "keep", "a")]}], "ann")
        journal.save([{"key": "l" * 8, "kind": "undo", "target": None}], "ann")
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE remarks; PRAGMA user_version = 1")
    with closing(Journal(path)) as journal:
        assert journal.remarks.by_row() == {} and journal.remarks.last == 0
        assert [what[1:] for what in journal.story(1)] == [("ann", "keep", "a", "do"), ("ann", "clear", None, "undo")]
    with closing(Journal(path, FACTS)) as journal:
        journal.remarks.save(1, "now", [], "ann", "first")
        assert journal.remarks.of_row(1)[0].note == "now"
    with closing(sqlite3.connect(path)) as db:
        db.executescript("UPDATE remarks SET tags = '[1]'")
    with closing(Journal(path)) as journal, pytest.raises(CuratorError, match="tags that nobody wrote here"):
        journal.remarks.by_row()
