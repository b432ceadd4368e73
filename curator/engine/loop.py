"""The training loop: stages of epochs, their batches, and the steps with their losses and images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from curator.engine.checkpoint import Checkpoints
from curator.engine.graphs import Recorded, Step, Tally
from curator.engine.pair import TOGETHER, Pair, Streams
from curator.engine.processes import Processes
from curator.engine.registry import Registry
from curator.engine.seeds import Seeds
from curator.errors import RunFailed
from curator.evidence import Source


class Stages:
    """How far every stage of a run has come; all end where it is stopped."""

    def __init__(self, registry: Registry, seeds: Seeds, progress: dict[str, int], stopping: bool):
        self.registry, self.seeds = registry, seeds
        self.progress = progress  # epochs handed out, by stage; the one at work stands last
        self.stopping = stopping
        self.lengths: dict[str, int] = {}  # epochs in all, by stage begun in this process
        self._used: set[str] = set()  # in this process

    def epochs(self, n: int, stage: str = "train") -> Iterator[int]:
        """Epochs of a stage, from the restored one; a finished stage gives none.

        Yield evidence at the end of an epoch's body.
        """
        name = self.registry.full_name(stage)
        if name in self._used:
            raise ValueError(f"stage {name!r} was used before: stage names are unique")
        self._used.add(name)
        self.lengths[name] = n
        if name in self.progress:  # all that it needs was there when its epochs were written
            self.registry.require_all()
        for epoch in range(self.progress.get(name, 0), n):
            if self.stopping:
                return
            self.progress.pop(name, None)
            self.progress[name] = epoch + 1
            with self.seeds.seeded(f"global/{stage}", epoch, shared=False):
                yield epoch

    def begun(self, stage: str) -> bool:
        """Whether an epoch of the stage was handed out, in this process or before the run was interrupted."""
        return self.registry.full_name(stage) in self.progress

    def stop(self) -> None:
        """Let no stage hand out another epoch, nor in a run that continues from the next checkpoint."""
        self.stopping = True


@dataclass
class Count:
    """What was counted of an epoch's steps so far."""

    losses: list[Tensor] = field(default_factory=list)  # of every step
    loss: Tensor | None = None  # of the step that is being made
    rows: int | Tensor = 0


