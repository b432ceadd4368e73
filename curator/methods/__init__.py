"""The methods: dataclasses of hyperparameters that, called, train and yield their evidence.

A method is called with a NoisyDataset and a Run and yields Evidence, usually once an epoch; the last one is the result.
The caller owns the progress bar, early stop, time limit and checkpoints.
`total_epochs(classes, rows)` serves the ETA: passes over all rows through one net, forward and backward.
Where a method has them, `ranges` are its hyperparameters' (flags.py's otherwise), `require(labels, trusted, classes)`
refuses rows that it cannot learn from, and `early_stops` says whether --early-stop has anything to watch.
`small_net` and `large_net` hold defaults that differ for the nets `small`, `mlp` and `linear`, and for all larger ones.
"""

from __future__ import annotations

import typing
from collections.abc import Container, Iterator
from typing import Protocol

from curator.engine.run import Run
from curator.evidence import Evidence, NoisyDataset
from curator.methods.bootstrap import Bootstrap
from curator.methods.ce import CrossEntropy
from curator.methods.confident import Confident
from curator.methods.cpc import CPC
from curator.methods.dividemix import DivideMix
from curator.methods.fields import counts_epochs
from curator.methods.linear import Linear
from curator.methods.mixup import Mixup
from curator.methods.posterior import Posterior
from curator.methods.promix import ProMix
from curator.methods.pudistill import PUDistill


class Method(Protocol):
    """What every entry of METHODS is."""

    epochs: int

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train and yield evidence."""


METHODS: dict[str, type[Method]] = {
    "promix": ProMix,
    "dividemix": DivideMix,
    "cpc": CPC,
    "bootstrap": Bootstrap,
    "pudistill": PUDistill,
    "posterior": Posterior,
    "confident": Confident,
    "ce": CrossEntropy,
    "mixup": Mixup,
    "linear": Linear,
}
DEFAULT_METHOD = "promix"
ON_FEATURES = "posterior"  # the default there


def scale_epochs(method: Method, epochs: int, keep: Container[str] = ()) -> dict[str, tuple[int, int]]:
    """Scale every hyperparameter that counts epochs by epochs / method.epochs, rounded, none but 0 to 0.

    Returns:
        The fields that were scaled: name -> (before, after). Fields in `keep` stay.
    """
    ratio, scaled = epochs / method.epochs, {}
    for field, hint in typing.get_type_hints(type(method), include_extras=True).items():
        if counts_epochs(hint) and field not in keep:
            before = getattr(method, field)
            setattr(method, field, max(1, round(before * ratio)) if before else 0)
            scaled[field] = (before, getattr(method, field))
    return scaled


def passes(method: Method, classes: int, rows: int) -> float:
    """Passes over all rows that the method trains; 0 for one that only reads probabilities."""
    total = getattr(method, "total_epochs", None)
    return float(total(classes, rows) if total else method.epochs)
