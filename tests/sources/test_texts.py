"""Rows of text: which columns are meant, which rows cannot be read, what is kept of their features."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accelerate import PartialState
from datasets import Dataset, Features, Value

from curator.config.flags import Settings
from curator.engine.held import Held
from curator.errors import CuratorError
from curator.sources.text_inputs import TextReader
from curator.sources.texts import texts_of
from tests import texts as made
from tests.conftest import hf_dataset, load_table
from tests.texts import WORDS, encode, text_rows, texts

SAID, GIVEN, _ = texts(60)
CODES = [f"id{i}" for i in range(60)]
NUMBERS = [sorted(WORDS).index(label) for label in GIVEN]


@pytest.mark.parametrize(
    ("columns", "flags", "found"),
    [
        ({"text": SAID, "label": NUMBERS}, {}, ("text", "label")),
        ({"category": GIVEN, "text": SAID}, {}, ("text", "category")),  # as banking.csv
        ({"text": SAID, "category": GIVEN, "id": list(range(60)), "uid": CODES}, {}, ("text", "category")),
        ({"uid": CODES, "category": GIVEN}, {"text_column": "uid"}, ("uid", "category")),
        ({"a": SAID, "b": SAID[::-1], "label": GIVEN}, {"text_column": "b"}, ("b", "label")),
        (
            {"a": SAID, "b": SAID[::-1], "label": GIVEN},
            {},
            "several columns of texts, a, b; choose one with --text-column",
        ),
        ({"a": SAID, "x": GIVEN, "y": NUMBERS}, {}, "found x, y; choose one with --label-column"),
        ({"uid": CODES, "label": GIVEN}, {}, "--text-column"),  # codes may mean anything
        ({"text": SAID, "label": GIVEN}, {"text_column": "txt"}, "no column 'txt'"),
        ({"text": SAID, "label": NUMBERS}, {"text_column": "label"}, "expected texts, found Value"),
        ({"text": SAID, "label": GIVEN}, {"text_column": "label", "label_column": "label"}, "the column of the labels"),
        ({"text": SAID, "label": GIVEN}, {"backbone": None}, "holds texts: use --text-column text"),
    ],
)
def test_which_columns_are_meant(columns, flags, found):
    flags = {"backbone": "tests.texts:encode", **flags}
    if isinstance(found, tuple):
        table = load_table(Dataset.from_dict(columns), **flags)
        assert (table.text_column, table.label_column) == found and table.image_column is None
    else:
        with pytest.raises(CuratorError, match=found):
            load_table(Dataset.from_dict(columns), **flags)


def test_images_come_first():
    """A dataset of images with captions is one of images, unless the texts are asked for."""
    rows = hf_dataset(60).add_column("caption", SAID)
    assert load_table(rows).text_column is None
    table = load_table(rows, text_column="caption", backbone="tests.texts:encode")
    assert (table.text_column, table.image_column) == ("caption", None)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tables_of_texts(tmp_path, kind):
    """The same rows from every kind of file; those without words are set aside, with the reason."""
    said = [*SAID]
    said[3], said[5], said[7], said[9] = "", " \t\u3000", 'two\nlines, "quoted"', "NA"
    file = tmp_path / f"banking.{kind}"
    rows = [{"text": text, "category": label} for text, label in zip(said, GIVEN, strict=True)]
    if kind == "csv":
        with open(file, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, ["text", "category"])
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    table = load_table(str(file), backbone="tests.texts:encode", allow_quarantine=True)
    assert table.aside == {3: "the text is missing" if kind == "csv" else "the text is empty", 5: "the text is empty"}
    assert table.data["text"][:] == [text for text in said if text.strip()] and len(table.labels) == 58
    said[11] = None
    with pytest.raises(CuratorError, match="4 of 60 rows cannot be used .row 3: the text is missing"):
        bad = Dataset.from_dict({"text": [text or None for text in said[:-1]] + [None], "category": GIVEN})
        load_table(bad, backbone="tests.texts:encode")


def test_other_bytes_than_utf8_are_set_aside():
    column = pa.array([b"fine words", b"caf\xe9 au lait", None]).cast(pa.string(), safe=False)
    rows = Dataset(pa.table({"text": column}))
    found, broken = texts_of(rows, "text")
    assert found == ["fine words", "", ""] and broken == {1: "the text is no UTF-8", 2: "the text is missing"}


def test_a_folder_of_texts_says_what_to_use(tmp_path):
    file = tmp_path / "rows" / "train.csv"
    file.parent.mkdir()
    file.write_text("text,category\n" + "".join(f"{t},{c}\n" for t, c in zip(SAID, GIVEN, strict=True)))
    with pytest.raises(
        CuratorError, match="there are no images, and column 'text' holds texts: use --text-column text"
    ):
        load_table(str(file.parent))
    assert len(load_table(str(file.parent), text_column="text", backbone="auto").labels) == 60


def test_features_are_kept_and_found_again(tmp_path, monkeypatch):
    """Chunk by chunk, for the same texts only; another split may hold texts that cannot be read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("curator.sources.text_inputs.CHUNK", 20)
    monkeypatch.setattr("curator.sources.features.CHUNK", 20)
    settings = Settings(dataset="dataset", backbone=Held("python-encode", encode), text_column="text")

    def read(rows: Dataset):
        table = load_table(rows, text_column="text", backbone="tests.texts:encode", allow_quarantine=True)
        reader = TextReader(settings, table, "no", PartialState(cpu=True), print)
        made.calls.clear()
        inputs = reader(rows, np.arange(len(rows)), 0)
        return inputs, sum(made.calls) - 1  # less the one that tells the width

    rows = text_rows(50)
    first, seen = read(rows)
    assert seen == 50 and first.shape == (16,) and not first.broken
    np.testing.assert_array_equal(first.source("cpu").features, encode(rows["text"][:]).half().float())
    assert first.hashes[-1] == first.hashes[-2] != first.hashes[0]
    again, seen = read(rows)
    assert seen == 0 and again.digest == first.digest
    changed = rows.map(lambda row, i: {"text": "new words" if i == 30 else row["text"]}, with_indices=True)
    other, seen = read(changed)
    assert seen == 20 and other.digest != first.digest
    gone = rows.map(lambda row, i: {"text": None if i == 30 else row["text"]}, with_indices=True)
    found, _ = read(gone)
    assert found.broken == {30: "the text is missing"} and len(found.hashes) == 49


def test_columns_of_sound_need_no_codec(tmp_path):
    """They are carried along as bytes: nothing decodes them."""
    from datasets import Audio

    from curator.result.parquet import write_parquet

    rows = text_rows(30)
    sound = [{"bytes": b"RIFF....", "path": f"{i}.wav"} for i in range(30)]
    features = Features({"sound": Audio(), **rows.features, "extra": Value("string")})
    columns = {**{name: rows[name][:] for name in rows.column_names}, "sound": sound, "extra": ["x"] * 30}
    table = pa.table({name: pa.array(columns[name], features.arrow_schema.field(name).type) for name in features})
    table = load_table(Dataset(table.cast(features.arrow_schema)), text_column="text", backbone="tests.texts:encode")
    write_parquet(table.dataset, tmp_path, "train")
    (file,) = (tmp_path / "data").iterdir()
    assert pq.read_table(file)["sound"].to_pylist() == sound
