"""The guard of every method: labels change only where an estimate of its own says that this mends more than it harms.

Nets that learn from labels and from their own guesses are sure of hard rows, too, and what they are unsure of they hold
to be wrong: on a set without a wrong label most methods change some, up to a seventh of all. Their probabilities cannot
say so, since they are of the rows that they learned. So the share of new labels that are right, less that of the given
ones, is estimated by models that did not learn the row (engine/estimate.py), over all changed rows and over those of
every pair of classes. Where it says that the method mends, the method is believed: it sees more than a linear model.
Where it says that it harms, only those new labels stay that are clearly likelier one by one; the other rows are
flagged, and keep their labels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from curator.engine.run import Run
from curator.evidence import Evidence, NoisyDataset
from curator.signals.posterior import Judged

DOUBT = 0.2  # share of the probabilities as if labels said nothing: people label hard rows worse than easy ones
CLEARLY = 2.0  # times as likely as the given label
ROWS = 10.0  # changed rows of a pair that count as much as all others together
ALIKE = 4.0  # times as likely as the other, at most, is the likelier of two right labels
BOTH = 0.5  # their probability together, at least
SEEN = 0.05  # of the method's own probability, at least, of either


def guarded(
    found: Evidence,
    data: NoisyDataset,
    run: Run,
    judged: Judged,
    *,
    guard: bool = True,
) -> Evidence:
    """The evidence with the given label where a new one would harm, and with the rows that may have two right labels.

    Args:
        found: of a method.
        data: its rows.
        run: says what was held back, and keeps it as the finding "guard".
        judged: the estimate, by models that did not learn the row.
        guard: whether labels are held back at all.
    """
    changed = (found.corrected != data.labels) & ~data.trusted
    probs = (1 - DOUBT) * judged.probs + DOUBT * judged.alone
    gain, likelier = compared(probs, data.labels, found.corrected)
    mends = mending(gain, changed, data.labels, found.corrected, len(data.classes))
    held = changed & ~mends & ~likelier if guard else torch.zeros_like(changed)
    mean = float(gain[changed].mean()) if changed.any() else 0.0
    wrong = 1 - float(judged.clean[~data.trusted].mean()) if not data.trusted.all() else 0.0
    run.add_findings(
        guard={
            "estimated_noise_rate": round(wrong, 4), "changed": int(changed.sum()), "gain": round(mean, 4),
            "held": int(held.sum()),
        }
    )  # fmt: skip
    if held.any():
        run.say(
            f"guard     {int(held.sum()):,} of {int(changed.sum()):,} new labels are held back: models that did not "
            f"learn these rows say that {'they' if mean <= 0 else 'these'} would harm; they are flagged, not relabelled"
        )
    corrected = torch.where(held, data.labels, found.corrected)
    return replace(found, corrected=corrected, ambiguous=ambiguous(judged, found, data))


def compared(probs: Tensor, given: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """How much likelier (n,) new labels are than given ones, by probs (n, k), and which clearly are (n,) bool."""
    here = torch.arange(len(probs))
    before, after = probs[here, given], probs[here, new]
    return after - before, after > CLEARLY * before


def mending(gain: Tensor, changed: Tensor, given: Tensor, new: Tensor, classes: int) -> Tensor:
    """Rows (n,) bool of pairs (given, new) that changed rows (n,) bool mend, by their gains (n,); none if all harm.

    Pairs of few rows are judged by all rows as well.
    """
    if not changed.any() or (mean := float(gain[changed].mean())) <= 0:
        return torch.zeros_like(changed)
    pair = given * classes + new
    of, place = pair[changed].unique(return_inverse=True)
    rows = torch.bincount(place, minlength=len(of))
    sums = torch.zeros(len(of)).index_add_(0, place, gain[changed])
    found = torch.zeros_like(changed)
    found[changed] = ((sums + ROWS * mean) / (rows + ROWS) > 0)[place]
    return found


def ambiguous(judged: Judged, found: Evidence, data: NoisyDataset) -> Tensor:
    """Rows (n,) bool that may have two right labels.

    Both are likely to models that did not learn the row, and stay so for the method's own nets. The second label
    is the method's, or the likeliest other one where it keeps the given.
    """
    here, given, alone = torch.arange(len(data)), data.labels, judged.alone
    others = alone.scatter(1, given[:, None], -1.0).argmax(1)
    other = torch.where(found.corrected != given, found.corrected, others)
    a, b = alone[here, given], alone[here, other]
    own = torch.minimum(found.probs[here, given], found.probs[here, other])
    both = (torch.maximum(a, b) < ALIKE * torch.minimum(a, b)) & (a + b > BOTH) & (own > SEEN)
    return both & ~data.trusted
