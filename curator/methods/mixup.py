"""Mixup: training on convex combinations of two rows and their labels (Zhang et al. 2018, arXiv 1710.09412).

Not one of the noisy-label methods, but a strong baseline:
a net that sees few labels unmixed memorises fewer wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from curator.methods.ce import CrossEntropy
from curator.methods.fields import AtLeast


@dataclass
class Mixup(CrossEntropy):
    """Cross-entropy on rows mixed by a weight ~ Beta(alpha, alpha)."""

    alpha: Annotated[float, AtLeast(0)] = 1.0
    """Parameter of mixup's Beta(alpha, alpha) (>= 0; 1: weights uniform in [0, 1])."""
