"""The peers and the arena's bookkeeping; the measuring itself is bench/arena.py."""

import json

import numpy as np
import pytest
import torch

from bench import arena
from bench.peers import cleanlab_probe, knn_vote
from bench.table import Table
from curator.engine.source import Features
from curator.evidence import NoisyDataset
from tests.conftest import noisy


def rows(features, labels, k) -> NoisyDataset:
    n = len(labels)
    return NoisyDataset(
        Features(torch.tensor(features)), torch.tensor(labels), tuple(map(str, range(k))),
        torch.zeros(n, dtype=torch.bool), torch.arange(n),
    )  # fmt: skip


def test_knn_vote_worked_numbers():
    """Angles of 0, 10, 20 and 90 degrees; k = 3, the row itself among them with an extrapolated similarity."""
    angle = np.deg2rad([0.0, 10, 20, 90])
    data = rows(np.stack([np.cos(angle), np.sin(angle)], 1) * [[1.0], [2], [3], [4]], [0, 1, 1, 0], 2)
    found = knn_vote(data, k=3)
    near, far = np.cos(np.deg2rad(10)), np.cos(np.deg2rad(20))
    itself = 2 * near - far  # of row 0, whose next two are rows 1 and 2
    assert found.probs[0, 0].item() == pytest.approx(itself / (itself + near + far), abs=1e-6)
    assert found.selected[:3].tolist() == [False, True, True] and found.corrected[:3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("peer", [knn_vote, lambda data: cleanlab_probe(data, 1)])
def test_peers_find_planted_errors(peer):
    data, truth = noisy(400, 3, kind="features", share=0.2)
    found = peer(data)
    wrong, flagged = data.labels.numpy() != truth, ~found.selected.numpy()
    assert 2 * (wrong & flagged).sum() / (wrong.sum() + flagged.sum()) > 0.85
    assert (found.corrected.numpy() == truth).mean() > 0.93


def test_rows_and_picture(tmp_path, monkeypatch):
    """A row is the mean of its runs; the picture shows the rows that are there."""
    monkeypatch.setattr(arena, "PLOT", tmp_path / "arena.png")
    table = Table(arena.HEADING, arena.COLUMNS, tmp_path / "RESULTS.md")
    data, truth = noisy(100, 3, kind="features", share=0.2)
    one = {**arena.measured(knn_vote(data), data, truth), "seconds": 10.0}
    arena.add(table, "worst", "promix", [one, {**one, "noisy_f1": one["noisy_f1"] - 0.02, "seconds": 20.0}])
    row = table.row("worst promix")
    assert row["seconds"] == "15" and row["F1 ±"] == f"{0.02 / 2**0.5:.4f}"
    assert row["noisy P / R / F1"].split(" / ")[2] == f"{one['noisy_f1'] - 0.01:.3f}"
    arena.plot(table)
    assert (tmp_path / "arena.png").stat().st_size > 5000
    assert json.loads(json.dumps(one)) == one  # plain numbers, as a peer's file holds them
    arena.add(table, "worst", "promix", [one, one])
    assert table.row("worst promix") == row  # a row that is there stays
