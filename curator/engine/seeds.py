"""Randomness that needs no saving: every generator is seeded by what it is for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


class Seeds:
    """Generators seeded by (seed, purpose, epoch, rank), so there is no random state to save."""

    def __init__(self, seed: int, device: torch.device, rank: int):
        self.seed, self.device, self.rank = seed, device, rank

    def derived(self, purpose: str, epoch: int = 0, *, rank: int | None = None) -> int:
        """A 63-bit seed of (seed, purpose, epoch, rank); the same on every machine."""
        key = f"{self.seed}/{purpose}/{epoch}/{self.rank if rank is None else rank}"
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1

    def generator(self, purpose: str, epoch: int = 0, *, shared: bool = False) -> torch.Generator:
        """A generator on the device with its own stream per process; shared: on the CPU, equal in all processes."""
        device = "cpu" if shared else self.device
        return torch.Generator(device).manual_seed(self.derived(purpose, epoch, rank=0 if shared else None))

    @contextmanager
    def seeded(self, purpose: str, epoch: int = 0, *, shared: bool = True) -> Iterator[None]:
        """Seed torch's global generators inside the block, for what takes no generator (initialisation, dropout)."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.derived(purpose, epoch, rank=0 if shared else None))
            yield

    def beta(self, alpha: float, size: int, purpose: str, epoch: int) -> Tensor:
        """Draws (size,) float32 of Beta(alpha, alpha) on the device, equal in all processes; ones at 0 (no mixup)."""
        if not alpha:
            return torch.ones(size, device=self.device)
        draws = np.random.default_rng(self.derived(purpose, epoch, rank=0)).beta(alpha, alpha, size)
        return torch.from_numpy(draws).float().to(self.device)
