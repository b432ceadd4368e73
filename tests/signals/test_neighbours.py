"""The vote of the nearest rows against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from curator.signals import neighbours
from curator.signals.neighbours import classes_of_votes, neighbour_vote

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


def test_classes_of_votes_where_a_third_is_given_as_the_next_class():
    """Of class 0 two thirds of the labels are 0, a third 1, and so on: twenty of them name the largest in 9 of 10."""
    random, k = np.random.default_rng(0), 5
    truth = np.repeat(np.arange(k), 240)
    matrix = (2 * np.eye(k) + np.roll(np.eye(k), 1, axis=1)) / 3
    vote = torch.tensor(random.multinomial(20, matrix[truth]) / 20).float()
    assert 0.8 < (vote.argmax(1).numpy() == truth).mean() < 0.95
    classes = classes_of_votes(vote, 10.0)
    assert (classes.argmax(1).numpy() == truth).mean() > 0.99
    torch.testing.assert_close(classes.sum(1), torch.ones(1200))


def test_classes_of_votes_where_labels_are_right():
    """Rows of one class, and hard rows between two of them: the largest share wins, as in the vote."""
    vote = torch.eye(4).repeat(50, 1)
    hard = torch.tensor([[0.6, 0.4, 0, 0], [0, 0.3, 0.7, 0]])
    classes = classes_of_votes(torch.cat([vote, hard]), 10.0)
    assert classes.argmax(1).tolist() == [*vote.argmax(1).tolist(), 0, 2]
    assert (classes[:200].amax(1) > 0.999).all()
    nothing = torch.full((1, 4), 0.25)  # no row is near
    assert classes_of_votes(torch.cat([vote, nothing]), 10.0)[-1].tolist() == nothing[0].tolist()


def test_classes_of_votes_worked_numbers(monkeypatch):
    """One step of three rows and two classes, from .95 and .05: two draws of (.5 .5) are as likely by both classes."""
    monkeypatch.setattr(neighbours, "CLUSTERED", 1)
    classes = classes_of_votes(torch.tensor([[1.0, 0], [0.5, 0.5], [0.25, 0.75]]), 2.0)
    odds = (0.95 / 0.05) ** np.array([2, 0, -1])  # log-odds of 2 (share of 0 - share of 1) times log(.95 / .05)
    torch.testing.assert_close(classes[:, 0], torch.tensor(odds / (1 + odds)).float())
