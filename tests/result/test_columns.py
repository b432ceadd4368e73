import dataclasses

import numpy as np
import pytest
import torch
from datasets import ClassLabel, List, Value

from curator.evidence import Evidence
from curator.result.columns import add_columns, columns_of, columns_of_other, flag_worst, no_columns, spread
from curator.result.metrics import metrics
from tests.conftest import hf_dataset


def found(selected, corrected, score, k=3):
    probs = torch.full((len(selected), k), 0.1)
    probs[torch.arange(len(selected)), torch.tensor(corrected)] = 1 - 0.1 * (k - 1)
    return Evidence(probs, torch.tensor(score), torch.tensor(selected), torch.tensor(corrected))


def test_types_and_values():
    ds = hf_dataset(4)
    given = np.array(ds["label"][:])
    columns = columns_of(
        found([True, False, True, False], [0, 2, 2, 1], [0.9, 0.1, 0.8, 0.2]),
        given,
        np.zeros(4, bool),
        np.arange(4) + 7,
    )
    out = add_columns(ds, columns, tuple("abc"))
    assert out.column_names == [
        "image",
        "label",
        "true_label",
        "clean_score",
        "selected",
        "corrected_label",
        "teacher_soft_label",
        "row",
        "typicality",
        "ambiguous",
    ]
    assert out.features["clean_score"] == Value("float32") and out.features["selected"] == Value("bool")
    assert out.features["corrected_label"] == ClassLabel(names=list("abc")) and out.features["row"] == Value("int64")
    assert out.features["teacher_soft_label"] == List(Value("float32"), length=3)
    assert out.features["typicality"] == Value("float32") and out["typicality"][:] == [None] * 4  # nothing says it
    assert out["row"][:] == [7, 8, 9, 10] and out["selected"][:] == [True, False, True, False]
    assert out["corrected_label"][:] == [given[0], 2, given[2], 1]
    assert out.data.column("image").equals(ds.data.column("image"))  # bytes untouched


def test_trusted_rows():
    """verified = 1: right where the given label is 1, wrong elsewhere."""
    given, trusted = np.array([1, 0, 0]), np.array([True, True, False])
    columns = columns_of(found([True, True, True], [1, 1, 0], [1.0, 1.0, 0.7]), given, trusted, np.arange(3))
    assert columns.corrected.tolist() == [1, 1, 0] and columns.selected.tolist() == [True, False, True]
    np.testing.assert_allclose(columns.clean_score, [1, 0, 0.7])


def test_flag_worst():
    given = np.array([0, 1, 2, 0, 1])
    trusted = np.array([True, False, False, False, False])
    columns = columns_of(
        found([True, True, False, True, True], [0, 1, 0, 0, 1], [1.0, 0.3, 0.5, 0.2, 0.9]), given, trusted, np.arange(5)
    )
    for count in range(5):
        flagged = flag_worst(columns, given, trusted, count)
        assert (~flagged.selected).sum() == count and flagged.selected[0]
    assert np.flatnonzero(~flag_worst(columns, given, trusted, 2).selected).tolist() == [1, 3]
    assert flag_worst(columns, given, trusted, 2).corrected[2] == 2  # selected again: the given label


def test_other_splits_have_nulls():
    columns = columns_of_other(np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], np.float32), np.array([0, 0, -1]))
    out = add_columns(hf_dataset(3, 2), columns, ("a", "b"))
    assert out["selected"][:] == [True, False, None] and out["corrected_label"][:] == [0, 1, None]
    assert out["teacher_soft_label"][2] is None and out["row"][:] == [0, 1, 2]
    assert out["clean_score"][1] == pytest.approx(0.2)
    empty = add_columns(hf_dataset(3, 2), no_columns(3, 2), ("a", "b"))
    assert empty["clean_score"][:] == [None] * 3 and empty.features == out.features


def test_prefix():
    out = add_columns(hf_dataset(3, 2), no_columns(3, 2), ("a", "b"), "my_")
    assert "my_clean_score" in out.column_names and "my_row" in out.column_names


def test_metrics_by_hand():
    truth = np.array([0, 0, 1, 1, 2, 2, 0])
    given = np.array([0, 1, 1, 0, 2, 0, 1])  # wrong: rows 1, 3, 5, 6
    trusted = np.array([False] * 6 + [True])
    evidence = found(
        [True, False, False, False, True, True, True], [0, 0, 2, 1, 2, 0, 0], [0.9, 0.1, 0.4, 0.2, 0.8, 0.6, 1.0]
    )
    m = metrics(columns_of(evidence, given, trusted, np.arange(7)), given, truth, trusted)
    assert (m["noisy_precision"], m["noisy_recall"]) == pytest.approx((2 / 3, 2 / 3))
    assert (m["clean_precision"], m["clean_recall"], m["clean_f1"]) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert m["label_accuracy_before"] == pytest.approx(3 / 6)
    assert m["label_accuracy_after"] == pytest.approx(4 / 6)  # rows 0, 1, 3, 4
    assert m["label_accuracy_after_all"] == pytest.approx(5 / 7)
    assert m["auroc"] == pytest.approx(8 / 9)  # of 9 pairs, only (row 2, row 5) is the wrong way round
    assert 0 < m["average_precision"] < 1


def test_metrics_of_clean_data():
    m = metrics(
        columns_of(found([True] * 3, [0, 1, 2], [0.9] * 3), np.arange(3), np.zeros(3, bool), np.arange(3)),
        np.arange(3),
        np.arange(3),
        np.zeros(3, bool),
    )
    assert m["auroc"] is None and m["noisy_f1"] == 0 and m["clean_f1"] == 1


def test_rows_with_two_right_labels():
    evidence = dataclasses.replace(found([True, False], [0, 2], [0.9, 0.1]), ambiguous=torch.tensor([False, True]))
    columns = columns_of(evidence, np.array([0, 1]), np.zeros(2, bool), np.arange(2))
    assert add_columns(hf_dataset(2), columns, tuple("abc"))["ambiguous"][:] == [False, True]
    placed = spread(columns, np.array([0, 2]), np.arange(3))
    assert add_columns(hf_dataset(3), placed, tuple("abc"))["ambiguous"][:] == [False, None, True]
    unseen = columns_of(found([True, False], [0, 2], [0.9, 0.1]), np.array([0, 1]), np.zeros(2, bool), np.arange(2))
    assert add_columns(hf_dataset(2), unseen, tuple("abc"))["ambiguous"][:] == [None, None]
