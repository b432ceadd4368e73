"""Multinomial logistic regression on all rows at once, and what it says of rows that it did not train on."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from curator.engine.folds import stratified_folds
from curator.engine.nets import Output
from curator.engine.run import Run
from curator.errors import CuratorError
from curator.evidence import NoisyDataset
from curator.system import is_main

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

T = TypeVar("T")

FIRST = 1e-3  # scikit-learn's C on standardised features, from which the search begins
POWERS = (-6, 3)  # of ten, the strengths that are tried
TRIED = 2  # folds that a strength is tried on
SEARCHED = 10_000  # rows among which they are taken
SOLVER_STEPS = 200
TOLERANCE = 1e-3  # ten times scikit-learn's, for speed: the models are averaged and their weights fitted anyway
UNSEEN = -30.0  # bias of a class that the model has not met
MOST = 2**28  # numbers that images may be
LEARNED = 100_000  # rows that a model is fitted to at most
PART = 4096  # rows that are read at once
AT_ONCE = 2**28  # numbers in the rows of models that are fitted at once: each has a copy of its own


class LinearNet(nn.Module):
    """The fitted model as a net, on normalised rows."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.head = nn.Linear(int(np.prod(shape)), classes)
        self.alike_long = nn.Buffer(torch.tensor(False))
        self.done = nn.Buffer(torch.tensor(False))

    def forward(self, x: Tensor) -> Output:
        """Logits (b, k) of rows (b, ...); the rows themselves are the features."""
        features = x.flatten(1).float()
        features = torch.where(self.alike_long, of_one_length(features), features)
        with torch.autocast(x.device.type, enabled=False):
            return Output(self.head(features), features)

    @property
    def fitted(self) -> bool:
        """Whether it is a model by now: weights are random before."""
        return bool(self.done)

    def load(self, weight: Tensor, bias: Tensor, alike_long: bool = False) -> None:
        """Take a model's weights (k, d) and biases (k,), and whether it reads rows scaled to one length."""
        with torch.no_grad():
            self.alike_long.fill_(alike_long)
            self.done.fill_(True)
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)


def of_one_length(rows: Tensor) -> Tensor:
    """Rows (b, d) scaled to the length that rows of d numbers of deviation 1 have on average.

    A row that lies far out is then no surer than the others.
    """
    return nn.functional.normalize(rows, dim=1) * rows.shape[1] ** 0.5


