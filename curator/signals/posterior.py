"""How likely a row is of each class, given what is seen of it and the label it was given.

A classifier that did not train on a row says how the *given* labels of such rows are spread. It may be unsure since the
row is hard, or since the labels of easy rows are wrong, and these look alike in any one row but not over all of them:
doubt about hard rows goes to the classes they look like and vanishes on easy rows, wrong labels keep a share of the
easy rows, too. So weights of several classifiers and one matrix of how labels are confused, fitted together by
expectation maximisation, tell them apart (a latent class model, Dawid and Skene 1979, with classifiers in the place of
all annotators but one; the matrix is the transition matrix of Patrini et al. 2017). Where one class is often taken for
another, classifiers that learned such labels do so, too: a bias of every class, fitted with the weights, undoes it.
Bayes' rule then gives

    P(true = i | x, given = j)  ~  softmax(sum_m a_m log p_m(x) + b)_i  T_ij.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

STARTS = ((1.2, 0.02), (2.0, 0.15), (5.0, 0.4))  # (sum of the weights, share of wrong labels) to begin with
STEPS = 60
PULL = 0.01
BIAS = 10.0  # 1 / variance of the normal distribution that biases come from: few rows do not tell them
MADE_UP = 10.0  # rows a class by which the matrix is shrunk at least
ENOUGH = 15.0  # times as many rows as made-up ones: these hardly count then
HEAVIEST = 10.0  # weight of a classifier at most
BELIEVED = 0.1  # weight of the guesses, below which a fit does without them
TOGETHER = 2**20  # numbers, starts times those of the votes, that are fitted at once at most
FITTED = 100_000  # rows that the matrix is fitted to at most
SURE_ROWS = 10.0  # nats that a fit is favoured by in which all labels are wrong
READ_OFF = 0.5  # nats a class that alike classes must explain the labels better by: they are read off the same rows
LEAST = 0.25  # probability of being wrong below which no label is flagged
FLOOR = -60.0  # log-probabilities below a row's largest one


class Judged(NamedTuple):
    """What the labels and the classifiers together say of n rows."""

    probs: Tensor  # (n, k) float32, of the true class; rows sum to 1
    clean: Tensor  # (n,) float32, that the given label is right
    alone: Tensor  # (n, k) float32, by the classifiers without the label
    transition: Tensor  # (k, k), T_ij: how often a row of class i is given the label j
    weights: Tensor  # (m,), a_m
    bias: Tensor  # (k,), b


def label_posterior(
    votes: Tensor,  # (m, n, k) float, log-probabilities by classifiers that did not train on the row's label
    labels: Tensor,  # (n,) int64, as given
    trusted: Tensor,  # (n,) bool, rows whose label is right for sure
    guesses: int = 0,  # how many of the votes, the last ones, may be wrong all over
) -> Judged:
    """Fit weights, biases and transition matrix, and apply Bayes' rule.

    The matrix is shrunk to one share of wrong labels for all classes, by as many made-up rows a class as there are
    classes, and more where there are many (`_made_up`): a class of few rows is not judged by these alone. Of many
    classes it is fitted with few (MADE_UP), too, since many hide that a class is confused with one other. The made-up
    wrong labels are spread as wrong labels are over all classes, or go to the classes that look like the row's: people
    confuse those, and where rows are few (below ENOUGH times the made-up ones) their own say is small. Few rows can be
    explained in more than one way: what all end in from several starts, with the guesses (unless these come out with
    next to no weight, BELIEVED) and without, is averaged, each by its evidence and a little (SURE_ROWS) by how many
    labels it holds to be wrong, which favours those in which easy rows are sure (anchor points, Liu and Tao 2016).
    """
    m, n, k = votes.shape
    z = (votes - votes.amax(2, keepdim=True)).clamp_min(FLOOR).float()
    everything = z, labels, trusted
    if n > FITTED:
        sample = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:FITTED]
        z, labels, trusted = z[:, sample], labels[sample], trusted[sample]
    z = z.double()
    few = len(labels) < ENOUGH * k * _made_up(k)
    likes, mades = [False, True] if few and k > 2 else [False], sorted({min(MADE_UP, _made_up(k)), _made_up(k)})
    starts = list(itertools.product(likes, mades, STARTS))
    alike, found = _alike(z), []
    for left_out in sorted({0, guesses}):
        asked = z[: m - left_out]
        at_once = max(1, TOGETHER // asked.numel())
        for i in range(0, len(starts), at_once):
            fits = _fit(asked, labels, trusted, alike, starts[i : i + at_once])
            if guesses and not left_out:
                # Those that do without the guesses after all explain labels well and mend few (docs/log.md).
                fits = Fits(*(part[fits.weights[:, -guesses:].sum(1) >= BELIEVED] for part in fits))
            found.append(fits._replace(weights=F.pad(fits.weights, (0, left_out))))
    fits = Fits(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    best = int(fits.evidence.argmax())
    z, labels, trusted = everything
    probs, alone = torch.zeros(n, k), torch.zeros(n, k)
    for share, _, t, w, b in zip(fits.evidence.softmax(0).tolist(), *(part.float() for part in fits), strict=True):
        if share > 0.01:
            models = _alone(z, w, b)
            probs += share * _bayes(models, labels, trusted, t).softmax(1)
            alone += share * models.softmax(1)
    probs, alone = (part / part.sum(1, keepdim=True) for part in (probs, alone))
    clean = probs.gather(1, labels[:, None]).squeeze(1)
    return Judged(probs, clean, alone, fits.transition[best], fits.weights[best], fits.bias[best])


class Fits(NamedTuple):
    """What f starts end in."""

    evidence: Tensor  # (f,), logarithm, up to what all have in common
    transition: Tensor  # (f, k, k)
    weights: Tensor  # (f, m)
    bias: Tensor  # (f, k)


def _fit(
    z: Tensor,  # (m, n, k), log-probabilities
    labels: Tensor,  # (n,)
    trusted: Tensor,  # (n,) bool
    alike: Tensor,  # (k, k), which classes look like each other
    starts: list[tuple[bool, float, tuple[float, float]]],  # whether it is read off, rows that are made up, of STARTS
) -> Fits:
    """Expectation maximisation from f starts at once, each until it settles."""
    (m, n, k), f, known = z.shape, len(starts), trusted.double()
    read_off = torch.tensor([looks for looks, *_ in starts])
    made = torch.tensor([rows for _, rows, _ in starts], dtype=z.dtype)
    total, share = torch.tensor([start for *_, start in starts], dtype=z.dtype).T
    weights, bias = (total / m)[:, None].repeat(1, m), torch.zeros(f, k, dtype=z.dtype)
    eye = torch.eye(k, dtype=z.dtype)
    transition = (1 - share)[:, None, None] * eye + (share / max(1, k - 1))[:, None, None] * (1 - eye)
    prior, going = torch.zeros_like(transition), torch.arange(f)
    for _ in range(STEPS):
        before = weights[going]
        probs = _bayes(_alone(z, before, bias[going]), labels, trusted, transition[going]).softmax(2)
        counts = _counts(probs, labels, known)
        transition[going], prior[going] = _transition(counts, made[going], read_off[going], alike)
        weights[going], bias[going] = _weights(z, probs, before, bias[going])
        moved = (weights[going] - before).abs().amax(1) >= 1e-3 * before.abs().amax(1)
        if not len(going := going[moved]):
            break
    joint = _bayes(_alone(z, weights, bias), labels, trusted, transition)
    probs = joint.softmax(2)
    wrong = 1 - probs.gather(2, labels.expand(f, n)[:, :, None]).mean((1, 2))
    evidence = joint.logsumexp(2).sum(1) + SURE_ROWS * wrong - BIAS / 2 * bias.square().sum(1) - READ_OFF * k * read_off
    evidence += _spread(_counts(probs, labels, known), transition, made[:, None, None] * prior)
    return Fits(evidence, transition, weights, bias)


def _alone(z: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Logits (f, n, k) by the classifiers, without the labels."""
    return (weights @ z.flatten(1)).unflatten(-1, z.shape[1:]) + bias[..., None, :]


