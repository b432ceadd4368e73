import csv
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pyarrow.parquet as pq
import pytest

from curator.decisions.database import TakenKey
from curator.decisions.journal import Journal
from curator.decisions.schema import VERSION
from curator.errors import CuratorError
from tests.conftest import ROOT
from tests.review.serving import verified

FACTS = {"classes": ["cat", "dog", "=2+2"], "dataset": "pets", "split": "train"}


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "review.sqlite", FACTS)) as journal:
        yield journal


def do(key, *rows):
    return {"key": key, "kind": "do", "rows": list(rows)}


def turn(key, kind):
    return {"key": key, "kind": kind}


def labels(journal, reviewer="ann"):
    found = {row: d for row in set(journal.log(0)) if (d := journal.decision(row, reviewer))}
    return {row: (d.action, d.label) for row, d in found.items()}


def test_the_latest_decision_of_a_reviewer_holds(journal):
    journal.save([do("1", (7, "keep", "cat")), do("2", (7, "relabel", "dog"), (9, "drop", None))], "ann")
    assert labels(journal) == {7: ("relabel", "dog"), 9: ("drop", None)}
    first, second = journal.decision(7, "ann").previous, journal.decision(9, "ann").previous
    assert (first, second) == (1, None) and journal.decision(7, "ben") is None


def test_undo_and_redo_take_a_step_at_a_time(journal):
    journal.save([do("1", (1, "keep", "cat")), do("2", (1, "drop", None), (2, "drop", None), (3, "drop", None))], "ann")
    assert journal.save([turn("3", "undo")], "ann").keys() == {1, 2, 3}
    assert labels(journal) == {1: ("keep", "cat")} and journal.history("ann") == (["1"], ["2"])
    journal.save([turn("4", "undo"), turn("5", "undo")], "ann")  # the second has nothing to take back
    assert labels(journal) == {} and journal.history("ann") == ([], ["2", "1"])
    journal.save([turn("6", "redo"), turn("7", "redo"), turn("8", "redo")], "ann")
    assert labels(journal) == {1: ("drop", None), 2: ("drop", None), 3: ("drop", None)}
    journal.save([turn("9", "undo"), do("10", (5, "unsure", None)), turn("11", "redo")], "ann")  # nothing to redo now
    assert labels(journal) == {1: ("keep", "cat"), 5: ("unsure", None)} and journal.history("ann") == (["1", "10"], [])


def test_undo_names_its_step(journal):
    """Two tabs of one reviewer: each takes back its own, unless the row was decided again since."""
    journal.save([do("a", (1, "keep", "cat")), do("b", (2, "drop", None)), do("c", (3, "drop", None))], "ann")
    assert journal.save([{**turn("u1", "undo"), "target": "a"}], "ann") == {1: None}
    assert labels(journal) == {2: ("drop", None), 3: ("drop", None)} and journal.history("ann") == (["b", "c"], ["a"])
    journal.save([do("d", (2, "keep", "dog"))], "ann")
    found = journal.save([{**turn("u2", "undo"), "target": "b"}], "ann")  # its row was decided again
    assert found[2].label == "dog" and journal.history("ann") == (["b", "c", "d"], [])
    for key, kind, target in [("u3", "redo", "a"), ("u4", "undo", "none"), ("u5", "undo", "a"), ("u6", "redo", "c")]:
        journal.save([{**turn(key, kind), "target": target}], "ann")
        assert labels(journal) == {2: ("keep", "dog"), 3: ("drop", None)}
    journal.save([do("x", (9, "drop", None))], "ben")
    journal.save([{**turn("u7", "undo"), "target": "x"}], "ann")  # somebody else's
    assert labels(journal, "ben") == {9: ("drop", None)}
    journal.save([{**turn("u8", "undo"), "target": "d"}, {**turn("u9", "undo"), "target": "b"}], "ann")
    assert labels(journal) == {3: ("drop", None)}


