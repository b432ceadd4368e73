"""What the rows that look like a row are labelled."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 2**26  # similarities that are held at once
MANY = 10_000  # rows from which similarities are taken along the principal axes: the work grows with their square
AXES = 128


def neighbour_vote(
    x: Tensor,  # (n, d) float32, each feature of mean 0 and deviation 1
    labels: Tensor,  # (n,) int64 in [0, classes)
    classes: int,
    count: int = 20,
) -> Tensor:  # (n, classes) float32, rows sum to 1; on the CPU
    """Share of every label among the `count` nearest other rows by cosine, weighted by it (SimiFeat's vote, Zhu 2022).

    A row does not vote for itself. Where no row is near (no cosine above 0) all labels have the same share.
    """
    if len(x) > MANY and x.shape[1] > AXES:
        x = x @ torch.linalg.eigh(x.T @ x / len(x)).eigenvectors[:, -AXES:]
    x, labels = F.normalize(x, dim=1), labels.to(x.device)
    votes = torch.zeros(len(x), classes, device=x.device)
    count = min(count, len(x) - 1)
    rows = torch.arange(len(x), device=x.device)
    for part in rows.split(max(1, BLOCK // len(x))):
        similarity = x[part] @ x.T
        similarity[torch.arange(len(part), device=x.device), part] = -2
        weight, nearest = similarity.topk(count, dim=1)
        votes[part] = votes[part].scatter_add_(1, labels[nearest], weight.clamp_min(0))
    total = votes.sum(1, keepdim=True)
    return torch.where(total > 0, votes / total.clamp_min(1e-12), 1 / classes).cpu()
