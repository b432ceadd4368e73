"""Encoders of text that --backbone names: what is fetched, said and written, and what is none."""

import json
import shlex

import pytest
from accelerate import PartialState

from curator.cli.main import main
from curator.config.defaults import BACKBONE
from curator.config.flags import Settings
from curator.errors import CuratorError
from curator.sources.text_inputs import AUTO, TextReader
from tests.conftest import load_table
from tests.hub import hub  # noqa: F401
from tests.texts import text_rows, texts, tiny_sentences

CARD = "---\nlicense: {}\n---\n"


def reader(backbone: str) -> TextReader:
    table = load_table(text_rows(30), text_column="text", backbone=backbone)
    return TextReader(Settings(backbone=backbone), table, "no", PartialState(cpu=True), lambda line: None)


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("resnet50", "expected what reads texts: auto, an id of sentence-transformers"),
        ("tests.texts:nothing", "expected MODULE:CALLABLE that can be imported"),
        ("tests.texts:HOSTILE", "expected a function or a module that can be called"),
        ("me/a+me/b", "expected owner/name or owner/name@revision"),
    ],
)
def test_what_is_no_encoder_of_texts(backbone, said):
    with pytest.raises(CuratorError, match=said):
        reader(backbone)


def test_a_model_that_is_none_of_sentences(hub):  # noqa: F811
    """A model without modules.json is not guessed at: how its words become one vector would be."""
    hub.serve_model("me/bert", {"config.json": b"{}", "model.safetensors": b"x", "pytorch_model.bin": b"evil"})
    with pytest.raises(CuratorError, match="--backbone me/bert: expected a model of sentence-transformers"):
        reader("me/bert")
    assert not any("pytorch_model.bin" in line for line in hub.seen)
    with pytest.raises(CuratorError, match="no model 'me/none'.*another --backbone, as MODULE:CALLABLE$"):
        reader("me/none")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_auto_from_the_hub(hub, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Without a flag: fetched at one commit, said with its license, and offline the second time."""
    monkeypatch.setattr("curator.config.defaults.BACKBONE", BACKBONE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tiny_sentences(tmp_path)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files |= {"README.md": CARD.format("cc-by-nc-4.0").encode(), "pytorch_model.bin": b"evil", "evil.py": b"evil"}
    commit = hub.serve_model(AUTO, files)
    rows, (said, labels, _) = tmp_path / "banking.csv", texts(60)
    rows.write_text("text,category\n" + "".join(f"{a},{b}\n" for a, b in zip(said, labels, strict=True)))
    out = tmp_path / "out"
    assert main(["clean", "--dataset", str(rows), "--output", str(out)]) == 0
    log = capsys.readouterr().err
    assert f"backbone  {AUTO} at commit {commit[:12]}, 'query: ' before every text, of which it reads 64 tokens" in log
    assert f"warning   the weights of {AUTO} are under cc-by-nc-4.0" in log and "text column 'text'" in log
    facts = json.loads((out / "curation.json").read_text())
    assert (facts["text_column"], facts["label_column"]) == ("text", "category")
    assert facts["encoders"][0]["revision"] == commit and AUTO in (out / "README.md").read_text()
    assert f"--backbone auto@{commit}" in facts["command"]
    assert not any(name in line for name in ("pytorch_model.bin", "evil.py") for line in hub.seen if "resolve" in line)
    hub.seen.clear()
    hub.fail("GET", "/", 503, times=1000)
    hub.fail("HEAD", "/", 503, times=1000)
    words = shlex.split(facts["command"])[1:]
    words[words.index("--dataset") + 1] = str(rows)
    assert main([*words, "--output", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "curation.json").read_text())
    assert (again["selected"], again["encoders"]) == (facts["selected"], facts["encoders"])
