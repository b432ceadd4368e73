"""Labels of every type go through a run, a review and a version, and come out as they were but for those changed."""

from contextlib import closing

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import Features, Value

import curator
from curator.publish.build import publish_folder
from curator.result.read import Rows
from curator.review.imports import import_decisions
from curator.review.session import Session
from curator.sources.columns import replace_column
from tests.conftest import hf_dataset

KINDS = {
    "a bool": (Value("bool"), [False, True], ["False", "True"]),
    "decimals": (Value("float64"), [0.0, 1.0], ["0", "1"]),
    "signs": (Value("int8"), [-1, 1], ["-1", "1"]),
    "tens": (Value("int64"), [10, 20], ["10", "20"]),
    "blanks": (Value("string"), ["ant\n", "bee\n"], ["ant", "bee"]),
}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k == "tens" else pytest.mark.slow) for k in KINDS])
def test_labels_of_every_type_are_published(tmp_path, kind):
    feature, values, classes = KINDS[kind]
    rows = hf_dataset(40, 2, 0.2).select_columns(["image", "label"])
    given = [values[code] for code in rows["label"]]
    given[5] = None
    typed = pa.array(given, feature.pa_type)
    curator.curate(
        replace_column(rows, "label", typed, feature),
        method="ce",
        epochs=1,
        output=tmp_path / "run",
        allow_quarantine=True,
    )
    read = Rows(tmp_path / "run")
    assert read.classes == classes and read.given[5] == -1 and not read.present[5]
    assert [values[c] for c in read.given[read.present]] == [v for v in given if v is not None]
    other = 1 - int(read.given[0])
    (tmp_path / "t.csv").write_text(f"row,label\n0,{classes[other]}\n")
    import_decisions(tmp_path / "run", tmp_path / "t.csv")
    session = Session([tmp_path / "run"])
    with closing(session.journal):
        assert session.detail({"row": 0}, "t")["given"] == read.given[0]
    publish_folder(tmp_path / "run", tmp_path / "out", "relabel", min_confidence=1.0, say=lambda line: None)
    out = datasets.load_dataset(str(tmp_path / "out"), split="train")
    assert out.features["label"] == feature and out.features["original_label"] == feature
    wanted = np.array([-1 if v is None else values.index(v) for v in given])
    wanted[0] = other
    back = [None if c < 0 else values[c] if kind != "blanks" else classes[c] for c in wanted]
    assert out["label"][:] == back and out["original_label"][:] == given
    assert Features(out.features)["corrected_label"].names == classes
