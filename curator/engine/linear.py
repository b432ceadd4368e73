"""Multinomial logistic regression on all rows at once, and what it says of rows that it did not train on."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from curator.engine.folds import stratified_folds
from curator.engine.nets import Output
from curator.engine.run import Run
from curator.errors import CuratorError
from curator.evidence import NoisyDataset

FIRST = 1e-3  # scikit-learn's C on standardised features, from which the search begins
POWERS = (-6, 3)  # of ten, the strengths that are tried
TRIED = 2  # folds that a strength is tried on
SEARCHED = 10_000  # rows among which they are taken
SOLVER_STEPS = 200
UNSEEN = -30.0  # bias of a class that the model has not met
MOST = 2**28  # numbers that are read at once


class LinearNet(nn.Module):
    """The fitted model as a net, on normalised rows."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.head = nn.Linear(int(np.prod(shape)), classes)

    def forward(self, x: Tensor) -> Output:
        """Logits (b, k) of rows (b, ...); the rows themselves are the features."""
        features = x.flatten(1).float()
        with torch.autocast(x.device.type, enabled=False):
            return Output(self.head(features), features)

    def load(self, weight: Tensor, bias: Tensor) -> None:
        """Take a model's weights (k, d) and biases (k,)."""
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)


def read_rows(data: NoisyDataset, run: Run) -> np.ndarray:  # (n, d) float32
    """All rows, normalised; images as their pixels.

    Raises:
        CuratorError: for images that are too many numbers for a linear model.
    """
    if len(data) * int(np.prod(data.inputs.shape)) > MOST:
        raise CuratorError(
            f"{len(data):,} rows of shape {data.inputs.shape} are more numbers than a linear model is fitted to; "
            "add --backbone, or give --image-size"
        )
    normaliser, rows = run.normaliser(data.inputs), torch.arange(len(data)).split(4096)
    return torch.cat([normaliser(data.inputs.batch(part)).flatten(1).cpu() for part in rows]).float().numpy()


def out_of_fold(
    x: np.ndarray,  # (n, d) float32
    labels: Tensor,  # (n,) int64, what to learn
    data: NoisyDataset,  # its given labels and trusted rows
    run: Run,
    folds: int,
    strength: float,
    turn: int = 0,  # another turn deals the rows to other folds
    weights: Tensor | None = None,  # (n,) float32 >= 0, of the rows
) -> Tensor:  # (n, k) float32
    """Logits of every row by a model that did not train on it; trusted rows train all models.

    How likely a class is that the model has not met nobody can say: where it is the row's given one, it gets the logit
    of the likeliest, which leaves the row to its label. One process computes them for all.
    """
    k = len(data.classes)
    logits = torch.zeros(len(x), k)
    if run.main:
        fold = stratified_folds(labels, folds, run.generator("linear folds", turn, shared=True))
        for f in range(folds):
            held_out = (fold == f).numpy()
            learned = ~held_out | data.trusted.numpy()
            if not held_out.any() or not learned.any():
                continue
            weight, bias = fit(x, labels, learned, k, strength, weights, run.threads)
            scores = torch.from_numpy(x[held_out] @ weight.T + bias)
            given = data.labels[held_out]
            met = torch.bincount(labels[learned], minlength=k) > 0
            own = torch.where(met[given], scores.gather(1, given[:, None]).squeeze(1), scores.amax(1))
            logits[held_out] = scores.scatter(1, given[:, None], own[:, None])
    return run.summed(logits.to(run.device)).cpu()


def best_strength(x: np.ndarray, data: NoisyDataset, run: Run, folds: int) -> float:
    """The C, a power of ten, under which the labels of the first held-out folds are the likeliest."""
    found = torch.zeros(())
    if run.main:
        fold = stratified_folds(data.labels, folds, run.generator("linear folds", 0, shared=True))
        if len(x) > SEARCHED:  # as many of every class as there is of it; the others are in no fold
            fold[stratified_folds(data.labels, len(x) // SEARCHED, run.generator("searched", shared=True)) > 0] = -1
        losses: dict[int, float] = {}

        def loss(power: int) -> float:
            if power not in losses:
                losses[power] = sum(_held_out_loss(x, data, fold, f, 10.0**power, run) for f in range(TRIED))
            return losses[power]

        power = round(np.log10(FIRST))
        step = 1 if loss(power + 1) < loss(power) else -1
        while POWERS[0] <= power + step <= POWERS[1] and loss(power + step) < loss(power):
            power += step
        found = torch.tensor(float(power))
    return 10.0 ** float(run.summed(found.to(run.device)))


def _held_out_loss(x: np.ndarray, data: NoisyDataset, fold: Tensor, f: int, strength: float, run: Run) -> float:
    out, learned = (fold == f).numpy(), ((fold != f) & (fold >= 0)).numpy()
    if not out.any() or not learned.any():
        return 0.0
    weight, bias = fit(x, data.labels, learned, len(data.classes), strength, threads=run.threads)
    logits = torch.from_numpy(x[out] @ weight.T + bias)
    return float(nn.functional.cross_entropy(logits, data.labels[fold == f], reduction="sum"))


def fit_all(
    x: np.ndarray, labels: Tensor, classes: int, strength: float, run: Run, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A model (k, d), (k,) of all rows; one process fits it for all."""
    weight, bias = torch.zeros(classes, x.shape[1]), torch.zeros(classes)
    if run.main:
        found = fit(x, labels, np.ones(len(x), bool), classes, strength, weights, run.threads)
        weight, bias = (torch.from_numpy(part) for part in found)
    return run.summed(weight.to(run.device)), run.summed(bias.to(run.device))


def fit(
    x: np.ndarray,  # (n, d) float32
    labels: Tensor,  # (n,) int64
    rows: np.ndarray,  # (n,) bool, what to train on
    classes: int,
    strength: float,
    weights: Tensor | None = None,  # (n,)
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (k, d) and biases (k,) float32; a class without rows has a logit far below the others."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    y = labels.numpy()[rows]
    present = np.unique(y)
    weight, bias = np.zeros((classes, x.shape[1]), np.float32), np.full(classes, UNSEEN, np.float32)
    if len(present) == 1:
        bias[present] = 0
        return weight, bias
    model = LogisticRegression(C=strength, max_iter=SOLVER_STEPS)
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")  # a fit that is nearly done is good enough
        model.fit(x[rows], y, sample_weight=None if weights is None else weights.numpy()[rows])
    if len(present) == 2:  # one logit, of the second class
        halves = np.array([-0.5, 0.5])
        weight[present], bias[present] = np.outer(halves, model.coef_[0]), halves * model.intercept_[0]
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return weight, bias
