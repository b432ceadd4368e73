"""Encoders of text: the order of texts is kept, and what does not fit is said."""

import sys

import numpy as np
import pytest
import torch

from curator.engine.encoders import UNLIKE
from curator.engine.held import Held
from curator.engine.texts import TextEncoder
from curator.errors import CuratorError
from tests.texts import encode

CPU = torch.device("cpu")


def test_texts_of_any_length_keep_their_places():
    said = [f"{'word ' * (i * 7 % 50)} n{i}" for i in range(100)]
    lengths = []

    def call(texts):
        lengths.append([len(text) for text in texts])
        return encode(texts).numpy()

    found = TextEncoder(Held("python-call", call), CPU, "no")(said)
    torch.testing.assert_close(found, encode(said))
    assert len(lengths) > 1 and all(max(b) <= min(a) for a, b in zip(lengths, lengths[1:], strict=False))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda texts: torch.zeros(len(texts)), "expected floats of shape"),
        (lambda texts: [[0.0]] * len(texts), "found list"),
        (lambda texts: np.zeros((len(texts), 2), int), "found torch.int64"),
        (lambda texts: texts.float(), "it cannot read a list of 2 texts .AttributeError"),
    ],
)
def test_what_is_no_encoder_of_texts(call, said):
    with pytest.raises(CuratorError, match=said):
        TextEncoder(Held("python-x", call), CPU, "no")(["a", "b"])


def test_the_fingerprint_tells_encoders_apart(tmp_path, monkeypatch):
    def mark(name):
        return TextEncoder(name, CPU, "no").fingerprint()

    assert mark("tests.texts:encode") == mark("tests.texts:encode") != mark(Held("python-encode", encode))
    assert mark(Held("python-lambda", lambda texts: encode(texts))).startswith(UNLIKE)
    monkeypatch.syspath_prepend(tmp_path)
    marks = set()
    for factor in (1, 2):
        (tmp_path / "own.py").write_text(
            f"import tests.texts\ndef f(texts): return {factor} * tests.texts.encode(texts)"
        )
        sys.modules.pop("own", None)
        marks.add(mark("own:f"))
    assert len(marks) == 2
