"""`auto`: which method for these rows, from what can be told of them in seconds, for a cause that is said.

How many labels are wrong, and whether those of a class go mostly to one other class, is estimated by models that did
not learn the row's label (engine/estimate.py), on a sample of the rows. The tables of bench/RESULTS.md are the basis:

- Verified rows that were labelled as one other class more often than as their own, and that the estimate takes for
  that class, too, say that the given labels mislead. All other methods take the most frequent class among rows that
  look alike for the right one, with verified rows among them or not, and the estimate does, too; `pudistill` reads
  verified rows alone.
- On features `posterior` is ahead of the others for all kinds of noise.
- From scratch nothing judges a row before a net has learned to see, and ProMix's nets learn from the rows that they
  hold to be clean.

The estimate is said, and decides nothing so far: what it could decide did not hold on rows that it was not made from.
Neither ProMix's share of small losses, taken from the estimate, nor its penalty against asymmetric noise gained more
than seeds differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curator.engine.estimate import can_estimate, estimate
from curator.engine.run import Run
from curator.engine.source import Sample
from curator.evidence import NoisyDataset
from curator.methods import DEFAULT_METHOD, ON_FEATURES
from curator.methods.pudistill import LEAST
from curator.signals.contradicted import contradicted

SAMPLED = 5_000  # rows of which the noise is estimated, at most
PAIRS = 0.5  # of the way from wrong labels that are spread evenly to all of them going to one class
FEW = 0.03  # share of wrong labels below which hard rows are most of what seems wrong: how it is spread says nothing


class Noise(NamedTuple):
    """How labels are wrong, as estimated.

    Attributes:
        rate: share of wrong labels.
        together: of the wrong labels of a class, how many go to one other class; 0: as many as if they were spread
            evenly over all others, 1: all. None where there are two classes, or next to nothing is wrong.
    """

    rate: float
    together: float | None

    def __str__(self) -> str:
        kind = {None: "", True: ", mostly of one class as one other", False: ", over many classes"}
        pairs = None if self.together is None else self.together >= PAIRS
        return f"about {self.rate:.0%} of the labels wrong{kind[pairs]}"


@dataclass(frozen=True)
class Pick:
    """A method for some rows.

    Attributes:
        method: its name.
        why: one line.
        noise: as estimated, or as verified rows have it; None where nobody looked.
    """

    method: str
    why: str
    noise: Noise | None

    def facts(self) -> dict[str, Any]:
        """The same as JSON values."""
        rate, together = (None, None) if self.noise is None else self.noise
        shares = {"noise_rate": rate, "together": together}
        rounded = {name: None if value is None else round(value, 4) for name, value in shares.items()}
        return {"method": self.method, "why": self.why, **rounded}


def pick(data: NoisyDataset, given: Tensor, run: Run, *, estimated: bool = True) -> Pick:
    """The method for some rows.

    Args:
        data: the rows.
        given: (n,) int64, their labels as given; data has the verified ones in their place.
        run: whose device and randomness it is.
        estimated: whether the noise is; if not, the rows are not looked at.
    """
    known = data.trusted
    enough = bool((torch.bincount(data.labels[known], minlength=len(data.classes)) >= LEAST).all())
    looked_at = data.labels[known], given[known], len(data.classes)
    pair = contradicted(*looked_at) if enough else None
    if pair is not None and estimated and can_estimate(data):  # only here: it reads all rows
        pair = contradicted(*looked_at, estimate(data, run).alone[known])
    if pair is not None:
        of, like = data.named(*pair)
        rate = float((given[known] != data.labels[known]).float().mean())
        cause = f"{rate:.0%} of the verified rows had a wrong label, and more of {of} were labelled {like} than {of}"
        cause += "" if estimated else " (of the models' word a dry run knows nothing)"
        return Pick("pudistill", f"{cause}: only verified rows are believed", Noise(rate, None))
    noise = noise_of(data, run) if estimated else None
    seen = "" if noise is None else f"{noise}; "
    rows = f"{len(data):,} rows"
    if data.inputs.kind == "features":
        cause = f"on {rows} of {data.inputs.shape[0]:,} features each label is judged by models that did not learn it"
        return Pick(ON_FEATURES, seen + cause, noise)
    cause = f"on images of {rows} nets learn to see from the rows that they hold to be clean"
    return Pick(DEFAULT_METHOD, seen + cause, noise)


def noise_of(data: NoisyDataset, run: Run) -> Noise:
    """The estimate on at most SAMPLED rows."""
    if len(data) > SAMPLED:
        drawn = torch.randperm(len(data), generator=run.generator("auto", shared=True))[:SAMPLED].sort().values
        inputs, fields = Sample(data.inputs, drawn), (data.labels, data.trusted, data.rows)
        labels, trusted, rows = (field[drawn] for field in fields)
        data = NoisyDataset(inputs, labels, data.classes, trusted, rows, data.source_rows)
    return spread(estimate(data, run).probs, data.labels, data.trusted)


def spread(probs: Tensor, labels: Tensor, trusted: Tensor) -> Noise:
    """How labels (n,) are wrong by probabilities (n, k) of the true classes; trusted rows (n,) do not count."""
    n, k = probs.shape
    free = ~trusted

    def counts(part: Tensor) -> Tensor:  # (k, k): rows of a class by wrong label
        return torch.zeros(k, k).index_add_(0, labels[part], probs[part]).T.fill_diagonal_(0)

    # Where most wrong labels of a class go is looked up in the other half of the rows: by chance some class is ahead.
    even = torch.arange(n) % 2 == 0
    halves = counts(even & free), counts(~even & free)
    total = float(halves[0].sum() + halves[1].sum())
    rate = total / max(1, int(free.sum()))
    if k == 2 or rate < FEW:
        return Noise(rate, None)
    most = sum(float(b.gather(1, a.argmax(1, keepdim=True)).sum()) for a, b in (halves, halves[::-1]))
    evenly = 1 / (k - 1)
    return Noise(rate, max(0.0, (most / total - evenly) / (1 - evenly)))
