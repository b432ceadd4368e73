"""A part of a dataset keeps the names of all classes: what is found is what would be found without the others."""

import numpy as np
import pytest
from datasets import ClassLabel, DatasetDict, Sequence, Value
from datasets import Dataset as Rows
from datasets import Features as Columns

import curator
from curator.methods import METHODS
from curator.result.facts import read_facts
from tests.conftest import with_errors

KEPT = (3, 17, 40)  # of fifty


def dataset(names: list[str], numbers: tuple[int, ...]) -> DatasetDict:
    """Rows of three classes of these numbers, and a test split with a row of another class where there is one."""
    truth = np.arange(240) % 3
    random = np.random.default_rng(0)
    features = np.eye(3)[truth] * 2 + 0.5 * random.standard_normal((240, 3))
    columns = Columns({"features": Sequence(Value("float32")), "label": ClassLabel(names=names)})
    columns["true_label"], codes = columns["label"], np.array(numbers)
    labels = codes[with_errors(truth, 3, 0.2)]

    def rows(part: slice, labels: np.ndarray) -> Rows:
        values = {"features": features[part].tolist(), "label": labels.tolist(), "true_label": codes[truth[part]]}
        return Rows.from_dict(values, features=columns)

    held_out = codes[truth[180:]]
    held_out[0] = 0 if len(names) > 3 else held_out[1]
    return DatasetDict(train=rows(slice(180), labels[:180]), test=rows(slice(180, 240), held_out))


@pytest.mark.parametrize("method, settings", [("posterior", {}), ("ce", {"epochs": 2, "eval_every": 1}), ("auto", {})])
def test_names_without_rows_change_nothing(tmp_path, capsys, method, settings):
    many = [f"kind {i:02}" for i in range(50)]
    of_fifty, of_three = (
        curator.curate(
            dataset(names, numbers), method=method, features_column="features", split="train", seed=1,
            output=tmp_path / str(len(names)), **settings,
        )
        for names, numbers in ((many, KEPT), ([many[i] for i in KEPT], (0, 1, 2)))
    )  # fmt: skip
    for column in ("clean_score", "selected", "typicality", "ambiguous", "true_label", "corrected_label"):
        found, expected = of_fifty[column][:], of_three[column][:]
        if column.endswith("label"):
            assert of_fifty.features[column].names == many
            found, expected = ([c.features[column].int2str(v) for v in c[column][:]] for c in (of_fifty, of_three))
        assert found == expected
    soft = np.array(of_fifty["teacher_soft_label"][:])
    np.testing.assert_array_equal(soft[:, KEPT], np.array(of_three["teacher_soft_label"][:]))
    assert soft.shape == (180, 50) and np.delete(soft, KEPT, axis=1).max() == 0
    few, all_of_them = (read_facts(tmp_path / n) for n in ("3", "50"))
    assert all_of_them["classes"] == 50 and few["metrics"]["label_accuracy_after"] > 0.9
    of_test = [facts["metrics"].pop("test_accuracy") for facts in (few, all_of_them)]
    assert all_of_them["metrics"] == few["metrics"]
    assert of_test[1] < 1  # the test row of another class cannot be told right
    accuracies = [facts.get("accuracy", {}).get("test", {}) for facts in (few, all_of_them)]
    assert accuracies[0].keys() == accuracies[1].keys()  # among the five likeliest of three classes all are
    said = capsys.readouterr().err
    assert "50 classes, 47 of them without rows" in said


def test_verified_rows_are_asked_of_classes_that_have_rows(tmp_path):
    """Else nobody could give what pudistill asks for."""
    rows = dataset([f"kind {i:02}" for i in range(50)], KEPT)["train"]
    result = curator.curate(
        rows, method="pudistill", features_column="features", verified=0.5, epochs=1, output=tmp_path / "run"
    )
    assert set(result["corrected_label"][:]) <= set(KEPT)
    assert set(read_facts(tmp_path / "run")["stages"]["augmented"]) == {f"kind {i:02}" for i in KEPT}


@pytest.mark.filterwarnings("ignore::UserWarning:cleanlab")
def test_a_users_probabilities_are_of_all_classes(tmp_path):
    """However they are given."""
    rows = dataset([f"kind {i:02}" for i in range(50)], KEPT)["train"]
    probs = (np.eye(50)[rows["label"][:]] + 0.01) / 1.5
    probs[0] = np.roll(probs[0], 1)  # of a class that no row has
    np.save(tmp_path / "probs.npy", probs)
    given = {"features_column": "features", "overwrite": True, "output": tmp_path / "run"}
    by_flag = curator.curate(rows, method="confident", pred_probs=probs, **given)
    by_method = curator.curate(rows, method=METHODS["confident"](pred_probs=tmp_path / "probs.npy"), **given)
    for found in (by_flag, by_method):
        np.testing.assert_allclose(found["teacher_soft_label"][:], probs, atol=1e-6)
