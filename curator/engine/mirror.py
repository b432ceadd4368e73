"""Whether a mirrored image is of another class: what random flips in training would teach wrongly.

A linear model of half of the rows says which class the other half is of, as they are and mirrored. Photos are told as
well either way; a mirrored 3 is no 3 any more. Only rows that the model tells right as they are can say so.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from curator.engine.patches import Patches
from curator.evidence import NoisyDataset
from curator.signals.ridge import fit_ridge

MOST = 1000  # rows that are looked at
LEAST = 10  # rows of a class, in either half, that can tell
LOST = 0.3  # share of a class's rows that are told right as they are, and mirrored are not


class Mirrored(NamedTuple):
    """A class whose mirrored rows look like others.

    Attributes:
        label: class number.
        like: class that most of the mirrored rows are told as.
        own, mirrored: share of its rows that are told right, as they are and mirrored.
    """

    label: int
    like: int
    own: float
    mirrored: float


def mirrored_class(data: NoisyDataset, generator: torch.Generator) -> Mirrored | None:
    """The class that mirroring changes most, None where it changes none, or where there are too few rows to tell."""
    k = len(data.classes)
    order = torch.randperm(len(data), generator=generator)
    labels = data.labels[order]
    sizes = torch.bincount(labels, minlength=k)
    seen = sizes.argsort(descending=True, stable=True)[: MOST // (2 * LEAST)]  # of very many classes the largest
    picked = order[torch.isin(labels, seen) & (_rank_in_class(labels) < MOST // len(seen))]
    sizes = torch.bincount(data.labels[picked], minlength=k)
    if not (sizes >= 2 * LEAST).any():
        return None
    labels = data.labels[picked]
    images = data.inputs.batch(picked)
    labels = labels.to(images.device)
    learned = _rank_in_class(labels.cpu()).to(images.device) % 2 == 0
    describe = Patches(images[learned], generator)
    x = describe(images)
    mean, std = x[learned].mean(0), x[learned].std(0).clamp_min(1e-6)
    model = fit_ridge((x[learned] - mean) / std, labels[learned], k)
    truth = labels[~learned]
    own = model((x[~learned] - mean) / std).argmax(1)
    told = model((describe(images[~learned].flip(3)) - mean) / std).argmax(1)
    return _worst(truth.cpu(), own.cpu(), told.cpu(), k)


def _worst(truth: Tensor, own: Tensor, told: Tensor, k: int) -> Mirrored | None:
    """Of classes (m,) that rows have, and that they are told as before and after, the one that loses most."""
    found = None
    for label in range(k):
        of = truth == label
        n, was, now = int(of.sum()), int((own[of] == label).sum()), int((told[of] == label).sum())
        changed = int(((own[of] == label) != (told[of] == label)).sum())
        # As many are told right only mirrored as only unmirrored, by chance; three deviations are none.
        if n < LEAST or was - now < LOST * n or was - now <= 3 * changed**0.5:
            continue
        lost = told[of & (told != label)]
        if found is None or (was - now) / n > found.own - found.mirrored:
            found = Mirrored(label, int(torch.bincount(lost, minlength=k).argmax()), was / n, now / n)
    return found


def _rank_in_class(labels: Tensor) -> Tensor:
    """How many rows before each have its label (n,) int64."""
    order = labels.argsort(stable=True)
    starts = torch.bincount(labels).cumsum(0) - torch.bincount(labels)
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - starts[labels[order]]
    return rank
