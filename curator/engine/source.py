"""Sources: rows of one dataset as batches on the run's device."""

from __future__ import annotations

import torch
from torch import Tensor

from curator.errors import CuratorError
from curator.evidence import Source


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
            value = torch.arange(256, dtype=torch.float64) / 255
            mean = (counts.double() @ value) / counts.sum(1)
            std = ((counts.double() @ value**2) / counts.sum(1) - mean**2).clamp_min(0).sqrt()
            self._moments = mean.float(), torch.where(std > 1e-6, std, 1.0).float()
        return self._moments


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

    def batch(self, rows: Tensor) -> Tensor:
        """The rows (b,) int64 as float32 (b, d)."""
        return self.features[rows.to(self.features.device)]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Per-feature mean and standard deviation (d,)."""
        if self._moments is None:
            n, parts = len(self.features), self.features.split(2**16)  # in float64, a part at a time
            mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / n
            std = (torch.stack([((part.double() - mean) ** 2).sum(0) for part in parts]).sum(0) / n).sqrt()
            self._moments = mean.float().cpu(), torch.where(std > 1e-6, std, 1.0).float().cpu()
        return self._moments


def held(rows: Tensor, device: torch.device | str = "cpu") -> Source:
    """Images uint8 (n, c, h, w) or features float (n, d) on the device."""
    return Resident(rows, device) if rows.dtype == torch.uint8 else Features(rows, device)
