"""Every form of --verified, and what is wrong with some."""

import json
from contextlib import closing

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel

import curator
from curator.cli.main import main
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from tests.conftest import hf_dataset, load_table

N = 60


@pytest.fixture
def rows():
    return hf_dataset(N, 3, 0.3)


def verified_of(table) -> dict[int, int]:
    return {int(r): int(v) for r, v in zip(table.rows, table.verified, strict=True) if v >= 0}


def test_a_boolean_column(rows):
    flags = [i % 4 == 0 for i in range(N)]
    table = load_table(rows.add_column("checked", flags), trusted="checked")
    assert verified_of(table) == {i: rows["label"][i] for i in range(0, N, 4)}
    assert table.label_column == "label" and "checked" in table.dataset.column_names
    assert "15 verified rows (column 'checked'), of which 0 were given another label" in table.notes
    some = load_table(rows.add_column("checked", [True, None, *[False] * (N - 2)]), trusted="checked")
    assert list(verified_of(some)) == [0]


@pytest.mark.parametrize("label", ["class 2", "2"])
def test_a_csv_file(rows, tmp_path, label):
    path = tmp_path / "t.csv"
    path.write_text(f"\ufeffrow,note,label\n5,x,{label}\n0,y,{label}\n5,z,{label}\n")
    table = load_table(rows, trusted=path)
    assert verified_of(table) == {0: 2, 5: 2} and table.trusted.sum() == 2


