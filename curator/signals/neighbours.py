"""What the rows that look like a row are labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

PART = 1024  # rows that are read at once
HELD = 2**23  # similarities held at once: memory that is taken anew for each part costs more than the product
MANY = 10_000  # rows from which similarities are taken along the principal axes: the work grows with their square
AXES = 128
CLUSTERED = 20  # steps of expectation maximisation; ten give the same


def principal_axes(x: Tensor, count: int = AXES) -> Tensor:
    """The axes (d, count) along which rows (n, d) lie farthest from 0, the farthest last."""
    return torch.linalg.eigh(x.T @ x / len(x)).eigenvectors[:, -count:]


def nearest_among(
    read: Callable[[Tensor], Tensor],  # rows (b,) int64 -> float32 (b, d) of length 1
    n: int,
    among: Tensor,  # (m,) int64: the rows that can be near
    x: Tensor,  # (m, d): these
    count: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Part by part of n rows: these (b,), cosines (b, c) to their nearest ones, and places (b, c) of them in `among`.

    The nearest come first. A row is not its own neighbour, so that c is at most m - 1.
    """
    place, count = torch.full((n,), -1), min(count, len(among) - 1)
    place[among] = torch.arange(len(among))
    for part in torch.arange(n).split(max(1, min(PART, HELD // len(among)))):
        similarity = read(part) @ x.T
        own = place[part].to(x.device)
        here = (own >= 0).nonzero()[:, 0]
        similarity[here, own[here]] = -2
        yield part, *similarity.topk(count, dim=1)


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
    x = torch.cat([read(part) for part in voters.split(PART)])
    axes = principal_axes(x) if len(voters) > MANY and x.shape[1] > AXES else None

    def directions(rows: Tensor) -> Tensor:
        return F.normalize(rows if axes is None else rows @ axes, dim=1)

    x, theirs = directions(x), labels[voters].to(x.device)
    votes = torch.zeros(n, classes)
    for part, weight, nearest in nearest_among(lambda rows: directions(read(rows)), n, voters, x, count):
        found = torch.zeros(len(part), classes, device=x.device)
        votes[part] = found.scatter_add_(1, theirs[nearest], weight.clamp_min(0)).cpu()
    total = votes.sum(1, keepdim=True)
    return torch.where(total > 0, votes / total.clamp_min(1e-12), 1 / classes)


def classes_of_votes(vote: Tensor, draws: float) -> Tensor:
    """What class a row is of, if the labels of its neighbours are draws from how its class is labelled.

    The largest share of a vote is not that: where a third of every class is given as the next one, and a vote has two
    thirds of one label, a third of another, then which is the other says as much. So votes are clustered, a
    multinomial distribution a class, by expectation maximisation from labels that are mostly right. Labels of
    neighbours tell such distributions apart without rows whose class is known (Zhu et al. 2021, arXiv 2102.05291).

    A guess: where neighbours are often of other classes, or one class is many times as large as another, clusters need
    not be the classes.

    Args:
        vote: (n, classes) float32, shares of the labels.
        draws: number of labels that a vote is worth (> 0); less than voted, as neighbours have much in common.

    Returns:
        (n, classes) float32, rows sum to 1; where all shares are the same, these.
    """
    k = vote.shape[1]
    start = 0.9 * torch.eye(k) + 0.1 / k
    labelled = start  # how labels of the neighbours of a class are spread
    for _ in range(CLUSTERED):
        classes = (draws * vote @ labelled.log().T).softmax(1)
        labelled = (classes.T @ vote + start) / (classes.sum(0)[:, None] + 1)
    return torch.where((vote == vote[:, :1]).all(1, keepdim=True), vote, classes)
