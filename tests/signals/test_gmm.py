from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from curator.signals.gmm import clean_posterior, clean_posterior_by_class, normalised, two_means

RAW = torch.tensor(
    [0.2, 0.17, 0.9, 0.14, 0.09, 0.6, 0.37, 0.26, 0.12, 0.17, 0.94, 1.49, 1.4, 1.93, 0.68, 1.21, 2.23, 2.62],
    dtype=torch.float64,
)
POSTERIOR = [
    0.984774, 0.985761, 0.554836, 0.986575, 0.987606, 0.921838, 0.974092, 0.982163, 0.987033,
    0.985761, 0.464485, 0.001322, 0.004610, 0.000001, 0.875411, 0.048505, 0.000000, 0.000000,
]  # fmt: skip
SENSITIVE = torch.tensor(
    [0.52, 0.3, 0.59, 0.05, 0.27, 0.3, 0.14, 0.09, 0.05, 0.11, 1.84, 2.26, 1.07, 2.17, 1.73, 1.84, 0.97, 1.67]
)


def close(found, expected, atol=1e-6):
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float64), atol=atol, rtol=0)


def of_sklearn(x, upper, *, iterations=10, tol=1e-2, reg=5e-4):
    """Clean posterior of scikit-learn's mixture started from a partition of x (n,)."""
    x, parts = x.numpy()[:, None], [x[~upper].numpy(), x[upper].numpy()]
    start = {
        "weights_init": [len(p) / len(x) for p in parts],
        "means_init": [[p.mean()] for p in parts],
        "precisions_init": [[[1 / (p.var() + reg)]] for p in parts],
    }
    mixture = GaussianMixture(2, max_iter=iterations, tol=tol, reg_covar=reg, **start).fit(x)
    return mixture.predict_proba(x)[:, mixture.means_.argmin()]


def spread(seed, n=200):
    """Losses (n,) in [0, 1] of two overlapping groups."""
    rng = np.random.default_rng(seed)
    groups = rng.gamma(1, 0.2, n - n // 3), rng.normal(1, 0.3, n // 3)
    return normalised(torch.from_numpy(np.concatenate(groups)))


def test_worked_numbers():
    x = normalised(RAW)
    close(x[:5], [0.043478, 0.031621, 0.320158, 0.019763, 0.000000])
    posterior = clean_posterior(x)
    close(posterior, POSTERIOR)
    assert (posterior > 0.5).int().tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    assert (posterior > 0.6).int().tolist() == [1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0]


def test_order_and_precision_of_the_input_do_not_matter():
    order = torch.randperm(18, generator=torch.Generator().manual_seed(0))
    close(clean_posterior(normalised(RAW)[order]), torch.tensor(POSTERIOR)[order])
    close(clean_posterior(normalised(RAW.float())), POSTERIOR, atol=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_agrees_with_scikit_learn():
    for x in (normalised(RAW), normalised(SENSITIVE), *(spread(seed) for seed in range(20))):
        close(clean_posterior(x), of_sklearn(x, two_means(x)), atol=1e-9)
    # Each of the three settings is heard.
    x = spread(0)
    settings = {"iterations": 25, "tol": 1e-6, "reg": 1e-3}
    close(clean_posterior(x, **settings), of_sklearn(x, two_means(x), **settings), atol=1e-9)
    default = clean_posterior(x)
    for changed in ({"iterations": 1}, {"tol": 1e-6}, {"reg": 5e-2}):
        assert (clean_posterior(x, **changed) - default).abs().max() > 1e-3


def test_start_decides_what_is_clean():
    """EM stops after a few iterations, so the best 2-means and another start tell different rows clean."""
    x = normalised(SENSITIVE)
    posterior = clean_posterior(x)
    assert (posterior > 0.5).sum() == 12
    other = of_sklearn(x, x > 0.2)
    assert (other > 0.5).sum() < 12 and np.abs(other - posterior.numpy()).max() > 0.9


def test_mean_of_five_epochs():
    x = normalised(RAW)
    history = torch.stack([x, (x + 0.05).clamp(0, 1), x**2, x.sqrt(), 1 - 0.9 * (1 - x), 0.5 * x])
    mean = history[-5:].mean(0)
    close(mean[:6], [0.092951, 0.080942, 0.317341, 0.067680, 0.030000, 0.224681])
    close(
        clean_posterior(mean),
        [
            0.985003, 0.986260, 0.676140, 0.987387, 0.989459, 0.929048, 0.973545, 0.981952, 0.988095,
            0.986260, 0.609650, 0.008325, 0.022846, 0.000019, 0.894647, 0.139550, 0.000000, 0.000000,
        ],
    )  # fmt: skip


@pytest.mark.parametrize("losses", [[], [0.3], [0.3] * 5])
def test_fewer_than_two_losses_are_clean(losses):
    close(clean_posterior(torch.tensor(losses)), [1.0] * len(losses))


def test_normalised():
    close(normalised(torch.tensor([3.0, 1, 2])), [1.0, 0, 0.5])
    close(normalised(torch.tensor([3.0, 3])), [0.0, 0])


def test_two_distinct_losses():
    close(clean_posterior(torch.tensor([0.0, 1, 0, 1])), [1.0, 0, 1, 0])


CLASS_LOSSES = torch.tensor([0.05, 0.06, 0.08, 0.8, 0.85, 0.9, 0.02, 0.03, 0.025, 0.035, 0.2, 0.22])


def test_by_class_splits_even_a_clean_class():
    classes = torch.arange(12) // 6
    by_class = [1.0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0]
    close(clean_posterior_by_class(CLASS_LOSSES, classes), by_class)
    close(clean_posterior(CLASS_LOSSES), [1.0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1])


def test_by_class_in_any_order_and_of_any_size():
    classes = torch.arange(12) // 6
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    mixed = clean_posterior_by_class(CLASS_LOSSES[order], classes[order])
    close(mixed, clean_posterior_by_class(CLASS_LOSSES, classes)[order], atol=1e-12)
    # A class of one row, and settings for every mixture.
    losses, classes = torch.cat([normalised(RAW), torch.ones(1)]), torch.tensor([3] * 18 + [0])
    found = clean_posterior_by_class(losses, classes, reg=0.01)
    close(found[:-1], clean_posterior(normalised(RAW), reg=0.01), atol=1e-12)
    assert found[-1] == 1 and (found[:-1] - torch.tensor(POSTERIOR)).abs().max() > 0.01


def test_two_means_is_the_best_of_all_partitions():
    def scatter(values):
        return ((values - values.mean()) ** 2).sum().item() if len(values) else 0.0

    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 8):
        for _ in range(5):
            x = torch.from_numpy(rng.gamma(0.5, 1, n)).round(decimals=1)  # ties among them
            x[0] += 1
            upper = two_means(x)
            best = min(
                scatter(x[list(rows)]) + scatter(x[[i for i in range(n) if i not in rows]])
                for size in range(1, n)
                for rows in combinations(range(n), size)
            )
            assert upper.any() and not upper.all() and x[upper].min() >= x[~upper].max()
            assert scatter(x[upper]) + scatter(x[~upper]) == pytest.approx(best, abs=1e-12)


def test_many_rows_are_binned_and_scored_exactly():
    x = spread(0, 150_000)
    found, exact = clean_posterior(x), clean_posterior(x, exact=10**9)
    assert (found - exact).abs().max() < 2e-4
    assert not torch.equal(found, exact) and len(found.unique()) > 100_000
    few = torch.tensor([0.0, 1.0]).repeat(60_000)
    close(clean_posterior(few), (few == 0).double())
