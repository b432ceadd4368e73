"""Two runs, two versions, a run and a version: rows, labels and flags that differ."""

import csv

import datasets
import pytest

import curator
from curator.cli.main import main
from tests.conftest import hf_dataset


def rows_of(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def columns(folder) -> dict[int, tuple[str, str, str]]:
    """Label, corrected label and flag of every row, as the CSV writes them."""
    data = datasets.load_dataset(str(folder), split="train")
    names = data.features["corrected_label"].names
    return {
        row: (f"kind {label}", names[corrected], str(selected))
        for row, label, corrected, selected in zip(
            *(data[c] for c in ("row", "label", "corrected_label", "selected")), strict=True
        )
    }


@pytest.fixture(scope="module")
def versions(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    for policy in ("relabel", "filter"):
        assert main(["publish", str(run), str(folder / policy), "--policy", policy]) == 0
    return folder


def test_a_run_and_its_versions(run, versions, tmp_path, capsys):
    found = {"run": columns(run), **{policy: columns(versions / policy) for policy in ("relabel", "filter")}}
    paths = {"run": run, "relabel": versions / "relabel", "filter": versions / "filter"}
    for a, b in (("run", "relabel"), ("relabel", "filter"), ("filter", "run"), ("run", "run")):
        capsys.readouterr()
        assert main(["diff", str(paths[a]), str(paths[b]), "--csv", str(tmp_path / "d.csv")]) == 0
        text, lines = capsys.readouterr().out, rows_of(tmp_path / "d.csv")
        one, other = found[a], found[b]
        same = {row for row in one.keys() & other.keys() if one[row] == other[row]}
        assert {int(line["row"]) for line in lines} == (one.keys() | other.keys()) - same
        for line in lines:
            row = int(line["row"])
            assert line["in"] == ("both" if row in one and row in other else "a" if row in one else "b")
            names = ("label", "corrected_label", "selected")
            for side, values in (("a", one.get(row)), ("b", other.get(row))):
                assert [line[f"{name}_{side}"] for name in names] == list(values or ("", "", ""))
        both = one.keys() & other.keys()
        labels = sum(one[row][0] != other[row][0] for row in both)
        assert f"labels      {labels:,} of {len(both):,} differ" in text
        assert f"{len(one.keys() - other.keys()):,} only in A, {len(other.keys() - one.keys()):,} only in B" in text
        assert f"{len(lines):,} rows written" in text


def test_two_runs_and_the_hub(run, hub, tmp_path, capsys):
    rows = datasets.load_dataset(str(run)).remove_columns(
        ["clean_score", "selected", "corrected_label", "teacher_soft_label", "row", "typicality", "ambiguous"]
    )
    curator.curate(rows, method="mixup", epochs=2, output=tmp_path / "other", column_prefix="c_")
    capsys.readouterr()
    assert main(["diff", str(run), str(tmp_path / "other")]) == 0
    text = capsys.readouterr().out
    assert "labels      0 of 200 differ" in text and " flagged only in B, " in text and "mixup, seed 123" in text
    assert main(["publish", str(run), "me/curated", "--policy", "annotate"]) == 0
    assert main(["publish", str(run), "me/curated", "--policy", "relabel"]) == 0
    hub.seen.clear()
    assert main(["diff", "me/curated@v1", "me/curated"]) == 0
    text = capsys.readouterr().out
    assert "me/curated@v1: 200 rows, ce, seed 123, annotate" in text and "labels      0 of" not in text
    assert not [path for path in hub.seen if "test-0" in path]  # other splits are not read
    assert main(["diff", str(run), "me/curated@v1"]) == 0
    assert "labels      0 of 200 differ" in capsys.readouterr().out


def test_what_cannot_be_compared(run, hub, tmp_path, capsys, monkeypatch):
    def error(*words: object) -> str:
        assert main(["diff", *map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "expected the folder of a run" in error(run, tmp_path)
    assert "expected a Hub id" in error(run, "curated")
    assert "me/none" in error(run, "me/none")
    assert "--csv" in error(run, run, "--csv", tmp_path / "no" / "d.csv")
    assert "--csv" in error(run, run, "--csv", ".")
    assert "~nosuchuser" in error(run, "~nosuchuser/x")
    for content in ("[]", "5", "{}"):
        (tmp_path / "curation.json").write_text(content)
        assert "expected the folder of a run" in error(run, tmp_path)
    assert main(["publish", str(run), "me/curated"]) == 0
    capsys.readouterr()
    hub.fail("GET", "/tree/", 0, times=100)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert "the connection was cut" in error(run, "me/curated")
    hub.faults.clear()
    curator.curate(datasets.DatasetDict({"all": hf_dataset(60, 3)}), method="ce", epochs=1, output=tmp_path / "o")
    capsys.readouterr()
    assert "expected two of the same split" in error(run, tmp_path / "o")
