"""Decisions from a CSV and from cleanlab's own tables."""

import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel

import curator
from curator.cli.main import main
from curator.errors import CuratorError
from curator.result.read import Rows
from curator.review.imports import import_decisions
from curator.review.session import Session
from tests.conftest import hf_dataset
from tests.review.serving import verified


@pytest.fixture
def run(tmp_path):
    curator.curate(hf_dataset(60, 3, 0.3), method="ce", epochs=1, output=tmp_path / "out")
    return tmp_path / "out"


def test_verified_rows_from_a_csv(run, tmp_path, capsys):
    rows = Rows(run)
    other = [(int(g) + 1) % 3 for g in rows.given]
    wanted = {3: rows.classes[rows.given[3]], 5: rows.classes[other[5]], 7: rows.classes[other[7]]}
    (tmp_path / "by ann.csv").write_text(f"label,row\n{wanted[3]},3\n{wanted[5]},5\n{other[7]},7\n")
    assert main(["import", str(run), str(tmp_path / "by ann.csv")]) == 0
    assert "1 rows kept, 2 relabelled" in capsys.readouterr().out
    assert verified(run / "review.sqlite") == wanted
    session = Session([run])
    with closing(session.journal):
        assert session.journal.decision(5, "by ann").action == "relabel"
        assert len(session.journal.history("by ann")[0]) == 1  # one step: the page can take it back
    assert main(["import", str(run), str(tmp_path / "by ann.csv")]) == 0  # twice is once
    (tmp_path / "other.csv").write_text("row,label\n5,class 0\n" if other[5] else "row,label\n5,class 2\n")
    assert main(["import", str(run), str(tmp_path / "other.csv"), "--reviewer", "eve"]) == 0
    assert main(["import", str(run), str(tmp_path / "by ann.csv"), "--reviewer", "eve"]) == 0  # counts again
    session = Session([run])
    with closing(session.journal):
        assert session.journal.decision(5, "eve").label == wanted[5]
    assert main(["import", str(run), str(tmp_path / "by ann.csv"), "--reviewer", "ben"]) == 0
    session = Session([run])
    with closing(session.journal):
        assert session.journal.reviewers() == {"by ann": 3, "ben": 3, "eve": 3}
        assert len(session.journal.history("by ann")[0]) == 1


