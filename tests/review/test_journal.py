import csv
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pyarrow.parquet as pq
import pytest

from curator.errors import CuratorError
from curator.review.journal import Journal
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


WRITER = """
import sys, time
from pathlib import Path
from curator.review.journal import Journal
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
