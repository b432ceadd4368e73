"""Decisions that were made elsewhere come home: once each, whoever goes on meanwhile."""

from contextlib import closing

import pytest

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from tests.decisions.steps import FACTS, do, labels, turn


@pytest.fixture
def away(tmp_path):
    with closing(Journal(tmp_path / "away.sqlite", FACTS)) as journal:
        yield journal


def brought(journal, away, tmp_path):
    """As from a copy of the one that goes on."""
    away.copy(tmp_path / "copy.sqlite")
    return journal.merge(tmp_path / "copy.sqlite")


def keys(journal):
    return [key for (key,) in journal._db.execute("SELECT key FROM steps ORDER BY id")]


def test_once_each_while_others_go_on(journal, away, tmp_path):
    journal.save([do("home", (1, "drop", None))], "home")
    away.save(
        [do("a", (1, "keep", "cat"), (2, "relabel", "dog")), do("b", (3, "drop", None)), turn("c", "undo")], "ann"
    )
    away.save([do("d", (2, "keep", "cat"))], "ben")
    away.audits.add("run", "ann", 7, [(1, "selected"), (2, "flagged")])
    away.audits.save_label(1, 1, "cat", "ann", "label-1")
    assert brought(journal, away, tmp_path) == 5 and brought(journal, away, tmp_path) == 0
    assert labels(journal) == labels(away) == {1: ("keep", "cat"), 2: ("relabel", "dog")}
    assert journal.history("ann") == away.history("ann") == (["a"], ["b"])
    assert journal.audits.last("run", "ann") == (1, [(1, "selected"), (2, "flagged")])
    away.save([turn("e", "redo"), do("f", (4, "unsure", None))], "ann")
    away.audits.save_label(1, 2, "dog", "ann", "label-2")
    assert brought(journal, away, tmp_path) == 2
    assert labels(journal) == labels(away) and labels(journal)[3] == ("drop", None)
    assert journal.audits.labels(1, "ann") == {1: "cat", 2: "dog"}
    assert keys(journal) == ["home", "a", "b", "c", "d", "e", "f"]
    times = [
        [*db._db.execute("SELECT key, time FROM steps WHERE key <> 'home' ORDER BY key")] for db in (journal, away)
    ]
    assert times[0] == times[1]
    assert journal.save([turn("g", "undo")], "ann")[4] is None  # undo goes on where it was
    journal.merge(tmp_path / "copy.sqlite")
    assert 4 not in labels(journal)
    with closing(Journal(journal.path)) as again:
        assert labels(again) == labels(journal) and again.conflicts() == journal.conflicts()


def test_the_same_reviewer_decides_in_both(journal, away, tmp_path):
    """The later word holds, and what cannot be turned here is still said."""
    away.save([do("a", (1, "keep", "cat"), (2, "keep", "cat"), (3, "keep", "cat"))], "ann")
    brought(journal, away, tmp_path)
    away.save([turn("b", "undo"), do("c", (5, "keep", "cat"))], "ann")
    later = "UPDATE decisions SET time = '2999-01-01T00:00:00.000+00:00' WHERE row = 2 AND step > 1"
    journal.save([turn("home-1", "undo"), do("home-2", (2, "relabel", "dog"))], "ann")
    journal._db.execute(later)
    away._db.execute("UPDATE decisions SET time = '2998-01-01T00:00:00.000+00:00' WHERE step > 1")
    away._forget()
    assert brought(journal, away, tmp_path) == 4
    assert labels(journal) == {2: ("relabel", "dog"), 5: ("keep", "cat")}  # b would have taken 2 back
    assert brought(journal, away, tmp_path) == 0
    with closing(Journal(journal.path)) as again:
        assert labels(again) == labels(journal)


def test_a_journal_of_others_is_refused(journal, tmp_path):
    for path, facts, expected in (
        ("x", {**FACTS, "classes": ["a", "b"]}, "other classes"),
        ("y", {**FACTS, "split": "test"}, "another split"),
    ):
        Journal(tmp_path / path, facts).close()
        with pytest.raises(CuratorError, match=expected):
            journal.merge(tmp_path / path)
    (tmp_path / "z").write_bytes(b"no database at all, " * 100)
    with pytest.raises(CuratorError, match="expected a review journal"):
        journal.merge(tmp_path / "z")
    with closing(Journal(tmp_path / "w", FACTS)) as forged:
        forged.save([do("new", (3, "keep", "cat")), do("one", (2, "keep", "cat"))], "ann")
    journal.save([do("one", (1, "keep", "cat"))], "ann")
    with pytest.raises(CuratorError, match="different decisions under one key"):
        journal.merge(tmp_path / "w")
    assert keys(journal) == ["one"] and labels(journal) == {1: ("keep", "cat")}


def test_rulings_notes_and_tags_come_along(journal, away, tmp_path):
    away.save([do("a", (1, "keep", "cat"))], "ann")
    away.save([do("b", (1, "relabel", "dog"))], "ben")
    away.save([{**do("c", (1, "relabel", "dog")), "ruling": True}], "cleo")
    away.remarks.save(1, "whose is it?", ["odd"], "ann", "note-1")
    journal.remarks.save(2, "first", [], "ann", "note-0")
    brought(journal, away, tmp_path)
    brought(journal, away, tmp_path)
    assert journal.rulings().keys() == {1} and journal.rulings()[1].reviewer == "cleo" and not journal.conflicts()
    assert labels(journal)[1] == ("keep", "cat") and journal.verified().labels == {1: "dog"}
    said = {row: of["ann"] for row, of in journal.remarks.by_row().items()}
    assert (said[1].note, said[1].tags, said[2].note) == ("whose is it?", ["odd"], "first")
    with closing(Journal(journal.path)) as again:
        assert again.rulings().keys() == {1} and len(again.remarks.by_row()) == 2
