"""Two nets, each on a core of its own: what does not pay for two threads an operation, pays for two a step."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")


class Pair:
    """Calls a function for net 0 and net 1, at once or one after the other, with the same results to the last bit.

    apart: at once, in threads. Then the function draws nothing and writes nothing that the other call reads.
    """

    def __init__(self, apart: bool):
        self.pool = ThreadPoolExecutor(1, "net1", torch.set_num_threads, (1,)) if apart else None

    def __call__(self, work: Callable[[int], T]) -> list[T]:
        """What the function gives for 0 and for 1."""
        if self.pool is None:
            return [work(0), work(1)]
        other = self.pool.submit(work, 1)
        try:
            first = work(0)
        finally:
            wait([other])
        return [first, other.result()]
