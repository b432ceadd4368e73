"""Features of several backbones side by side."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from curator.sources.table import remaining

Features = tuple[Tensor, str, dict[int, str], np.ndarray, np.ndarray]  # as backbone_features gives them


class Standard:
    """Puts features of several backbones side by side, each feature with mean 0 and standard deviation 1.

    Mean and deviation are those of the first rows that it was given, for all later ones.
    """

    def __init__(self) -> None:
        self.scales: list[tuple[Tensor, Tensor]] | None = None

    def together(self, parts: list[Features], n: int) -> Features:
        """Of each backbone the features of the same n rows; a row that one of them cannot read has none."""
        broken = {i: why for part in parts for i, why in part[2].items()}
        keep = remaining(n, broken)
        own = [np.isin(remaining(n, part[2]), keep) for part in parts]
        values = [part[0][torch.from_numpy(rows)] for part, rows in zip(parts, own, strict=True)]
        if self.scales is None:
            self.scales = [(v.mean(0), v.std(0, unbiased=False).clamp(min=1e-6)) for v in values]
        scaled = [(v - mean) / std for v, (mean, std) in zip(values, self.scales, strict=True)]
        digest = hashlib.blake2b("+".join(part[1] for part in parts).encode(), digest_size=16)
        of_first = [part[own[0]] for part in parts[0][3:]]
        return torch.cat(scaled, 1), digest.hexdigest(), dict(sorted(broken.items())), of_first[0], of_first[1]