def test_undo_after_redo(journal):
    journal.save([do("a", (1, "keep", "cat")), do("b", (1, "drop", None))], "ann")
    for i in range(3):
        journal.save([{**turn(f"u{i}", "undo"), "target": "b"}], "ann")
        assert labels(journal) == {1: ("keep", "cat")}
        journal.save([{**turn(f"r{i}", "redo"), "target": "b"}], "ann")
        assert labels(journal) == {1: ("drop", None)}


def test_undo_of_a_step_redone_before_an_older_one(journal):
    journal.save([do("a", (1, "keep", "cat")), do("b", (1, "drop", None))], "ann")
    for i, (kind, target) in enumerate([("undo", "b"), ("undo", "a"), ("redo", "b"), ("undo", "b")]):
        journal.save([{**turn(f"t{i}", kind), "target": target}], "ann")
    assert labels(journal) == {}  # a is still undone


def test_a_full_disk_leaves_nothing(journal):
    journal.save([do("1", (1, "keep", "cat"))], "ann")
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    many = [(i, "relabel", "a class name that takes some space on the disk") for i in range(5000)]
    with pytest.raises(sqlite3.Error, match="full"):
        journal.save([do("2", (2, "drop", None)), do("3", *many)], "ann")
    assert labels(journal) == {1: ("keep", "cat")}
    journal._db.execute("PRAGMA max_page_count = 100000")
    assert journal.save([do("4", (9, "drop", None))], "ben")[9].action == "drop"
    assert labels(journal, "ben") == {9: ("drop", None)} and journal.verified().counts["drop"] == 1


def test_undo_is_a_reviewers_own(journal):
    journal.save([do("1", (1, "keep", "cat"))], "ann")
    journal.save([do("2", (1, "drop", None))], "ben")
    journal.save([turn("3", "undo")], "ann")
    assert labels(journal) == {} and labels(journal, "ben") == {1: ("drop", None)}


def test_a_step_that_is_sent_twice_counts_once(journal):
    steps = [do("1", (1, "keep", "cat")), turn("2", "undo"), turn("3", "redo")]
    for _ in range(3):
        assert journal.save(steps, "ann")[1].label == "cat"
    journal.save([turn("4", "undo")], "ann")
    assert labels(journal) == {} and journal.history("ann") == ([], ["1"])


def test_nothing_is_ever_changed(journal):
    db = sqlite3.connect(journal.path)
    seen = []
    for i, step in enumerate(
        [do("1", (1, "keep", "cat")), do("2", (1, "drop", None)), *[turn(f"u{i}", "undo") for i in range(2)]]
    ):
        journal.save([step], "ann")
        now = db.execute("SELECT * FROM decisions ORDER BY id").fetchall()
        assert now[: len(seen)] == seen and len(now) == i + 1
        seen = now
    db.close()
    assert [row[2] for row in seen] == ["keep", "drop", "keep", "clear"]


def test_it_is_on_the_disk_and_comes_back(journal):
    journal.save([do("1", (1, "keep", "cat")), do("2", (2, "drop", None)), turn("3", "undo")], "ann")
    with closing(Journal(journal.path, FACTS)) as again:
        assert labels(again) == {1: ("keep", "cat")} and again.history("ann") == (["1"], ["2"])
        assert again._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert again._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        again.save([turn("4", "redo")], "ann")
        journal.sync()
        assert labels(journal) == {1: ("keep", "cat"), 2: ("drop", None)}


def test_a_step_that_fails_leaves_nothing(journal):
    journal.save([do("1", (1, "keep", "cat"))], "ann")
    with pytest.raises(sqlite3.Error):
        journal.save([do("2", (2, "keep", "cat")), do("3", (3, None, None))], "ann")
    assert labels(journal) == {1: ("keep", "cat")} and journal.history("ann") == (["1"], [])
    journal.save([do("2", (2, "keep", "cat"))], "ann")
    assert set(labels(journal)) == {1, 2}


