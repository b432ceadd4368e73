"""A pull request changes label cells in a source's own files of every kind, and refuses what it cannot change so."""

import csv
import gzip
import io
import json
import lzma
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value

import curator
from curator.errors import CuratorError
from curator.publish.hub import publish
from curator.result.facts import FACTS
from curator.result.read import Rows
from tests.conftest import hf_dataset
from tests.publish.test_source import content, decide, upload
from tests.texts import encode

N, CHANGED = 12, (1, 4, 7)
TEXTS = [f'{i} says "é", ;\t|' + "\n" * (i == 5) + "x" for i in range(N)]
WORDS, NUMBERS = ["né", "cat, big", "dog"], ["01", "02", "10"]


def lines(labels, text=TEXTS, sep=",", end="\n", **how) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=sep, lineterminator=end, **how)
    writer.writerows([("n", "text", "label"), *zip(range(len(labels)), text, labels, strict=True)])
    return file.getvalue().encode()


def objects(labels, text=TEXTS, **how) -> list[str]:
    return [
        json.dumps({"text": t, "label": label, "in": {"label": 1}}, **how)
        for t, label in zip(text, labels, strict=True)
    ]


def card(config: str) -> bytes:
    return f"---\nconfigs:\n- config_name: default\n  data_files: 'rows/*'\n  {config}\n---\n# Mine\n".encode()


# Files of the texts with some labels: what must come out is what they are with the new ones.
FILES = {
    "of a spreadsheet": (WORDS, lambda labels: {
        "README.md": card('sep: ";"'),
        "rows/a.csv": b"\xef\xbb\xbf" + lines(labels, sep=";", end="\r\n", quoting=csv.QUOTE_ALL).rstrip(),
    }),
    "two of tabs, and a test split": (WORDS, lambda labels: {
        "train/2.tsv": lines(labels[:5], TEXTS[:5], "\t") + b"\n \n", "train/3.tsv": lines(labels[5:], TEXTS[5:], "\t"),
        "test/1.tsv": lines(WORDS, TEXTS[:3], "\t"), "notes.txt": b"mine",
    }),
    "numbers with zeros": (NUMBERS, lambda labels: {"train.csv": lines(labels)}),
    "no line of names": (WORDS, lambda labels: {
        "README.md": card("column_names: [n, text, label]"), "rows/a.csv": lines(labels).partition(b"\n")[2],
    }),
    "of a later configuration": (WORDS, lambda labels: {
        "README.md": b"---\nconfigs:\n- config_name: one\n  data_files: a.csv\n- config_name: two\n  default: true\n"
        b"  data_files: b/*.csv\n---\n", "a.csv": b"x\n1\n", "b/1.csv": lines(labels),
    }),
    "packed": (WORDS, lambda labels: {"a.jsonl.gz": gzip.compress("\n".join(objects(labels)).encode(), mtime=7)}),
    "in Windows' letters": (WORDS, lambda labels: {
        "README.md": card("encoding: cp1252"), "rows/a.csv": lines(labels).decode().encode("cp1252"),
    }),
    "JSON lines": (WORDS, lambda labels: {
        "a.jsonl": "\r\n".join(objects(labels[:6], TEXTS[:6])).encode(),
        "b.jsonl": "\n".join(objects(labels[6:], TEXTS[6:], separators=(" ,", ":"))).encode() + b"\n\n",
    }),
    "a list of JSON": (WORDS, lambda labels: {
        "train.json": b"[\n  " + ",\n  ".join(objects(labels, ensure_ascii=False)).encode() + b"\n]",
    }),
    "numbers of JSON": (NUMBERS, lambda labels: {"a.ndjson": "\n".join(objects([*map(int, labels)])).encode()}),
}  # fmt: skip


def given(words) -> list[str]:
    return [words[i % 3] for i in range(N)]


