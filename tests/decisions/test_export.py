import csv
from contextlib import closing

import pyarrow.parquet as pq

from curator.decisions.journal import Journal
from tests.decisions.steps import FACTS, do, turn


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
