import numpy as np
import pytest

from curator.result.read import Rows
from curator.review.groups import MOST, groups_of, joined, packed


def test_groups_are_of_one_pair_and_the_largest_come_first(run):
    rows = Rows(run)
    groups = groups_of(rows)
    assert ((groups >= 0) == ~rows.selected).all()
    members = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
    sizes = [len(m) for m in members]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) >= 1 and max(sizes) <= MOST and sum(sizes) == 150
    assert all(len(set(rows.given[m])) == len(set(rows.suggested[m])) == 1 for m in members)
    means = [(size, rows.score[m].mean()) for size, m in zip(sizes, members, strict=True)]
    assert all(a <= b + 1e-6 for (s, a), (t, b) in zip(means, means[1:], strict=False) if s == t)


def test_near_points_are_joined():
    rng = np.random.default_rng(0)
    cloud = rng.permutation(np.repeat(np.arange(4), 30))
    found = joined(rng.normal(0, 0.1, (120, 3)) + 10 * np.eye(4)[cloud, :3], 40)
    assert len(set(zip(cloud.tolist(), found.tolist(), strict=True))) == 4 == found.max() + 1
    assert np.bincount(joined(rng.random((500, 2)), 64)).max() <= 64
    assert joined(rng.random((5, 2)), 64).tolist() == [0] * 5


@pytest.mark.parametrize("sizes, pages", [
    ([64, 30, 30, 10], [0, 64, 124, 134]),
    ([20, 20, 20, 20], [0, 60, 80]),
    ([150, 3], [0, 64, 128, 153]),  # rows without a group
    ([5], [0, 5]), ([], [0, 0]),
])  # fmt: skip
def test_a_page_has_whole_groups(sizes, pages):
    assert packed(np.repeat(np.arange(len(sizes)), sizes), 64).tolist() == pages