def run_of(folder, words):
    """A finished run as of the texts in me/source, in which rows were given the class of the next row."""
    number = words is NUMBERS
    labels = [*map(int, given(words))] if number else given(words)
    features = Features({"text": Value("string"), "label": Value("int64" if number else "string")})
    rows = Dataset.from_dict({"text": TEXTS, "label": labels}, features=features)
    np.save(folder / "p.npy", np.full((N, 3), 1 / 3, np.float32))
    curator.curate(rows, text_column="text", backbone=encode, pred_probs=folder / "p.npy", output=folder / "run")
    facts = json.loads((folder / "run" / FACTS).read_text())
    (folder / "run" / FACTS).write_text(json.dumps({**facts, "source": {"id": "me/source", "config": None}}))
    classes = Rows(folder / "run").classes
    decide(folder / "run", *([i, "relabel", classes.index(str(labels[i + 1]))] for i in CHANGED))
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("run"), WORDS)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("run"), NUMBERS)


def proposed(run, **how) -> list[str]:
    said = []
    publish(run, "me/source", "relabel", create_pr=True, say=said.append, **how)
    return said


RARE = "numbers with zeros", "in Windows' letters", "numbers of JSON", "a column of columns", "fewer rows"


def kinds(of):
    return [pytest.param(kind, marks=[pytest.mark.slow] * (kind in RARE)) for kind in of]


@pytest.mark.parametrize("kind", kinds(FILES))
def test_cells_of_text_change_alone(hub, request, kind):
    words, build = FILES[kind]
    before, new = given(words), given(words)
    for i in CHANGED:
        new[i] = before[i + 1]
    upload(build(before))
    run = request.getfixturevalue("run" if words is WORDS else "numbers")
    assert "3 labels" in proposed(run)[0]
    assert content(hub, "refs/pr/1") == build(new)


def test_it_is_in_the_name_of_the_token(hub, run):
    """As a Space opens it for who has logged in there, who may not write."""
    upload(FILES["a list of JSON"][1](given(WORDS)))
    hub.tokens_seen.clear()
    proposed(run, token="reader")
    assert set(hub.tokens_seen) == {"Bearer reader"} and "refs/pr/1" in hub.repos["me/source"].pulls


