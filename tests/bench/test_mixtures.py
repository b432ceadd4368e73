"""The straightforward mixture of the bench gives what ours gives, and the worked numbers."""

import numpy as np
import pytest
import torch

from bench.mixtures import Straightforward, bic_gain, losses_of, monotone, scaled
from curator.signals.bmm import EPS, LossMixture
from curator.signals.em import beta_parameters


def test_straightforward_worked_numbers():
    found = Straightforward().fit(np.array([0.02, 0.05, 0.10, 0.20, 0.45, 0.60, 0.80, 0.95]))
    assert found.alphas == pytest.approx([0.434525, 1.703508], abs=1e-6)
    assert found.betas == pytest.approx([1.658898, 0.747828], abs=1e-6)


def test_ours_is_the_straightforward_one():
    losses = losses_of(3000)
    inside, x = scaled(losses)
    reference, ours = Straightforward().fit(inside), LossMixture()
    ours.fit(torch.from_numpy(losses))
    alpha, _ = beta_parameters(ours.mean, ours.var)
    assert alpha.tolist() == pytest.approx(reference.alphas, rel=1e-5)
    found, rises = ours(torch.from_numpy(losses)).numpy(), monotone(reference, x)
    assert rises.mean() > 0.5
    assert np.abs(found - reference.posterior(x).clip(EPS, 1 - EPS))[rises].max() < 1e-5


def test_bic_of_two_groups_and_of_one():
    rng = np.random.default_rng(0)
    assert bic_gain(np.r_[rng.beta(20, 80, 500), rng.beta(80, 20, 500)], 300) > 100
    assert bic_gain(rng.beta(2, 3, 1000), 300) < 0