def test_agreement_conflicts_and_what_is_trusted(journal):
    ann = [(0, "keep", "cat"), (1, "relabel", "dog"), (2, "keep", "cat"), (3, "drop", None), (4, "unsure", None)]
    ben = [(0, "keep", "cat"), (1, "keep", "cat"), (2, "unsure", None), (3, "relabel", "dog"), (5, "relabel", "dog")]
    journal.save([do("1", *ann), do("x", (6, "drop", None))], "ann")
    journal.save([do("2", *ben)], "ben")
    assert journal.conflicts() == [1, 3]
    (both,) = journal.agreement()
    assert both["reviewers"] == ["ann", "ben"] and both["rows"] == 3 and both["agreement"] == pytest.approx(1 / 3)
    # ann: cat dog drop, ben: cat cat dog -> chance (1*2 + 1*1) / 9
    assert both["kappa"] == pytest.approx((1 / 3 - 1 / 3) / (1 - 1 / 3))
    found = journal.verified()
    assert found.labels == {0: "cat", 2: "cat", 5: "dog"}
    assert found.counts == {"keep": 2, "relabel": 1, "drop": 1, "unsure": 1, "conflict": 2}
    assert verified(journal.path) == found.labels
    journal.save([do("3", (1, "relabel", "dog"))], "ben")
    assert journal.conflicts() == [3] and journal.verified().labels[1] == "dog"


def test_export(journal, tmp_path):
    journal.save(
        [do("1", (4, "keep", "=2+2"), (2, "relabel", "dog"), (3, "drop", None)), turn("2", "undo"), turn("3", "redo")],
        "ann",
    )
    files = journal.export(tmp_path)
    assert [f.name for f in files] == ["decisions.parquet", "decisions.csv", "verified.parquet", "verified.csv"]
    decisions = pq.read_table(files[0]).to_pylist()
    assert [d["action"] for d in decisions] == ["keep", "relabel", "drop", *["clear"] * 3, "keep", "relabel", "drop"]
    assert {d["reviewer"] for d in decisions} == {"ann"} and decisions[0]["time"].startswith("20")
    assert pq.read_table(files[2]).to_pydict() == {"row": [2, 4], "label": ["dog", "=2+2"]}
    with open(files[3], newline="") as file:
        assert list(csv.reader(file)) == [["row", "label"], ["2", "dog"], ["4", "'=2+2"]]  # no formula
    with open(files[1], newline="") as file:
        assert len(list(csv.reader(file))) == 10
    with closing(Journal(tmp_path / "empty.sqlite", FACTS)) as empty:
        (tmp_path / "sub").mkdir()
        assert pq.read_table(empty.export(tmp_path / "sub")[0]).num_rows == 0


