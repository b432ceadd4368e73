"""The methods: dataclasses of hyperparameters that, called, train and yield their evidence (methods/method.py)."""

from __future__ import annotations

import typing
from collections.abc import Container

from curator.methods.bootstrap import Bootstrap
from curator.methods.ce import CrossEntropy
from curator.methods.confident import Confident
from curator.methods.cpc import CPC
from curator.methods.dividemix import DivideMix
from curator.methods.fields import counts_epochs
from curator.methods.linear import Linear
from curator.methods.method import Method
from curator.methods.mixup import Mixup
from curator.methods.posterior import Posterior
from curator.methods.promix import ProMix
from curator.methods.pudistill import PUDistill

__all__ = ["DEFAULT_METHOD", "METHODS", "ON_FEATURES", "Method", "scale_epochs"]

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
