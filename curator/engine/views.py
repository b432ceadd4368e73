"""Views of a batch, made on the device, every row with its own draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from curator.engine.augment import (
    augment,
    cutout,
    draw_auto_augment,
    draw_cutout,
    draw_rand_augment,
    draw_random_augment,
    draw_square,
)
from curator.evidence import Source

Normaliser = Callable[[Tensor], Tensor]  # rows as they are -> float rows


def crop_flip(
    images: Tensor,  # uint8 (b, c, h, w)
    generator: torch.Generator,
    *,
    padding: int,  # pixels of black on each side; CIFAR: 4
    flip: bool,  # mirror each image left-right with probability 1/2
    side: int | None = None,  # of the window that is cut; None: as large as the image
) -> Tensor:  # uint8 (b, c, h, w), or (b, c, side, side); channels last in memory
    """Random crop with zero padding and random horizontal flip: the usual weak view of CIFAR, and of photos."""
    (b, _, *sides), device = images.shape, images.device
    if side is None:
        offsets = torch.randint(2 * padding + 1, (2, b, 1), generator=generator, device=device)
    else:
        room = (n + 2 * padding - side + 1 for n in sides)
        offsets = torch.stack([torch.randint(n, (b, 1), generator=generator, device=device) for n in room])
    mirrored = torch.rand((b, 1), generator=generator, device=device) < (0.5 if flip else 0.0)
    return cropped(images, offsets, mirrored, padding, side)


def cropped(
    images: Tensor,  # uint8 (b, c, h, w)
    offsets: Tensor,  # (2, b, 1) int64 in [0, 2 padding]: downwards and to the right, in the padded image
    mirrored: Tensor,  # (b, 1) bool
    padding: int,  # pixels of black on each side
    side: int | None = None,  # of the window; None: as large as the image
) -> Tensor:  # uint8 (b, c, h, w), or (b, c, side, side); channels last in memory
    """Crop and mirror in one gather.

    Row i reads its pixel rows at dy[i] + y and its pixel columns, mirrored or not, at dx[i] + x.
    """
    b, _, h, w = images.shape
    h, w = (side, side) if side else (h, w)
    x = torch.arange(w, device=images.device)
    ys = offsets[0] + torch.arange(h, device=images.device)  # (b, h)
    xs = offsets[1] + torch.where(mirrored, w - 1 - x, x)  # (b, w)
    padded = F.pad(images, (padding,) * 4)
    rows = torch.arange(b, device=images.device)[:, None, None]
    return padded[rows, :, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)


def resized_crop(
    images: Tensor,  # uint8 (b, c, h, w)
    generator: torch.Generator,
    *,
    side: int,  # to which windows are scaled
    area: float,  # least share of the image's area that a window has, in (0, 1]
    flip: bool,
    tries: int = 10,
) -> Tensor:  # uint8 (b, c, side, side), channels last in memory
    """A window of random area and shape (3:4 to 4:3), scaled (Szegedy et al. 2015), and a random horizontal flip.

    As torchvision's RandomResizedCrop: of ten draws the first that lies in the image counts, else all of the image.
    """
    from torchvision.ops import roi_align  # here, since loading it takes a second that most commands can save

    (b, _, h, w), device = images.shape, images.device
    draws = torch.rand((2, b, tries), generator=generator, device=device)
    wanted = (area + (1 - area) * draws[0]) * h * w
    ratio = ((2 * draws[1] - 1) * math.log(4 / 3)).exp()
    sides = torch.stack([(wanted / ratio).sqrt().round(), (wanted * ratio).sqrt().round()])  # (2, b, tries)
    limits = torch.tensor([h, w], device=device).view(2, 1, 1)
    fits = ((sides <= limits) & (sides >= 1)).all(0)
    first = fits.int().argmax(1)[None, :, None].expand(2, b, 1)
    sides = torch.where(fits.any(1), sides.gather(2, first)[..., 0], limits[..., 0])  # (2, b)
    room = limits[..., 0] - sides + 1
    top, left = (torch.rand((2, b), generator=generator, device=device) * room).floor()
    rows = torch.arange(b, device=device, dtype=torch.float32)
    boxes = torch.stack([rows, left, top, left + sides[1], top + sides[0]], 1)
    cut = roi_align(images.float(), boxes, side, aligned=True)
    mirrored = torch.rand(b, generator=generator, device=device) < (0.5 if flip else 0.0)
    cut = torch.where(mirrored.view(-1, 1, 1, 1), cut.flip(3), cut)
    return cut.round().to(torch.uint8).contiguous(memory_format=torch.channels_last)


def normalise(
    x: Tensor,  # uint8 (b, c, h, w), or float (b, d)
    mean: Tensor,  # (c,) in [0, 1], or (d,)
    std: Tensor,  # (c,) in [0, 1], or (d,)
) -> Tensor:  # float32, channels last in memory for images
    """(x - mean) / std, with uint8 pixels first scaled to [0, 1]. Black padding is made before, so it stays black."""
    if x.ndim == 2:
        return (x - mean).div_(std)
    scale = (255 * std).reciprocal().view(-1, 1, 1)
    shift = (mean / std).view(-1, 1, 1)
    return (x.to(memory_format=torch.channels_last).float() * scale).sub_(shift)


def centre(images: Tensor, side: int | None) -> Tensor:
    """The middle (b, c, side, side) of images (b, c, h, w); without a side, or of that size, they stay as they are."""
    if side is None or images.shape[2:] == (side, side):
        return images
    top, left = (round((n - side) / 2) for n in images.shape[2:])
    return images[:, :, top : top + side, left : left + side]


def normaliser_of(inputs: Source, device: torch.device, crop: int | None = None) -> Normaliser:
    """A function that normalises batches by the mean and deviation of all rows, and takes the centre of whole images.

    crop: pixels a side of the window that nets see of images; None: all of them. What has that size was cut before.
    """
    mean, std = (m.to(device) for m in inputs.moments())
    return lambda x: normalise(centre(x, crop) if x.ndim == 4 else x, mean, std)


def mixup(
    x: Tensor,  # float (b, ...)
    targets: Tensor,  # float (b, k)
    weight: Tensor,  # 0-d, of the row itself; its partner has 1 - weight
    partner: Tensor,  # (b,) int64, a permutation of the batch
) -> tuple[Tensor, Tensor]:
    """Mix every row and its target with its partner's (Zhang et al. 2018, section 2)."""
    return mixed(x, weight, partner), mixed(targets, weight, partner)


