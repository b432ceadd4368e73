"""Models of sentence-transformers: what is read of a stranger's, and what is put before a text."""

import json
import sys

import pytest
import torch

from curator.engine.sentences import load_sentences, prompt_of
from curator.engine.texts import TextEncoder
from curator.errors import CuratorError
from tests.texts import tiny_sentences

OWN = "sentence_transformers.models."


@pytest.mark.parametrize(
    ("repo", "prompts", "default", "prompt"),
    [
        ("intfloat/multilingual-e5-small", {"query": "", "document": ""}, None, "query: "),
        ("intfloat/e5-base-v2", {}, None, "query: "),
        ("intfloat/multilingual-e5-large-instruct", {}, None, ""),
        ("me/e5-small", {}, None, ""),
        ("me/own", {"document": "d: ", "Classification": "c: "}, "document", "c: "),
        ("me/own", {"document": "d: "}, "document", "d: "),
        ("me/own", {"document": "d: "}, None, ""),
    ],
)
def test_what_is_put_before_a_text(repo, prompts, default, prompt):
    assert prompt_of(repo, prompts, default) == prompt


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (None, "expected a model of sentence-transformers, with modules.json"),
        ("{", "it cannot be loaded .JSONDecodeError"),
        ([{"path": "", "type": "os.system"}], "its part 'os.system' is not read"),
        ([{"path": "", "type": "sentence_transformers.util.misc.import_from_string"}], "is not read"),
        ([{"path": "", "type": OWN + "CLIPModel"}], "CLIPModel' is not read"),
        ([{"path": "../other", "type": OWN + "Pooling"}], "is no folder of its own"),
        ([{"path": "2_Dense", "type": OWN + "Dense"}], "2_Dense has no model.safetensors"),
        ([{"type": OWN + "Dense"}], "it cannot be loaded .KeyError"),
    ],
)
def test_a_strangers_parts(tmp_path, parts, said):
    if parts is not None:
        (tmp_path / "modules.json").write_text(parts if isinstance(parts, str) else json.dumps(parts))
    with pytest.raises(CuratorError, match=f"--backbone me/own: .*{said}"):
        load_sentences(tmp_path, "me/own")


def test_the_library_that_is_not_there(tmp_path, monkeypatch):
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(CuratorError, match=r"pip install 'label-curator\[text\]'"):
        load_sentences(tmp_path, "me/own")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_tiny_model(tmp_path, capfd):
    """The features are those that the library makes, with the prompt; what is too long is cut; nothing is printed."""
    from sentence_transformers import SentenceTransformer

    folder = tiny_sentences(tmp_path)
    capfd.readouterr()
    model = load_sentences(folder, "intfloat/multilingual-e5-small")
    said = ["my card is lost", "a", "exchange rate " * 50]
    encoder = TextEncoder("intfloat/multilingual-e5-small@1234", torch.device("cpu"), "no", model)
    found = encoder(said)
    assert capfd.readouterr() == ("", "") and model.tokens == 64
    theirs = SentenceTransformer(str(folder), device="cpu").encode([f"query: {text}" for text in said])
    torch.testing.assert_close(found, torch.from_numpy(theirs), atol=1e-5, rtol=1e-4)
    plain = TextEncoder("me/tiny@1234", torch.device("cpu"), "no", load_sentences(folder, "me/tiny"))
    assert not torch.allclose(plain(said), found, atol=1e-3) and plain.fingerprint() != encoder.fingerprint()
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "auto_map": {
        "AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "model_type": "evil"}))  # fmt: skip
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(CuratorError, match="--backbone me/tiny: it cannot be loaded"):
        load_sentences(folder, "me/tiny")
