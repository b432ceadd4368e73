"""How far a score is from a probability, against numbers worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from curator.result.metrics import calibration_error, precision_recall_f1, reliability


def test_reliability_worked_numbers():
    score = np.array([0.1, 0.3, 0.9, 0.95, 1.0])
    right = np.array([False, True, True, True, False])
    found = reliability(score, right, 2)
    assert found[0] == {"rows": 2, "score": 0.2, "right": 0.5}
    assert found[1] == {"rows": 3, "score": 0.95, "right": 0.6667}
    assert reliability(score[:2], right[:2], 4)[3] == {"rows": 0, "score": None, "right": None}


def test_calibration_error_worked_numbers():
    """Bins of a twentieth: .1 (wrong) and .3 (right) are .1 and .7 off, two rows at .9 half right are .4 off."""
    score, right = np.array([0.1, 0.3, 0.9, 0.9]), np.array([False, True, True, False])
    assert calibration_error(score, right) == pytest.approx((0.1 + 0.7 + 2 * 0.4) / 4)
    random = np.random.default_rng(0)
    chance = random.random(200_000)
    assert calibration_error(chance, random.random(200_000) < chance) < 0.01
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0


def test_precision_recall_f1_are_those_of_scikit_learn():
    """Which is not used itself: in the training loop it costs .15 s a million rows, and its import 1.7 s."""
    random = np.random.default_rng(0)
    for rows in (1, 2, 7, 50):
        for share in (0.0, 0.1, 0.5, 1.0):
            predicted, actual = random.random(rows) < share, random.random(rows) < random.random()
            theirs = precision_recall_fscore_support(actual, predicted, average="binary", zero_division=0)[:3]
            assert precision_recall_f1(predicted, actual) == theirs
    assert precision_recall_f1(np.zeros(0, bool), np.zeros(0, bool)) == (0, 0, 0)  # theirs raises