class Rows:
    """Normalised rows of a dataset as numpy arrays, a part at a time; images as their pixels.

    Raises:
        CuratorError: for images that are more numbers than a linear model is fitted to.
    """

    def __init__(self, data: NoisyDataset, run: Run, *, alike_long: bool = False):
        self.alike_long = alike_long  # scaled to one length
        self.inputs, self.normaliser, self.n = data.inputs, run.normaliser(data.inputs), len(data)
        self.width = int(np.prod(run.views.shape(data.inputs.shape)))
        self.reading = threading.Lock()
        if data.inputs.kind == "images" and self.n * self.width > MOST:
            raise CuratorError(
                f"{self.n:,} images of shape {data.inputs.shape} have too many values for a linear model; "
                "add --backbone, or give --image-size"
            )

    def tensor(self, rows: Tensor) -> Tensor:
        """The rows (b,) int64 as float32 (b, width) on the device."""
        with self.reading:
            found = self.normaliser(self.inputs.batch(rows)).flatten(1).float()
        return of_one_length(found) if self.alike_long else found

    def array(self, rows: Tensor) -> np.ndarray:
        """The rows (b,) int64 as float32 (b, width)."""
        return torch.cat([self.tensor(part).cpu() for part in rows.split(PART)]).numpy()

    def scores(self, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Logits (b, k) float32, on the CPU, of rows (b,) by weights (k, width) and biases (k,)."""
        return torch.cat([self.tensor(part).cpu() @ weight.T + bias for part in rows.split(PART)])


def out_of_fold(
    x: Rows,
    labels: Tensor,  # (n,) int64, what to learn
    data: NoisyDataset,  # its given labels and trusted rows
    run: Run,
    folds: int,
    strength: float,
    turn: int = 0,  # another turn deals the rows to other folds
    weights: Tensor | None = None,  # (n,) float32 >= 0, of the rows
    before: Tensor | None = None,  # (n, k) logits by models of the given labels
) -> Tensor:  # (n, k) float32
    """Logits of every row by a model that did not train on it; trusted rows train all models.

    How likely a class is that the model has not met nobody can say: where it is the row's given one, it gets the logit
    of the likeliest, which leaves the row to its label. A class that is not met since none of these labels is it any
    more keeps the probabilities of `before`: they know nothing of the row's label. One process computes them for all.
    """
    k = len(data.classes)
    logits = torch.zeros(x.n, k)
    if is_main():
        fold = stratified_folds(labels, folds, run.generator("linear folds", turn, shared=True))

        def judge(f: int) -> None:
            held_out, learned = (fold == f).nonzero()[:, 0], ((fold != f) | data.trusted).nonzero()[:, 0]
            if not len(held_out) or not len(learned):
                return
            scores = x.scores(held_out, *fit(x, labels, learned, k, strength, run, weights))
            given = data.labels[held_out]
            met, had = (torch.bincount(of[learned], minlength=k) > 0 for of in (labels, data.labels))
            if before is not None and (lost := had & ~met).any():
                scores = with_lost(scores, before[held_out], lost)
                met = met | lost
            own = torch.where(met[given], scores.gather(1, given[:, None]).squeeze(1), scores.amax(1))
            logits[held_out] = scores.scatter(1, given[:, None], own[:, None])

        _each(judge, folds, x, run)
    return run.summed(logits.to(run.device)).cpu()


def with_lost(scores: Tensor, before: Tensor, lost: Tensor) -> Tensor:
    """Log-probabilities (b, k) by scores (b, k) of a model that has not met the classes lost (k,) bool.

    These keep the probabilities by the logits `before` (b, k), and the others share the rest.
    """
    kept = before.log_softmax(1)
    rest = (1 - kept[:, lost].exp().sum(1, keepdim=True)).clamp_min(1e-6).log()
    return torch.where(lost, kept, scores.masked_fill(lost, -torch.inf).log_softmax(1) + rest)


def best_strength(x: Rows, data: NoisyDataset, run: Run, folds: int) -> float:
    """The C, a power of ten, under which the labels of the first held-out folds are the likeliest."""
    found = torch.zeros(())
    if is_main():
        fold = stratified_folds(data.labels, folds, run.generator("linear folds", 0, shared=True))
        if x.n > SEARCHED:  # as many of every class as there is of it; the others are in no fold
            fold[stratified_folds(data.labels, x.n // SEARCHED, run.generator("searched", shared=True)) > 0] = -1
        losses: dict[int, float] = {}

        def loss(power: int) -> float:
            if power not in losses:
                losses[power] = sum(_each(lambda f: _held_out_loss(x, data, fold, f, 10.0**power, run), TRIED, x, run))
            return losses[power]

        power = round(np.log10(FIRST))
        step = 1 if loss(power + 1) < loss(power) else -1
        while POWERS[0] <= power + step <= POWERS[1] and loss(power + step) < loss(power):
            power += step
        found = torch.tensor(float(power))
    return 10.0 ** float(run.summed(found.to(run.device)))


def _held_out_loss(x: Rows, data: NoisyDataset, fold: Tensor, f: int, strength: float, run: Run) -> float:
    held_out, learned = (fold == f).nonzero()[:, 0], ((fold != f) & (fold >= 0)).nonzero()[:, 0]
    if not len(held_out) or not len(learned):
        return 0.0
    scores = x.scores(held_out, *fit(x, data.labels, learned, len(data.classes), strength, run))
    return float(nn.functional.cross_entropy(scores, data.labels[held_out], reduction="sum"))


def fit_all(
    x: Rows, labels: Tensor, classes: int, strength: float, run: Run, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weights (k, width) and biases (k,) of a model of all rows, on the device; one process fits it for all."""
    weight, bias = torch.zeros(classes, x.width), torch.zeros(classes)
    if is_main():
        rows = torch.arange(x.n)
        ((weight, bias),) = _each(lambda f: fit(x, labels, rows, classes, strength, run, weights), 1, x, run)
    return run.summed(weight.to(run.device)), run.summed(bias.to(run.device))


def fit(
    x: Rows,
    labels: Tensor,  # (n,) int64
    rows: Tensor,  # (m,) int64, what to train on; of more than LEARNED a sample
    classes: int,
    strength: float,
    run: Run,
    weights: Tensor | None = None,  # (n,)
) -> tuple[Tensor, Tensor]:
    """Weights (k, width) and biases (k,) float32; a class without rows has a logit far below the others."""
    from sklearn.linear_model import LogisticRegression

    if len(rows) > LEARNED:
        rows = rows[torch.randperm(len(rows), generator=run.generator("learned", shared=True))[:LEARNED].sort().values]
    y = labels[rows].numpy()
    present = np.unique(y)
    weight, bias = torch.zeros(classes, x.width), torch.full((classes,), UNSEEN)
    if len(present) == 1:
        bias[present] = 0
        return weight, bias
    model = LogisticRegression(C=strength, max_iter=SOLVER_STEPS, tol=TOLERANCE)
    model.fit(x.array(rows), y, sample_weight=None if weights is None else weights[rows].numpy())
    slopes, shifts = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if len(present) == 2:  # one logit, of the second class
        slopes, shifts = torch.cat([-slopes, slopes]) / 2, torch.cat([-shifts, shifts]) / 2
    weight[present], bias[present] = slopes, shifts
    return weight, bias


def _each(work: Callable[[int], T], count: int, x: Rows, run: Run) -> list[T]:
    """What a function that fits a model gives for 0 to count - 1; at once, where there are threads and memory for it.

    A fit has one thread: its products are too small for two, which then wait for each other (2,400 rows of 1,280
    features: five times as long). It does not say that it is only nearly done, which is good enough.
    """
    together = max(1, min(count, run.threads, AT_ONCE // (min(x.n, LEARNED) * x.width)))
    with (
        warnings.catch_warnings(),
        libraries().limit(limits=1),
        ThreadPoolExecutor(together, "fit", torch.set_num_threads, (1,)) as pool,
    ):
        warnings.simplefilter("ignore")
        return list(pool.map(work, range(count)))


@functools.cache
def libraries() -> ThreadpoolController:
    """What has threads of its own, once scikit-learn is loaded; to look for it anew takes as long as a small fit."""
    import sklearn.linear_model  # noqa: F401 (it loads them)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
