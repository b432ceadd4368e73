"""Folders of runs that somebody has changed: whoever reads one says in a line what is wrong, or works."""

import contextlib
import io
import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curator.cli.main import main
from curator.errors import CuratorError
from curator.result.facts import read_facts
from curator.review.session import Session
from tests.review.serving import shown


def facts(change):
    """A change of curation.json's value."""

    def spoil(run: Path) -> None:
        path = run / "curation.json"
        value = json.loads(path.read_text())
        value = change(value) or value
        path.write_text(json.dumps(value))

    return spoil


def text(change):
    """A change of curation.json's text."""

    def spoil(run: Path) -> None:
        path = run / "curation.json"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def table(change, name: str = "data"):
    """A change of the data's table, or of another parquet file's."""

    def spoil(run: Path) -> None:
        path = next((run / "data").iterdir()) if name == "data" else run / name
        pq.write_table(change(pq.read_table(path)), path)

    return spoil


def file(name: str, kind: str):
    """Something else in a file's place."""

    def spoil(run: Path) -> None:
        path = next((run / "data").iterdir()) if name == "data" else run / name
        content = path.read_bytes()
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "large":
            with open(path, "wb") as sparse:
                sparse.truncate(2 * 2**30)
        elif kind != "missing":
            path.write_bytes({
                "empty": b"", "cut": content[: len(content) * 2 // 3], "binary": bytes(range(256)) * 4,
            }[kind])  # fmt: skip

    return spoil


def column(name: str, values) -> object:
    return table(lambda t: t.set_column(t.column_names.index(name), name, values(t[name])))


def described(change):
    """A change of what the metadata say of the columns."""

    def of(t: pa.Table) -> pa.Table:
        features = json.loads(t.schema.metadata[b"huggingface"])
        change(features["info"]["features"])
        return t.replace_schema_metadata({"huggingface": json.dumps(features)})

    return table(of)


def deep(levels: int) -> bytes:
    return b'{"a": ' * levels + b"1" + b"}" * levels


VALUES = [None, True, -1, 10**400, 1.5, "text", "\ud800", [], ["image"], {}, {"a": {"b": []}}, float("nan")]
READ = [
    "method", "recipe", "dataset", "name", "source", "split", "image_column", "label_column", "reference_column", "n",
    "classes", "settings", "command", "seed", "trusted", "estimated_noise_rate", "selected", "changed", "versions",
    "quarantined", "settings.column_prefix", "settings.features_column", "settings.label_noise", "settings.revision",
    "trusted.count", "source.id", "versions.label-curator",
]  # fmt: skip
TAMPERED = {
    "empty": text(lambda t: b""),
    "no JSON": text(lambda t: b"{"),
    "cut": text(lambda t: t[:-40]),
    "binary": text(lambda t: bytes(range(256))),
    "UTF-16": text(lambda t: t.decode().encode("utf-16")),
    "a list": text(lambda t: b"[]"),
    "a number": text(lambda t: b"5"),
    "no fact": text(lambda t: b"{}"),
    "deep": text(lambda t: deep(500)),
    "deeper": text(lambda t: deep(200_000)),
    "deep inside": text(lambda t: t.rstrip()[:-1] + b', "x": ' + deep(40) + b"}"),
    "a number of a million digits": text(lambda t: t.rstrip()[:-1] + b', "x": ' + b"9" * 10**6 + b"}"),
    "twice": text(lambda t: t.rstrip()[:-1] + b', "n": 40}'),
    "half a character": text(lambda t: t.rstrip()[:-1] + b', "x": "\\ud800"}'),
    "half a character in a name": text(lambda t: t.rstrip()[:-1] + b', "\\ud800": 1}'),
    **{f"a {kind}": file("curation.json", kind) for kind in ("folder", "pipe", "loop", "device", "large", "missing")},
    "a version": facts(lambda f: f.update(published={"policy": "relabel"})),
    "a version that is none": facts(lambda f: f.update(published=5)),
    "another split": facts(lambda f: f.update(split="test")),
    "a split that is a path": facts(lambda f: f.update(split="../train")),
    "a long split": facts(lambda f: f.update(split="x" * 10_000)),
    "a column that is not there": facts(lambda f: f.update(image_column="nothing")),
    "an image column of numbers": facts(lambda f: f.update(image_column="row")),
    "a label column of images": facts(lambda f: f.update(label_column="image")),
    "a label column that is not there": facts(lambda f: f.update(label_column="nothing")),
    "a reference that is not there": facts(lambda f: f.update(reference_column="nothing")),
    "features that are not there": facts(lambda f: f["settings"].update(features_column="nothing")),
    "another prefix": facts(lambda f: f["settings"].update(column_prefix="x_")),
    "other rows": facts(lambda f: f.update(n=39)),
    "other classes": facts(lambda f: f.update(classes=4)),
    "more selected than rows": facts(lambda f: f.update(selected=10**9)),
    **{f"data {kind}": file("data", kind) for kind in ("folder", "pipe", "loop", "empty", "cut", "binary", "missing")},
    "data with fewer rows": table(lambda t: t.slice(0, 30)),
    "data with no row": table(lambda t: t.slice(0, 0)),
    "data twice": table(lambda t: pa.concat_tables([t, t])),
    "data without a column": table(lambda t: t.drop_columns(["teacher_soft_label"])),
    "data with a column twice": table(lambda t: t.append_column("row", t["row"])),
    "data without metadata": table(lambda t: t.replace_schema_metadata(None)),
    "metadata that are no JSON": table(lambda t: t.replace_schema_metadata({"huggingface": b"{"})),
    "metadata of something else": table(lambda t: t.replace_schema_metadata({"huggingface": b'{"info": []}'})),
    "deep metadata": table(lambda t: t.replace_schema_metadata({"huggingface": deep(9000)})),
    "metadata without a column": described(lambda f: f.pop("row")),
    "a column described by a number": described(lambda f: f.update(label=5)),
    "class names that are lists": described(lambda f: f["corrected_label"].update(names=[[1], [2], [3]])),
    "class names with half characters": described(lambda f: f["corrected_label"].update(names=["\ud800", "b", "c"])),
    "class names that are one": described(lambda f: f["corrected_label"].update(names=["a", "a", "a"])),
    "other class names": described(lambda f: f["corrected_label"].update(names=["a", "b", "c"])),
    "an unknown type": described(lambda f: f["label"].update(_type="Nothing", names=None)),
    "scores as text": column("clean_score", lambda c: c.cast(pa.string())),
    "scores above 1": column("clean_score", lambda c: pa.array(np.full(len(c), 2, np.float32))),
    "scores that are NaN": column("clean_score", lambda c: pa.array(np.full(len(c), np.nan, np.float32))),
    "missing scores": column("clean_score", lambda c: pa.nulls(len(c), pa.float32())),
    "flags as numbers": column("selected", lambda c: c.cast(pa.int64())),
    "a class too many": column("corrected_label", lambda c: pa.array(np.full(len(c), 3))),
    "a class below zero": column("corrected_label", lambda c: pa.array(np.full(len(c), -7))),
    "labels beyond the classes": column("label", lambda c: pa.array(np.full(len(c), 99))),
    "labels as numbers with points": column("label", lambda c: c.cast(pa.float64())),
    "rows downwards": column("row", lambda c: pa.array(np.arange(len(c))[::-1])),
    "rows below zero": column("row", lambda c: pa.array(np.arange(len(c)) - 5)),
    "rows all the same": column("row", lambda c: pa.array(np.zeros(len(c), np.int64))),
    "missing rows": column("row", lambda c: pa.nulls(len(c), pa.int64())),
    "a shorter soft label": column(
        "teacher_soft_label", lambda c: pa.array([[1.0]] * len(c), pa.list_(pa.float32(), 1))
    ),
    "a soft label that is NaN": column(
        "teacher_soft_label", lambda c: pa.array([[np.nan] * 3] * len(c), pa.list_(pa.float32(), 3))
    ),
    "images as text": column("image", lambda c: pa.array(["x"] * len(c))),
    "images without bytes": column("image", lambda c: pa.array([{"path": "x"}] * len(c))),
    **{f"trusted {kind}": file("trusted.parquet", kind) for kind in ("folder", "pipe", "loop", "empty", "cut")},
    "trusted of an unknown class": table(lambda t: pa.table({"row": [3], "label": ["nothing"]}), "trusted.parquet"),
    "trusted without labels": table(lambda t: t.drop_columns(["label"]), "trusted.parquet"),
    "trusted rows as text": table(lambda t: pa.table({"row": ["x"], "label": ["class 0"]}), "trusted.parquet"),
    "trusted with missing values": table(
        lambda t: pa.table({"row": [3, None], "label": ["class 0"] * 2}), "trusted.parquet"
    ),
    "more trusted rows than rows": table(
        lambda t: pa.table({"row": np.zeros(10**6, np.int64), "label": ["class 0"] * 10**6}), "trusted.parquet"
    ),
    **{f"duplicates {kind}": file("duplicates.parquet", kind) for kind in ("folder", "pipe", "empty", "cut")},
    "duplicates of unknown rows": table(lambda t: pa.table({"row": [99], "group": [0]}), "duplicates.parquet"),
    "duplicates as text": table(lambda t: pa.table({"row": ["x"], "group": ["y"]}), "duplicates.parquet"),
    **{f"features {kind}": file("features.npy", kind) for kind in ("folder", "pipe", "loop", "device", "empty", "cut")},
    "issues missing": file("issues.csv", "missing"),
    "issues binary": file("issues.csv", "binary"),
    "issues empty": file("issues.csv", "empty"),
    "issues a pipe": file("issues.csv", "pipe"),
    "issues that are none": lambda run: (run / "issues.csv").write_text("a,b\n\nx,y\n"),
    "card missing": file("README.md", "missing"),
    "card binary": file("README.md", "binary"),
    "card a pipe": file("README.md", "pipe"),
    "report binary": file("report/report.md", "binary"),
    "report missing": lambda run: shutil.rmtree(run / "report"),
    "report a file": lambda run: (shutil.rmtree(run / "report"), (run / "report").write_text("x")),
}  # fmt: skip


def look(run: Path) -> None:
    """What the page reads: a view, a row large, nearest rows, duplicates, soft labels, the truth."""
    session = Session([run])
    with closing(session.journal):
        state = session.hello({}, "ann")
        for order in state["orders"]:
            opened = session.open({"order": order, "show": "all"}, "ann")
            session.page({"token": opened["token"], "number": 0}, "ann")
        session.detail({"row": 0}, "ann")
        session.matrix({}, "ann")
        session.save(
            {**shown(session), "steps": [{"key": "a-step-of-ann", "kind": "do", "rows": [[1, "drop", None]]}]}, "ann"
        )
        session.rows.duplicates, session.rows.trusted, session.rows.truth, session.rows.margin  # noqa: B018


def commands(run: Path, good: Path) -> list[list[str]]:
    decisions = run.parent / "decisions.csv"
    decisions.write_text("row,label\n1,class 0\n")
    return [
        ["import", str(run), str(decisions)],
        ["publish", str(run), str(run.parent / "relabel"), "--policy", "relabel"],
        ["publish", str(run), str(run.parent / "filter"), "--policy", "filter", "--format", "imagefolder"],
        ["diff", str(run), str(good)],
    ]


def read_by_everybody(run: Path, good: Path) -> list[int]:
    """The exit codes of all that read a run's folder; each is 0, or 2 with one line."""
    codes = []
    try:
        look(run)
        codes.append(0)
    except CuratorError as e:
        assert "\n" not in str(e) and len(str(e)) < 1500, str(e)
        codes.append(2)
    for words in commands(run, good):
        error = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
            codes.append(main(words))
        assert codes[-1] in (0, 2), (words, error.getvalue())
        if codes[-1]:
            last = error.getvalue().splitlines()[-1]
            assert last.startswith("error: ") and str(run) in last or "--format" in last, (words, error.getvalue())
            assert not [p for p in run.parent.iterdir() if p.name.startswith(".curator")]
    return codes


@pytest.mark.parametrize("spoil", TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_run_is_refused_in_a_line_or_works(small_run, tmp_path, spoil):
    shutil.copytree(small_run, tmp_path / "run")
    spoil(tmp_path / "run")
    read_by_everybody(tmp_path / "run", small_run)


def changed(run: Path, name: str, value: object) -> None:
    """Give a fact another value."""
    found = json.loads((run / "curation.json").read_text())
    head, _, last = name.rpartition(".")
    (found[head] if head else found)[last] = value
    (run / "curation.json").write_text(json.dumps(found))


@pytest.mark.parametrize("name", READ)
def test_a_fact_of_another_type_is_refused_by_its_name(small_run, tmp_path, name):
    taken = []
    for value in VALUES:
        (tmp_path / "curation.json").write_bytes((small_run / "curation.json").read_bytes())
        changed(tmp_path, name, value)
        try:
            read_facts(tmp_path)
            taken.append(value)
        except CuratorError as e:
            assert "\n" not in str(e) and len(str(e)) < 800 and str(tmp_path) in str(e)
            assert name in str(e) or "surrogates" in str(e)
    for i, value in enumerate(taken):  # and if not, everybody can do with it
        (tmp_path / str(i)).mkdir()
        shutil.copytree(small_run, tmp_path / str(i) / "run")
        changed(tmp_path / str(i) / "run", name, value)
        read_by_everybody(tmp_path / str(i) / "run", small_run)


def test_a_whole_run_is_read_by_all(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    assert read_by_everybody(tmp_path / "run", small_run) == [0] * 5


def test_numbers_that_json_has_not_are_none(tmp_path, small_run):
    value = json.loads((small_run / "curation.json").read_text()) | {"mfu": float("nan")}
    (tmp_path / "curation.json").write_text(json.dumps(value).replace('"seconds"', '"more": 1e999, "seconds"'))
    found = read_facts(tmp_path)
    assert found["mfu"] is None and found["more"] is None and found["n"] == 40
