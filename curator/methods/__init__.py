"""The methods: dataclasses of hyperparameters that, called, train and yield their evidence (methods/method.py)."""

from __future__ import annotations

from curator.methods.bootstrap import Bootstrap
from curator.methods.ce import CrossEntropy
from curator.methods.confident import Confident
from curator.methods.cpc import CPC
from curator.methods.dividemix import DivideMix
from curator.methods.elr import ELR
from curator.methods.linear import Linear
from curator.methods.method import Method, scale_epochs
from curator.methods.mixup import Mixup
from curator.methods.posterior import Posterior
from curator.methods.promix import ProMix
from curator.methods.pudistill import PUDistill
from curator.methods.sop import SOP

__all__ = ["AUTO", "DEFAULT_METHOD", "METHODS", "ON_FEATURES", "Method", "scale_epochs"]

METHODS: dict[str, type[Method]] = {
    "promix": ProMix,
    "dividemix": DivideMix,
    "cpc": CPC,
    "bootstrap": Bootstrap,
    "pudistill": PUDistill,
    "elr": ELR,
    "sop": SOP,
    "posterior": Posterior,
    "confident": Confident,
    "ce": CrossEntropy,
    "mixup": Mixup,
    "linear": Linear,
}
DEFAULT_METHOD = "promix"
ON_FEATURES = "posterior"  # the default there
AUTO = "auto"  # no method: one is picked when the rows are read (methods/auto.py)
