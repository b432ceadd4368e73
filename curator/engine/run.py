"""The Run: what a method needs of the machine, put together from the engine's parts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from curator.engine.checkpoint import Checkpoints
from curator.engine.hardware import Precision, accelerator, autocast, best_precision, device_name
from curator.engine.identity import code_of
from curator.engine.kept import Kept
from curator.engine.loop import Stages, Steps
from curator.engine.nets import Net, build_net
from curator.engine.notices import Notices
from curator.engine.pair import Pair, Streams
from curator.engine.predict import Predictor
from curator.engine.processes import Processes
from curator.engine.registry import Registry
from curator.engine.restore import is_whole
from curator.engine.seeds import Seeds
from curator.engine.views import Normaliser, Views, normaliser_of
from curator.errors import CuratorError
from curator.evidence import NoisyDataset, Source
from curator.system import is_main, threads_per_process
from curator.text import Log

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Run:
    """One training run: what a method needs of the machine, and what its caller needs of the method.

    A method calls `build_net`, `prepare`, `normaliser`, `autocast`, `predict`, and of the parts

        registry    register, forget, within: what is registered is in the checkpoints
        stages      epochs, begun; stopping is whether they end early
        steps       batches, backward, step, recorded, apart; count, for what trains without backward
        seeds       generator, beta, seeded: randomness is seeded by what it is for, there is no state to save
        processes   summed, share_buffers
        notices     say, warn, add_findings
        kept        kept.load, kept.save: work that other runs need not do again
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        net: str = "small",
        pretrained: bool = False,  # nets start from ImageNet weights
        mixed_precision: Precision | None = None,  # None: bf16 where the hardware is quicker in it
        compile: bool = False,
        streams: bool = False,  # on a GPU the second net of two has a stream of its own
        cast_once: bool | None = None,  # weights become bf16 once a step where a method says casting_once, not in every
        # pass; None: on a CPU, where it was measured (bench/step.py does on a GPU)
        checkpoints: Path | None = None,  # folder; None: none are written
        threads: int | None = None,  # of this process; None: cores / processes
        track: str | None = None,  # a tracker of Accelerate: tensorboard, wandb, trackio
        track_dir: Path | None = None,
        content: str | None = None,  # a hash of the inputs; None: nothing is kept for other runs on them
        say: Log = lambda line: None,  # shows a line to the user
        views: Views | None = None,  # how rows look in training
    ):
        self.net, self.pretrained, self.compile = net, pretrained, compile
        self.streams = streams
        self.views = views or Views()
        self.accelerator = accelerator(track, track_dir)
        self.processes = Processes(self.accelerator)
        self.device, self.rank, self.world = self.processes.device, self.processes.rank, self.processes.world
        self.cast_once = self.device.type == "cpu" if cast_once is None else cast_once
        self.precision: Precision = mixed_precision or best_precision(self.device)
        self.checkpoints = Checkpoints(checkpoints) if checkpoints else None
        restored = self.checkpoints.load() if self.checkpoints else None
        if restored is None:
            restored = {"progress": {}, "stopping": False, "threads": threads, "forgotten": [], "registered": {}}
        elif not is_whole(restored):
            raise CuratorError(
                f"the checkpoint in {checkpoints} does not hold what a run saves; start anew with --no-resume"
            )
        # accelerate launch sets OMP_NUM_THREADS=1 on a CPU. One and two threads add in another order and give other
        # weights, so a resumed run takes the threads of its checkpoint.
        self.threads = restored["threads"] or threads_per_process()
        torch.set_num_threads(self.threads)

        self.notices = Notices(say)
        self.seeds = Seeds(seed, self.device, self.rank)
        self.registry = Registry(self.device, restored["registered"], restored["forgotten"])
        self.stages = Stages(self.registry, self.seeds, restored["progress"], restored["stopping"])
        self.steps = Steps(self.processes, self.seeds, self.stages, self.checkpoints)
        self.predict = Predictor(self.processes, self.steps, self.precision, self.normaliser, self._apart)
        identity: tuple[Any, ...] | None = None
        if content is not None:
            machine = (device_name(self.device), self.world, self.threads, self.precision, compile, torch.__version__)
            # The code of the nets, too: a net of the same name and shapes may have become another function.
            identity = (content, seed, net, code_of(build_net), pretrained, machine)
        self.kept = Kept(self.processes, identity, self.notices.warn)

        # What is called often, of every part; bound here, so that a training step pays for no call more.
        self.say, self.warn, self.warnings = self.notices.say, self.notices.warn, self.notices.warnings
        self.findings, self.add_findings = self.notices.findings, self.notices.add_findings
        self.generator, self.beta, self.seeded = self.seeds.generator, self.seeds.beta, self.seeds.seeded
        self.register, self.forget = self.registry.register, self.registry.forget
        self.registered, self.scorers = self.registry.registered, self.registry.scorers
        self.epochs, self.begun, self.stop = self.stages.epochs, self.stages.begun, self.stages.stop
        self.progress = self.stages.progress
        self.batches, self.backward, self.step = self.steps.batches, self.steps.backward, self.steps.step
        self.descend, self.note = self.steps.descend, self.steps.note
        self.count, self.recorded, self.apart = self.steps.count, self.steps.recorded, self.steps.apart
        self.open_epoch, self.close_epoch = self.steps.open_epoch, self.steps.close_epoch
        self.summed, self.share_buffers = self.processes.summed, self.processes.share_buffers

    @property
    def stopping(self) -> bool:
        """Whether no stage hands out another epoch."""
        return self.stages.stopping

    # For a method: its nets and their inputs

    def build_net(self, name: str, data: NoisyDataset, *, classes: int | None = None, **heads) -> Net:
        """The run's net for the dataset, initialised from a stream of its own; heads as in engine.nets.build_net.

        classes: logits of the primary head; by default one a class.
        """
        with self.seeded(f"init/{name}"):
            k, shape = len(data.classes) if classes is None else classes, self.views.shape(data.inputs.shape)
            return build_net(self.net, shape, k, pretrained=self.pretrained, rows=len(data), **heads)

    def prepare(self, net: M) -> M:
        """The registered net as it is called in training: compiled if asked for."""
        if not self.compile:
            return net
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # heads stay in float32 on purpose
        return cast(M, torch.compile(net))

    def pair(self, inputs: Source) -> Pair:
        """What calls a function for both nets of two: on a core each where they are quick and there are two cores."""
        if self.streams and self.device.type == "cuda":
            return Streams()
        return Pair(self._apart(inputs))

    def _apart(self, inputs: Source) -> bool:
        alone = self.device.type == "cpu" and self.threads == 1 and not self.compile
        return alone and inputs.kind == "features" and threads_per_process() > 1

    def normaliser(self, inputs: Source) -> Normaliser:
        """A function that normalises batches by the mean and deviation of the rows, as nets see them."""
        return normaliser_of(inputs, self.device, self.views.crop)

    def autocast(self) -> AbstractContextManager:
        """The forward pass's precision."""
        return autocast(self.device, self.precision)

    def casting_once(self) -> AbstractContextManager:
        """Inside, where it pays, forward passes share the bf16 casts of weights; gradients and results are the same.

        Autocast drops its casts when the outermost block ends. The first pass of a net inside must be with gradients:
        the others would have casts without.
        """
        return torch.autocast(self.device.type, enabled=False) if self.cast_once else nullcontext()

    def within(self, name: str, stream: Iterator[T], views: Views | None = None) -> Iterator[T]:
        """What a method that is one of several gives, made under its own names.

        Its randomness stays what it is when the method runs alone; views: how rows look to it, if not as to the others.
        """
        outer = self.views
        while True:
            self.views = views or outer
            try:
                with self.registry.member(name):
                    found = next(stream, None)
            finally:
                self.views = outer
            if found is None:
                return
            yield found

    # For the caller of a method

    def checkpoint(self) -> None:
        """Write everything registered, atomically; the previous checkpoint stays until the new one is on disk."""
        if self.checkpoints and is_main():
            position = {"progress": self.progress, "stopping": self.stopping, "threads": self.threads}
            self.checkpoints.save(
                {**position, "forgotten": self.registry.forgotten, "registered": self.registry.state()}
            )
        self.accelerator.wait_for_everyone()

    def start_tracking(self, config: dict[str, Any]) -> None:
        """Open the trackers, if any."""
        if self.accelerator.log_with:
            plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in config.items()}
            self.accelerator.init_trackers("label-curator", plain)

    def track(self, values: dict[str, float], step: int) -> None:
        """Log the values to the trackers, if any."""
        if self.accelerator.log_with:
            self.accelerator.log(values, step=step)

    def close(self) -> None:
        """Finish the trackers."""
        if self.accelerator.log_with:
            self.accelerator.end_training()
