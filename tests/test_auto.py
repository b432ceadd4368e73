"""--method auto in a run: the plan, what curation.json says, an interrupted run, and what does not go with it."""

import json
from pathlib import Path

import pytest
import torch

import curator
from curator.cli.parse import parse
from curator.config.picked import settle
from curator.config.resolve import resolve
from curator.engine.run import Run
from curator.errors import CuratorError
from tests.methods.test_auto import rows


@pytest.fixture
def call(tmp_path):
    data, given = rows("pairs", 0.25)
    return {
        "features": data.inputs.features[:100].numpy(), "labels": given[:100].tolist(), "method": "auto",
        "output": tmp_path / "out",
    }  # fmt: skip


def test_a_method_is_picked_and_an_interrupted_run_goes_on_with_it(call, monkeypatch):
    plan = curator.curate(**call, dry_run=True)
    assert plan.method == "posterior" and "auto      posterior: about " in plan.text and not call["output"].exists()

    def interrupt(self):
        checkpoint(self)
        raise KeyboardInterrupt

    checkpoint = Run.checkpoint
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "checkpoint", interrupt)
        curator.curate(**call)
    with pytest.raises(CuratorError, match="interrupted run with seed=123, now it is 7"):
        curator.curate(**call, seed=7)
    with pytest.raises(CuratorError, match="interrupted run with method='auto', now it is 'posterior'"):
        curator.curate(**{**call, "method": "posterior"})
    with monkeypatch.context() as patch:
        patch.setattr("curator.train.pick", None)  # it is not picked again
        curator.curate(**call)
    facts = json.loads((call["output"] / "curation.json").read_text())
    assert facts["method"] == facts["settings"]["method"] == facts["findings"]["auto"]["method"] == "posterior"
    assert "about " in facts["findings"]["auto"]["why"] and facts["findings"]["auto"]["noise_rate"] > 0.1
    assert "--method posterior" in facts["command"] and "auto" not in facts["command"]
    assert "was picked by --method auto: about" in (call["output"] / "report" / "report.md").read_text()


def test_the_picked_method_has_its_own_settings_on_the_rows_that_were_read():
    asked = resolve({"dataset": "digits", "method": "auto", "verified": 0.2, "epochs": 7})
    assert asked.settings.method == "auto" and not any(name.startswith("method.") for name in asked.identity())
    picked = {"method": "pudistill", "why": "since"}
    found = settle(asked, picked)
    assert found.settings.method == "pudistill" and found.recipe is not None and "digits-pudistill" in found.recipe
    assert found.method.pu_batch == 16 and found.method.epochs == 7 and found.settings.verified == 0.2
    assert asked.identity().items() <= found.identity().items() and found.identity()["auto"] == picked
    assert found.again()["method"] == "pudistill" and found.given == asked.given


@pytest.mark.parametrize("words, message", [
    (["--method", "auto", "--method.lr", "1"], "--method auto picks the method, and --method.lr is of one: name that"),
    (["--method", "auto", "--recipe", "digits-ce"], "--recipe is of one: name that method, or leave --recipe out"),
    (["--method", "auto", "--pred-probs", "p.npy"], "--pred-probs is of one"),
    (["--ensemble", "auto,ce"], "--ensemble auto,ce: auto picks one method by the rows; name the members, or --method"),
    (["--method", "autp"], "did you mean 'auto'"),
])  # fmt: skip
def test_what_does_not_go_with_it(words, message):
    with pytest.raises(CuratorError, match=message):
        parse(words)


def test_a_recipe_does_not_say_it(tmp_path: Path):
    (tmp_path / "r.yaml").write_text("method: auto\n")
    with pytest.raises(CuratorError, match="method: expected one of promix, .*, found 'auto'"):
        resolve({"recipe": str(tmp_path / "r.yaml")})


def test_what_was_noted_of_a_pick_names_a_method(call):
    from curator.engine.checkpoint import SETTINGS
    from curator.result.folder import RunFolder

    folder = RunFolder(call["output"], resolve({"method": "auto"}).settings)
    checkpoints = call["output"] / "checkpoints"
    checkpoints.mkdir(parents=True)
    folder.checkpoints.save({"registered": {}, "x": torch.zeros(1)})
    for noted, named in (({}, None), ({"auto": {"method": "ce", "why": "so"}}, "ce")):
        (checkpoints / SETTINGS).write_text(json.dumps(noted))
        found = folder.picked()
        assert (found and found["method"]) == named
    (checkpoints / SETTINGS).write_text(json.dumps({"auto": {"method": "x", "why": ""}}))
    with pytest.raises(CuratorError, match="auto: it names no method"):
        folder.picked()
