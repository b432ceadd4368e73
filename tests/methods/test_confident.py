from dataclasses import replace

import numpy as np
import pytest
import torch

from curator.errors import CuratorError
from curator.methods import METHODS
from curator.methods.ce import cosine
from curator.methods.confident import Confident, read_probs, stratified_folds, warn_of_order
from tests.conftest import noisy

pytestmark = pytest.mark.filterwarnings("ignore:May not flag all label issues")  # six rows are few
PROBS = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]])
LABELS = np.array([0, 1, 1, 2, 2, 2])


def six():
    return noisy(6, 3, LABELS)[0]


def test_worked_numbers_of_confident_learning():
    """Thresholds, confident joint and both scores, of the library that this method calls."""
    from cleanlab.count import compute_confident_joint, get_confident_thresholds

    np.testing.assert_allclose(get_confident_thresholds(LABELS, PROBS), [0.9, 0.5, 0.4], atol=1e-6)
    joint = compute_confident_joint(LABELS, PROBS, calibrate=False)
    assert joint.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 2]]
    probs = torch.from_numpy(PROBS)
    plain = Confident().clean(probs, six())
    np.testing.assert_allclose(plain.clean_score, [0.9, 0.7, 0.3, 0.7, 0.4, 0.1], atol=1e-6)
    margin = Confident(quality="normalized_margin").clean(probs, six())
    np.testing.assert_allclose(margin.clean_score, [0.9, 0.75, 0.35, 0.75, 0.55, 0.15], atol=1e-6)


def test_clean_is_cleanlabs_verdict():
    from cleanlab.filter import find_label_issues

    data, truth = noisy(300, 4, share=0.3)
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), 300) * 0.5 + 0.5 * np.eye(4)[truth]
    found = Confident().clean(torch.from_numpy(probs), data)
    expected = find_label_issues(data.labels.numpy(), probs.astype(np.float32).astype(float), n_jobs=1)
    assert (~found.selected.numpy() == expected).mean() > 0.99 and 0 < expected.sum() < 300
    assert torch.equal(found.corrected[~found.selected], torch.from_numpy(probs.argmax(1))[~found.selected])


def test_folds_are_stratified():
    labels = torch.from_numpy(np.random.default_rng(0).choice(4, 503, p=[0.6, 0.3, 0.09, 0.01]))
    fold = stratified_folds(labels, 5, torch.Generator().manual_seed(0))
    for c in range(4):
        sizes = torch.bincount(fold[labels == c], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    sizes = torch.bincount(fold)
    assert sizes.max() - sizes.min() <= 1
    assert not torch.equal(fold, stratified_folds(labels, 5, torch.Generator().manual_seed(1)))


def test_no_row_is_scored_by_a_net_that_saw_it(make_run, monkeypatch):
    """Each fold's net is trained only on the other folds, trusted rows apart."""
    data, _ = noisy(50, 2, trusted=np.arange(50) < 5)
    run = make_run()
    trained, scored = [], []
    batches, predict = run.batches, run.predict
    monkeypatch.setattr(
        run, "batches", lambda inputs, rows, *a: trained.append(set(rows.tolist())) or batches(inputs, rows, *a)
    )
    monkeypatch.setattr(
        run,
        "predict",
        lambda nets, inputs, rows, **k: scored.append(set(rows.tolist())) or predict(nets, inputs, rows, **k),
    )
    list(Confident(epochs=1, batch_size=16)(data, run))
    assert len(trained) == len(scored) == 5
    for t, s in zip(trained, scored, strict=True):
        assert t & s <= set(range(5)) <= t and t | s == set(range(50))
    assert set.union(*scored) == set(range(50))


def test_pred_probs(tmp_path, make_run):
    data = six()
    np.save(tmp_path / "p.npy", PROBS)
    (found,) = Confident(pred_probs=tmp_path / "p.npy")(data, make_run())
    torch.testing.assert_close(found.probs, torch.from_numpy(PROBS).float())
    np.save(
        tmp_path / "long.npy", np.concatenate([PROBS[::-1], PROBS])
    )  # of the whole split, of which six rows are taken
    object.__setattr__(data, "rows", torch.arange(6, 12))
    torch.testing.assert_close(read_probs(tmp_path / "long.npy", data), torch.from_numpy(PROBS).float())


@pytest.mark.parametrize("rows", [5, 7, 12])
def test_pred_probs_of_another_length_are_refused(tmp_path, rows):
    """Longer ones are not cut to fit, nor are those of a sample taken for the split's."""
    data = replace(six(), source_rows=rows)
    np.save(tmp_path / "p.npy", PROBS)
    with pytest.raises(
        CuratorError, match=rf"shape \({rows}, 3\), a row for each of the split, found float64 \(6, 3\)"
    ):
        read_probs(tmp_path / "p.npy", data)


@pytest.mark.parametrize("content, message", [
    (np.concatenate([PROBS, PROBS]), r"shape \(6, 3\), .*found float64 \(12, 3\)"),
    (PROBS[:4], r"shape \(6, 3\), .*found float64 \(4, 3\)"),
    (PROBS[:, :2], r"shape \(6, 3\)"),
    (PROBS * 2, "sum to 1; is a softmax missing"),
    (PROBS * np.nan, "sum to 1"),
    (LABELS, "shape"),
    (np.array([{}] * 6, dtype=object), "expected an .npy file of numbers"),
])  # fmt: skip
def test_wrong_pred_probs(tmp_path, content, message):
    np.save(tmp_path / "p.npy", content, allow_pickle=True)
    with pytest.raises(CuratorError, match=message):
        read_probs(tmp_path / "p.npy", six())
    with pytest.raises(CuratorError, match="expected an .npy file"):
        read_probs(tmp_path / "none.npy", six())


def test_defaults_are_the_issue_s():
    for name in ("ce", "mixup", "confident"):
        m = METHODS[name]()
        assert (m.lr, m.weight_decay, m.batch_size, m.epochs) == (0.1, 5e-4, 128, 60)
    assert METHODS["mixup"]().alpha == 1 and METHODS["ce"]().alpha == 0 and METHODS["confident"]().folds == 5


def test_cosine():
    """The published ProMix schedule: base .05, floor 5e-5, 600 epochs."""
    expected = {
        0: 0.05,
        10: 0.04996577,
        30: 0.04969252,
        100: 0.04665398,
        300: 0.025025,
        350: 0.01856099,
        590: 0.00008423,
        600: 0.00005,
    }
    for epoch, lr in expected.items():
        assert cosine(0.05, epoch, 600, 5e-5) == pytest.approx(lr, abs=5e-9)


@pytest.mark.parametrize("order, said", [([0, 1, 2], False), ([1, 2, 0], True)])
def test_columns_in_another_order_are_said(make_run, order, said):
    """Nothing else would tell: nearly all labels seem wrong."""
    data, truth = noisy(60, 3, kind="features")
    probs = torch.nn.functional.one_hot(torch.from_numpy(truth), 3).float() * 0.7 + 0.1
    run = make_run(net="mlp")
    warn_of_order(probs[:, order], data, run)
    assert [("in another order" in text) for text in run.warnings] == [True] * said


@pytest.mark.parametrize("rate", [0.6, 0.8])
def test_noise_is_no_other_order(make_run, rate):
    data, truth = noisy(300, 3, kind="features", share=rate)
    probs = torch.nn.functional.one_hot(torch.from_numpy(truth), 3).float() * 0.7 + 0.1
    run = make_run(net="mlp")
    warn_of_order(probs, data, run)
    assert not run.warnings
