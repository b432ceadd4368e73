import math
from fractions import Fraction

import pytest
import torch

from curator.signals.small_loss import quotas, smallest_of_class

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 2])
LOSSES = torch.tensor([0.9, 0.1, 0.4, 0.2, 1.5, 0.3, 0.7, 0.05, 2.2, 3.1])
SIZES = torch.tensor([4, 5, 1])


@pytest.mark.parametrize(
    ("rate", "kind", "quota", "flags"),
    [
        (0.5, "balanced", [2, 2, 1], [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
        (0.6, "balanced", [2, 2, 1], [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
        (0.9, "balanced", [3, 3, 1], [0, 1, 1, 1, 0, 1, 1, 1, 0, 1]),
        (0.5, "proportional", [2, 2, 0], [0, 1, 0, 1, 0, 1, 0, 1, 0, 0]),
        (0.0, "balanced", [1, 1, 1], [0, 1, 0, 0, 0, 0, 0, 1, 0, 1]),
        (0.0, "proportional", [0, 0, 0], [0] * 10),
        (1.0, "proportional", [4, 5, 1], [1] * 10),
    ],
)
def test_worked_numbers(rate, kind, quota, flags):
    found = quotas(SIZES, rate, kind)
    assert found.tolist() == quota and found.dtype == torch.int64
    selected = smallest_of_class(LOSSES, LABELS, found)
    assert selected.int().tolist() == flags and selected.dtype == torch.bool


@pytest.mark.parametrize(
    ("k", "expected"),
    [(10, {0.7: 3500, 0.5: 2500, 0.2: 1000, 0.1: 500}), (100, {0.7: 350, 0.5: 250, 0.2: 100, 0.1: 50})],
)
def test_quotas_of_cifar(k, expected):
    sizes = torch.full((k,), 50_000 // k)
    for rate, quota in expected.items():
        assert quotas(sizes, rate).tolist() == quotas(sizes, rate, "proportional").tolist() == [quota] * k


def test_small_classes_give_all_their_rows():
    sizes = torch.tensor([199] + [500] * 98 + [801])
    assert quotas(sizes, 0.5).tolist() == [199] + [250] * 99


@pytest.mark.parametrize(("n", "k"), [(50_000, 10), (50_000, 100), (50_000, 14), (32_000, 14), (65_944, 50)])
def test_quotas_are_those_of_exact_arithmetic(n, k):
    sizes = torch.full((k,), n // k)
    sizes[0] += n % k
    for tenths in range(1, 10):
        rate = Fraction(tenths, 10)
        assert quotas(sizes, tenths / 10)[1] == math.ceil(Fraction(n, k) * rate)
        exact = [math.floor(s * rate) for s in sizes.tolist()]
        assert quotas(sizes, tenths / 10, "proportional").tolist() == exact
    assert quotas(torch.tensor([100]), 0.29, "proportional") == 29  # 28.999999999999996 in float64


def test_ties_go_to_the_lower_row():
    labels = torch.tensor([1, 0, 1, 0, 1, 0])
    selected = smallest_of_class(torch.ones(6), labels, torch.tensor([2, 1]))
    assert selected.int().tolist() == [1, 1, 0, 1, 0, 0]


def test_a_class_without_rows():
    labels = torch.tensor([0, 2, 2, 0])
    sizes = torch.bincount(labels, minlength=4)
    quota = quotas(sizes, 0.5)
    assert quota.tolist() == [1, 0, 1, 0]
    # A quota beyond a class's rows selects them all, and none of the next class.
    for taken in (quota, torch.tensor([1, 5, 1, 5])):
        selected = smallest_of_class(torch.tensor([4.0, 3, 2, 1]), labels, taken)
        assert selected.int().tolist() == [0, 0, 1, 1]


def test_against_sorting_each_class():
    g = torch.Generator().manual_seed(0)
    losses, labels = torch.rand(500, generator=g), torch.randint(7, (500,), generator=g)
    quota = torch.tensor([0, 1, 5, 20, 40, 60, 500])
    expected = torch.zeros(500, dtype=torch.bool)
    for c in range(7):
        rows = (labels == c).nonzero()[:, 0]
        expected[rows[losses[rows].argsort()[: quota[c]]]] = True
    assert torch.equal(smallest_of_class(losses, labels, quota), expected)


def test_quota_of_rates_that_floats_cannot_hold():
    assert quotas(torch.tensor([100, 100]), 0.55).tolist() == [55, 55]
    assert all(int(quotas(torch.tensor([100] * 10), i / 100)[0]) == i for i in range(1, 101))
