import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from tests.conftest import ROOT
from tests.decisions.steps import FACTS, do, labels, turn
from tests.review.serving import verified


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


def test_a_step_that_fails_leaves_nothing(journal):
    journal.save([do("1", (1, "keep", "cat"))], "ann")
    with pytest.raises(sqlite3.Error):
        journal.save([do("2", (2, "keep", "cat")), do("3", (3, None, None))], "ann")
    assert labels(journal) == {1: ("keep", "cat")} and journal.history("ann") == (["1"], [])
    journal.save([do("2", (2, "keep", "cat"))], "ann")
    assert set(labels(journal)) == {1, 2}


def test_it_is_on_the_disk_and_comes_back(journal):
    journal.save([do("1", (1, "keep", "cat")), do("2", (2, "drop", None)), turn("3", "undo")], "ann")
    with closing(Journal(journal.path, FACTS)) as again:
        assert labels(again) == {1: ("keep", "cat")} and again.history("ann") == (["1"], ["2"])
        assert again._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert again._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        again.save([turn("4", "redo")], "ann")
        journal.sync()
        assert labels(journal) == {1: ("keep", "cat"), 2: ("drop", None)}


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
