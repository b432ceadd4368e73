"""Two nets at once, each on a core or a stream of its own: an operation that is too small for two, a step is not."""

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


TOGETHER = Pair(apart=False)


class Streams(Pair):
    """Calls for net 1 on a stream of its own on the GPU: where neither fills it, kernels of both run at once."""

    def __init__(self) -> None:
        super().__init__(apart=False)
        self.other = torch.cuda.Stream()

    def __call__(self, work: Callable[[int], T]) -> list[T]:
        """What the function gives for 0 and for 1; whoever comes after waits for both.

        0 comes first: what it frees of this stream's memory is taken again only once the other stream is waited for.
        """
        here = torch.cuda.current_stream()
        self.other.wait_stream(here)
        first = work(0)
        with torch.cuda.stream(self.other):
            second = work(1)
        here.wait_stream(self.other)
        return [first, second]
