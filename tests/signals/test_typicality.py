import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from curator.signals import typicality as module
from curator.signals.typicality import typicality


def rows(seed: int = 0, heap: int = 20):
    """300 rows of 3 classes, 6 that lie alone, and a heap of alike ones with labels by chance."""
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    good = 4 * np.eye(16)[labels] + 0.6 * rng.normal(size=(300, 16)) + 3
    alone = 8 * np.eye(16)[5:11] + 0.1 * rng.normal(size=(6, 16))
    alike = 9 * np.eye(16)[12] + 0.05 * rng.normal(size=(heap, 16))
    x = torch.from_numpy(np.concatenate([good, alone, alike])).float()
    return x, np.concatenate([labels, rng.integers(0, 3, 6 + heap)])


@pytest.mark.parametrize("most", [20_000, 200])
def test_rows_like_nothing_and_heaps_of_junk(monkeypatch, most):
    monkeypatch.setattr(module, "MOST", most)
    x, labels = rows()
    found = typicality(x, labels)
    planted = np.arange(len(labels)) >= 300
    assert found.score.dtype == np.float32 and ((found.score >= 0) & (found.score <= 1)).all()
    assert roc_auc_score(planted, -found.score) > 0.99
    assert found.junk[planted].mean() > 0.9 and found.junk[~planted].mean() < 0.02
    distance, _ = module._nearest(x / x.norm(dim=1, keepdim=True), torch.arange(len(x)), 10)
    assert roc_auc_score(planted, distance.mean(1)) < 0.6  # of all rows, as others measure it
    again = typicality(x, labels)
    assert np.array_equal(found.score, again.score)


def test_alike_rows_without_a_class_in_common_are_mixed():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 100)
    centres = np.eye(16)[[0, 1, 2, 3]] + 2
    centres[3] = centres[:3].mean(0)  # between the classes: nobody can tell which it is
    x = torch.from_numpy(centres[truth] + 0.15 * rng.normal(size=(400, 16))).float()
    labels = np.where(truth < 3, truth, rng.integers(0, 3, 400))
    found = typicality(x, labels)
    assert found.mixed[truth == 3].mean() > 0.4 and found.mixed[truth < 3].mean() < 0.1
    assert found.junk[truth < 3].mean() < 0.02 and not (found.mixed & found.junk).any()


def test_few_rows_and_rows_that_are_all_the_same():
    assert typicality(torch.zeros(2, 3), np.array([0, 1])).score.tolist() == [1, 1]
    same = typicality(torch.ones(50, 3), np.arange(50) % 2)
    assert np.isfinite(same.score).all() and not same.junk.any()
    assert typicality(torch.eye(3), np.zeros(3, int)).score.shape == (3,)
