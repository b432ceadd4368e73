"""The posterior of true labels: worked numbers of its parts, and data whose noise is known."""

import numpy as np
import pytest
import torch

from curator.signals.posterior import (
    BIAS,
    _alike,
    _alone,
    _bayes,
    _counts,
    _spread,
    _transition,
    _weights,
    keep_by_expected_f1,
    label_posterior,
)


def test_bayes_worked_numbers():
    """P(true = i, given = j | x) = softmax(a z)_i T_ij: with z = log (.6, .4), a = 2 and T = (.9 .1; .2 .8)."""
    z = torch.tensor([[[0.6, 0.4]]]).double().log()
    transition = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double()
    models = _alone(z, torch.tensor([2.0]).double(), torch.zeros(2).double())
    for given, joint in ((0, (0.36 / 0.52 * 0.9, 0.16 / 0.52 * 0.2)), (1, (0.36 / 0.52 * 0.1, 0.16 / 0.52 * 0.8))):
        found = _bayes(models, torch.tensor([given]), torch.tensor([False]), transition).exp()
        assert found[0].tolist() == pytest.approx(joint)
    sure = _bayes(models, torch.tensor([1]), torch.tensor([True]), transition).softmax(1)
    assert sure[0].tolist() == pytest.approx([0, 1])


def test_transition_worked_numbers():
    """Two rows of class 0, one of them labelled 1, and one of class 1; the fourth is verified and does not count.

    Counts (1 1; 0 1), a share of 1/3 wrong; wrong labels go to 1 (half of it as such, half as 2/3 of the labels are 1),
    so the matrix is shrunk to (2/3 1/3; 1/3 2/3) by two rows a class: (1 + 4/3, 1 + 2/3) / 4 and (2/3, 1 + 4/3) / 3.
    """
    probs = torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 0]]).double()
    counts = _counts(probs, torch.tensor([0, 1, 1, 1]), torch.tensor([0.0, 0, 0, 1]).double())
    assert counts.tolist() == [[1, 1], [0, 1]]
    found, prior = _transition(counts, torch.tensor(2.0), torch.tensor(False), torch.zeros(2, 2))
    torch.testing.assert_close(prior, torch.tensor([[2.0, 1], [1, 2]]).double() / 3, atol=1e-6, rtol=0)
    expected = torch.tensor([[7 / 12, 5 / 12], [2 / 9, 7 / 9]]).double()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_evidence_worked_numbers():
    """Labels (0, 0, 1) of class 0, whose matrix row may be anything: B(3, 2) / B(1, 1) = 1/12, where halves fit 1/8."""
    counts, halves = torch.tensor([[2.0, 1], [0, 0]]).double(), torch.full((2, 2), 0.5).double()
    found = _spread(counts, halves, torch.ones(2, 2).double())
    assert found.item() == pytest.approx(np.log(1 / 12) - np.log(1 / 8))
    assert _spread(counts, halves, 1e6 * halves).item() == pytest.approx(0, abs=1e-4)  # halves for sure


def test_weights_are_the_likeliest():
    """Of one classifier that says .8 where 9 of 10 are right, the weight is log 9 / log 4; a useless one gets less."""
    votes = torch.tensor([0.8, 0.2]).double().log().expand(1, 1000, 2).clone()
    votes[:, ::2] = votes[:, ::2].flip(2)  # of both classes: of one, a bias says the same
    probs = votes[0].exp().round()
    probs[:100] = probs[:100].flip(1)
    weights, bias = torch.ones(1, 1).double(), torch.zeros(1, 2).double()
    for _ in range(10):
        weights, bias = _weights(votes, probs, weights, bias)
    assert weights.item() == pytest.approx(np.log(9) / np.log(4), abs=1e-3)
    useless = torch.randn(1, 1000, 2, generator=torch.Generator().manual_seed(0)).double()
    two = torch.ones(1, 2).double()
    for _ in range(20):
        two, bias = _weights(torch.cat([votes, useless]), probs, two, bias)
    assert two[0, 1] < 0.3 < 1 < two[0, 0]


def test_biases_are_the_likeliest():
    """Of a classifier that says nothing, and 900 of 1,000 rows of class 0: 1000 (.9 - softmax(b)_0) = BIAS b_0."""
    probs = torch.tensor([1.0, 0]).double().repeat(1000, 1)
    probs[900:] = probs[900:].flip(1)
    weights, bias = torch.ones(1, 1).double(), torch.zeros(1, 2).double()
    for _ in range(10):
        weights, bias = _weights(torch.zeros(1, 1000, 2).double(), probs, weights, bias)
    first, second = bias[0].tolist()
    assert 1000 * (0.9 - bias.softmax(1)[0, 0].item()) == pytest.approx(BIAS * first, abs=1e-6)
    assert first + second == pytest.approx(0, abs=1e-6)
    assert 0.9 < first < np.log(9) / 2


