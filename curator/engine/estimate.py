"""How likely every class is of every row, by seconds of linear models that did not learn the row's own label.

On features these are least squares on the rows, on the rows scaled to one length, and the vote of the nearest rows; on
images least squares on what their patches look like (engine/patches.py), so that no net that has seen the labels has a
say. A matrix of how labels are confused (signals/posterior.py) tells hard rows from wrong labels. The models are then
fitted again, to the labels that are the likeliest by that: where two fifths are wrong, the given ones leave them so
unsure that they take wrong labels for right ones of hard rows. That is the method `posterior` with one round and with
models that take a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from curator.engine.linear import PART, Rows, of_one_length, with_lost
from curator.engine.patches import Patches
from curator.engine.run import Run
from curator.evidence import NoisyDataset
from curator.signals.neighbours import neighbour_vote
from curator.signals.posterior import Judged, label_posterior
from curator.signals.ridge import axes_of, fit_ridge

LEARNED = 20_000  # rows that the models are fitted to, and that vote, at most
MOST = 2**28  # probabilities: more would not fit in memory
SMOOTHING = 0.02  # of a share of votes, before its logarithm
Read = Callable[[Tensor], Tensor]  # rows (b,) int64 -> float32 (b, d), each feature of mean 0 and deviation 1


def can_estimate(data: NoisyDataset) -> bool:
    """Whether the probabilities of so many rows and classes fit in memory."""
    return len(data) * len(data.classes) <= MOST


def estimate(data: NoisyDataset, run: Run, also: Sequence[Tensor] = (), *, probe: bool = True) -> Judged:
    """Probabilities of the true class, by models and labels together and by the models alone; all on the CPU.

    Args:
        data: n rows of k classes.
        run: whose device and randomness it is.
        also: probabilities (n, k) of other models that did not learn the row's label.
        probe: whether the linear models are asked; if not, these others alone.
    """
    others = [probs.clamp_min(1e-6).log() for probs in also]
    n, k, everything = len(data), len(data.classes), slice(None)

    def judge(votes: list[Tensor], rows: Tensor | slice = everything) -> Judged:
        some = torch.stack([vote[rows] for vote in votes])
        return label_posterior(some.float(), data.labels[rows], data.trusted[rows])

    if not probe:
        return judge(others)
    learned = torch.arange(n)
    if n > LEARNED:
        drawn = torch.randperm(n, generator=run.generator("estimate", shared=True))
        learned = drawn[:LEARNED].sort().values
    read = _reader(data, run, learned)
    if data.inputs.kind == "features":
        others.append((neighbour_vote(read, n, data.labels, learned, k) + SMOOTHING).log())
    fit = _linear(read, n, k, learned)
    first = fit(data.labels[learned])
    likeliest = judge([*others, *first], learned).probs.argmax(1)
    lost = data.labels[learned].bincount(minlength=k).bool() & ~likeliest.bincount(minlength=k).bool()
    # Both fits count the same: the second learned labels that the first had seen, and looks better than it is.
    linear = [(a + with_lost(b, a, lost)) / 2 for a, b in zip(first, fit(likeliest), strict=True)]
    return judge([*others, *linear])


def _reader(data: NoisyDataset, run: Run, learned: Tensor) -> Read:
    if data.inputs.kind == "features":
        return Rows(data, run).tensor
    some = learned[torch.randperm(len(learned), generator=run.generator("patches", shared=True))[:1000]]
    describe = Patches(data.inputs.batch(some), run.generator("typical", shared=True))
    x = describe(data.inputs.batch(some))
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    return lambda rows: (describe(data.inputs.batch(rows)) - mean) / std


def _linear(read: Read, n: int, k: int, learned: Tensor) -> Callable[[Tensor], list[Tensor]]:
    """What fits two models to the labels (m,) of the rows `learned`, and gives log-probabilities (n, k) by both.

    Of the rows that they are fitted to, those are by the models without the row.
    """
    x = torch.cat([read(part) for part in learned.split(PART)])
    views: tuple[Callable[[Tensor], Tensor], ...] = (lambda rows: rows, of_one_length)
    axes = [axes_of(view(x)) for view in views]
    others = torch.ones(n, dtype=torch.bool)
    others[learned] = False
    rest = others.nonzero()[:, 0].split(PART) if others.any() else ()

    def fit(labels: Tensor) -> list[Tensor]:
        labels = labels.to(x.device)
        models = [fit_ridge(view(x), labels, k, of) for view, of in zip(views, axes, strict=True)]
        found = [torch.zeros(n, k) for _ in models]
        for out, model in zip(found, models, strict=True):
            out[learned] = model.left_out.cpu()
        for part in rest:
            rows = read(part)
            for out, model, view in zip(found, models, views, strict=True):
                out[part] = model(view(rows)).cpu()
        return [out.log_softmax(1) for out in found]

    return fit
