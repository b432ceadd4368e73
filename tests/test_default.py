"""What a user gets who names a backbone or features and nothing else."""

import json
import re
import shlex

import datasets
import numpy as np
import pytest

from curator.cli.main import main
from curator.config.defaults import BACKBONE, NAMES
from curator.config.resolve import resolve
from curator.sources.backbones import AUTO
from curator.sources.opening import NAMED
from tests.conftest import image_folder, noisy
from tests.hub import hub  # noqa: F401
from tests.sources.models import timm_files


@pytest.mark.parametrize("given, method", [
    ({}, "promix"),
    ({"dataset": "cifar10n"}, "promix"),
    ({"dataset": "folder", "backbone": "resnet50"}, "posterior"),
    ({"dataset": "rows.parquet", "features_column": "e"}, "posterior"),
    ({"dataset": "cifar10n", "backbone": "resnet50"}, "posterior"),
    ({"dataset": "folder", "backbone": "resnet50", "method": "promix"}, "promix"),
    ({"dataset": "folder", "backbone": "resnet50", "recipe": "features-ce"}, "ce"),
    ({"pred_probs": "p.npy"}, "confident"),
])  # fmt: skip
def test_the_method_that_is_chosen(given, method):
    assert resolve(given).settings.method == method


def test_a_run_without_flags(tmp_path, capsys):
    """Wrong labels of overlapping classes are found, the plan says what was seen, and the score is a probability."""
    data, truth = noisy(600, 4, kind="features", share=0.15)
    rows = {"e": data.inputs.features.tolist(), "label": data.labels.tolist(), "true_label": truth.tolist()}
    (tmp_path / "rows").mkdir()
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "rows" / "train.parquet")
    out = tmp_path / "out"
    assert main(["clean", "--dataset", str(tmp_path / "rows"), "--features-column", "e", "--output", str(out)]) == 0
    said = capsys.readouterr().err
    assert "seen      600 rows, 4 classes of" in said and "about 15% of the labels wrong" in said
    assert "batch-size" not in said and "memorise" in said
    facts = json.loads((out / "curation.json").read_text())
    assert facts["method"] == "posterior" and facts["findings"]["posterior"]["nets"] is False
    found = facts["metrics"]
    assert found["noisy_f1"] > 0.95 and found["auroc"] > 0.99 and found["label_accuracy_after"] > 0.98
    assert found["calibration_error"] < 0.05 and found["wrong_above_95"] < 0.02
    column = np.array(datasets.load_dataset(str(out), split="train")["clean_score"])
    assert ((column >= 0) & (column <= 1)).all()


@pytest.mark.parametrize("given, backbone, method", [
    ({"dataset": "folder"}, "auto", "posterior"),
    ({"dataset": "owner/name", "method": "promix"}, "auto", "promix"),
    ({"dataset": "folder", "recipe": "features-ce"}, "auto", "ce"),
    ({"dataset": "folder", "ensemble": "ce,confident"}, "auto", "ce+confident"),
    ({"dataset": "folder", "net": "small"}, None, "promix"),
    ({"dataset": "folder", "recipe": "digits-ce"}, None, "ce"),
    ({"dataset": "folder", "backbone": "resnet50"}, "resnet50", "posterior"),
    ({"dataset": "folder", "features_column": "e"}, None, "posterior"),
    ({"dataset": "folder", "pred_probs": "p.npy"}, None, "confident"),
    *(({"dataset": name, "method": "ce"}, None, "ce") for name in NAMED),
])  # fmt: skip
def test_the_backbone_that_is_chosen(given, backbone, method, as_users_have_it):
    settings = resolve(given).settings
    assert (settings.backbone, settings.method) == (backbone, method)


def test_the_named_datasets_are_those_that_can_be_opened():
    assert set(NAMES) == set(NAMED)


@pytest.fixture
def as_users_have_it(monkeypatch):
    monkeypatch.setattr("curator.config.defaults.BACKBONE", BACKBONE)


def test_a_folder_and_nothing_else(tmp_path, monkeypatch, capsys, hub, as_users_have_it):  # noqa: F811
    """Weights from the Hub, a plan, a result that names them, and a command that gives it again."""
    commit = hub.serve_model(AUTO, timm_files("cc-by-nc-4.0", side=224))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = image_folder(tmp_path / "photos", 40, size=70)
    quick = ["--method", "ce", "--epochs", "1"]
    assert main(["clean", "--dataset", str(folder), *quick, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert f"backbone  {AUTO} at commit {commit[:12]}, 224 px, license cc-by-nc-4.0" in said
    assert f"warning   the weights of {AUTO} are under cc-by-nc-4.0" in said
    assert re.search(rf"features  64 per row of {AUTO}@{commit}, [\d,]+ images/s: [\d s to]+ for 40 images", said)
    facts = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert facts["settings"]["backbone"] == "auto"
    assert facts["encoders"][0]["revision"] == commit and facts["encoders"][0]["permissive"] is False
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"at commit {commit}, license cc-by-nc-4.0: look whether" in card
    assert "\nlabel-curator publish out owner/name\n" in (tmp_path / "out" / "report" / "report.md").read_text()
    hub.serve_model(AUTO, timm_files(side=224, seed=1))  # the model changes
    (line,) = [line for line in card.splitlines() if line.startswith("label-curator clean")]
    words = [str(folder) if word == "photos" else word for word in shlex.split(line)[1:]]
    assert words[words.index("--backbone") + 1] == f"auto@{commit}"
    assert main([*words, "--output", str(tmp_path / "again")]) == 0
    first, again = (np.load(tmp_path / name / "features.npy") for name in ("out", "again"))
    assert np.array_equal(first, again) and first.shape == (40, 64)
    assert "less for what is kept" not in capsys.readouterr().err  # all of them were


def test_it_is_never_another_kind_of_run(tmp_path, capsys, as_users_have_it):
    """Without a way to the weights; what is known of the rows is said before."""
    folder = image_folder(tmp_path / "photos", 6)
    assert main(["clean", "--dataset", str(folder), "--output", str(tmp_path / "out")]) == 2
    *before, line = capsys.readouterr().err.strip().splitlines()
    assert [known.split()[0] for known in before] == ["dataset", "classes"] and "6 rows, 3 classes" in before[0]
    assert (
        line.startswith("error: --backbone auto (the default)") and "go online once" in line and "--net small" in line
    )
    assert not (tmp_path / "out").exists()
