"""Features of images without a pretrained net and without labels: what their patches look like, and where.

The single-layer features of Coates, Ng and Lee (2011): small patches, each of the same brightness and contrast,
whitened; how much each is like every of some typical ones (their k-means); summed over the four quarters of an image. A
linear model on them is far from a trained net, but takes seconds, and has learned nothing from a label: what it says of
a row that it did not train on is evidence of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 32  # pixels that images are scaled to where they are larger
PATCH = 6  # pixels a side; of tiny images fewer
TYPICAL = 128
LOOKED_AT = 300  # images that the patches are sampled from
SAMPLED = 20_000  # patches that the typical ones are found among
TURNS = 10  # of k-means
PART = 32  # images at once: what comes of them stays in the processor's cache


class Patches:
    """Typical patches of some images, and how images are described by them."""

    def __init__(self, images: Tensor, generator: torch.Generator):
        """Find the typical patches of uint8 images (m, c, h, w); the generator is on the CPU."""
        some = torch.randperm(len(images), generator=generator)[:LOOKED_AT]
        small = _small(images[some.to(images.device)])
        self.side = min(PATCH, max(2, min(small.shape[2:]) // 2))
        found = self._patches(small).flatten(0, 1)
        found = found[torch.randperm(len(found), generator=generator)[:SAMPLED].to(found.device)]
        found = _even(found)
        self.mean = found.mean(0)
        s, v = torch.linalg.eigh((found - self.mean).T @ (found - self.mean) / len(found))
        self.whiten = v @ torch.diag((s.clamp_min(0) + 0.1 * s.mean() + 1e-6).rsqrt()) @ v.T
        self.typical = _k_means(self._whitened(found), min(TYPICAL, len(found)), generator)
        self.length = (self.typical**2).sum(1)

    def __call__(self, images: Tensor) -> Tensor:
        """Features (n, 4 m) float32 of uint8 images (n, c, h, w), on their device."""
        return torch.cat([self._described(part) for part in images.split(PART)])

    def _described(self, images: Tensor) -> Tensor:
        small = _small(images)
        patches = self._whitened(_even(self._patches(small)))  # (b, places, d)
        length = (patches**2).sum(2, keepdim=True)
        distance = (length + self.length - 2 * patches @ self.typical.T).clamp_min(0).sqrt()
        near = (distance.mean(2, keepdim=True) - distance).clamp_min(0)
        h, w = (n - self.side + 1 for n in small.shape[2:])
        grid = near.transpose(1, 2).unflatten(2, (h, w))
        return F.adaptive_avg_pool2d(grid, 2).flatten(1)

    def _patches(self, small: Tensor) -> Tensor:
        """All patches (b, places, d) of images."""
        return F.unfold(small, self.side).transpose(1, 2)

    def _whitened(self, patches: Tensor) -> Tensor:
        return (patches - self.mean) @ self.whiten


def _small(images: Tensor) -> Tensor:
    """Float images in [0, 1] of at most SIDE pixels a side."""
    h, w = images.shape[2:]
    small = images.float() / 255
    if max(h, w) > SIDE:
        sides = [max(4, round(n * SIDE / max(h, w))) for n in (h, w)]
        small = F.interpolate(small, sides, mode="bilinear", antialias=True)
    return small


def _even(patches: Tensor) -> Tensor:
    """Patches of one brightness and contrast; plain ones stay plain."""
    centred = patches - patches.mean(-1, keepdim=True)
    return centred / (centred.var(-1, keepdim=True) + (10 / 255) ** 2).sqrt()


def _k_means(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    centres = x[torch.randperm(len(x), generator=generator)[:k].to(x.device)]
    for _ in range(TURNS):
        nearest = (x @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        counts = torch.bincount(nearest, minlength=k).to(x.dtype)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres
