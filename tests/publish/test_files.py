"""Rows keep the file that they come from, from the images to every list of them, and tables name them by it."""

import csv
import io
import json
import shutil
from contextlib import closing
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image, Value

import curator
from curator.cli.main import main
from curator.publish.imagefolder import set_aside
from curator.result.layout import content_hash
from curator.result.read import Rows
from curator.review.session import Session
from tests.conftest import hf_dataset, load_table
from tests.review.serving import shown, verified

NAMES = ["a/1.png", "b/1.png", "b/IMG (2).PNG", "a/_DSC3.png", "c/.4.png", "a/5", "a/6.png", "a/7.png", "b/8.png",
         "a/9.png", "b/10.png", "b/11.png"]  # fmt: skip


def split(names: list[str], labels: list[str | None], spoil: int = -1) -> datasets.Dataset:
    raw = [item["bytes"] for item in hf_dataset(len(names)).cast_column("image", Image(decode=False))["image"]]
    images = [{"bytes": b"x" if i == spoil else raw[i], "path": name} for i, name in enumerate(names)]
    features = Features({"image": Image(), "label": Value("string")})
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """12 rows with files, of which one cannot be read and two show the same, and a split with classes of its own."""
    folder = tmp_path_factory.mktemp("files")
    train = split(NAMES, ["ant", "bee"] * 6, spoil=7)
    images = train.cast_column("image", Image(decode=False))["image"][:]
    images[9] = {**images[8], "path": NAMES[9]}
    train = train.remove_columns("image").add_column("image", images, feature=Image())
    test = split(["t/1.png", "t/2.png", "t/3.png"], ["bee", "zebra/x", None])
    np.save(folder / "p.npy", np.full((12, 2), 0.5, np.float32))
    splits = datasets.DatasetDict(train=train, test=test.cast(train.features))
    curator.curate(splits, pred_probs=folder / "p.npy", flag_worst=6, allow_quarantine=True, output=folder / "run")
    return folder / "run"


def test_every_list_of_rows_names_their_files(run):
    with open(run / "issues.csv", newline="") as file:
        assert all(line["file"] == NAMES[int(line["row"])] for line in csv.DictReader(file))
    (aside,) = pq.read_table(run / "quarantine.parquet").to_pylist()
    assert (aside["row"], aside["file"]) == (7, "a/7.png")
    assert pq.read_table(run / "duplicates.parquet").to_pydict()["file"] == ["b/8.png", "a/9.png"]
    report = (run / "report" / "report.md").read_text()
    assert "| 7 | a/7.png |" in report and "| 8 (b/8.png), 9 (a/9.png) |" in report
    rows = Rows(run)
    assert rows.files == NAMES and rows.files_of([3, 99]) == [NAMES[3], ""]
    session = Session([run])
    with closing(session.journal):
        assert session.detail({"row": 2}, "ann")["file"] == "b/IMG (2).PNG"


