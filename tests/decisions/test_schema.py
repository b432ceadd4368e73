import os
import sqlite3
from contextlib import closing

import pytest

from curator.decisions.journal import Journal
from curator.decisions.schema import VERSION
from curator.errors import CuratorError
from tests.decisions.steps import FACTS, do, turn


def everything(path):
    """Whatever is read of a journal."""
    for facts in (None, FACTS):
        with closing(Journal(path, facts)) as journal:
            read = [journal.verified().labels, journal.agreement(), journal.conflicts(), journal.dropped()]
            read += [journal.history("ann"), journal.reviewers(), journal.audits.reviewers("run"), journal.log(0)]
            if sample := journal.audits.last("run", "ann"):
                read.append(journal.audits.labels(sample[0], "ann"))
    return read


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a journal with something in every table, on several pages each."""
    path = tmp_path_factory.mktemp("whole") / "j.sqlite"
    with closing(Journal(path, {**FACTS, "sample": {"1": "ab"}, "id": "0" * 32})) as journal:
        rows = [(i, "relabel", "dog") for i in range(80)]
        journal.save([do(f"step-{i}", *rows[i:], (90, "drop", None)) for i in range(9)] + [turn("u", "undo")], "ann")
        journal.audits.add("run", "ann", 1, [(row, "selected") for row in range(200)])
        for row in range(100):
            journal.audits.save_label(1, row, "cat", "ann", f"label-{row}")
    everything(path)
    return path.read_bytes()


def refused_or_read(path):
    """Whether it is read; what cannot be is said in one line that names the file."""
    try:
        return everything(path)
    except CuratorError as e:
        assert str(e).startswith(str(path)) and len(str(e).splitlines()) == 1 and len(str(e)) < 600
        return None


def test_what_is_no_journal(tmp_path, journal):
    with pytest.raises(CuratorError, match="no such file"):
        Journal(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("row,label\n" * 100)
    with pytest.raises(CuratorError, match="expected a review journal"):
        Journal(tmp_path / "text.sqlite", FACTS)
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE facts (a)")
    with pytest.raises(CuratorError, match="expected a review journal"):
        Journal(tmp_path / "other.sqlite")
    with pytest.raises(CuratorError, match="other classes.*--journal"):
        Journal(journal.path, {**FACTS, "classes": ["a", "b"]})
    with pytest.raises(CuratorError, match="another split.*--journal"):
        Journal(journal.path, {**FACTS, "split": "test"})


def test_a_journal_that_is_cut_or_overwritten(tmp_path, whole):
    """At every page, and at every byte of the header."""
    path = tmp_path / "j.sqlite"

    def outcome(content):
        for file in tmp_path.iterdir():
            file.unlink()
        path.write_bytes(content)
        return refused_or_read(path)

    assert outcome(whole) is not None
    for size in [*range(0, len(whole), 4096), 1, 15, 16, 50, 99, 100, 101]:
        assert outcome(whole[:size]) is None, size
    for page in range(len(whole) // 4096):
        for fill in (b"\0", b"\xff", b"a"):
            start = page * 4096
            assert outcome(whole[:start] + fill * 4096 + whole[start + 4096 :]) is None, page
    for place in range(100):
        outcome(whole[:place] + b"\xa5" + whole[place + 1 :])


TAMPERED = [
    *(f"DROP TABLE {t}" for t in ("facts", "steps", "decisions", "audits", "audit_rows", "audit_labels")),
    "ALTER TABLE decisions RENAME COLUMN row TO r", "ALTER TABLE steps ADD COLUMN x", "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON decisions BEGIN DELETE FROM decisions; END", "CREATE TABLE other (x)",
    "ALTER TABLE facts RENAME TO f; CREATE VIEW facts AS SELECT * FROM f", "DELETE FROM facts WHERE name != 'id'",
    *(f"UPDATE facts SET value = {v} WHERE name = 'classes'" for v in (
        "'{'", "'null'", "'[1]'", "'{}'", "x'ff'", "CAST(x'ff' AS TEXT)", "1e999", f"'{'[' * 100_000}'",
        "zeroblob(100000000)", "'[\"cat\"]'",
    )),
    *(f"UPDATE facts SET value = '{v}' WHERE name = 'sample'" for v in (
        "[]", '{"x": "y"}', '{"1": 1}', '{"99999999999999999999": "a"}', '{"-1": "a"}', '{"\u00b2": "a"}',
    )),
    "UPDATE facts SET value = '3' WHERE name = 'id'", "UPDATE facts SET value = '[]' WHERE name = 'split'",
    "UPDATE steps SET kind = 'x'", "UPDATE steps SET kind = 'redo', target = id", "UPDATE steps SET id = -id",
    *(f"UPDATE steps SET target = {v} WHERE kind = 'undo'" for v in ("id", "id + 1", "999", "'x'", "1.5")),
    "UPDATE steps SET reviewer = 'ben' WHERE id = 5", "UPDATE steps SET key = x'00' WHERE id = 4",
    "DELETE FROM steps WHERE id = 7", "DELETE FROM steps", "UPDATE decisions SET step = 999",
    *(f"UPDATE decisions SET {column} = {v}" for column, values in {
        "id": ["-id"], "row": ["'x'", "1.5"], "action": ["'x'", "x'00'", "'clear'"], "reviewer": ["'z'", "x'00'"],
        "label": ["'fish'", "NULL", "x'61'", "CAST(x'ff' AS TEXT)"], "previous": ["id", "id + 1", "'x'"],
        "step": ["'x'", "-1"], "repeats": ["id", "'x'"], "time": ["x'00'", "CAST(x'ff' AS TEXT)"],
    }.items() for v in values),
    "UPDATE audits SET run = x'00'", "UPDATE audits SET seed = 'x'", "UPDATE audit_rows SET row = 'x'",
    "UPDATE audit_rows SET stratum = x'00'", "UPDATE audit_labels SET label = x'00'",
    "UPDATE audit_labels SET row = 1.5", "PRAGMA user_version = 7",
    "UPDATE decisions SET also = 'dog'", "UPDATE decisions SET also = 1.5", "UPDATE decisions SET action = 'both'",
    "UPDATE decisions SET action = 'both', also = label", "UPDATE decisions SET action = 'both', also = 'fish'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'x' WHERE name = 'facts'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 999 WHERE name = 'steps'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 2 WHERE name = 'steps'",
]  # fmt: skip


@pytest.mark.parametrize("change", TAMPERED, ids=lambda change: change[:60])
def test_a_tampered_journal_is_refused(tmp_path, whole, change):
    path = tmp_path / "j.sqlite"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(change)
    before = path.read_bytes()
    for facts in (None, FACTS):
        with pytest.raises(CuratorError) as error:
            Journal(path, facts)
        assert str(error.value).startswith(str(path)) and len(str(error.value).splitlines()) == 1
    if "ALTER" not in change and "DROP" not in change and "facts" not in change:
        assert path.read_bytes() == before  # nothing was mended, or made worse


def test_a_journal_of_a_newer_curator(tmp_path, whole):
    path = tmp_path / "j.sqlite"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        db.execute("PRAGMA user_version = 0")  # as those were that have no version
    assert everything(path)[0]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
        db.execute("CREATE TABLE what_is_new (x)")
    for facts in (None, FACTS):
        with pytest.raises(CuratorError, match=f"newer Curator wrote it .journal version {VERSION + 1}.*update"):
            Journal(path, facts)


@pytest.mark.parametrize("kind", ["folder", "pipe", "-wal is a pipe", "-wal is a folder", "empty, with a -wal", "gone"])
def test_what_is_no_file(tmp_path, whole, kind):
    path = tmp_path / "j.sqlite"
    beside = tmp_path / "j.sqlite-wal"
    if kind.startswith("-wal"):
        path.write_bytes(whole)
        os.mkfifo(beside) if "pipe" in kind else beside.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "gone":
        path = tmp_path / "no" / "where.sqlite"
    else:
        path.touch()
        beside.write_bytes(b"decisions")  # that SQLite would delete
    for facts in (None, FACTS):
        with pytest.raises(CuratorError, match="expected a review journal"):
            Journal(path, facts)
    assert "empty" not in kind or beside.read_bytes() == b"decisions"


def test_a_journal_of_before_second_labels_opens(tmp_path, whole):
    """To be read it stays as it is; to be written it gets the column, and what it holds is the same."""
    path = tmp_path / "j.sqlite"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE decisions DROP COLUMN also")
        db.execute("PRAGMA user_version = 1")
    before = path.read_bytes()
    with closing(Journal(path)) as journal:
        labels = journal.verified().labels
        assert labels and not journal.verified().also
        (tmp_path / "out").mkdir()
        assert journal.export(tmp_path / "out")
    assert path.read_bytes() == before
    with closing(Journal(path, FACTS)) as journal:
        assert journal.verified().labels == labels
        journal.save([do("new", (95, "both", "cat", "dog"))], "ann")
        assert journal.verified().also == {95: "dog"}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