class Steps:
    """The batches and steps of an epoch: gradients, losses, and the images and seconds that they cost."""

    def __init__(self, processes: Processes, seeds: Seeds, stages: Stages, checkpoints: Checkpoints | None):
        self.processes, self.seeds, self.stages, self.checkpoints = processes, seeds, stages, checkpoints
        self.seconds, self.images = 0.0, 0  # of all epochs so far, in all processes
        self.watch: Callable[[], None] | None = None  # called after every step
        self._here = threading.local()  # count: of a part of the epoch that is made in this thread
        self._parts: list[Count] = []  # those of nets that are trained apart
        self._interrupted = False  # one of these, which the other one shall not outlast
        self.open_epoch()

    @property
    def _count(self) -> Count:
        return getattr(self._here, "count", self._epoch)

    def batches(
        self,
        inputs: Source | None,  # what they will be read from, in this order, so that it can make them ready
        rows: Tensor,
        size: int,
        epoch: int,
        purpose: str = "shuffle",
        *,
        drop_last: bool = False,
    ) -> list[Tensor]:
        """This process's part of an epoch's shuffled batches: lists of rows, every row exactly once over all processes.

        All batches of an epoch are of nearly equal size (at most `size`, at least two), for BatchNorm's sake;
        drop_last: all are of exactly `size`, and the rest is left out, as published loops do.
        """
        order = rows[torch.randperm(len(rows), generator=self.seeds.generator(purpose, epoch, shared=True))]
        if drop_last and len(order) >= size:
            order = order[: len(order) // size * size]
        count = max(1, min(-(-len(order) // size), len(order) // 2))
        parts = order.to(self.processes.device).tensor_split(count)
        mine = [part[self.processes.rank :: self.processes.world] for part in parts]
        if inputs is not None:
            inputs.expect(mine)
        return mine

    def backward(self, loss: Tensor, rows: int | Tensor) -> None:
        """Add the gradients of one part of a step's loss.

        A loss that is a sum is best given term by term: each term's activations are freed before the next is made.

        Args:
            loss: 0-d; it stays on the device until the end of the epoch.
            rows: how many rows went forward and backward through a net for it: what throughput and MFU count. A
                0-d tensor stays on the device, too.
        """
        self.descend(loss)
        self.note(loss, rows)

    def descend(self, loss: Tensor) -> None:
        """Add the gradients of a part of a step's loss, and no more: what may be done for two nets at once."""
        self.processes.accelerator.backward(loss)

    def note(self, loss: Tensor, rows: int | Tensor) -> None:
        """Count a part of a step's loss whose gradients were added, as `backward` does."""
        count = self._count
        count.loss = count.loss + loss.detach() if count.loss is not None else loss.detach()
        count.rows = count.rows + rows

    def count(self, rows: int | Tensor) -> None:
        """Rows that went through a model in training; for what trains without `backward`."""
        self._count.rows = self._count.rows + rows

    def apart(self, pair: Pair, work: Callable[[int], None]) -> None:
        """Whole epochs of net 0 and of net 1: at once where `pair` has a thread for it and no processes meet in steps.

        Losses count as those of 0, then those of 1.
        """
        if self.processes.world > 1 or isinstance(pair, Streams):
            pair = TOGETHER
        self._parts, self._interrupted = [Count(), Count()], False

        def counted(i: int) -> None:
            try:
                with self._counting(self._parts[i]):
                    work(i)
            except BaseException:
                self._interrupted = i == 0  # nobody waits for net 1 then
                raise

        try:
            pair(counted)
        finally:
            for part in self._parts:
                self._add(part)
            self._parts, self._interrupted = [], False

    @contextmanager
    def _counting(self, count: Count) -> Iterator[Count]:
        """Inside, this thread counts there."""
        outer = getattr(self._here, "count", None)
        self._here.count = count
        try:
            yield count
        finally:
            self._here.count = outer
            if outer is None:
                del self._here.count

    def _add(self, part: Count) -> None:
        count = self._count
        count.losses += part.losses
        count.rows = count.rows + part.rows

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One optimizer step with the gradients added since the last one, averaged over the processes.

        Processes meet here, not in the net, so a method may call its nets as often a step as its paper does
        (DistributedDataParallel allows one call, and no head without a gradient).
        """
        if self.processes.world > 1:
            self.processes.mean_gradients(optimizer)
        if self._interrupted:
            raise RunFailed("interrupted")  # which nobody sees: the other net's error is the one that counts
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        count = self._count
        if count.loss is not None:
            count.losses.append(count.loss)
        count.loss = None
        recording = self.processes.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if self.watch is not None and not recording:
            self.watch()

    def recorded(self, step: Step, *generators: torch.Generator) -> Step:
        """The step (tensors -> None) for one epoch; on a GPU its kernels are recorded and replayed.

        Args:
            step: calls backward and step; shapes depend on its arguments' shapes alone, no number leaves the device,
                and what it reads besides its arguments stays in its place.
            generators: all that it draws from.
        """
        if self.processes.device.type != "cuda" or self.processes.world > 1:  # they meet inside a step
            return step
        return Recorded(step, generators, self._tallied, self._replayed)

    def _tallied(self, step: Step, inputs: tuple[Tensor, ...]) -> Tally:
        """Losses and rows of a step, which the epoch's own do not count."""
        with self._counting(Count()) as own:
            step(*inputs)
        return own.losses, own.rows

    def _replayed(self, tally: Tally) -> None:
        losses, rows = tally
        self._add(Count(losses, rows=rows))
        if self.watch is not None:
            self.watch()

    def rows_so_far(self) -> int:
        """Rows that went through a net since the epoch was opened, in all processes."""
        return sum(int(count.rows) for count in (self._epoch, *self._parts)) * self.processes.world

    def open_epoch(self) -> None:
        """Count losses, rows and seconds from now on."""
        self._epoch = Count()
        self._started = time.perf_counter()

    def close_epoch(self) -> dict[str, float]:
        """Mean loss, images and seconds since the last call; the caller calls it at every yield.

        Raises:
            RunFailed: at a loss that is not finite, with the epoch, the step and the checkpoint that stands.
        """
        losses = self.finite_losses()
        seconds = time.perf_counter() - self._started
        images = self.rows_so_far()
        self.seconds, self.images = self.seconds + seconds, self.images + images
        stats = {"images": images, "seconds": seconds, "images_per_second": images / seconds}
        if len(losses):
            stats["loss"] = losses.mean().item()
        self.open_epoch()
        return stats

    def finite_losses(self) -> Tensor:
        """The epoch's losses so far (steps,), on the CPU; the one moment they leave the device.

        Raises:
            RunFailed: where one of them is not finite.
        """
        found = self._count.losses
        losses = torch.stack(found).float().cpu() if found else torch.zeros(0)
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            raise self.broke(f"the loss became {losses[bad[0]].item()}", int(bad[0]))
        return losses

    def broke(self, what: str, step: int | None = None) -> RunFailed:
        """The error that says what broke, where (by default in the last step), and what still stands."""
        step = len(self._count.losses) - 1 if step is None else step
        stage, epochs = list(self.stages.progress.items())[-1] if self.stages.progress else ("none", 1)
        last = self.checkpoints.latest() if self.checkpoints else None
        return RunFailed(
            f"{what} in epoch {epochs - 1} of stage {stage}, step {step}; last good checkpoint: {last or 'none'}. "
            "Lower --method.lr, or try --mixed-precision no"
        )