def rows(n: int, k: int, spread: float, seed: int = 0):
    """Log-probabilities of k classes on points about their means, and the classes.

    The model is right about the classes but less sure than it might be, as one is that trained on noisy labels.
    """
    random = np.random.default_rng(seed)
    truth = np.arange(n) % k
    x = 3 * np.eye(k)[truth] + spread * random.standard_normal((n, k))
    return torch.from_numpy(0.5 * 3 * x / spread**2).log_softmax(1), truth


def labelled(truth: np.ndarray, matrix: np.ndarray, seed: int = 1) -> torch.Tensor:
    chance = np.random.default_rng(seed).random(len(truth))
    return torch.from_numpy((matrix[truth].cumsum(1) < chance[:, None]).sum(1))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("spread", [0.8, 1.6])  # 1 % and 20 % of the rows look like another class
def test_hard_rows_are_not_taken_for_wrong_labels(rate, spread):
    n, k = 3000, 5
    log_probs, truth = rows(n, k, spread)
    matrix = np.full((k, k), rate / (k - 1)) + (1 - rate - rate / (k - 1)) * np.eye(k)
    labels = labelled(truth, matrix)
    found = label_posterior(log_probs[None], labels, torch.zeros(n, dtype=torch.bool))
    assert 1 - found.clean.mean().item() == pytest.approx(rate, abs=0.03)
    changed = found.probs.argmax(1) != labels
    assert (found.probs.argmax(1).numpy() == truth).mean() >= (labels.numpy() == truth).mean() - 0.002
    assert (log_probs.argmax(1).numpy() != truth).mean() > 0.1 or spread < 1
    if rate == 0:
        assert changed.float().mean() < 0.005
    sure = found.clean > 0.95
    assert sure.any() and (labels.numpy() != truth)[sure.numpy()].mean() < 0.05


def test_look_alike_classes_are_told_from_the_matrix():
    """A third of class 0 is labelled 1, no other: only labels 1 are doubted, and they are nearly all found."""
    n, k = 3000, 4
    log_probs, truth = rows(n, k, 0.8)
    matrix = np.eye(k)
    matrix[0, :2] = 2 / 3, 1 / 3
    labels = labelled(truth, matrix)
    found = label_posterior(log_probs[None], labels, torch.zeros(n, dtype=torch.bool))
    assert found.transition[0, 1].item() == pytest.approx(1 / 3, abs=0.05)
    assert found.transition.diagonal()[1:].min() > 0.95
    right = found.probs.argmax(1).numpy() == truth
    assert right.mean() > 0.97 and (labels.numpy() == truth).mean() < 0.93


