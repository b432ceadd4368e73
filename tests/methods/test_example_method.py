"""The method that CONTRIBUTING shows: it keeps to the contract, and the command and curate() find it."""

import json

import pytest

import curator
from curator.config.resolve import resolve
from curator.methods import METHODS
from tests.conftest import hf_dataset
from tests.methods.example_method import Forgetting
from tests.methods.test_contract import *  # noqa: F403 (the same checks, of the `name` below)


@pytest.fixture(scope="module")
def name():
    """Its line in METHODS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "forgetting", Forgetting)
        yield "forgetting"


def test_it_is_found_with_its_recipe(name, tmp_path, monkeypatch, no_gpu):
    (tmp_path / "digits-forgetting.yaml").write_text("method: forgetting\nmethod.least: 0.6\nflip: false\n")
    monkeypatch.setattr("curator.config.recipes.recipes_folder", lambda: tmp_path)
    resolved = resolve({"method": name, "epochs": 6})
    assert resolved.recipe == "digits-forgetting" and resolved.method == Forgetting(epochs=6, least=0.6)
    assert resolve({"method": name, "dataset": "mine", "net": "resnet18"}).method.epochs == 100


@pytest.mark.parametrize("by_name", [True, False])
def test_curate_runs_it(by_name, name, tmp_path, no_gpu):
    given = {"method": name, "method.lr": 0.1} if by_name else {"method": Forgetting(lr=0.1)}
    found = curator.curate(hf_dataset(60), **given, epochs=3, flip=False, output=tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert facts["method"] == "forgetting" and facts["epochs"] == 3 and len(found) == 60