def test_export_overwrites_nothing_but_its_own(journal, tmp_path):
    """Not a user's file of that name, an export that was edited, or one of another journal; its own it does."""

    def export(of=journal) -> list[str]:
        return [f.name for f in of.export(tmp_path)]

    first = ["decisions.parquet", "decisions.csv", "verified.parquet", "verified.csv"]
    (tmp_path / "decisions.csv").write_text("mine")
    assert export() == ["decisions-2.parquet", "decisions-2.csv", *first[2:]]
    (tmp_path / "decisions.csv").unlink()
    journal.save([do("1", (4, "keep", "cat"))], "ann")
    assert export() == first and len((tmp_path / "decisions.csv").read_text().splitlines()) == 2
    journal.save([do("2", (2, "keep", "cat"))], "ann")
    assert export() == first and len((tmp_path / "decisions.csv").read_text().splitlines()) == 3
    assert pq.read_table(tmp_path / "verified.parquet")["row"].to_pylist() == [2, 4]
    (tmp_path / "verified.csv").write_text("row,label\n2,dog\n")
    pq.write_table(
        pq.read_table(tmp_path / "decisions.parquet").slice(1).replace_schema_metadata(), tmp_path / first[0]
    )
    assert export() == ["decisions-2.parquet", "decisions-2.csv", "verified-2.parquet", "verified-2.csv"]
    assert (tmp_path / "verified.csv").read_text() == "row,label\n2,dog\n"
    with closing(Journal(tmp_path / "other.sqlite", {**FACTS, "id": "other"})) as other:
        assert export(other) == ["decisions-3.parquet", "decisions-3.csv", "verified-3.parquet", "verified-3.csv"]
    (tmp_path / "verified.csv").unlink()
    (tmp_path / "verified.parquet").unlink()
    (tmp_path / "verified.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "decisions-2.csv").unlink()
    assert export() == ["decisions-2.parquet", "decisions-2.csv", "verified-2.parquet", "verified-2.csv"]
    assert not (tmp_path / "nowhere").exists()


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


def copied_over(path):
    """As `cp backup.sqlite review.sqlite`: the same file with other content."""
    backup = path.with_name("backup.sqlite")
    with closing(sqlite3.connect(backup)) as to, closing(sqlite3.connect(path)) as source:
        source.backup(to)
        to.execute("DELETE FROM decisions WHERE id < 500")
        to.commit()
    path.write_bytes(backup.read_bytes())


def beside(path, suffix):
    return path.with_name(path.name + suffix)


LOST = {
    "removed": lambda path: path.unlink(),
    "the -wal removed": lambda path: beside(path, "-wal").unlink(),
    "the -shm removed": lambda path: beside(path, "-shm").unlink(),
    "moved": lambda path: path.rename(path.with_name("moved")),
    "its folder moved": lambda path: path.parent.rename(path.parent.with_name("moved")),
    "replaced": lambda path: os.replace(shutil.copy(path, path.with_name("copy")), path),
    "cut": lambda path: os.truncate(path, 4096),
    "emptied": lambda path: os.truncate(path, 0),
    "the -wal emptied": lambda path: os.truncate(beside(path, "-wal"), 0),
    "copied over": copied_over,
    "overwritten": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
}


@pytest.mark.parametrize("how", LOST)
def test_what_is_not_there_is_not_saved(tmp_path, how):
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "j.sqlite"
    with closing(Journal(path, FACTS)) as journal:
        journal.save([do(f"step-{i}", *[(row, "keep", "cat") for row in range(200)]) for i in range(9)], "ann")
        journal._db.execute("PRAGMA wal_checkpoint")
        journal.save([do("before", (20, "keep", "cat"))], "ann")
        LOST[how](path)
        for _ in range(2):
            with pytest.raises(CuratorError, match="removed, replaced or cut"):
                journal.save([do("after", (21, "keep", "cat"))], "ann")
        with pytest.raises(CuratorError, match="removed, replaced or cut"):
            journal.audits.add("run", "ann", 1, [(1, "selected")])


def test_it_is_lost_while_it_saves(tmp_path):
    """Between the check before and the end of the writing."""
    path, wrong = tmp_path / "j.sqlite", "removed, replaced or cut"
    with closing(Journal(path, FACTS)) as journal, pytest.raises(CuratorError, match=wrong), journal._db.transaction():
        path.unlink()


def test_moved_away_and_back(tmp_path):
    path = tmp_path / "j.sqlite"
    with closing(Journal(path, FACTS)) as journal:
        path.rename(tmp_path / "away")
        with pytest.raises(CuratorError, match="put it back"):
            journal.save([do("a", (1, "keep", "cat"))], "ann")
        (tmp_path / "away").rename(path)
        journal.save([do("a", (1, "keep", "cat"))], "ann")
    assert verified(path) == {1: "cat"}


def test_what_sqlite_merges_is_no_loss(tmp_path):
    """Thousands of saves, another process's merging among them."""
    path = tmp_path / "j.sqlite"
    with closing(Journal(path, FACTS)) as journal, closing(Journal(path, FACTS)) as other:
        for i in range(150):
            journal.save([do(f"a-{i}", *[(row, "keep", "cat") for row in range(40)])], "ann")
            if i % 50 == 0:
                other.save([do(f"b-{i}", (i, "drop", None))], "ben")
                other._db.execute("PRAGMA wal_checkpoint")
    assert path.stat().st_size > 300_000
    with closing(Journal(path)) as journal:
        assert len(journal.log(0)) == 150 * 40 + 3


def test_a_reviewer_whose_name_cannot_be_written(journal):
    """As of a file whose name is no text, imported."""
    with pytest.raises(CuratorError, match=r"expected text that can be written, found '\\udcff'"):
        journal.save([do("a", (1, "keep", "cat"))], "\udcff")
    assert journal.log(0) == []


def test_a_key_is_of_one_step(journal):
    """A step with the key of another one is not taken for it, and nothing that came with it is saved."""
    journal.save([do("a", (1, "keep", "cat"), (2, "drop", None)), turn("u", "undo"), turn("r", "redo")], "ann")
    journal.audits.add("run", "ann", 1, [(1, "selected"), (2, "selected")])
    assert journal.audits.save_label(1, 1, "cat", "ann", "label")
    for steps, who in [
        ([do("a", (1, "keep", "cat"), (2, "drop", None))], "ben"),
        ([do("a", (1, "keep", "cat"))], "ann"),
        ([do("a", (1, "keep", "dog"), (2, "drop", None))], "ann"),
        ([turn("a", "undo")], "ann"), ([turn("u", "redo")], "ann"),
        ([do("new", (7, "drop", None)), turn("u", "undo")], "ben"),
    ]:  # fmt: skip
        with pytest.raises(TakenKey) as error:
            journal.save(steps, who)
        assert error.value.key == steps[-1]["key"]
    assert labels(journal, "ben") == {} and labels(journal) == {1: ("keep", "cat"), 2: ("drop", None)}
    for audit, row, label, who in [(1, 1, "cat", "ben"), (1, 2, "cat", "ann"), (1, 1, "dog", "ann")]:
        with pytest.raises(TakenKey):
            journal.audits.save_label(audit, row, label, who, "label")
    assert journal.audits.save_label(1, 1, "cat", "ann", "label") and journal.audits.labels(1, "ann") == {1: "cat"}


WRITER = """
import sys, time
from pathlib import Path
from curator.decisions.journal import Journal
while not Path(sys.argv[3]).exists():
    time.sleep(0.001)
journal = Journal(Path(sys.argv[1]), {"classes": ["cat", "dog"], "dataset": "pets", "split": "train"})
for i in range(150):
    label = "cat" if i % 3 or sys.argv[2] == "ann" else "dog"
    journal.save([{"key": f"{sys.argv[2]}-{i}", "kind": "do", "rows": [(i, "relabel", label)]}], sys.argv[2])
"""


def test_processes_write_at_once(tmp_path):
    path = tmp_path / "review.sqlite"
    argv = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*argv, who, str(tmp_path / "go")], cwd=ROOT) for who in ("ann", "ben")]
    time.sleep(1)
    (tmp_path / "go").touch()  # both open the new file at the same moment
    assert [w.wait(120) for w in writers] == [0, 0]
    with closing(Journal(path)) as journal:
        assert journal.reviewers() == {"ann": 150, "ben": 150}
        assert journal.conflicts() == list(range(0, 150, 3))


def test_decisions_that_are_not_merged_are_not_overlooked(tmp_path, monkeypatch):
    """A folder that cannot be written, with a log of decisions that only a writer could merge."""
    with closing(Journal(tmp_path / "a.sqlite", FACTS)) as journal:
        journal.save([do("1", (7, "keep", "cat"))], "ann")
        (tmp_path / "b.sqlite").write_bytes((tmp_path / "a.sqlite").read_bytes())
        (tmp_path / "b.sqlite-wal").write_bytes((tmp_path / "a.sqlite-wal").read_bytes())
    connect = sqlite3.connect

    class Unwritable(sqlite3.Connection):
        def execute(self, *words):
            raise sqlite3.OperationalError("unable to open database file")

    def read_only(address, **options):  # as where SQLite may not make its files
        return connect(address, **options, **({} if "immutable" in address else {"factory": Unwritable}))

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(CuratorError, match="not merged yet"):
        Journal(tmp_path / "b.sqlite")