@pytest.mark.parametrize("text", [
    "row,label,note\n5,class 2,\n0,class 2,blurry, I think\n1,class 0,\n",
    'row,label\n5,"class 2" \n0,class 2\n1,class 0\n',
    'row,label,note\n5,class 2,"ok"\n0,class 2,"blurry" image\n1,class 0\n',
    "row,label\n5,class 2\n0,class 2\n1,class 0\n" + ",\n" * 2000,
])  # fmt: skip
def test_notes_and_lines_that_were_cleared(rows, tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    assert verified_of(load_table(rows, trusted=tmp_path / "t.csv")) == {0: 2, 1: 0, 5: 2}


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_a_csv_file_of_excel(rows, tmp_path, encoding):
    """Its text is of another encoding; lines that were cleared, and blanks in the first line, are nothing."""
    path = tmp_path / "t.csv"
    for own in ("", "sep=;\n"):
        path.write_text(own + "row; label;note\n5;class 2;é\n;;\n0;class 2;\n;;\n", encoding=encoding)
        assert verified_of(load_table(rows, trusted=path)) == {0: 2, 5: 2}


def test_a_number_is_the_name_of_its_value_where_names_look_like_numbers(tmp_path):
    """As pandas and spreadsheets leave it of 01, as text or number, in CSV or in parquet; it is never a position."""
    ds = hf_dataset(N, 3).remove_columns("true_label").cast_column("label", ClassLabel(names=["01", "02", "03"]))
    (tmp_path / "t.csv").write_text("row,label\n0,1\n1,02\n2,3.0\n")
    pq.write_table(pa.table({"row": [0, 1, 2], "label": [1, 2, 3]}), tmp_path / "t.parquet")
    for file in ("t.csv", "t.parquet"):
        assert verified_of(load_table(ds, trusted=tmp_path / file)) == {0: 0, 1: 1, 2: 2}
    (tmp_path / "t.csv").write_text("row,label\n0,1\n1,0\n")
    with pytest.raises(CuratorError, match="row 1 has the label '0', .* where names of classes are numbers"):
        load_table(ds, trusted=tmp_path / "t.csv")


def test_a_number_that_may_be_one_of_two_names(tmp_path):
    """Pandas writes 1.1 for the classes 1.1 and 1.10; text in parquet is as it was."""
    ds = hf_dataset(N, 3).remove_columns("true_label").cast_column("label", ClassLabel(names=["1.1", "1.10", "2"]))
    (tmp_path / "t.csv").write_text("row,label\n0,2.0\n1,1.10\n2,1.1\n")
    with pytest.raises(CuratorError, match=r"row 2 .* '1.1', which may be any of the classes '1.1', '1.10'; give"):
        load_table(ds, trusted=tmp_path / "t.csv")
    pq.write_table(pa.table({"row": [0, 1, 2], "label": ["2", "1.10", "1.1"]}), tmp_path / "t.parquet")
    assert verified_of(load_table(ds, trusted=tmp_path / "t.parquet")) == {0: 2, 1: 1, 2: 0}


def test_a_journal_has_names_and_no_numbers(rows, tmp_path):
    path = tmp_path / "review.sqlite"
    with closing(Journal(path, {"classes": ["0", "1", "2"], "dataset": "dataset", "split": "train"})) as journal:
        journal.save([{"key": "1", "kind": "do", "rows": [(0, "keep", "1")]}], "ann")
    with pytest.raises(CuratorError, match="row 0 has the label '1', which is not a class"):
        load_table(rows, trusted=path)


@pytest.mark.parametrize("values", [["class 1", "class 0"], [1, 0]])
def test_a_parquet_file(rows, tmp_path, values):
    pq.write_table(pa.table({"row": [9, 3], "label": values}), tmp_path / "t.parquet")
    assert verified_of(load_table(rows, trusted=str(tmp_path / "t.parquet"))) == {9: 1, 3: 0}


def test_names_come_before_numbers_and_formulas_are_names(rows, tmp_path):
    ds = rows.remove_columns("true_label").cast_column("label", ClassLabel(names=["1", "0", "=x"]))
    (tmp_path / "t.csv").write_text("row,label\n1,1\n2,0\n4,'=x\n5,=x\n")
    assert verified_of(load_table(ds, trusted=tmp_path / "t.csv")) == {1: 0, 2: 1, 4: 2, 5: 2}


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_review_journal(rows, tmp_path, as_folder):
    path = tmp_path / "review.sqlite"
    facts = {"classes": ["class 0", "class 1", "class 2"], "dataset": "dataset", "split": "train"}
    decided = [(0, "keep", "class 0"), (4, "relabel", "class 2"), (5, "drop", None), (6, "unsure", None)]
    with closing(Journal(path, facts)) as journal:
        journal.save([{"key": "1", "kind": "do", "rows": decided}], "ann")
        journal.save([{"key": "2", "kind": "do", "rows": [(0, "relabel", "class 1"), (7, "keep", "class 1")]}], "ben")
        table = load_table(rows, trusted=tmp_path if as_folder else path)  # while it is open
    assert verified_of(table) == {4: 2, 7: 1}
    assert "review journal review.sqlite (1 keep, 1 relabel, 1 drop, 1 unsure, 1 conflict)" in table.notes[0]
    assert verified_of(load_table(rows, trusted=path)) == {4: 2, 7: 1}  # and when it is closed
    with pytest.raises(CuratorError, match="its rows are of split 'train', this run is of 'test'"):
        load_table(datasets.DatasetDict({"test": rows}), trusted=path)


def test_a_share_of_the_reference(rows):
    table = load_table(rows, trusted=0.2, seed=5)
    found = verified_of(table)
    assert len(found) == 12 and all(rows["true_label"][i] == v for i, v in found.items())
    assert np.bincount(list(found.values())).tolist() == [4, 4, 4]
    assert found == verified_of(load_table(rows, trusted="0.2", seed=5))
    assert found != verified_of(load_table(rows, trusted="0.2", seed=6))
    injected = load_table(rows.remove_columns("true_label"), label_noise="sym:0.5", trusted=0.5, seed=1)
    assert (injected.labels != injected.verified)[injected.trusted].any()


def test_a_sample_keeps_the_ids(rows, tmp_path):
    (tmp_path / "t.csv").write_text("row,label\n" + "".join(f"{i},class 0\n" for i in range(N)))
    table = load_table(rows, limit_rows=20, trusted=tmp_path / "t.csv")
    assert list(verified_of(table)) == table.rows.tolist() and len(table.rows) == 20
    (tmp_path / "t.csv").write_text(f"row,label\n{N - 1},class 0\n0,class 0\n1,class 1\n")
    found = verified_of(load_table(rows, limit_rows=40, trusted=tmp_path / "t.csv", seed=1))
    assert found and set(found) <= {0, 1, N - 1}


BAD = {
    "text": ("row label\n1 2\n", "expected the columns row and label, found row label"),
    "empty": ("", "expected the columns row and label, found none"),
    "row": ("row,label\none,class 1\n", "expected row numbers in column row, as 0 or 17; found 'one'"),
    "outside": ("row,label\n60,class 1\n", "expected rows 0 to 59 of split 'train', found 60"),
    "negative": ("row,label\n-1,class 1\n", "found '-1'"),
    "underscore": ("row,label\n1_0,class 1\n", "expected row numbers in column row, as 0 or 17; found '1_0'"),
    "wide": ("row,label\n１,class 1\n", "found '１'"),
    "space": ("row,label\n 1,class 1\n", "found ' 1'"),
    "plus": ("row,label\n+1,class 1\n", "found '+1'"),
    "float": ("row,label\n1.0,class 1\n", "found '1.0'; of integers with a gap among them pandas makes decimals"),
    "R": ('"row","label"\n"1",5,"class 1"\n"2",6,"class 2"\n', "line 2 has 3 cells, the first line 2"),
    "quote": ('row,label\n1,"class 1"\n3,"class 2\n4,class 1\n', "line 3: a quote begins a cell and does not end"),
    "power": ("row,label\n1e1,class 1\n", "found '1e1'"),
    "long": ("row,label\n" + "9" * 30 + ",class 1\n", "found '99999"),
    "wide label": ("row,label\n3,２\n", "row 3 has the label '２', which is not a class"),
    "twice named": ("row,label,row\n3,class 1,4\n", "it has two columns row; keep one"),
    "field": ("row,label\n3," + "x" * 200_000 + "\n", "field larger than field limit"),
    "lines": ("row,label\n" + "3,class 1\n" * 601, "it has more than 600 lines"),
    "label": ("row,label\n3,clas 1\n", "row 3 has the label 'clas 1', which is not a class; did you mean 'class 1'?"),
    "number": ("row,label\n3,3\n", "row 3 has the label '3', which is not a class"),
    "blank": ("row,label\n3,\n", "row 3 has the label '', which is not a class"),
    "twice": ("row,label\n3,class 1\n3,class 2\n", "row 3 has two labels; keep one"),
    "digits": ("row,label\n3," + "9" * 5000 + "\n", "row 3 has the label '999"),
    "nothing": ("row,label\n", "it names no row of this dataset"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_do_not_fit(rows, tmp_path, name):
    text, expected = BAD[name]
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CuratorError) as e:
        load_table(rows, trusted=tmp_path / "t.csv")
    assert expected in str(e.value) and "--verified" in str(e.value)


def test_formulas_and_what_looks_like_their_cells(tmp_path):
    """Classes =x and '=x in one dataset: a CSV file is what as_cell wrote, parquet holds names as they are."""
    for names, said in (
        (["=x", "'=x"], {"'=x": 0, "''=x": 1, "=x": 0}),
        (["'=x", "b"], {"'=x": 0, "''=x": 0}),  # of an older export, too
    ):
        ds = hf_dataset(N, 2).remove_columns("true_label").cast_column("label", ClassLabel(names=names))
        (tmp_path / "t.csv").write_text("row,label\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(said)))
        assert list(verified_of(load_table(ds, trusted=tmp_path / "t.csv")).values()) == list(said.values())
        pq.write_table(pa.table({"row": range(2), "label": names}), tmp_path / "t.parquet")
        assert verified_of(load_table(ds, trusted=tmp_path / "t.parquet")) == {0: 0, 1: 1}


def bomb(path, **columns):
    """A parquet file that is short, since a value that stands in many rows is written once."""
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 20_000
    return path


POOLS: list[pa.MemoryPool] = []  # they stay: what was made in one may outlive the test


def often(value, kind=None, n=600):
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([value], kind))


@pytest.mark.parametrize("column, words", [
    (often("x", n=10**6), "it has 1,000,000 rows, of which at most 600 can be right"),
    (pa.array([["class 0"]] * 600), "column label has values of type list"),
    (often(b"x" * 10**6), "column label has values of type binary"),
    (pa.array([f"{i}{'x' * 10**6}" for i in range(70)] + ["x"] * 530), "these take 70,"),
    (often("x" * 10**6), "has the label 'xxx"),
])  # fmt: skip
def test_parquet_that_is_the_short_form_of_much(rows, tmp_path, column, words):
    """Read as it is, the last one would be 600 MB."""
    path = bomb(tmp_path / "t.parquet", row=pa.array(np.zeros(len(column), np.int64)), label=column)
    before = pa.default_memory_pool()
    try:
        POOLS.append(pool := pa.proxy_memory_pool(before))
        pa.set_memory_pool(pool)
        with pytest.raises(CuratorError, match=words):
            load_table(rows, trusted=path)
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 2**23


def test_decimals_of_pandas(rows, tmp_path):
    path = bomb(tmp_path / "t.parquet", row=[0.0, 3.0, None], label=["class 0"] * 3)
    with pytest.raises(CuratorError, match="found '0.0'; of integers with a gap among them pandas makes decimals"):
        load_table(rows, trusted=path)


def test_other_columns_of_a_file_are_not_read(rows, tmp_path):
    other = pa.array([["x" * 1000] * 1000] * 3)
    path = bomb(tmp_path / "t.parquet", row=[3, 4, 5], label=["class 0", "class 1", "class 2"], note=other)
    assert verified_of(load_table(rows, trusted=path)) == {3: 0, 4: 1, 5: 2}


def test_damaged_parquet(rows, tmp_path):
    path = bomb(tmp_path / "t.parquet", row=[3, 4], label=["class 0", "class 1"])
    content = path.read_bytes()
    for damaged in (content[:40], content[:-20] + b"\xff" * 12 + content[-8:], content[:4] + bytes(60) + content[64:]):
        path.write_bytes(damaged)
        with pytest.raises(CuratorError, match="--verified .*expected a .*parquet file"):
            load_table(rows, trusted=path)
    schema = pa.schema([pa.field("row", pa.int64()), pa.field("row", pa.int64()), pa.field("label", pa.string())])
    pq.write_table(pa.table([[1], [2], ["class 0"]], schema=schema), path)
    with pytest.raises(CuratorError, match="it has two columns row; keep one"):
        load_table(rows, trusted=path)


def test_what_is_none_of_the_forms(rows, tmp_path):
    for trusted, expected in {
        "lable": "found neither a column nor a file lable; did you mean 'label'",
        "label": "--verified label: expected a boolean column, found ClassLabel",
        "1.5": "expected a fraction between 0 and 1, found 1.5",
        str(tmp_path): "the folder holds no review.sqlite; review the run first",
        "x" * 5000: "it cannot be read (File name too long)",
    }.items():
        with pytest.raises(CuratorError) as e:
            load_table(rows, trusted=trusted)
        assert expected in str(e.value)
    with pytest.raises(CuratorError, match="the true labels, which are not known"):
        load_table(rows.remove_columns("true_label"), trusted=0.1)
    pq.write_table(pa.table({"row": ["a"], "label": ["class 0"]}), tmp_path / "t.parquet")
    with pytest.raises(CuratorError, match="expected row numbers in column row, as 0 or 17; found 'a'"):
        load_table(rows, trusted=tmp_path / "t.parquet")


def test_a_run_keeps_the_verified_labels(rows, tmp_path, capsys):
    """The column rule, the counts of the report, and the figures over the other rows."""
    rows.to_parquet(tmp_path / "train.parquet")
    wrong = [i for i in range(N) if rows["label"][i] != rows["true_label"][i]][:5]
    right = [i for i in range(N) if rows["label"][i] == rows["true_label"][i]][:5]
    lines = "".join(f"{i},{rows['true_label'][i]}\n" for i in wrong + right)
    (tmp_path / "t.csv").write_text("row,label\n" + lines)
    argv = ["--dataset", str(tmp_path / "train.parquet"), "--method", "ce", "--method.epochs", "1"]
    argv += ["--verified", str(tmp_path / "t.csv"), "--output", str(tmp_path / "out")]
    assert main(["clean", *argv, "--flag-worst", "55"]) == 0
    printed = capsys.readouterr()
    assert "10 verified rows (t.csv), of which 5 were given another label" in printed.err
    assert "10 rows were verified" in printed.out
    out = datasets.load_dataset(str(tmp_path / "out"), split="train")
    for i in wrong + right:
        assert out["corrected_label"][i] == rows["true_label"][i]
        assert out["selected"][i] == (i in right) and out["clean_score"][i] == float(i in right)
        assert out["label"][i] == rows["label"][i]
    facts = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert facts["trusted"]["count"] == 10 and facts["trusted"]["relabelled"] == 5 and facts["trusted"]["hash"]
    rest = [i for i in range(N) if i not in wrong + right]
    accuracy = np.mean([out["corrected_label"][i] == rows["true_label"][i] for i in rest])
    assert facts["metrics"]["label_accuracy_after"] == pytest.approx(accuracy)
    assert "10 rows are verified" in (tmp_path / "out" / "report" / "report.md").read_text()
    assert "| rows verified before the run | 10 |" in (tmp_path / "out" / "README.md").read_text()
    assert "--verified" in (tmp_path / "out" / "README.md").read_text()


def test_an_interrupted_run_wants_the_same_rows(rows, tmp_path, capsys, monkeypatch):
    """The file may have grown since; its name is the same."""
    rows.to_parquet(tmp_path / "train.parquet")
    (tmp_path / "t.csv").write_text("row,label\n1,class 1\n")
    argv = ["clean", "--dataset", str(tmp_path / "train.parquet"), "--method", "ce", "--method.epochs", "3"]
    argv += ["--verified", str(tmp_path / "t.csv"), "--output", str(tmp_path / "out")]
    from curator.engine.run import Run

    def stop(self):
        checkpoint(self)
        raise KeyboardInterrupt

    checkpoint = Run.checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(Run, "checkpoint", stop)
        assert main(argv) == 130
    (tmp_path / "t.csv").write_text("row,label\n1,class 1\n2,class 0\n")
    assert main(argv) == 2
    assert "the rows of --verified changed since its run was interrupted" in capsys.readouterr().err
    (tmp_path / "t.csv").write_text("row,label\n1,class 1\n")
    assert main(argv) == 0


def test_trusted_from_python_and_in_ensembles(rows, tmp_path):
    flags = {"epochs": 1, "trusted": 0.5, "seed": 2}
    found = curator.curate(rows, ensemble="ce,mixup", output=tmp_path / "a", **flags)
    trusted = load_table(rows, trusted=0.5, seed=2).trusted
    assert np.array_equal(np.array(found["corrected_label"])[trusted], np.array(rows["true_label"])[trusted])
