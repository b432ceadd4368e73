import datasets
import pytest
import torch

import curator
from curator.engine.linear import LinearNet
from curator.errors import CuratorError
from curator.result.accuracy import summary, top
from curator.result.facts import read_facts
from tests.conftest import hf_dataset

K = 7  # classes: more than 5


def test_top():
    probs, labels = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.05, 0.8, 0.15]]), torch.tensor([0, 1, 0])
    assert [top(probs, labels, most) for most in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_summary():
    """Last, best and the mean of the last ten, of the epochs that were scored."""
    history = [{"images": 1.0, **({"top1/test": e / 100} if e % 2 else {})} for e in range(1, 30)]
    history[4]["top1/test"] = 0.9
    found = summary(history)["test"]["top1"]
    assert (found["last"], found["best"], found["best_epoch"]) == (0.29, 0.9, 5)
    assert found["mean_of_last_10"] == pytest.approx(sum(range(11, 30, 2)) / 1000)
    assert found["epochs"] == list(range(1, 30, 2)) and found["by_epoch"][2] == 0.9
    assert summary([{"images": 1.0}]) == {}


@pytest.fixture(scope="module")
def splits():
    """Three splits: of one the labels are missing."""
    rows = {name: hf_dataset(n, K) for name, n in (("train", 42), ("test", 21), ("blind", 8))}
    blind = (
        rows["blind"].remove_columns("label").add_column("label", [None] * 8, feature=rows["test"].features["label"])
    )
    return datasets.DatasetDict({**rows, "blind": blind.select_columns(rows["test"].column_names)})


@pytest.mark.parametrize("every, epochs", [(1, [1, 2, 3]), (2, [2, 3])])
def test_every_labelled_split_is_scored(splits, every, epochs, tmp_path):
    """The last epoch's figure is that of the result; without the flag nothing is, and the result is the same."""
    settings = {"method": "ce", "epochs": 3, "reference_column": "true_label"}
    found = curator.curate(splits, output=tmp_path / "run", eval_every=every, **settings)
    facts = read_facts(tmp_path / "run")
    assert facts["accuracy"].keys() == {"test"} and facts["accuracy"]["test"].keys() == {"top1", "top5"}
    of = facts["accuracy"]["test"]
    assert of["top1"]["epochs"] == of["top5"]["epochs"] == epochs
    assert (
        of["top1"]["last"] == pytest.approx(facts["metrics"]["test_accuracy"])
        and of["top5"]["last"] >= of["top1"]["last"]
    )
    report = (tmp_path / "run" / "report" / "report.md").read_text()
    assert f"| test, top1 | {of['top1']['last']:.4f} | {of['top1']['best']:.4f} |" in report
    if every == 1:
        plain = curator.curate(splits, output=tmp_path / "plain", **settings)
        assert plain["clean_score"][:] == found["clean_score"][:]
        assert "accuracy" not in read_facts(tmp_path / "plain")


@pytest.mark.slow
def test_models_that_are_fitted_count_from_then_on(splits, tmp_path):
    assert not LinearNet((3, 12, 12), K).fitted
    curator.curate(splits, method="linear", output=tmp_path / "run", eval_every=1, **{"method.epochs": 2})
    facts = read_facts(tmp_path / "run")
    assert facts["accuracy"]["test"]["top1"]["epochs"] == [2]


def test_no_other_split_with_labels(splits, tmp_path):
    with pytest.raises(CuratorError, match="eval_every scores other splits with labels; this dataset has none"):
        curator.curate(splits["train"], method="ce", epochs=1, output=tmp_path / "run", eval_every=1)
    assert not (tmp_path / "run" / "curation.json").exists()