def test_how_alike_classes_are_worked_numbers():
    """Rows (.5 .5 0) and (0 .5 .5): class 1 is met by 0 and by 2, .25 each; 0 and 2 look like 1 alone."""
    z = torch.tensor([[[0.5, 0.5, 0], [0, 0.5, 0.5]]]).double().clamp_min(1e-30).log()
    like = _alike(z)
    torch.testing.assert_close(like, torch.tensor([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]]).double(), atol=1e-9, rtol=0)
    counts = _counts(torch.eye(3).double(), torch.tensor([0, 2, 2]), torch.zeros(3).double())
    _, prior = _transition(counts, torch.tensor(3.0), torch.tensor(True), like)
    expected = torch.tensor([[4, 2, 0], [1, 4, 1], [0, 2, 4]]).double() / 6
    torch.testing.assert_close(prior, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind, rate", [("pairs", 0.3), ("even", 0.3), ("pairs", 0.0)])
def test_labels_of_few_rows_that_go_to_alike_classes(monkeypatch, kind, rate):
    """20 classes of 30 rows, in pairs that look alike: that counts where it explains the labels, and else nowhere."""
    n, k = 600, 20
    truth, near = np.arange(n) % k, np.eye(k)[np.arange(k) ^ 1]
    x = 3 * np.eye(k)[truth] + 1.5 * near[truth] + 0.9 * np.random.default_rng(0).standard_normal((n, k))
    votes = torch.from_numpy(0.5 * 3 * x / 0.9**2).log_softmax(1)[None]
    wrong = near if kind == "pairs" else (1 - np.eye(k)) / (k - 1)
    labels, trusted = labelled(truth, (1 - rate) * np.eye(k) + rate * wrong), torch.zeros(n, dtype=torch.bool)
    monkeypatch.setattr("curator.signals.posterior.MADE_UP", 100.0)  # else few made-up rows see the pairs by themselves
    found = label_posterior(votes, labels, trusted)
    monkeypatch.setattr("curator.signals.posterior.ENOUGH", 0.0)  # as where rows are many
    before = label_posterior(votes, labels, trusted)
    to_near = [float((judged.transition * torch.from_numpy(near)).sum(1).mean()) for judged in (found, before)]
    if kind == "pairs" and rate:  # 20 made-up rows a class, beside 30, that are spread over all classes hide it
        assert to_near[1] + 0.02 < to_near[0] < rate
    elif kind == "even":
        torch.testing.assert_close(found.probs, before.probs, atol=1e-5, rtol=0)
    else:  # nothing is wrong: alike classes explain hard rows a little, and hardly a label changes for it
        right = [(judged.probs.argmax(1).numpy() == truth).mean() for judged in (found, before)]
        assert min(right) > 0.96 and abs(right[0] - right[1]) < 0.01


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_many_classes_of_few_rows_of_which_each_is_confused_with_one(rate):
    """160 made-up rows a class, beside 40, would hide it: all rows would be hard, and no label wrong."""
    n, k = 1600, 40
    log_probs, truth = rows(n, k, 0.7)
    labels = labelled(truth, (1 - rate) * np.eye(k) + rate * np.roll(np.eye(k), 1, axis=1))
    found = label_posterior(log_probs[None], labels, torch.zeros(n, dtype=torch.bool))
    assert 1 - found.clean.mean().item() == pytest.approx(rate, abs=0.03)
    assert (found.probs.argmax(1).numpy() == truth).mean() > 0.95


def test_verified_rows_are_what_they_are():
    log_probs, _ = rows(60, 3, 1.0)
    labels = torch.arange(60) % 2
    found = label_posterior(log_probs[None], labels, torch.ones(60, dtype=torch.bool))
    assert (found.clean > 0.999).all() and torch.equal(found.probs.argmax(1), labels)


@pytest.mark.parametrize("right", [True, False])
def test_a_guess_counts_where_it_explains_the_labels(right):
    """A third of the labels goes to the next class, and one more vote knows the class, or knows nothing."""
    n, k = 1500, 5
    log_probs, truth = rows(n, k, 1.6)
    labels = labelled(truth, (2 * np.eye(k) + np.roll(np.eye(k), 1, axis=1)) / 3)
    clusters = truth if right else np.random.default_rng(2).integers(0, k, n)
    guess = (torch.nn.functional.one_hot(torch.from_numpy(clusters), k) + 0.02).log().float()
    trusted = torch.zeros(n, dtype=torch.bool)
    votes = torch.stack([log_probs.float(), guess])
    alone, found = (label_posterior(v, labels, trusted, g) for v, g in ((votes[:1], 0), (votes, 1)))
    accuracy = [(judged.probs.argmax(1).numpy() == truth).mean() for judged in (alone, found)]
    assert found.weights.shape == (2,)
    if right:
        assert accuracy[1] > 0.99 > accuracy[0] + 0.05
    else:  # no fit believes it, and one that does not is not counted twice
        torch.testing.assert_close(found.probs, alone.probs)


def test_starts_at_once_end_as_one_by_one(monkeypatch):
    """With classes enough for each kind of start, where threads of MKL spoil solutions of several systems at once."""
    log_probs, truth = rows(400, 160, 0.9)
    labels, trusted = labelled(truth, 0.8 * np.eye(160) + 0.2 * np.roll(np.eye(160), 1, axis=1)), torch.arange(400) < 9
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # one, as a worker of pytest has on its core, hides it
    try:
        at_once = label_posterior(log_probs[None], labels, trusted)
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr("curator.signals.posterior.TOGETHER", 1)
    for found, expected in zip(at_once, label_posterior(log_probs[None], labels, trusted), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_sample_of_many_rows_fits_as_all_do(monkeypatch):
    log_probs, truth = rows(4000, 4, 1.0)
    labels = labelled(truth, np.full((4, 4), 0.05) + 0.8 * np.eye(4))
    trusted = torch.zeros(4000, dtype=torch.bool)
    whole = label_posterior(log_probs[None], labels, trusted)
    monkeypatch.setattr("curator.signals.posterior.FITTED", 1000)
    part = label_posterior(log_probs[None], labels, trusted)
    assert not torch.equal(part.probs, whole.probs)
    assert (part.clean - whole.clean).abs().mean() < 0.02


def test_flags_of_the_highest_expected_f1():
    """Wrong with .9, .6, .4, .3 and four times .05 (2.4 in all): F1 .529, .682, .704, .6875 with one to four."""
    clean = 1 - torch.tensor([0.05, 0.9, 0.05, 0.4, 0.6, 0.3, 0.05, 0.05])
    assert keep_by_expected_f1(clean).tolist() == [True, False, True, False, False, True, True, True]
    assert keep_by_expected_f1(torch.full((50,), 0.9)).all()  # a tenth is not enough to flag a row
    assert keep_by_expected_f1(torch.zeros(0)).tolist() == []
    assert not keep_by_expected_f1(torch.zeros(4)).any()
