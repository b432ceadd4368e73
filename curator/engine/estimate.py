"""How likely every class is of every row, by seconds of linear models that did not learn the row's own label.

On features these are least squares on the rows, on the rows scaled to one length, and the vote of the nearest rows; on
images least squares on what their patches look like (engine/patches.py), so that no net that has seen the labels has a
say. A matrix of how labels are confused (signals/posterior.py) tells hard rows from wrong labels: the first step of the
method `posterior`, with models that take a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from curator.engine.linear import PART, Rows, of_one_length
from curator.engine.patches import Patches
from curator.engine.run import Run
from curator.evidence import NoisyDataset
from curator.signals.neighbours import neighbour_vote
from curator.signals.posterior import Judged, label_posterior
from curator.signals.ridge import fit_ridge

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
    votes = [probs.clamp_min(1e-6).log() for probs in also]
    if probe:
        n = len(data)
        learned = torch.arange(n)
        if n > LEARNED:
            drawn = torch.randperm(n, generator=run.generator("estimate", shared=True))
            learned = drawn[:LEARNED].sort().values
        read = _reader(data, run, learned)
        votes += _linear(read, data, learned)
        if data.inputs.kind == "features":
            vote = neighbour_vote(read, n, data.labels, learned, len(data.classes))
            votes.append((vote + SMOOTHING).log())
    return label_posterior(torch.stack(votes).float(), data.labels, data.trusted)


def _reader(data: NoisyDataset, run: Run, learned: Tensor) -> Read:
    if data.inputs.kind == "features":
        return Rows(data, run).tensor
    some = learned[torch.randperm(len(learned), generator=run.generator("patches", shared=True))[:1000]]
    describe = Patches(data.inputs.batch(some), run.generator("typical", shared=True))
    x = describe(data.inputs.batch(some))
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    return lambda rows: (describe(data.inputs.batch(rows)) - mean) / std


def _linear(read: Read, data: NoisyDataset, learned: Tensor) -> list[Tensor]:
    """Log-probabilities (n, k) by two models; of the rows that these learned, by the models without the row."""
    n, k = len(data), len(data.classes)
    x = torch.cat([read(part) for part in learned.split(PART)])
    labels = data.labels[learned].to(x.device)
    views: tuple[Callable[[Tensor], Tensor], ...] = (lambda rows: rows, of_one_length)
    models = [fit_ridge(view(x), labels, k) for view in views]
    found = [torch.zeros(n, k) for _ in models]
    for out, model in zip(found, models, strict=True):
        out[learned] = model.left_out.cpu()
    rest = torch.ones(n, dtype=torch.bool)
    rest[learned] = False
    for part in rest.nonzero()[:, 0].split(PART) if rest.any() else ():
        rows = read(part)
        for out, model, view in zip(found, models, views, strict=True):
            out[part] = model(view(rows)).cpu()
    return [out.log_softmax(1) for out in found]
