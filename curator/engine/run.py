"""The Run: device, precision, threads, batches, prediction, checkpoints and throughput of one training run."""

from __future__ import annotations

import hashlib
import platform
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from curator.engine.checkpoint import Checkpoints
from curator.engine.graphs import Recorded, Step, Tally
from curator.engine.hardware import Precision, best_precision, forward_flops, no_accelerator, peak_flops
from curator.engine.members import Members
from curator.engine.nets import Net, build_net
from curator.engine.views import Normaliser, Views, normalise
from curator.errors import CuratorError, RunFailed
from curator.evidence import NoisyDataset, Source
from curator.system import atomic, cache_folder, cores, threads_per_process

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Run:
    """One training run: what a method needs of the machine, and what its caller needs of the method.

    Randomness comes from generators seeded by (seed, purpose, epoch, rank), so there is no random state to save.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        net: str = "small",
        pretrained: bool = False,  # nets start from ImageNet weights
        mixed_precision: Precision | None = None,  # None: bf16 where the hardware has it
        compile: bool = False,
        checkpoints: Path | None = None,  # folder; None: none are written
        threads: int | None = None,  # of this process; None: cores / processes
        track: str | None = None,  # a tracker of Accelerate: tensorboard, wandb, trackio
        track_dir: Path | None = None,
        content: str | None = None,  # a hash of the inputs; None: nothing is kept for other runs on them
        views: Views | None = None,  # how rows look in training
    ):
        from accelerate import Accelerator

        # Autocast is ours (see autocast), so that two runs of one process may differ in precision.
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*no supported trackers")  # refused below
                self.accelerator = Accelerator(
                    mixed_precision="no", cpu=no_accelerator(), log_with=track, project_dir=track_dir
                )
        except (ImportError, ValueError) as e:
            raise CuratorError(f"--track {track}: {e}; pip install 'label-curator[track]'") from e
        if track and not self.accelerator.log_with:
            raise CuratorError(f"--track {track}: the package is not installed; pip install 'label-curator[track]'")
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self.seed = seed
        self.net, self.pretrained, self.content = net, pretrained, content
        self.views = views or Views()
        self.precision: Precision = mixed_precision or best_precision(self.device)
        self.compile = compile
        self.registered: dict[str, Any] = {}
        self.progress: dict[str, int] = {}
        self.findings: dict[str, Any] = {}  # what a method has to say of the whole dataset, as JSON values
        self.warnings: list[str] = []  # what it warns of
        self.say: Callable[[str], None] = lambda line: None  # set by the caller: shows a line to the user
        self.stopping = False  # set by the caller: no stage hands out another epoch
        self._saved: dict[str, Any] = {}
        self._stages: set[str] = set()
        self._member = ""  # of several methods in one run: what their names begin with
        self._checkpoints = Checkpoints(checkpoints) if checkpoints else None
        restored = self._checkpoints.load() if self._checkpoints else None
        if restored is not None:
            try:
                self.progress, self._saved, threads = restored["progress"], restored["registered"], restored["threads"]
                self.stopping = restored["stopping"]
            except KeyError as e:
                raise CuratorError(f"the checkpoint in {checkpoints} lacks {e}; start anew with --no-resume") from e
        # accelerate launch sets OMP_NUM_THREADS=1 on a CPU. One and two threads add in another order and give other
        # weights, so a resumed run takes the threads of its checkpoint.
        self.threads = threads or threads_per_process()
        torch.set_num_threads(self.threads)
        self._seconds, self._trained = 0.0, 0
        self._row: tuple[int, ...] = ()
        self._inputs: Source | None = None  # what the nets that were built read
        self._losses: list[Tensor] = []  # of every step of the epoch
        self._loss: Tensor | None = None  # of the step that is being made
        self._images: int | Tensor = 0
        self.open_epoch()

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def warn(self, text: str) -> None:
        """Say now what may spoil the result, and again with it; a resumed run has to warn anew."""
        self.warnings.append(text)
        self.say(f"warning   {text}")

    # Randomness

    def derived_seed(self, purpose: str, epoch: int = 0, *, rank: int | None = None) -> int:
        """A 63-bit seed of (seed, purpose, epoch, rank); the same on every machine."""
        key = f"{self.seed}/{purpose}/{epoch}/{self.rank if rank is None else rank}"
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1

    def generator(self, purpose: str, epoch: int = 0, *, shared: bool = False) -> torch.Generator:
        """A generator on the device with its own stream per process; shared: on the CPU, equal in all processes."""
        device = "cpu" if shared else self.device
        return torch.Generator(device).manual_seed(self.derived_seed(purpose, epoch, rank=0 if shared else None))

    @contextmanager
    def seeded(self, purpose: str, epoch: int = 0) -> Iterator[None]:
        """Seed torch's global generators inside the block, for what takes no generator (initialisation, dropout)."""
        with self._own_randomness():
            torch.manual_seed(self.derived_seed(purpose, epoch, rank=0))
            yield

    def beta(self, alpha: float, size: int, purpose: str, epoch: int) -> Tensor:
        """Draws (size,) float32 of Beta(alpha, alpha) on the device, equal in all processes; ones at 0 (no mixup)."""
        if not alpha:
            return torch.ones(size, device=self.device)
        draws = np.random.default_rng(self.derived_seed(purpose, epoch, rank=0)).beta(alpha, alpha, size)
        return torch.from_numpy(draws).float().to(self.device)

    def _own_randomness(self) -> AbstractContextManager:
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])

    # Epochs, state and checkpoints

    def epochs(self, n: int, stage: str = "train") -> Iterator[int]:
        """Epochs of a stage, from the restored one; a finished stage gives none.

        Yield evidence at the end of an epoch's body.
        """
        place = self._member + stage
        if place in self._stages:
            raise ValueError(f"stage {place!r} was used before: stage names are unique")
        self._stages.add(place)
        for epoch in range(self.progress.get(place, 0), n):
            if self.stopping:
                return
            self.progress.pop(place, None)  # the stage at work stands last
            self.progress[place] = epoch + 1
            with self._own_randomness():
                torch.manual_seed(self.derived_seed(f"global/{stage}", epoch))
                yield epoch

    def begun(self, stage: str) -> bool:
        """Whether an epoch of the stage was handed out, in this process or before the run was interrupted."""
        return self._member + stage in self.progress

    def register(self, name: str, value: T) -> T:
        """Put the object under the checkpoint's care and give it back with its saved state, if there is one.

        Args:
            name: unique. The nets under the name "nets" are the ensemble that scores the other splits.
            value: a module (it is moved to the device), anything with state_dict and load_state_dict, or a tensor
                that is updated in place.
        """
        name = self._member + name
        if name in self.registered:
            raise ValueError(f"{name!r} is registered already")
        if isinstance(value, nn.Module):
            value = self._placed(value)
        self.registered[name] = value
        if name in self._saved:
            saved = self._saved.pop(name)
            try:
                if isinstance(value, Tensor):
                    value.copy_(saved)
                else:
                    cast(Any, value).load_state_dict(saved)
            except (ValueError, RuntimeError, KeyError, TypeError) as e:
                raise CuratorError(
                    f"the checkpoint's {name!r} does not fit (was it written by another version?): "
                    f"{' '.join(str(e).split())[:150]}; start anew with --no-resume"
                ) from e
        return value

    def forget(self, name: str) -> None:
        """Leave what is no longer needed out of the checkpoints to come."""
        del self.registered[self._member + name]

    def kept(self, kind: str, key: dict[str, Any]) -> dict[str, Tensor] | None:
        """Tensors that another run on these inputs has kept under the key, or None; the same in all processes."""
        path, found = self._place(kind, key), None
        if path is not None and self.main and path.exists():
            # What is cut short, or of another program, is none.
            with (
                suppress(OSError, ValueError, zipfile.BadZipFile, zlib.error),
                np.load(path, allow_pickle=False) as file,
            ):
                found = {name: torch.from_numpy(file[name]) for name in file.files}
        if self.world > 1:  # the others may have another cache, or look a moment later
            from accelerate.utils import broadcast_object_list

            (found,) = broadcast_object_list([found])
        return found

    def keep(self, kind: str, key: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Keep tensors for other runs on these inputs, in the user's cache."""
        path = self._place(kind, key)
        if path is None or not self.main:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as staged, open(staged, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **{name: t.numpy() for name, t in tensors.items()})
        except OSError as e:
            self.warn(f"{path.parent} cannot be written ({e.strerror}): the next run computes this anew")

    def _place(self, kind: str, key: dict[str, Any]) -> Path | None:
        if self.content is None:
            return None
        machine = (self.device_name(), self.world, self.threads, self.precision, self.compile, torch.__version__)
        digest = hashlib.blake2b(repr((self.content, self.seed, self.net, self.pretrained, machine)).encode())
        digest.update(repr(sorted(key.items())).encode())
        return cache_folder(kind) / f"{digest.hexdigest()[:32]}.npz"

    def _placed(self, net: M) -> M:
        """The net on the device, channels last; stacked weights have an axis too many for that."""
        net = net.to(self.device)
        return net if isinstance(net, Members) else net.to(memory_format=torch.channels_last)

    def ensembles(self) -> list[nn.ModuleList]:
        """What was registered as "nets": the nets that score the other splits, of every method that trained."""
        return [value for name, value in self.registered.items() if name.rpartition("/")[2] == "nets"]

    @contextmanager
    def member(self, name: str, views: Views | None = None) -> Iterator[None]:
        """Inside the block, names that are registered and stages are those of one of several methods.

        Its randomness stays what it is when the method runs alone; views: how rows look to it, if not as to the others.
        """
        outer, outer_views = self._member, self.views
        self._member, self.views = f"{outer}{name}/", views or outer_views
        try:
            yield
        finally:
            self._member, self.views = outer, outer_views

    def within(self, name: str, stream: Iterator[T], views: Views | None = None) -> Iterator[T]:
        """What a method that is one of several gives, made under its own names."""
        while True:
            with self.member(name, views):
                found = next(stream, None)
            if found is None:
                return
            yield found

    def checkpoint(self) -> None:
        """Write everything registered, atomically; the previous checkpoint stays until the new one is on disk."""
        if self._checkpoints and self.main:
            state = {k: v if isinstance(v, Tensor) else v.state_dict() for k, v in self.registered.items()}
            position = {"progress": self.progress, "stopping": self.stopping, "threads": self.threads}
            self._checkpoints.save({**position, "registered": state})
        self.accelerator.wait_for_everyone()

    # Training

    def build_net(self, name: str, data: NoisyDataset, *, classes: int | None = None, **heads) -> Net:
        """The run's net for the dataset, initialised from a stream of its own; heads as in engine.nets.build_net.

        classes: logits of the primary head; by default one a class.
        """
        self._row, self._inputs = data.inputs.shape, data.inputs
        with self.seeded(f"init/{name}"):
            k = len(data.classes) if classes is None else classes
            return build_net(self.net, data.inputs.shape, k, pretrained=self.pretrained, **heads)

    def autocast(self) -> AbstractContextManager:
        """The forward pass's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def prepare(self, net: nn.Module) -> nn.Module:
        """The registered net as it is called in training: compiled if asked for.

        Processes meet in `step`, not in the net, so a method may call its nets as often a step as its paper does
        (DistributedDataParallel allows one call, and no head without a gradient).
        """
        if not self.compile:
            return net
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # heads stay in float32 on purpose
        return cast(nn.Module, torch.compile(net))

    def normaliser(self, inputs: Source) -> Normaliser:
        """A function that normalises batches by the mean and deviation of the rows."""
        mean, std = (m.to(self.device) for m in inputs.moments())
        return lambda x: normalise(x, mean, std)

    def batches(
        self,
        rows: Tensor,
        size: int,
        epoch: int,
        purpose: str = "shuffle",
        *,
        drop_last: bool = False,
        expect: bool = True,  # they are asked for in this order, so that they can be made ready
    ) -> list[Tensor]:
        """This process's part of an epoch's shuffled batches: lists of rows, every row exactly once over all processes.

        All batches of an epoch are of nearly equal size (at most `size`, at least two), for BatchNorm's sake;
        drop_last: all are of exactly `size`, and the rest is left out, as published loops do.
        """
        order = rows[torch.randperm(len(rows), generator=self.generator(purpose, epoch, shared=True))]
        if drop_last and len(order) >= size:
            order = order[: len(order) // size * size]
        parts = order.to(self.device).tensor_split(max(1, min(-(-len(order) // size), len(order) // 2)))
        mine = [part[self.rank :: self.world] for part in parts]
        if self._inputs is not None and expect:
            self._inputs.expect(mine)
        return mine

    def backward(self, loss: Tensor, rows: int | Tensor) -> None:
        """Add the gradients of one part of a step's loss.

        A loss that is a sum is best given term by term: each term's activations are freed before the next is made.

        Args:
            loss: 0-d; it stays on the device until the end of the epoch.
            rows: how many rows went forward and backward through a net for it: what throughput and MFU count. A
                0-d tensor stays on the device, too.
        """
        self.accelerator.backward(loss)
        self._loss = self._loss + loss.detach() if self._loss is not None else loss.detach()
        self.count(rows)

    def count(self, rows: int | Tensor) -> None:
        """Rows that went through a model in training; for what trains without `backward`."""
        self._images = self._images + rows

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One optimizer step with the gradients added since the last one, averaged over the processes."""
        if self.world > 1:
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            means = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), "mean")
            for grad, mean in zip(grads, means.split([g.numel() for g in grads]), strict=True):
                grad.copy_(mean.view_as(grad))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if self._loss is not None:
            self._losses.append(self._loss)
        self._loss = None

    def recorded(self, step: Step, *generators: torch.Generator) -> Step:
        """The step (tensors -> None) for one epoch; on a GPU its kernels are recorded and replayed.

        Args:
            step: calls backward and step; shapes depend on its arguments' shapes alone, no number leaves the device,
                and what it reads besides its arguments stays in its place.
            generators: all that it draws from.
        """
        if self.device.type != "cuda" or self.world > 1:  # gradients of several processes meet inside a step
            return step
        return Recorded(step, generators, self._tallied, self._count)

    def _tallied(self, step: Step, inputs: tuple[Tensor, ...]) -> Tally:
        """Losses and rows of a step, which the epoch's own do not count."""
        losses, images = self._losses, self._images
        self._losses, self._images = [], 0
        step(*inputs)
        own = self._losses, self._images
        self._losses, self._images = losses, images
        return own

    def _count(self, tally: Tally) -> None:
        self._losses += tally[0]
        self._images = self._images + tally[1]

    def open_epoch(self) -> None:
        """Count losses, images and seconds from now on."""
        self._losses = []
        self._images = 0
        self._started = time.perf_counter()

    def _finite_losses(self) -> Tensor:
        """The epoch's losses so far; the one moment they leave the device."""
        losses = torch.stack(self._losses).float().cpu() if self._losses else torch.zeros(0)
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            raise self._broke(f"the loss became {losses[bad[0]].item()}", int(bad[0]))
        return losses

    def _broke(self, what: str, step: int) -> RunFailed:
        stage, epochs = list(self.progress.items())[-1] if self.progress else ("none", 1)
        last = self._checkpoints.latest() if self._checkpoints else None
        return RunFailed(
            f"{what} in epoch {epochs - 1} of stage {stage}, step {step}; last good checkpoint: {last or 'none'}. "
            "Lower --method.lr, or try --mixed-precision no"
        )

    def close_epoch(self) -> dict[str, float]:
        """Mean loss, images and seconds since the last call; the caller calls it at every yield.

        Raises:
            RunFailed: at a loss that is not finite, with the epoch, the step and the checkpoint that stands.
        """
        losses = self._finite_losses()
        seconds = time.perf_counter() - self._started
        images = int(self._images) * self.world
        self._seconds, self._trained = self._seconds + seconds, self._trained + images
        stats = {"images": images, "seconds": seconds, "images_per_second": images / seconds}
        if len(losses):
            stats["loss"] = losses.mean().item()
        self.open_epoch()
        return stats

    def measure_speed(self, data: NoisyDataset, batch: int, seconds: float = 1.0) -> float:
        """Images per second of all processes in training the run's net, measured on a throw-away copy."""
        net = self._placed(self.build_net("speed", data))
        optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, fused=True)
        rows = torch.arange(min(batch, len(data)))
        labels, normaliser = data.labels[rows].to(self.device), self.normaliser(data.inputs)
        steps, started = 0, time.perf_counter()
        while steps < 3 or time.perf_counter() - started < seconds and steps < 50:
            if steps == 1:  # the first step also warms up
                started = time.perf_counter()
            x = normaliser(data.inputs.batch(rows))
            with self.autocast():
                logits = net(x).logits
            nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            steps += 1
        return (steps - 1) * len(rows) * self.world / (time.perf_counter() - started)

    def summed(self, values: Tensor) -> Tensor:
        """The tensor added up over the processes."""
        return self.accelerator.reduce(values, "sum") if self.world > 1 else values

    # Prediction

    @torch.no_grad()
    def predict(
        self,
        nets: nn.Module | Sequence[nn.Module],  # registered, not prepared
        inputs: Source,
        rows: Tensor | None = None,  # (m,) int64; all by default
        *,
        normaliser=None,
        batch: int = 1024,
        output: Callable[[Any], Tensor] = attrgetter("logits"),  # of what the net gives, usually an Output
    ) -> Tensor:  # (m, k) float32 on the CPU, in the order of rows; or as wide as the output
        """Mean output of the nets in evaluation mode, without augmentation; rows are shared among the processes.

        Features (what a net's head reads) and projections of several nets are not alike: ask one net for them.
        """
        self._finite_losses()  # a net that broke is named as that, not as wrong probabilities
        nets = [nets] if isinstance(nets, nn.Module) and not isinstance(nets, nn.ModuleList) else list(nets)
        rows = torch.arange(len(inputs)) if rows is None else rows
        normaliser = normaliser or self.normaliser(inputs)
        modes = [net.training for net in nets]
        for net in nets:
            self.share_buffers(net)
            net.eval()
        mine = torch.arange(len(rows))[self.rank :: self.world]
        out: Tensor | None = None
        parts = mine.split(batch)  # one empty part where this process has no row
        inputs.expect([rows[part] for part in parts])
        for part in parts:
            with self.autocast():
                x = normaliser(inputs.batch(rows[part]))
                mean = torch.stack([output(net(x)) for net in nets]).mean(0)
            out = torch.zeros(len(rows), mean.shape[1], device=self.device) if out is None else out
            out[part.to(self.device)] = mean.float()
        out = cast(Tensor, out)
        if not torch.isfinite(out).all():
            raise self._broke("the net's predictions stopped being numbers", len(self._losses) - 1)
        for net, mode in zip(nets, modes, strict=True):
            net.train(mode)
        return self.summed(out).cpu()

    # What the caller decides and reports

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it, so that all of them stop at the same epoch."""
        if self.world == 1:
            return wish
        return bool(self.accelerator.reduce(torch.tensor(float(wish), device=self.device), "sum") > 0)

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

    def memory(self) -> int:
        """Peak bytes this process has held: of the GPU where it trains on one, else of the machine."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def device_name(self) -> str:
        """The card's or processor's name."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type} ({platform.processor() or platform.machine()}, {cores()} cores)"

    def mfu(self) -> float | None:
        """Model FLOPs utilisation of the run so far; None off a known GPU.

        The FLOPs of the training passes are held against the card's dense bf16 peak.
        """
        peak = peak_flops(self.device)
        ensembles = self.ensembles()
        if peak is None or not ensembles or not self._seconds or not self._row:
            return None
        return 3 * forward_flops(ensembles[-1][0], self._row) * self._trained / self._seconds / (peak * self.world)

    def share_buffers(self, net: nn.Module) -> None:
        """Give all processes rank 0's BatchNorm statistics: all score alike and a checkpoint holds everything."""
        if self.world > 1:
            from accelerate.utils import broadcast

            for buffer in net.buffers():
                buffer.copy_(broadcast(buffer))