REFUSED = {
    "a later text": ({"a.csv": lines(given(WORDS), [*TEXTS[:7], "other", *TEXTS[8:]])}, "row 7 shows something else"),
    "a later label": ({"a.csv": lines(["dog", *given(WORDS)[1:]])}, "row 0 has another label"),
    "fewer rows": ({"a.csv": lines(given(WORDS)[:5], TEXTS[:5])}, "it has 5 rows, the run is of row 11"),
    "no such column": ({"a.csv": lines(given(WORDS)).replace(b"label", b"kind")}, "a.csv has no column label"),
    "packed otherwise": ({"a.csv.xz": lzma.compress(lines(given(WORDS)))}, "found .xz"),
    "lines that are left out": (
        {"README.md": card("on_bad_lines: skip"), "rows/a.csv": lines(given(WORDS)) + b"1,2,3,4\n"},
        "found 13 rows in its files where datasets reads 12",
    ),
    "inside a field": (
        {"README.md": card("field: data"), "rows/a.json": f'{{"data": [{",".join(objects(given(WORDS)))}]}}'.encode()},
        "inside the field 'data'",
    ),
    "a column of columns": (
        {"a.json": json.dumps({"text": dict(enumerate(TEXTS)), "label": dict(enumerate(given(WORDS)))}).encode()},
        "its column label is struct",
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", kinds(REFUSED))
def test_what_cannot_be_changed_so_is_refused(hub, run, why):
    files, said = REFUSED[why]
    upload(files)
    with pytest.raises(CuratorError, match=f"^me/source: .*{re.escape(said)}") as e:
        proposed(run)
    assert "\n" not in str(e.value) and not hub.repos["me/source"].pulls


def test_labels_that_would_make_another_type_of_the_column(hub, tmp_path):
    """Of a column of one text and else numbers, pandas makes numbers when the text goes."""
    labels = ["x", "x", *"12" * 5]
    upload({"train.csv": lines(labels)})
    np.save(tmp_path / "p.npy", np.full((N, 3), 1 / 3, np.float32))
    curator.curate(
        "me/source", text_column="text", backbone=encode, pred_probs=tmp_path / "p.npy", output=tmp_path / "run"
    )
    decide(tmp_path / "run", [3, "relabel", 0])
    proposed(tmp_path / "run")
    assert content(hub, "refs/pr/1")["train.csv"] == lines([*labels[:3], "1", *labels[4:]])
    decide(tmp_path / "run", [0, "relabel", 0], [1, "relabel", 0], key="the-next-step")
    with pytest.raises(CuratorError, match=r"read otherwise than these \(column label: large_string, then int64\)"):
        proposed(tmp_path / "run")


def pictures() -> list[bytes]:
    return [item["bytes"] for item in hf_dataset(N).cast_column("image", Image(decode=False))["image"]]


def table(form: str, names: list[str], labels: list[str]) -> bytes:
    if form == "csv":
        return "".join(f"{a},{b}\r\n" for a, b in [("label", "file_name"), *zip(labels, names, strict=True)]).encode()
    if form == "jsonl":
        return "\n".join(f'{{"label":"{b}", "file_name":"{a}"}}' for a, b in zip(names, labels, strict=True)).encode()
    out = io.BytesIO()
    pq.write_table(pa.table({"file_name": names, "score": [float("nan")] * len(names), "label": labels}), out)
    return out.getvalue()


@pytest.mark.parametrize("form", ["csv", "parquet", pytest.param("jsonl", marks=pytest.mark.slow)])
def test_metadata_of_images(hub, tmp_path, form):
    """Two files of a split, which datasets reads in an order of chance, and one of another."""
    labels, raw = given(["ant", "bee", "cow"]), pictures()
    names = [f"{i}.png" for i in range(5)] + [f"in/../{i}.png" for i in range(7)]
    images = {f"train/{'a' if i < 5 else 'b'}/{n.rpartition('/')[2]}": raw[i] for i, n in enumerate(names)}
    ways = list(images)

    def tables(labels: list[str]) -> dict[str, bytes]:
        return {
            f"train/a/metadata.{form}": table(form, names[:5], labels[:5]),
            f"train/b/metadata.{form}": table(form, names[5:], labels[5:]),
            f"test/metadata.{form}": table(form, ["0.png"], ["ant"]),
        }

    upload({**images, "test/0.png": raw[0], **tables(labels)})
    np.save(tmp_path / "p.npy", np.full((N, 3), 1 / 3, np.float32))
    curator.curate("me/source", pred_probs=tmp_path / "p.npy", output=tmp_path / "run")
    rows = Rows(tmp_path / "run")
    changed = {way: (rows.given[row] + 1) % 3 for row, way in enumerate(rows.files) if ways.index(way) in CHANGED}
    decide(tmp_path / "run", *([rows.files.index(way), "relabel", int(code)] for way, code in changed.items()))
    new = [rows.classes[changed[way]] if way in changed else label for way, label in zip(ways, labels, strict=True)]
    assert "3 labels in 2 of 2 files" in proposed(tmp_path / "run")[0]
    before, after = content(hub, "main"), content(hub, "refs/pr/1")
    assert {path for path in before if before[path] != after[path]} == {p for p in tables(new) if p.startswith("train")}
    if form == "parquet":
        for path, wanted in tables(new).items():
            found, wanted = (pq.read_table(io.BytesIO(c)).to_pylist() for c in (after[path], wanted))
            assert str(found) == str(wanted)
    else:
        assert {**before, **tables(new)} == after

    if form != "csv":
        return
    upload({"train/a/1.png": raw[2]})  # which the run has not seen
    with pytest.raises(CuratorError, match="shows something else"):
        proposed(tmp_path / "run")
    swapped = {f"train/a/metadata.{form}": table(form, [*names[:2], *names[3:5], names[2]], labels[:5])}
    upload({"train/a/1.png": raw[1], **swapped})
    with pytest.raises(CuratorError, match="are not those of the rows"):
        proposed(tmp_path / "run")
