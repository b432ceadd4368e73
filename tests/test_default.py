"""What a user gets who names a backbone or features and nothing else."""

import json

import datasets
import numpy as np
import pytest

from curator.cli.main import main
from curator.config.resolve import resolve
from tests.conftest import noisy


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
