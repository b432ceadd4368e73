"""The vote of the nearest rows against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from curator.signals import neighbours
from curator.signals.neighbours import neighbour_vote

ANGLE = np.deg2rad([0.0, 10, 20, 90, 200])
X = torch.tensor(np.stack([np.cos(ANGLE), np.sin(ANGLE)], 1) * [[1.0], [2], [3], [4], [5]]).float()
LABELS = torch.tensor([0, 1, 1, 0, 1])


def test_worked_numbers():
    """Row 0 sees rows at 10 and 20 degrees, row 3 those at 70 and 80; row 4 has none on its side."""
    vote = neighbour_vote(X.__getitem__, 5, LABELS, torch.arange(5), 2, 2)
    near, far = np.cos(np.deg2rad(10)), np.cos(np.deg2rad(20))
    assert vote[0].tolist() == pytest.approx([0, 1])
    assert vote[1].tolist() == pytest.approx([0.5, 0.5])
    assert vote[2].tolist() == pytest.approx([far / (near + far), near / (near + far)], abs=1e-6)
    assert vote[4].tolist() == [0.5, 0.5]


def test_a_sample_votes_for_all():
    vote = neighbour_vote(X.__getitem__, 5, LABELS, torch.tensor([0, 2, 3]), 2, 1)
    assert vote[[0, 2, 3]].tolist() == [[0, 1], [1, 0], [0, 1]]  # row 1 is as near to row 0 as to row 2


def test_along_the_principal_axes(monkeypatch):
    """Features of many columns that lie on a few axes: the same vote."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 3, generator=generator) @ torch.randn(3, 40, generator=generator)
    labels = torch.randint(4, (300,), generator=generator)
    whole = neighbour_vote(x.__getitem__, 300, labels, torch.arange(300), 4, 5)
    monkeypatch.setattr(neighbours, "MANY", 100)
    monkeypatch.setattr(neighbours, "AXES", 3)
    monkeypatch.setattr(neighbours, "PART", 64)
    torch.testing.assert_close(neighbour_vote(x.__getitem__, 300, labels, torch.arange(300), 4, 5), whole)
