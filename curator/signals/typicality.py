"""How much a row is like the rest: how far from it the nearest rows are whose class nobody doubts.

Distance to the nearest rows alone (Datalab, LOF) does not find junk that comes in heaps: noise, or blank pictures, are
each other's neighbours. But their labels have nothing to do with them, so only rows whose label is borne out by their
neighbours' count here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from curator.signals.neighbours import AXES, MANY, nearest_among, principal_axes

MOST = 20_000  # rows that others are compared with: of more, a fixed sample
VOTERS = 30  # neighbours that bear out a label
NEAREST = 10  # rows of a certain class whose mean distance counts
CHANCE = 1e-3  # a label is borne out where chance would give it to so many voters this seldom
# Deviations (upwards) of the log distance from which a row is junk; in bench/junk.py 0 to 0.9 % of clean photos are.
FAR = 2.5


@dataclass(frozen=True)
class Typicality:
    """What the features say of n rows beside their labels.

    Attributes:
        score: (n,) float32 in [0, 1]; 0 = like nothing in the dataset, 0.5 = as usual.
        below: rows with a lower score are junk.
        mixed: (n,) bool, no junk, but the rows that look like it have no class in common.
    """

    score: np.ndarray
    below: float
    mixed: np.ndarray

    @property
    def junk(self) -> np.ndarray:
        """(n,) bool: like nothing in the dataset."""
        return self.score < self.below


def typicality(features: Tensor, labels: np.ndarray) -> Typicality:
    """Typicality of n rows with features (n, d) and labels (n,) int64 in [0, k); fewer than three are all typical."""
    n = len(labels)
    if n < 3:
        return Typicality(np.ones(n, np.float32), 0.0, np.zeros(n, bool))
    x = _short(F.normalize(features.float(), dim=1))
    sample = torch.arange(n)
    if n > MOST:
        sample = torch.from_numpy(np.sort(np.random.default_rng(0).choice(n, MOST, replace=False)))
    near, voters = _nearest(x, sample, VOTERS)
    borne, mixed = _borne_out(labels, labels[voters], labels[sample])
    anchors = sample[torch.from_numpy(borne)[sample]]
    if len(anchors) < 3:  # the labels say nothing
        anchors = sample
    distance = _nearest(x, anchors, NEAREST)[0].mean(1).clamp_min(1e-6).log()
    usual, high = distance[anchors].quantile(torch.tensor([0.5, 0.84])).tolist()
    limit = usual + FAR * max(high - usual, 0.05)
    tight = near.mean(1) <= near.mean(1)[anchors].quantile(0.84)
    score, below = (torch.sigmoid(2 * (usual - at)) for at in (distance, torch.tensor(limit)))
    return Typicality(score.numpy(), float(below), (tight & (distance <= limit)).numpy() & mixed)


def _short(x: Tensor) -> Tensor:
    """Unit rows (n, d) along the principal axes, where there are many: what lies outside of them is far from all."""
    if len(x) <= MANY or x.shape[1] <= AXES:
        return x
    return x @ principal_axes(x)


def _nearest(x: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances 1 - cosine (n, count) of every row's nearest ones among some positions (m,), and these positions.

    A row is not its own neighbour.
    """
    parts = nearest_among(lambda rows: x[rows], len(x), among, x[among], count)
    found = [(1 - best, among[places]) for _, best, places in parts]
    distance, near = (torch.cat(part) for part in zip(*found, strict=True))
    return distance.clamp_min(0), near


def _borne_out(labels: np.ndarray, votes: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool: rows whose label (n,) more of their votes (n, v) have than chance gives; and those where none is so.

    Chance draws from the labels (m,) drawn.
    """
    from scipy.special import bdtrc

    k = int(labels.max()) + 1
    shares = np.bincount(drawn, minlength=k) / len(drawn)
    most = votes.shape[1]
    more = bdtrc(np.arange(most + 1), most, shares[:, None])  # (k, most + 1), the chance of more than so many
    least = (more > CHANCE).sum(1)  # (k,) votes; chance gives a label more than these seldom
    own = (votes == labels[:, None]).sum(1) > least[labels]
    some = np.zeros(len(labels), bool)
    for column in votes.T:  # every label that any voter has
        some |= (votes == column[:, None]).sum(1) > least[column]
    return own, ~some
