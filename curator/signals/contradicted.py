"""Whether verified rows say that the given labels mislead: that these name another class more often than their own."""

from __future__ import annotations

import torch
from torch import Tensor

SURE = 3.0  # deviations by which verified rows have one other given label more often than their own


def contradicted(
    verified: Tensor,  # (m,) int64 in [0, classes), of rows whose label was verified
    given: Tensor,  # (m,) int64, of the same rows
    classes: int,
    alone: Tensor | None = None,  # (m, classes) float, probabilities by models that did not learn the row's own label
) -> tuple[int, int] | None:  # a class and the one that it is given as; None where labels are right often enough
    """The class whose rows are labelled as one other class most clearly more often than as their own.

    Whatever takes the most frequent class among rows that look alike for the right one is misled then. Reviewers look
    at suspicious rows first, most of which have a wrong label however few rows do: that much says nothing of the other
    labels. So these must mislead the models, too: on the rows of such a class they expect the other class more than
    the right one. Without `alone` this is not checked.
    """
    if not len(verified):  # of most runs: the counts of many classes are large
        return None

    def counts(rows: slice) -> Tensor:  # (k, k): rows of a class by given label
        return torch.bincount(verified[rows] * classes + given[rows], minlength=classes**2).view(classes, -1).float()

    misled = torch.ones(classes, classes, dtype=torch.bool)
    if alone is not None:
        expected = torch.zeros(classes, classes).index_add_(0, verified, alone.float())
        misled = expected > expected.diagonal()[:, None]
    # What half of the rows say is looked up in the other half: of few rows, one of many labels is ahead by chance.
    halves = counts(slice(0, None, 2)), counts(slice(1, None, 2))
    surplus, rows = torch.zeros(classes), 0.0
    for a, b in (halves, halves[::-1]):
        own, like = a.diagonal(), a.clone().fill_diagonal_(-1).argmax(1, keepdim=True)
        ahead = (a.gather(1, like)[:, 0] > own) & misled.gather(1, like)[:, 0]
        others, own = b.gather(1, like)[:, 0], b.diagonal()
        surplus += torch.where(ahead, others - own, 0.0)
        rows += float((others + own)[ahead].sum())
    if float(surplus.sum()) <= SURE * max(1.0, rows) ** 0.5:
        return None
    worst = int(surplus.argmax())
    return worst, int((halves[0] + halves[1]).fill_diagonal_(-1)[worst].argmax())
