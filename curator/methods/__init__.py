"""The methods: dataclasses of hyperparameters that, called, train and yield their evidence.

A method is called with a NoisyDataset and a Run and yields Evidence, usually once an epoch; the last one is the result.
The caller owns the progress bar, early stop, time limit and checkpoints.
`total_epochs` serves the ETA: passes over all rows through one net, forward and backward.
`small_net` and `large_net` hold defaults that differ for the nets `small` and `mlp`, and for all larger ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from curator.engine.run import Run
from curator.evidence import Evidence, NoisyDataset
from curator.methods.ce import CrossEntropy
from curator.methods.confident import Confident
from curator.methods.mixup import Mixup
from curator.methods.promix import ProMix


class Method(Protocol):
    """What every entry of METHODS is."""

    epochs: int

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train and yield evidence."""


METHODS: dict[str, type[Method]] = {
    "promix": ProMix,
    "confident": Confident,
    "ce": CrossEntropy,
    "mixup": Mixup,
}
DEFAULT_METHOD = "promix"


def passes(method: Method) -> float:
    """Passes over all rows that the method trains; 0 for one that only reads probabilities."""
    return float(getattr(method, "total_epochs", method.epochs))
