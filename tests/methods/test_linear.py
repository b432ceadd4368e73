"""Logistic regression in folds: against scikit-learn used by hand, and what stands where a class is not met."""

import numpy as np
import pytest
import torch

from curator.engine.folds import stratified_folds
from curator.engine.linear import LinearNet, Rows, best_strength, fit, out_of_fold
from curator.errors import CuratorError
from curator.methods.linear import Linear
from tests.conftest import noisy


def test_out_of_fold_is_scikit_learn_in_these_folds(make_run):
    from sklearn.linear_model import LogisticRegression

    data, _ = noisy(120, 3, kind="features")
    run = make_run()
    x = Rows(data, run)
    found = out_of_fold(x, data.labels, data, run, 4, 0.1)
    rows, labels = x.array(torch.arange(120)), data.labels.numpy()
    assert rows.mean(0) == pytest.approx(0, abs=1e-5) and rows.std(0) == pytest.approx(1, abs=1e-4)
    fold = stratified_folds(data.labels, 4, run.generator("linear folds", shared=True)).numpy()
    for f in range(4):
        model = LogisticRegression(C=0.1, max_iter=200, tol=1e-3).fit(rows[fold != f], labels[fold != f])
        assert found[fold == f].numpy() == pytest.approx(model.decision_function(rows[fold == f]), abs=1e-4)


def test_folds_at_once_are_the_folds(make_run):
    """To the last bit; and what the threads of products were set to they are again."""
    from threadpoolctl import threadpool_info

    def threads():
        return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    data, _ = noisy(120, 3, kind="features")
    before = threads()
    one, two = (
        out_of_fold(Rows(data, run), data.labels, data, run, 5, 0.1) for run in (make_run(), make_run(threads=2))
    )
    assert torch.equal(one, two)
    assert before and torch.get_num_threads() == 2 and threads().items() >= before.items()


def test_two_classes_and_a_class_without_rows(make_run):
    from sklearn.linear_model import LogisticRegression

    data, _ = noisy(80, 3, np.arange(80) % 2, kind="features")
    run = make_run()
    x, rows = Rows(data, run), torch.arange(80)
    weight, bias = fit(x, data.labels, rows, 3, 0.1, run)
    model = LogisticRegression(C=0.1, max_iter=200, tol=1e-3).fit(x.array(rows), data.labels.numpy())
    probs = x.scores(rows, weight, bias).softmax(1).numpy()
    assert probs[:, :2] == pytest.approx(model.predict_proba(x.array(rows)), abs=1e-4)
    assert probs[:, 2].max() < 1e-6


def test_a_row_whose_class_is_in_no_other_fold_is_left_to_its_label(make_run):
    data, _ = noisy(60, 3, np.r_[np.arange(59) % 2, 2], kind="features")
    run = make_run()
    logits = out_of_fold(Rows(data, run), data.labels, data, run, 5, 0.1)
    assert logits[59, 2] == logits[59, :2].max()


def test_the_strength_of_the_likeliest_held_out_labels(make_run):
    """Far-off strengths are worse on held-out rows of noisy labels than the one chosen."""
    data, _ = noisy(300, 3, kind="features", share=0.3)
    run = make_run()
    x = Rows(data, run)
    chosen = best_strength(x, data, run, 5)

    def loss(strength):
        return torch.nn.functional.cross_entropy(out_of_fold(x, data.labels, data, run, 5, strength), data.labels)

    assert 1e-4 <= chosen <= 1 and loss(chosen) < min(loss(1e-6), loss(1e3))


def test_rows_of_one_length(make_run):
    """Scaled rows are sqrt(d) long; the net reads rows as its model did."""
    data, _ = noisy(60, 3, kind="features")
    run = make_run()
    x, rows = Rows(data, run, alike_long=True), torch.arange(60)
    assert np.linalg.norm(x.array(rows), axis=1) == pytest.approx(4, abs=1e-5)
    weight, bias = fit(x, data.labels, rows, 3, 0.1, run)
    net = LinearNet((16,), 3)
    net.load(weight, bias, alike_long=True)
    plain = torch.from_numpy(Rows(data, run).array(rows))
    torch.testing.assert_close(net(plain).logits, x.scores(rows, weight, bias))


def test_score_is_the_margin(make_run):
    data, _ = noisy(3, 3, np.array([0, 1, 2]), kind="features")
    found = Linear().result(torch.tensor([[2.0, 1, 0], [3, 1, 0], [0, 0, 0.5]]), data)
    assert found.selected.tolist() == [True, False, True] and found.corrected.tolist() == [0, 0, 2]
    assert found.clean_score.tolist() == pytest.approx([1 / (1 + np.exp(-m)) for m in (1, -2, 0.5)])


def test_trusted_rows_train_every_fold(make_run):
    """A class that only verified rows are of is known to all folds."""
    labels = np.r_[np.zeros(30, int), np.ones(30, int), 2]
    data, _ = noisy(61, 3, labels, kind="features", trusted=np.arange(61) == 60)
    run = make_run()
    logits = out_of_fold(Rows(data, run), data.labels, data, run, 5, 1000.0)
    assert logits[60].argmax() == 2


def test_a_class_that_new_labels_lost_keeps_what_was_said_of_it(make_run):
    """Whatever the row's label: else the models would say again what they were given."""
    data, _ = noisy(60, 3, kind="features")
    run, labels = make_run(), torch.where(data.labels == 2, 0, data.labels)
    before = torch.tensor([1.0, 0.0, 0.5]).expand(60, 3)
    found = out_of_fold(Rows(data, run), labels, data, run, 5, 1.0, 1, None, before).softmax(1)
    torch.testing.assert_close(found[:, 2], before.softmax(1)[:, 2])
    torch.testing.assert_close(found.sum(1), torch.ones(60))
    alone = out_of_fold(Rows(data, run), labels, data, run, 5, 1.0, 1).softmax(1)
    torch.testing.assert_close(found[:, 0] / found[:, 1], (alone[:, 0] / alone[:, 1]), rtol=1e-3, atol=1e-6)


def test_images_that_are_too_many_numbers(make_run, monkeypatch):
    monkeypatch.setattr("curator.engine.linear.MOST", 1000)
    data, _ = noisy(60, 3)
    with pytest.raises(CuratorError, match="60 images of shape .* add --backbone"):
        Rows(data, make_run())
