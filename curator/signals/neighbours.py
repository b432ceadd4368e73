"""What the rows that look like a row are labelled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

PART = 1024  # rows whose similarities are held at once
MANY = 10_000  # rows from which similarities are taken along the principal axes: the work grows with their square
AXES = 128


def neighbour_vote(
    read: Callable[[Tensor], Tensor],  # rows (b,) int64 -> float32 (b, d), each feature of mean 0 and deviation 1
    n: int,
    labels: Tensor,  # (n,) int64 in [0, classes)
    voters: Tensor,  # (m,) int64, sorted: the rows that vote
    classes: int,
    count: int = 20,
) -> Tensor:  # (n, classes) float32, rows sum to 1; on the CPU
    """Share of every label among the `count` nearest voters by cosine, weighted by it (SimiFeat's vote, Zhu 2022).

    A row does not vote for itself. Where no voter is near (no cosine above 0) all labels have the same share.
    """
    parts = torch.arange(n).split(PART)
    x = torch.cat([read(part) for part in voters.split(PART)])
    axes: Tensor | None = None
    if len(voters) > MANY and x.shape[1] > AXES:
        axes = torch.linalg.eigh(x.T @ x / len(x)).eigenvectors[:, -AXES:]
        x = x @ axes
    x, theirs = F.normalize(x, dim=1), labels[voters].to(x.device)
    place = torch.full((n,), -1)
    place[voters] = torch.arange(len(voters))
    votes = torch.zeros(n, classes)
    count = min(count, len(voters) - 1)
    for part in parts:
        mine = read(part) if axes is None else read(part) @ axes
        similarity = F.normalize(mine, dim=1) @ x.T
        own = place[part].to(x.device)
        among = (own >= 0).nonzero()[:, 0]
        similarity[among, own[among]] = -2
        weight, nearest = similarity.topk(count, dim=1)
        found = torch.zeros(len(part), classes, device=x.device)
        votes[part] = found.scatter_add_(1, theirs[nearest], weight.clamp_min(0)).cpu()
    total = votes.sum(1, keepdim=True)
    return torch.where(total > 0, votes / total.clamp_min(1e-12), 1 / classes)