def _bayes(models: Tensor, labels: Tensor, trusted: Tensor, transition: Tensor) -> Tensor:
    """Logarithm (f, n, k) of P(true = i, given | x) by logits (f, n, k); a trusted row is of its given class."""
    said = transition.clamp_min(1e-12).log().mT.index_select(-2, labels)
    sure = torch.full_like(said, -1e9).scatter_(-1, labels[:, None].expand(*said.shape[:-1], 1), 0.0)
    return models.log_softmax(-1) + torch.where(trusted[:, None], sure, said)


def _made_up(k: int) -> float:
    """Rows a class by which the matrix of k classes is shrunk: k up to 10 classes, 4 k from 40 on."""
    return float(k * min(4.0, max(1.0, k / 10)))


def _alike(z: Tensor) -> Tensor:
    """How often rows that look like a class look like each other one (k, k), by votes (m, n, k); rows sum to 1."""
    probs = z.mean(0).softmax(1)
    return _shares((probs.T @ probs).fill_diagonal_(0))


def _shares(counts: Tensor) -> Tensor:
    """Rows (..., k, k) that sum to 1."""
    return counts / counts.sum(-1, keepdim=True).clamp_min(1e-12)


def _counts(probs: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """How many rows of a class are given each label (f, k, k), by the rows' classes (f, n, k)."""
    k = probs.shape[-1]
    free = probs * (1 - known)[:, None]  # a verified label says nothing of how labels were given
    return probs.new_zeros(*probs.shape[:-2], k, k).index_add_(-2, labels, free).mT


def _spread(counts: Tensor, transition: Tensor, made: Tensor) -> Tensor:
    """What the log-likelihood gains (f,) where all matrices take the place of the one that was fitted.

    That is, those that `made` (f, k, k) made-up rows, as parameters of a Dirichlet distribution, allow. What is left,
    the evidence, says how many of them explain the labels best, which the fitted matrix cannot: fewer always fit
    better.
    """
    made = made.clamp_min(1e-9)
    all_of_them = (
        made.sum(-1).lgamma() - (made + counts).sum(-1).lgamma() + ((made + counts).lgamma() - made.lgamma()).sum(-1)
    )
    return all_of_them.sum(-1) - (counts * transition.clamp_min(1e-12).log()).sum((-2, -1))


def _transition(counts: Tensor, made: Tensor, read_off: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
    """The transition matrix (f, k, k) of counts, shrunk by `made` (f,) rows a class, and what it is shrunk to.

    There wrong labels go to classes that look `alike` (k, k) where that is to be `read_off` (f,) bool, else half as
    they do over all classes, half as labels are spread.
    """
    eye, both = torch.eye(counts.shape[-1], dtype=counts.dtype), (-2, -1)
    wrong, total = counts * (1 - eye), counts.sum(both, keepdim=True).clamp_min(1e-9)
    all_wrong = wrong.sum(both, keepdim=True)
    goes = 0.5 * wrong.sum(-2, keepdim=True) / all_wrong.clamp_min(1e-9) + 0.5 * counts.sum(-2, keepdim=True) / total
    like = torch.where(read_off[..., None, None], alike, _shares((goes + 1e-9) * (1 - eye)))
    prior = all_wrong / total * like + (1 - all_wrong / total) * eye
    made = made[..., None, None]
    return (counts + made * prior) / (counts.sum(-1, keepdim=True) + made), prior


def _weights(z: Tensor, probs: Tensor, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Two Newton steps for weights (f, m) >= 0 and biases (f, k) that make the rows' classes (f, n, k) the likeliest.

    A little of each weight is drawn to the mean of all: classifiers that nearly agree cannot be told apart.
    """
    (m, n, k), flat = z.shape, z.flatten(1)
    pull = PULL * n * (torch.eye(m, dtype=z.dtype) - 1 / m)
    ridge = 1e-6 * torch.eye(m + k, dtype=z.dtype)
    for _ in range(2):
        q = _alone(z, weights, bias).softmax(2)
        left = probs - q
        slope = torch.cat([left.flatten(1) @ flat.T - weights @ pull, left.sum(1) - BIAS * bias], 1)
        expected = q[:, None] * z  # (f, m, n, k)
        mean = expected.sum(3)
        of_weights = expected.flatten(2) @ flat.T - mean @ mean.mT + pull
        of_both = expected.sum(2) - mean @ q
        of_biases = torch.diag_embed(q.sum(1) + BIAS) - q.mT @ q
        curve = torch.cat([torch.cat([of_weights, of_both], 2), torch.cat([of_both.mT, of_biases], 2)], 1)
        # One by one: of several matrices of some 150 rows MKL's threads spoil each other's (torch 2.15).
        step = torch.stack([torch.linalg.solve(*both) for both in zip(curve + ridge, slope, strict=True)])
        weights, bias = (weights + step[:, :m]).clamp(0.0, HEAVIEST), bias + step[:, m:]
    return torch.where(weights.sum(1, keepdim=True) > 0, weights, 1 / m), bias


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
