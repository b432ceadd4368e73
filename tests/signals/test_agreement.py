"""Agreement against numbers worked out from ProMix's equations 3 and 8."""

import pytest
import torch

from curator.signals.agreement import guess_by_agreement, match_confident


def test_matched_high_confidence():
    p = torch.tensor(
        [[0.97, 0.02, 0.01], [0.02, 0.97, 0.01], [0.9, 0.05, 0.05], [0.95, 0.03, 0.02], [0.01, 0.01, 0.98]]
    )
    y = torch.tensor([0, 0, 0, 0, 2])
    tau = p[3, 0].item()  # .95 as float32 holds it: the fourth row is exactly there
    assert match_confident(p[None], y, tau, inclusive=False).int().tolist() == [[1, 0, 0, 0, 1]]
    assert match_confident(p[None], y, tau, inclusive=True).int().tolist() == [[1, 0, 0, 1, 1]]


NET1 = [(0.99, 0), (0.98, 1), (0.97, 2), (0.999, 1), (0.96, 0), (0.5, 2), (0.97, 1), (0.99, 2)]
NET2 = [(0.99, 0), (0.97, 1), (0.99, 2), (0.998, 1), (0.98, 0), (0.99, 2), (0.94, 1), (0.97, 0)]


def confident_rows(net):
    rows = torch.zeros(len(net), 3, dtype=torch.float64)
    for row, (top, c) in zip(rows, net, strict=True):
        row += (1 - top) / 2
        row[c] = top
    return rows


@pytest.mark.parametrize(
    "selected, rho, added",
    [
        ([0, 0, 0, 0, 0, 1, 1, 1], 0.9, [0, 1, 2, 3]),
        ([0, 0, 0, 0, 1, 1, 1, 1], 0.9, [0, 2, 3]),
        ([1, 1, 0, 1, 1, 1, 1, 1], 0.9, []),
        ([1, 1, 1, 1, 1, 1, 1, 1], 0.9, []),
        ([0, 0, 0, 0, 0, 0, 0, 0], 0.9, [0, 1, 2, 3, 4]),
        ([0, 0, 0, 0, 1, 0, 1, 1], 0.65, [0, 3]),
    ],
)
def test_label_guessing_by_agreement(selected, rho, added):
    probs = torch.stack([confident_rows(NET1), confident_rows(NET2)])
    found = guess_by_agreement(probs, torch.tensor([selected, selected], dtype=torch.bool), 0.95, rho)
    assert found[0].nonzero().flatten().tolist() == added and torch.equal(found[0], found[1])
    assert probs.argmax(2)[0][added].tolist() == [{0: 0, 1: 1, 2: 2, 3: 1, 4: 0}[row] for row in added]
