"""A pull request changes label cells in a source's own files of every kind, and refuses what it cannot change so."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value

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
    return [json.dumps({"text": t, "label": label, "in": {"label": 1}}, **how) for t, label in zip(text, labels, strict=True)]


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
def runs(tmp_path_factory):
    return {words[0]: run_of(tmp_path_factory.mktemp("run"), words) for words in (WORDS, NUMBERS)}


def proposed(run, **how) -> list[str]:
    said = []
    publish(run, "me/source", "relabel", create_pr=True, say=said.append, **how)
    return said


@pytest.mark.parametrize("kind", FILES)
def test_cells_of_text_change_alone(hub, runs, kind):
    words, build = FILES[kind]
    before, new = given(words), given(words)
    for i in CHANGED:
        new[i] = before[i + 1]
    upload(build(before))
    proposed(runs[words[0]], token="reader")
    assert content(hub, "refs/pr/1") == build(new)
    used = [token for token, what in zip(hub.tokens_seen, hub.seen[-len(hub.tokens_seen) :], strict=True) if "commit" in what]
    assert used and not hub.repos["me/source"].messages[-1].startswith("rows")