def mixed(
    values: Tensor,  # float (b, ...)
    weight: Tensor,  # 0-d or (b,), of the row itself
    partner: Tensor,  # (b,) int64
) -> Tensor:
    """Every row mixed with its partner's."""
    weight = weight.view(-1, *[1] * (values.ndim - 1)) if weight.ndim else weight
    return weight * values + (1 - weight) * taken(values, partner)


def taken(values: Tensor, rows: Tensor) -> Tensor:
    """The rows (m,) int64 of values (b, ...): of features and their gradients as whole rows, which is quicker."""
    return values.index_select(0, rows) if values.ndim == 2 else values[rows]


def jitter(
    x: Tensor,  # float (b, d), normalised features
    generator: torch.Generator,
    *,
    noise: float,  # deviation of the noise that is added
    drop: float,  # share of the features set to 0, their mean, in steps of 2^-16
) -> Tensor:  # float (b, d)
    """A strong view of features: uniform noise and gaps.

    One draw of 16 bits is both: above a bound it is a gap, below it the noise; 64 bits at once are four of them.
    """
    if not (noise or drop):
        return x
    count, bound = x.numel(), round((1 - drop) * 2**16) - 2**15
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None, generator=generator)
    drawn = bits.view(torch.int16)[:count].view(x.shape).float()  # whole numbers in [-2^15, 2^15)
    scale = noise * math.sqrt(12) / max(1, bound + 2**15)
    out = torch.add(x, drawn, alpha=scale).sub_(scale * (bound - 1 - 2**15) / 2)
    return out.mul_(drawn.lt_(bound)) if drop else out


Strong = Literal["random_augment", "rand_augment", "auto_cifar10", "auto_cifar10_cutout", "auto_imagenet"]


def strengthen(
    images: Tensor,  # uint8 (b, c, h, w), c = 1 or 3
    kind: Strong,
    generator: torch.Generator,
    *,
    fill: int = 0,  # what shows where an image was moved away
) -> Tensor:  # uint8 (b, c, h, w)
    """The strong operations of a view; random_augment is ProMix's, with cutout, before images are cropped."""
    b, size = len(images), (images.shape[2], images.shape[3])
    if kind == "random_augment":
        images = augment(images, draw_random_augment(b, size, generator), fill=fill)
        return cutout(images, draw_cutout(b, size, generator))
    if kind == "rand_augment":
        return augment(images, draw_rand_augment(b, size, generator), fill=fill)
    policy = kind.removeprefix("auto_").removesuffix("_cutout")
    images = augment(images, draw_auto_augment(b, size, generator, policy=policy), fill=fill)
    return cutout(images, draw_square(b, size, generator)) if kind.endswith("_cutout") else images


