from types import SimpleNamespace

import numpy as np
import pytest
import torch

import curator
from curator.engine.textside import load_text_side
from curator.errors import CuratorError
from curator.review.session import Session
from curator.review.words import Words
from curator.sources.weights import fetch_weights
from tests.conftest import hf_dataset
from tests.hub import hub  # noqa: F401
from tests.sources.models import words_files


def rows_of(*encoders, features=True, **facts):
    return SimpleNamespace(
        facts={"encoders": list(encoders), **facts}, features=np.zeros((2, 12)) if features else None
    )


@pytest.mark.parametrize("encoders", [
    [], [{}], ["x"], [{"given": "os:system"}], [{"id": "owner/a", "revision": 3}], [{"id": "timm/a", "revision": "b"}],
    [{"id": "owner/a", "revision": "b"}] * 2,
])  # fmt: skip
def test_encoders_that_read_no_words(encoders):
    words = Words(rows_of(*encoders))
    assert words.model is None
    with pytest.raises(CuratorError, match="this run has none: choose a row and use More like this"):
        words.vector("a cat", 12)


def test_the_model_of_the_run_reads_them(hub):  # noqa: F811
    commit = hub.serve_model("owner/eyes", words_files("clip"))
    other = {**words_files("clip"), "config.json": b"{}"}
    hub.serve_model("owner/eyes", other)  # a later commit: not the one that the run used
    words = Words(rows_of({"id": "owner/eyes", "revision": commit}))
    assert words.model == f"owner/eyes@{commit}"
    found = words.vector("a cat", 12)
    with torch.inference_mode():
        wanted = load_text_side(fetch_weights(words.model).folder, "x")(["a cat"])[0]
    assert np.array_equal(found, wanted.numpy())
    with pytest.raises(CuratorError, match="features of this run are not those that owner/eyes@"):
        words.vector("a cat", 16)
    blind = hub.serve_model("owner/blind", other)
    with pytest.raises(CuratorError, match="search by words: --backbone owner/blind: it has no text side"):
        Words(rows_of({"id": "owner/blind", "revision": blind})).vector("a cat", 16)
    with pytest.raises(CuratorError, match="search by words: --backbone .*; expected|search by words: --backbone"):
        Words(rows_of({"id": "../../etc", "revision": "x"})).vector("a cat", 16)


@pytest.mark.slow
def test_words_rank_the_rows_of_a_run(hub, tmp_path):  # noqa: F811
    """A run on a model that reads images and words: the features of the images are compared with those of the words."""
    hub.serve_model("owner/eyes", words_files("siglip"))
    curator.curate(hf_dataset(40, 3, 0.3), method="ce", epochs=1, backbone="owner/eyes", output=tmp_path / "out")
    session = Session([tmp_path / "out"])
    assert session.hello({}, "ann")["words"] is True
    opened = session.open({"words": "a dog", "show": "all"}, "ann")
    cards = session.page({"token": opened["token"], "number": 0}, "ann")["cards"]
    x = session.rows.features.astype(np.float32)
    near = x @ session.queue.words.vector("a dog", 16) / np.linalg.norm(x, axis=1)
    assert [card["row"] for card in cards] == np.argsort(-near, kind="stable").tolist()
    session.journal.close()
