"""Types of hyperparameters and flags: what counts epochs, and which values a run can use."""

from __future__ import annotations

import typing
from typing import Annotated, Any

COUNTS_EPOCHS = "counts epochs"

# The type of a hyperparameter that counts epochs: --epochs scales it.
Epochs = Annotated[int, COUNTS_EPOCHS]


def counts_epochs(hint: Any) -> bool:
    """Whether a field of this type counts epochs."""
    return COUNTS_EPOCHS in typing.get_args(hint)
