"""Types of hyperparameters and flags: what counts epochs, and the values that a run can use."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Annotated, Any

COUNTS_EPOCHS = "counts epochs"

# The type of a hyperparameter that counts epochs: --epochs scales it.
Epochs = Annotated[int, COUNTS_EPOCHS]


@dataclass(frozen=True)
class AtLeast:
    """Numbers from `low` on."""

    low: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value < math.inf

    def __str__(self) -> str:
        return f"at least {self.low:g}"


@dataclass(frozen=True)
class Above:
    """Numbers larger than `low`."""

    low: float

    def __contains__(self, value: float) -> bool:
        return self.low < value < math.inf

    def __str__(self) -> str:
        return f"more than {self.low:g}"


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`; that is one of them, unless `below`."""

    low: float
    high: float
    below: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and not (self.below and value == self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {'below ' * self.below}{self.high:g}"


Range = AtLeast | Above | Between
SHARE = Between(0, 1)
BELOW_1 = Between(0, 1, below=True)


def counts_epochs(hint: Any) -> bool:
    """Whether a field of this type counts epochs."""
    return COUNTS_EPOCHS in typing.get_args(hint)


def ranges(hint: Any) -> list[Range]:
    """The ranges that stand on a field's type, as `Annotated[int, AtLeast(1)]` or `Annotated[float, Above(0)] | None`.

    Its value has to lie in all of them.
    """
    if typing.get_origin(hint) is Annotated:
        return [part for part in hint.__metadata__ if isinstance(part, Range)]
    return [found for part in typing.get_args(hint) for found in ranges(part)]