def test_an_imagefolder_keeps_names_and_classes_of_other_splits(run, tmp_path, capsys):
    target = tmp_path / "v"
    assert main(["publish", str(run), str(target), "--policy", "annotate", "--format", "imagefolder"]) == 0
    assert "left out: 1 rows of other splits without a label" in capsys.readouterr().err
    with open(target / "labels.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["source"] for line in lines] == ["t/1.png", "t/2.png", *(n for n in NAMES if n != "a/7.png")]
    found = {line["source"]: line["file"].removeprefix("images/") for line in lines}
    assert found["a/1.png"] == "train/ant/1.png" and found["b/1.png"] == "train/bee/1.png"
    assert found["b/IMG (2).PNG"] == "train/ant/IMG (2).PNG" and found["a/_DSC3.png"] == "train/bee/_DSC3.png"
    assert found["c/.4.png"] == "train/ant/%2E4.png" and found["a/5"] == "train/bee/5.png"
    assert found["t/2.png"] == "test/zebra%2Fx/2.png" and lines[1]["label"] == "zebra/x"
    loaded = datasets.load_dataset(str(target))
    assert {name: part.num_rows for name, part in loaded.items()} == {"train": 11, "test": 2}
    assert set_aside(run) == {("train", 7)}


def test_a_version_in_the_place_of_another_is_what_is_loaded(run, tmp_path):
    """Where only clean/ differs, and where an image is in another class's folder."""
    target, copied = tmp_path / "v", tmp_path / "run"
    shutil.copytree(run, copied)
    argv = ["publish", str(copied), str(target), "--policy", "annotate", "--overwrite"]
    assert main(argv) == 0
    before = datasets.load_dataset(str(target), "clean", split="train")["row"][:]
    session = Session([copied])
    with closing(session.journal):
        step = {"key": "drop-a-row", "kind": "do", "rows": [[before[0], "drop", None]]}
        session.save({**shown(session), "steps": [step]}, "ann")
    assert main(argv) == 0
    assert datasets.load_dataset(str(target), "clean", split="train")["row"][:] == before[1:]
    (tmp_path / "images" / "ant").mkdir(parents=True)
    (tmp_path / "images" / "ant" / "1.png").write_text("1")
    first = content_hash(tmp_path, "images")
    (tmp_path / "images" / "ant").rename(tmp_path / "images" / "bee")
    assert content_hash(tmp_path, "images") != first


TABLES = {
    "file,label\na/1.png,bee\nb/8.png,bee\n": {0: "bee", 8: "bee"},
    "note;file;label\na,b;a/1.png;bee\n": {0: "bee"},  # of spreadsheets of many countries
    "label,file\nbee,8.png\nant,.\\b\\11.png\n": {8: "bee", 11: "ant"},
    "row,file,label\n8,b/8.png,bee\n11,11.png,ant\n3,,ant\n": {8: "bee", 11: "ant", 3: "ant"},
    "file,label\n1.png,bee\n": "2 files are called '1.png'; give its path, as a/1.png",
    "file,label\nx/8.png,bee\n": "no row has the file 'x/8.png'; did you mean 'b/8.png'?",
    "file,label\n,bee\n": "no row has the file ''",
    "row,file,label\n8,a/9.png,bee\n": "row 8 is not the file 'a/9.png' here; it is a table of other rows",
    "row,file,label\n8,b/88.png,bee\n": "it is a table of other rows",
    "file,label\na/1.png,bee\n./a/1.png,ant\n": "row 0 has two labels",
    "file\na/1.png\n": "expected the columns row and label, found file; in place of row, file will do",
}


@pytest.mark.parametrize("text", TABLES)
def test_tables_name_rows_by_their_files(run, tmp_path, capsys, text):
    table, expected = tmp_path / "t.csv", TABLES[text]
    table.write_text(text)
    code = main(["import", str(run), str(table), "--journal", str(tmp_path / "j.sqlite")])
    rows = split(NAMES, ["ant", "bee"] * 6)
    if isinstance(expected, str):
        assert code == 2 and expected in capsys.readouterr().err
        with pytest.raises(curator.CuratorError) as e:
            load_table(rows, trusted=str(table))
        assert expected in str(e.value)
        return
    assert code == 0 and verified(tmp_path / "j.sqlite") == expected
    found = load_table(rows, trusted=str(table))
    assert {int(row): found.classes[code] for row, code in enumerate(found.verified) if code >= 0} == expected


def test_names_alone_do_not_name_rows_of_a_sample(tmp_path):
    """The one 8.png of the sample may not be the one that is meant; whole paths outside the sample are left out."""
    table = tmp_path / "t.csv"
    files = [f"{i}/{name}" for i in range(3) for name in NAMES]
    rows = split(files, ["ant", "bee"] * 18)
    table.write_text("file,label\n" + "".join(f"{file},bee\n" for file in files))
    found = load_table(rows, trusted=str(table), limit_rows=8)
    assert (found.verified == 1).all() and len(found.verified) == 8
    table.write_text("file,label\n8.png,bee\n")
    with pytest.raises(curator.CuratorError, match="it names no row of this dataset"):
        load_table(rows, trusted=str(table), limit_rows=8)


def test_rows_without_files(small_run, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("file,label\na.png,class 1\n")
    assert main(["import", str(small_run), str(tmp_path / "t.csv"), "--journal", str(tmp_path / "j.sqlite")]) == 2
    assert "the rows of this dataset have no files; name them by a column row" in capsys.readouterr().err
    assert main(["apply", str(small_run), "--folder", str(tmp_path), "--yes"]) == 2
    assert "its rows come from no files" in capsys.readouterr().err


def test_the_fixed_list_and_the_export_name_files(run, tmp_path):
    session = Session([run], tmp_path / "j.sqlite")
    with closing(session.journal):
        acts = [[0, "relabel", 1], [1, "keep", None], [2, "drop", None], [4, "unsure", None]]
        session.save({**shown(session), "steps": [{"key": "a-step-of-four", "kind": "do", "rows": acts}]}, "ann")
        answer = session.fixed({}, "ben")
        files = session.export({}, "ann")["files"]
    assert list(csv.reader(io.StringIO(answer["csv"]))) == [
        ["file", "row", "given", "label"],
        ["a/1.png", "0", "ant", "bee"],
    ]
    assert answer["rows"] == 1
    table = next(Path(file) for file in files if file.endswith("verified.csv"))
    assert table.read_text().splitlines() == ["row,label,file", "0,bee,a/1.png", "1,bee,b/1.png"]
    assert main(["import", str(run), str(table), "--journal", str(tmp_path / "k.sqlite")]) == 0
    assert json.loads((run / "curation.json").read_text())["quarantined"] == 1