@pytest.mark.parametrize("form", ["find_label_issues", "datalab"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_cleanlab(run, tmp_path, form, kind):
    """Made by cleanlab itself, on the run's soft labels."""
    rows = Rows(run)
    probs = rows.soft(np.arange(60))
    if form == "datalab":
        datalab = pytest.importorskip("cleanlab.datalab.datalab")
        lab = datalab.Datalab({"label": rows.given.tolist()}, label_name="label", verbosity=0)
        one_process = {"find_label_issues_kwargs": {"n_jobs": 1}}  # a fork beside torch's threads can hang
        lab.find_issues(pred_probs=probs, issue_types={"label": {"clean_learning_kwargs": one_process}})
        table = lab.get_issues("label")
    else:
        from cleanlab.classification import CleanLearning

        table = CleanLearning(find_label_issues_kwargs={"n_jobs": 1}).find_label_issues(
            labels=rows.given, pred_probs=probs
        )
    path = tmp_path / f"issues.{kind}"
    table.to_csv(path) if kind == "csv" else table.to_parquet(path)
    assert main(["import", str(run), str(path)]) == 0
    flagged = np.flatnonzero(table["is_label_issue"])
    assert len(flagged) and verified(run / "review.sqlite") == {
        int(i): rows.classes[table["predicted_label"].iloc[i]] for i in flagged
    }


def test_what_does_not_fit(run, tmp_path, capsys):
    given = Rows(run).given
    issues = {"is_label_issue": given == 0, "predicted_label": (given + 1) % 3, "given_label": given}
    files = {
        "row,label\n60,class 1\n": "the run has no row 60; its rows are 0 to 59",
        "row,label\n3,clas 1\n": "did you mean 'class 1'",
        "row,label\n3,class 1\n3,class 2\n": "row 3 has two labels",
        "line,label\n": "expected the columns row and label",
        "row,label\n1_0,class 1\n": "expected row numbers in column row, as 0 or 17; found '1_0'",
        "row,label,label\n1,class 1,class 2\n": "it has two columns label; keep one",
        "row,label\n" + "1,class 1\n" * 601: "it has more than 600 lines",
        "row,label\n": "it contains no decisions",
        "row,label\n1\n": "row 1 has the label None, which is not a class",
        "is_label_issue,label\nTrue,1\n": "expected a column predicted_label",
        pd.DataFrame(issues).iloc[:9].to_csv(index=False): "or one line for each of the 60 rows; found 9",
        pd.DataFrame({**issues, "given_label": (given + 1) % 3}).to_csv(): "it is a table of other rows",
    }
    for text, expected in files.items():
        (tmp_path / "t.csv").write_text(text)
        assert main(["import", str(run), str(tmp_path / "t.csv")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert expected in line
    assert not (run / "review.sqlite").exists()
    with sqlite3.connect(tmp_path / "mine.sqlite") as mine:
        mine.execute("CREATE TABLE things (x)")
    (tmp_path / "t.csv").write_text("row,label\n1,class 1\n")
    with pytest.raises(CuratorError, match="found another database"):
        import_decisions(run, tmp_path / "t.csv", journal=tmp_path / "mine.sqlite")
    assert mine.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    with pytest.raises(CuratorError, match="no such file"):
        import_decisions(run, tmp_path / "none.csv")


NUMBERED = ["02", "1", "10"]  # sorted as text: neither positions nor values in order


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A run whose classes have numbers for names."""
    folder = tmp_path_factory.mktemp("numbered")
    data = hf_dataset(60, 3, 0.3).remove_columns("true_label").cast_column("label", ClassLabel(names=NUMBERED))
    curator.curate(data, method="ce", epochs=1, output=folder / "run")
    return folder / "run"


@pytest.mark.parametrize("written", [
    lambda code: code,  # CleanLearning's, of class numbers
    lambda code: NUMBERED[code],
    lambda code: int(NUMBERED[code]),  # the same through pandas
], ids=["numbers", "names", "values"])  # fmt: skip
def test_a_table_is_read_by_its_given_labels(numbered, tmp_path, written):
    """Whether labels are names or numbers of classes is told by the file as a whole, and the suggestions follow."""
    given = Rows(numbered).given
    other = (given + 1) % 3
    table = {
        "is_label_issue": np.arange(60) < 3,
        "predicted_label": [written(c) for c in other],
        "given_label": [written(c) for c in given],
    }
    pd.DataFrame(table).to_csv(tmp_path / "t.csv")
    import_decisions(numbered, tmp_path / "t.csv", journal=tmp_path / "j.sqlite")
    assert verified(tmp_path / "j.sqlite") == {i: NUMBERED[other[i]] for i in range(3)}


def test_a_table_that_does_not_tell_names_from_numbers(numbered, tmp_path):
    (tmp_path / "t.csv").write_text(",is_label_issue,predicted_label\n0,True,2\n1,False,1\n")
    with pytest.raises(CuratorError, match="its labels, as '2', may be names of classes or their numbers"):
        import_decisions(numbered, tmp_path / "t.csv", journal=tmp_path / "j.sqlite")
    (tmp_path / "t.csv").write_text(",is_label_issue,predicted_label\n0,True,2\n1,True,10\n")  # 10: a name alone
    import_decisions(numbered, tmp_path / "t.csv", journal=tmp_path / "j.sqlite")
    assert verified(tmp_path / "j.sqlite") == {0: "02", 1: "10"}
    assert not (numbered / "review.sqlite").exists()


def test_labels_of_a_spreadsheet_are_names(numbered, tmp_path):
    (tmp_path / "t.csv").write_text("row,label\n0,2\n1,10\n2,1\n")
    import_decisions(numbered, tmp_path / "t.csv", journal=tmp_path / "j.sqlite")
    assert verified(tmp_path / "j.sqlite") == {0: "02", 1: "10", 2: "1"}
    (tmp_path / "t.csv").write_text("row,label\n0,0\n")
    with pytest.raises(CuratorError, match="row 0 has the label '0', which is not a class: where names of classes are"):
        import_decisions(numbered, tmp_path / "t.csv", journal=tmp_path / "j.sqlite")