@dataclass(frozen=True)
class Views:
    """How rows look in training: what may be done to an image or to a feature and leaves the label right.

    That is a property of the data, so it is set once for all methods.
    """

    flip: bool = True  # mirror images left-right at random
    noise: float = 0.2  # on features: deviation of the noise that is added, in deviations of a feature
    drop: float = 0.2  # on features: share of the features set to their mean
    crop: int | None = None  # pixels a side of the window that nets see: anywhere in training, else in the centre
    crop_area: float | None = None  # in training: least share of an image that a window scaled to `crop` has

    def shape(self, row: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what nets see of a row of a shape."""
        return row if self.crop is None or len(row) == 1 else (row[0], self.crop, self.crop)

    def window(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Images (b, c, h, w) cropped and mirrored: from a margin of black, or where a size is set without one."""
        if self.crop is not None and self.crop_area is not None:
            return resized_crop(x, generator, side=self.crop, area=self.crop_area, flip=self.flip)
        padding = x.shape[-1] // 8 if self.crop is None else 0
        return crop_flip(x, generator, padding=padding, flip=self.flip, side=self.crop)

    def weak(self, x: Tensor, normaliser: Normaliser, generator: torch.Generator) -> Tensor:
        """Float rows (b, ...) that were only cropped and mirrored; of features (b, d) the rows themselves."""
        if x.ndim == 2:
            return normaliser(x)
        return normaliser(self.window(x, generator))

    def training(self, x: Tensor, normaliser: Normaliser, generator: torch.Generator) -> Tensor:
        """Float rows as plain training sees them: cropped and mirrored images, or features with noise and gaps."""
        x = self.weak(x, normaliser, generator)
        return self.jittered(x, generator) if x.ndim == 2 else x

    def strong(self, x: Tensor, kind: Strong, normaliser: Normaliser, generator: torch.Generator) -> Tensor:
        """Float rows under strong operations; images are then cropped and mirrored too."""
        if x.ndim == 2:
            return self.jittered(normaliser(x), generator)
        return self.weak(strengthen(x, kind, generator), normaliser, generator)

    def jittered(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Normalised features (b, d) with noise and gaps."""
        return jitter(x, generator, noise=self.noise, drop=self.drop)


def low_frequency_images(
    noise: Tensor,  # (m, h, w // 2 + 1, 2) float, standard normal
    size: tuple[int, int],  # (h, w)
    *,
    decay: float = 3.0,  # power of the frequency by which amplitudes fall
    spectrum: Literal["released", "textbook"] = "released",
) -> Tensor:  # (m, h, w) float, each stretched to [0, 1]
    """Grey images of which FMix's masks are level sets (Harris et al. 2020, section 4).

    The released code of FMix and ProMix takes real and imaginary parts from rows 0 and 1 of the first frequency axis,
    and the inverse transform pads them with zeros; "textbook" takes them from the last axis.
    """
    h, w = size
    fy, fx = torch.fft.fftfreq(h, device=noise.device), torch.fft.rfftfreq(w, device=noise.device)
    frequency = (fx**2 + fy[:, None] ** 2).sqrt().clamp_min(1 / max(h, w))
    parts = noise / frequency.to(noise.dtype)[:, :, None] ** decay
    values = torch.complex(parts[:, 0], parts[:, 1]) if spectrum == "released" else torch.view_as_complex(parts)
    grey = torch.fft.irfft2(values, s=size)
    low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
    return (grey - low) / (high - low).clamp_min(1e-12)


def level_sets(
    grey: Tensor,  # (m, h, w) float
    share: Tensor,  # (m,) in [0, 1]
    up: Tensor,  # (m,) bool: the number of pixels is rounded up, else down
) -> Tensor:  # (m, 1, h, w) bool
    """The brightest share of every image's pixels: FMix's masks with hard edges."""
    m, h, w = grey.shape
    wanted = share * (h * w)
    wanted = torch.where(up, wanted.ceil(), wanted.floor())
    rank = grey.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < wanted[:, None]).view(m, 1, h, w)


def fmix_masks(
    share: Tensor,  # (m,) in [0, 1], of the row itself; its partner has the rest
    size: tuple[int, int],  # (h, w)
    generator: torch.Generator,
) -> Tensor:  # (m, 1, h, w) bool: where the row itself shows
    """Draw m of FMix's masks; the number of pixels is rounded up or down with probability one half."""
    m, (h, w) = len(share), size
    noise = torch.randn((m, h, w // 2 + 1, 2), generator=generator, device=share.device)
    up = torch.rand(m, generator=generator, device=share.device) > 0.5
    return level_sets(low_frequency_images(noise, size), share, up)
