"""Notes and tags as columns of a version."""

import csv
import shutil
from contextlib import closing

import datasets
import pyarrow as pa
import pytest

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.build import prepared
from curator.publish.remarks import remark_columns
from curator.result.read import Rows


@pytest.fixture(scope="module")
def journal(run, tmp_path_factory):
    """A copy of the run's journal, with remarks on two rows."""
    path = tmp_path_factory.mktemp("remarks") / "j.sqlite"
    with closing(Journal(run / "review.sqlite")) as opened:
        facts = opened.facts
    shutil.copy(run / "review.sqlite", path)
    with closing(Journal(path, facts)) as opened:
        opened.remarks.save(3, "a leaf is missing", ["cut off", "ask"], "ann", "key-of-ann")
        opened.remarks.save(3, "=really", ["ask"], "ben", "key-of-ben")
        opened.remarks.save(5, "", ["ask"], "ann", "a-key-of-ann")
    return path


@pytest.mark.parametrize("policy", ["relabel", "filter"])
def test_columns_of_a_version(run, journal, policy):
    with prepared(run, policy, journal=journal) as version:
        splits = datasets.load_dataset(str(version.folder), "default" if policy == "relabel" else None)
        rows = {row["row"]: (row["notes"], row["tags"]) for row in splits["train"].remove_columns("image")}
        assert policy == "filter" or len(rows) == 200
        wanted = {3: ("a leaf is missing\n=really", ["ask", "cut off"]), 5: (None, ["ask"])}
        assert {row: said for row, said in rows.items() if any(said)} == {r: w for r, w in wanted.items() if r in rows}
        assert set(splits["test"]["notes"]) == {None}


def test_an_imagefolder_and_an_export_have_them(run, journal, tmp_path):
    with prepared(run, "relabel", journal=journal, format="imagefolder") as version:
        lines = list(csv.DictReader((version.folder / "labels.csv").open()))
    (line,) = [line for line in lines if line["row"] == "3" and line["split"] == "train"]
    assert (line["notes"], line["tags"]) == ("a leaf is missing\n=really", "ask; cut off")
    with closing(Journal(journal)) as opened:
        files = opened.export(tmp_path)
    assert [file.name for file in files[4:]] == ["remarks.parquet", "remarks.csv"]
    table = list(csv.DictReader((tmp_path / "remarks.csv").open()))
    assert [(line["row"], line["reviewer"], line["tags"]) for line in table] == [
        ("3", "ann", "cut off; ask"), ("3", "ben", "ask"), ("5", "ann", "ask"),
    ]  # fmt: skip
    assert table[1]["note"] == "'=really"  # no formula


def test_a_dataset_with_columns_of_these_names(run, monkeypatch):
    rows = Rows(run)
    assert remark_columns(rows, {}) == {} == remark_columns(rows, {999: ("x", [])})
    monkeypatch.setattr(rows, "schema", rows.schema.append(pa.field("notes", pa.string())))
    assert list(remark_columns(rows, {3: ("x", [])})) == ["review_notes", "tags"]
    monkeypatch.setattr(rows, "schema", rows.schema.append(pa.field("review_notes", pa.string())))
    with pytest.raises(CuratorError, match="columns notes and review_notes; rename one"):
        remark_columns(rows, {3: ("x", [])})
