import numpy as np
import pytest
from scipy.stats import beta

from curator.publish.audit import Stratum, draw_sample, error_rate


def test_one_stratum_is_jeffreys_interval():
    rate = error_rate([Stratum(1000, 40, 10)])
    assert rate.estimate == 0.25
    low, high = beta.ppf([0.025, 0.975], 10.5, 30.5)
    assert rate.low == pytest.approx(low, abs=0.004) and rate.high == pytest.approx(high, abs=0.004)


def test_strata_weigh_by_size():
    rate = error_rate([Stratum(900, 50, 5), Stratum(100, 50, 40), Stratum(0, 0, 0)])
    assert rate.estimate == pytest.approx(0.9 * 0.1 + 0.1 * 0.8)
    spread = np.sqrt(0.81 * beta.var(5.5, 45.5) + 0.01 * beta.var(40.5, 10.5))
    assert (rate.high - rate.low) / 2 == pytest.approx(1.96 * spread, rel=0.06)
    assert rate == error_rate([Stratum(900, 50, 5), Stratum(100, 50, 40)])  # seeded


def test_edges():
    assert error_rate([Stratum(10, 0, 0), Stratum(5, 0, 0)]) is None
    none = error_rate([Stratum(10, 10, 0)])
    assert none.estimate == none.low == 0 and 0 < none.high < 0.3
    every = error_rate([Stratum(10, 10, 10)])
    assert every.estimate == every.high == 1
    half = error_rate([Stratum(50, 20, 0), Stratum(50, 0, 0)])  # nothing is known of the second
    assert half.estimate == 0.25 and half.high - half.low > 0.4


def test_the_interval_covers_the_truth():
    """Of 400 audits of rows whose wrong labels are known, about 95 % of the intervals hold the true rate."""
    rng = np.random.default_rng(0)
    selected = np.arange(5000) % 5 > 0
    wrong = np.where(selected, rng.random(5000) < 0.05, rng.random(5000) < 0.8)
    covered = 0
    for seed in range(400):
        sample = draw_sample(selected, 100, seed)
        strata = [(inside, sample[inside[sample]]) for inside in (selected, ~selected)]
        rate = error_rate([Stratum(int(i.sum()), len(s), int(wrong[s].sum())) for i, s in strata])
        covered += rate.low <= wrong.mean() <= rate.high
    assert 0.92 <= covered / 400 <= 0.99


@pytest.mark.parametrize(
    ("kept", "size", "counts"),
    [(80, 30, (15, 15)), (95, 31, (26, 5)), (3, 30, (3, 27)), (0, 9, (0, 9)), (100, 9, (9, 0)), (60, 100, (60, 40))],
)
def test_samples(kept, size, counts):
    selected = np.arange(100) < kept
    sample = draw_sample(selected, size, 4)
    assert len(set(sample.tolist())) == size
    assert (int(selected[sample].sum()), int((~selected[sample]).sum())) == counts
    assert np.array_equal(sample, draw_sample(selected, size, 4))
    if min(counts) > 3:
        assert not np.array_equal(sample, draw_sample(selected, size, 5))
        assert len(set(selected[sample][: size // 2].tolist())) == 2  # shuffled: the order tells nothing
