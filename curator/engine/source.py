"""Sources: rows of one dataset as batches on the run's device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from curator.errors import CuratorError
from curator.evidence import Source
from curator.system import threads_per_process

AHEAD = 4  # batches that are decoded before they are asked for
PIECE = 32  # rows that a thread decodes at a time
PLANS = 4  # plans that are followed at once: labelled and unlabelled rows, say, take turns


class Resident:
    """Images held as one uint8 tensor (n, c, h, w) on the training device."""

    kind = "images"

    def __init__(self, images: Tensor, device: torch.device | str = "cpu"):
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise CuratorError(f"images: expected uint8 (n, c, h, w), found {images.dtype} {tuple(images.shape)}")
        self.images = images.to(device)
        self.shape: tuple[int, ...] = tuple(images.shape[1:])
        self._moments: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def expect(self, parts: Sequence[Tensor]) -> None:
        """They are all here."""

    def batch(self, rows: Tensor) -> Tensor:
        """The rows (b,) int64 as uint8 (b, c, h, w)."""
        return self.images[rows.to(self.images.device)]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Per-channel mean and standard deviation (c,) of the pixels in [0, 1].

        They are exact (integer sums), so equal on every device.
        """
        if self._moments is None:
            counts = torch.zeros(self.shape[0], 256, dtype=torch.int64)
            for part in self.images.split(max(1, 2**26 // self.images[0].numel())):
                counts += torch.stack([torch.bincount(c.reshape(-1), minlength=256) for c in part.unbind(1)]).cpu()
            self._moments = moments_of(counts)
        return self._moments


class Streamed:
    """Images that are decoded when they are asked for, by threads; the batches to come while others are trained on."""

    kind = "images"

    def __init__(
        self,
        read: Callable[[Tensor], Tensor],  # positions (b,) int64 on the CPU -> uint8 (b, c, h, w)
        n: int,
        shape: tuple[int, ...],
        counts: Tensor,  # (c, 256) int64, how often each value occurs in all rows
        device: torch.device | str = "cpu",
    ):
        self.read, self.n, self.shape, self.device = read, n, shape, torch.device(device)
        self._moments = moments_of(counts)
        self._pool = ThreadPoolExecutor(threads_per_process())
        self._plans: deque[Plan] = deque(maxlen=PLANS)

    def __len__(self) -> int:
        return self.n

    def moments(self) -> tuple[Tensor, Tensor]:
        """Per-channel mean and standard deviation (c,) of the pixels in [0, 1]."""
        return self._moments

    def expect(self, parts: Sequence[Tensor]) -> None:
        """Batches of rows that will be asked for, in their order; a few of them are decoded ahead."""
        if len(self._plans) == PLANS:
            self._plans[0].drop()
        self._plans.append(Plan(self._start, [part.cpu() for part in parts]))

    def batch(self, rows: Tensor) -> Tensor:
        """The rows (b,) int64 as uint8 (b, c, h, w)."""
        rows = rows.cpu()
        if not len(rows):
            return torch.zeros((0, *self.shape), dtype=torch.uint8, device=self.device)
        found = next((plan.take() for plan in self._plans if plan.comes(rows)), None) or self._start(rows)
        images = torch.cat([part.result() for part in found])
        if self.device.type == "cuda":
            images = images.pin_memory()
        return images.to(self.device, non_blocking=True)

    def _start(self, rows: Tensor) -> list[Future[Tensor]]:
        """Begin to decode a batch, a piece a thread."""
        return [self._pool.submit(self.read, piece) for piece in rows.split(PIECE)]


class Plan:
    """Batches that are to come, of which the next AHEAD are being decoded."""

    def __init__(self, start: Callable[[Tensor], list[Future[Tensor]]], parts: list[Tensor]):
        self.start, self.parts = start, deque(parts)
        self.begun: deque[tuple[Tensor, list[Future[Tensor]]]] = deque()
        self._fill()

    def comes(self, rows: Tensor) -> bool:
        """Whether these rows are the next batch."""
        return bool(self.begun) and torch.equal(self.begun[0][0], rows)

    def take(self) -> list[Future[Tensor]]:
        """The next batch."""
        found = self.begun.popleft()[1]
        self._fill()
        return found

    def drop(self) -> None:
        """Nobody will ask for the rest."""
        for _, pieces in self.begun:
            for piece in pieces:
                piece.cancel()

    def _fill(self) -> None:
        while self.parts and len(self.begun) < AHEAD:
            part = self.parts.popleft()
            self.begun.append((part, self.start(part)))


def moments_of(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (c,) in [0, 1] of bytes by how often each value occurs, (c, 256) int64."""
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts.double() @ value) / counts.sum(1)
    std = ((counts.double() @ value**2) / counts.sum(1) - mean**2).clamp_min(0).sqrt()
    return mean.float(), torch.where(std > 1e-6, std, 1.0).float()


class Features:
    """Frozen features held as one float32 tensor (n, d) on the training device."""

    kind = "features"

    def __init__(self, features: Tensor, device: torch.device | str = "cpu"):
        if not features.is_floating_point() or features.ndim != 2:
            raise CuratorError(
                f"features: expected floats of shape (n, d), found {features.dtype} {tuple(features.shape)}"
            )
        if not torch.isfinite(features).all():
            bad = int((~torch.isfinite(features).all(1)).nonzero()[0])
            raise CuratorError(f"features: expected finite numbers, found NaN or infinity in row {bad}")
        self.features = features.float().to(device)
        self.shape: tuple[int, ...] = (features.shape[1],)
        self._moments: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.features)

    def expect(self, parts: Sequence[Tensor]) -> None:
        """They are all here."""

    def batch(self, rows: Tensor) -> Tensor:
        """The rows (b,) int64 as float32 (b, d)."""
        return self.features.index_select(0, rows.to(self.features.device))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Per-feature mean and standard deviation (d,)."""
        if self._moments is None:
            n, parts = len(self.features), self.features.split(2**16)  # in float64, a part at a time
            mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / n
            std = (torch.stack([((part.double() - mean) ** 2).sum(0) for part in parts]).sum(0) / n).sqrt()
            self._moments = mean.float().cpu(), torch.where(std > 1e-6, std, 1.0).float().cpu()
        return self._moments


class Sample:
    """Some rows of a source, which reads them when they are asked for."""

    def __init__(self, inputs: Source, rows: Tensor):  # (m,) int64, their positions
        self.inputs, self.rows, self.kind, self.shape = inputs, rows, inputs.kind, inputs.shape

    def __len__(self) -> int:
        return len(self.rows)

    def expect(self, parts: Sequence[Tensor]) -> None:
        """The source is told."""
        self.inputs.expect([self.rows[part.cpu()] for part in parts])

    def batch(self, rows: Tensor) -> Tensor:
        """Rows (b,) int64 of the sample."""
        return self.inputs.batch(self.rows[rows.cpu()])

    def moments(self) -> tuple[Tensor, Tensor]:
        """Those of the whole source."""
        return self.inputs.moments()


def held(rows: Tensor, device: torch.device | str = "cpu") -> Source:
    """Images uint8 (n, c, h, w) or features float (n, d) on the device."""
    return Resident(rows, device) if rows.dtype == torch.uint8 else Features(rows, device)
