"""Folds for cross-validation."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified_folds(labels: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Fold (n,) of every row.

    Rows are shuffled and dealt out class after class, so that sizes differ by at most one row a class.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[by_class] = torch.arange(len(labels)) % folds
    return fold
