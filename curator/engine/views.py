"""Views of a batch, made on the device, every row with its own draw."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_flip(
    images: Tensor,  # uint8 (b, c, h, w)
    generator: torch.Generator,
    *,
    padding: int,  # pixels of black on each side; CIFAR: 4
    flip: bool,  # mirror each image left-right with probability 1/2
) -> Tensor:  # uint8 (b, c, h, w), channels last in memory
    """Random crop with zero padding and random horizontal flip: the usual weak view of CIFAR.

    Both are one gather: row i reads its pixel rows at dy[i] + y and its pixel columns, mirrored or not, at dx[i] + x.
    """
    b, _, h, w = images.shape
    dev = images.device
    offsets = torch.randint(2 * padding + 1, (2, b, 1), generator=generator, device=dev)
    mirrored = torch.rand((b, 1), generator=generator, device=dev) < (0.5 if flip else 0.0)
    x = torch.arange(w, device=dev)
    ys = offsets[0] + torch.arange(h, device=dev)  # (b, h)
    xs = offsets[1] + torch.where(mirrored, w - 1 - x, x)  # (b, w)
    padded = F.pad(images, (padding,) * 4)
    rows = torch.arange(b, device=dev)[:, None, None]
    return padded[rows, :, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)


def normalise(
    x: Tensor,  # uint8 (b, c, h, w), or float (b, d)
    mean: Tensor,  # (c,) in [0, 1], or (d,)
    std: Tensor,  # (c,) in [0, 1], or (d,)
) -> Tensor:  # float32, channels last in memory for images
    """(x - mean) / std, with uint8 pixels first scaled to [0, 1]. Black padding is made before, so it stays black."""
    if x.ndim == 2:
        return (x - mean) / std
    scale = (255 * std).reciprocal().view(-1, 1, 1)
    shift = (mean / std).view(-1, 1, 1)
    return (x.to(memory_format=torch.channels_last).float() * scale).sub_(shift)


def mixup(
    x: Tensor,  # float (b, ...)
    targets: Tensor,  # float (b, k)
    weight: Tensor,  # 0-d, of the row itself; its partner has 1 - weight
    partner: Tensor,  # (b,) int64, a permutation of the batch
) -> tuple[Tensor, Tensor]:
    """Mix every row and its target with its partner's (Zhang et al. 2018, section 2)."""
    return weight * x + (1 - weight) * x[partner], weight * targets + (1 - weight) * targets[partner]
