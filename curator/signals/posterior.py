"""How likely a row is of each class, given what is seen of it and the label it was given.

A classifier that did not train on a row says how the *given* labels of such rows are spread. It may be unsure since the
row is hard, or since the labels of easy rows are wrong, and these look alike in any one row but not over all of them:
doubt about hard rows goes to the classes they look like and vanishes on easy rows, wrong labels keep a share of the
easy rows, too. So one temperature of the classifier and one matrix of how labels are confused, fitted together by
expectation maximisation, tell them apart (a latent class model, Dawid and Skene 1979, with a classifier in the place of
all annotators but one; the matrix is the transition matrix of Patrini et al. 2017). Bayes' rule then gives

    P(true = i | x, given = j)  ~  softmax(a z(x))_i  T_ij.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

STARTS = ((1.2, 0.02), (2.0, 0.15), (4.0, 0.4))  # (temperature's inverse, share of wrong labels) to begin with
STEPS = 60
SHARPNESS = (0.3, 10.0)  # of the classifier: the range of a
LEAST = 0.25  # probability of being wrong below which no label is flagged
FLOOR = -60.0  # logits below the largest one


class Judged(NamedTuple):
    """What the labels and the classifier together say of n rows."""

    probs: Tensor  # (n, k) float32, of the true class; rows sum to 1
    clean: Tensor  # (n,) float32, that the given label is right
    transition: Tensor  # (k, k), T_ij: how often a row of class i is given the label j
    sharpness: float  # a


def label_posterior(
    logits: Tensor,  # (n, k) float, of a classifier that did not train on the row's label
    labels: Tensor,  # (n,) int64, as given
    trusted: Tensor,  # (n,) bool, rows whose label is right for sure
) -> Judged:
    """Fit temperature and transition matrix, and apply Bayes' rule.

    The matrix is shrunk to one share of wrong labels for all classes, spread as wrong labels are over all, by as many
    made-up rows a class as there are classes: a class of few rows is not judged by these alone. Of several starts the
    likeliest fit is taken, since few rows of little-known classes can be explained in more than one way.
    """
    n, k = logits.shape
    z = (logits - logits.amax(1, keepdim=True)).clamp_min(FLOOR).double()
    known = torch.where(trusted, 1.0, 0.0).double()
    best: tuple[float, Tensor, Tensor, float] | None = None
    for sharpness, rate in STARTS:
        transition = torch.full((k, k), rate / max(1, k - 1), dtype=torch.double).fill_diagonal_(1 - rate)
        for _ in range(STEPS):
            before = sharpness
            probs = _bayes(z, labels, trusted, transition, sharpness).softmax(1)
            transition, prior = _transition(probs, labels, known)
            sharpness = _sharpness(z, probs, sharpness)
            if abs(sharpness - before) < 1e-4 * before:
                break
        joint = _bayes(z, labels, trusted, transition, sharpness)
        fit = float(joint.logsumexp(1).sum() + (k * prior * (transition / prior.clamp_min(1e-12)).log()).nansum())
        if best is None or fit > best[0] + 1e-6:
            best = fit, joint.softmax(1), transition, sharpness
    assert best is not None
    _, probs, transition, sharpness = best
    clean = probs.gather(1, labels[:, None]).squeeze(1)
    return Judged(probs.float(), clean.float(), transition, sharpness)


def _bayes(z: Tensor, labels: Tensor, trusted: Tensor, transition: Tensor, sharpness: float) -> Tensor:
    """Logarithm (n, k) of P(true = i, given | x); of a trusted row the given class alone is left."""
    said = transition.clamp_min(1e-12).log().T[labels]
    sure = torch.full_like(said, -1e9).scatter_(1, labels[:, None], 0.0)
    return (sharpness * z).log_softmax(1) + torch.where(trusted[:, None], sure, said)


def _transition(probs: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The transition matrix (k, k) that fits the rows' classes (n, k), and what it is shrunk to."""
    n, k = probs.shape
    free = probs * (1 - known)[:, None]  # a verified label says nothing of how labels were given
    counts = torch.zeros(k, k, dtype=probs.dtype).index_add_(0, labels, free).T
    wrong = counts - torch.diag(counts.diagonal())
    total = counts.sum().clamp_min(1e-9)
    rate = wrong.sum() / total
    # Where wrong labels go: half as they do over all classes, half as labels are spread.
    goes = 0.5 * wrong.sum(0) / wrong.sum().clamp_min(1e-9) + 0.5 * counts.sum(0) / total + 1e-9
    spread = goes.expand(k, k).clone().fill_diagonal_(0)
    prior = rate * spread / spread.sum(1, keepdim=True).clamp_min(1e-12) + (1 - rate) * torch.eye(k, dtype=probs.dtype)
    return (counts + k * prior) / (counts.sum(1, keepdim=True) + k), prior


def _sharpness(z: Tensor, probs: Tensor, a: float) -> float:
    """Two Newton steps for the a under which softmax(a z) is the likeliest for the rows' classes (n, k)."""
    for _ in range(2):
        q = (a * z).softmax(1)
        mean = (q * z).sum(1)
        slope = float(((probs * z).sum(1) - mean).sum())
        curve = float(((q * z * z).sum(1) - mean**2).sum())
        a = min(max(a + slope / (curve + 1e-6), SHARPNESS[0]), SHARPNESS[1])
    return a


def keep_by_expected_f1(clean: Tensor) -> Tensor:  # (n,) probabilities that a label is right -> (n,) bool
    """Which labels to keep so that the expected F1 for wrong ones is the highest (Lipton et al. 2014).

    Flagging the m rows least likely to be right finds sum(1 - clean) wrong labels among m: the m of the highest
    2 found / (m + all wrong) is taken. Its last row is wrong with half of that F1, so never more than 1/2 is asked
    for; less than LEAST is not enough, where next to no label is wrong.
    """
    if not len(clean):
        return torch.zeros(0, dtype=torch.bool)
    wrong = 1 - clean.double()
    ordered = wrong.sort(descending=True).values
    found, count = ordered.cumsum(0), torch.arange(1, len(wrong) + 1, dtype=torch.double)
    most = int((2 * found / (count + found[-1]).clamp_min(1e-12)).argmax())
    return wrong < ordered[most].clamp_min(LEAST)
