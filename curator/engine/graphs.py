"""Training steps as CUDA graphs: a step's kernels are recorded once and then started together.

Nets for small images are so quick on a GPU that Python cannot start their kernels in time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

Step = Callable[..., None]  # of tensors
Tally = tuple[list[Tensor], int | Tensor]  # losses of the steps, 0-d, and the rows that went through a net


@cache
def side_stream() -> torch.cuda.Stream:
    """The stream on which steps are recorded, and made before that: one, since each keeps memory of its own."""
    return torch.cuda.Stream()


class Recording(NamedTuple):
    """A recorded step: what it reads, and what it says of itself."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    tally: Tally


class Recorded:
    """A step of fixed shapes that replays its kernels from the second call of a shape on.

    The first call runs as it is: in it optimizers make their state and libraries their workspaces. What is no tensor
    among the arguments is recorded as it was (learning rates, weights of losses), so a recording is of one epoch.
    """

    def __init__(
        self,
        step: Step,
        generators: tuple[torch.Generator, ...],  # all that it draws from
        tallied: Callable[[Step, tuple[Tensor, ...]], Tally],  # makes a step and gives its tally
        count: Callable[[Tally], None],  # takes the tally of a step that was made
    ):
        self.step, self.generators, self.tallied, self.count = step, generators, tallied, count
        self.stream = side_stream()
        self.recordings: dict[tuple[torch.Size, ...], Recording | None] = {}

    def __call__(self, *inputs: Tensor) -> None:
        """Make the step with these tensors."""
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self.recordings:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.step(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            self.recordings[shapes] = None
            return
        recording = self.recordings[shapes] = self.recordings[shapes] or self.record(inputs)
        for mine, theirs in zip(recording.inputs, inputs, strict=True):
            mine.copy_(theirs)
        recording.graph.replay()
        losses, rows = recording.tally  # the next replay writes over them
        self.count(([loss.clone() for loss in losses], rows.clone() if isinstance(rows, Tensor) else rows))

    def record(self, inputs: tuple[Tensor, ...]) -> Recording:
        """Record the step without making it."""
        graph, own = torch.cuda.CUDAGraph(), [x.clone() for x in inputs]
        for generator in self.generators:
            graph.register_generator_state(generator)
        others = [r.graph for r in self.recordings.values() if r is not None]  # they never run at once
        with torch.cuda.graph(graph, pool=others[0].pool() if others else None, stream=self.stream):
            tally = self.tallied(self.step, tuple(own))
        torch.cuda.current_stream().wait_stream(self.stream)  # it still clears the generators' places in the graph
        return Recording(graph, own, tally)
