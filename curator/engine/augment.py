"""Strong views: the operations of AutoAugment and its successors, on a batch at once, every image with its own draw.

What is drawn (`draw_...`, from a generator) is apart from what is done: `augment` and `cutout` are functions of tensors
only, of static shapes, so they compile without graph breaks. Operations follow Pillow to 1/255; geometry samples the
nearest pixel.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Names as in torchvision; an operation's number is its place here.
OPS = (
    "Identity", "AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "Brightness", "Contrast",
    "Color", "Sharpness",
    "Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY",
)  # fmt: skip
NUMBER = {name: i for i, name in enumerate(OPS)}
SIGNED = ("Brightness", "Contrast", "Color", "Sharpness", "Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


class Draws(NamedTuple):
    """Operations for b images, `steps` one after the other.

    A magnitude is: for Posterize the bits that stay (4 to 8), for Solarize the lowest inverted value, for Brightness,
    Contrast, Color and Sharpness the factor (1: unchanged), for Rotate degrees counterclockwise, for shears the
    tangent, for translations pixels. As in Pillow, the pixel (x, y) of a sheared or translated image shows what was at
    x + magnitude * y, or at x + magnitude.
    """

    op: Tensor  # (b, steps) int64, places in OPS
    magnitude: Tensor  # (b, steps) float32


@cache
def _on(device: torch.device, values: tuple) -> Tensor:
    """The constants as a tensor that is copied to the device once: a copy in every step would make the GPU wait."""
    return torch.tensor(values, device=device)


def draw_random_augment(
    n: int,
    size: tuple[int, int],  # (height, width) in pixels
    generator: torch.Generator,
    *,
    steps: int = 3,
) -> Draws:
    """ProMix's strong view: operations drawn with replacement from 14, each magnitude uniform in its range.

    Factors are .05 to .95, so colours are only ever reduced; the nominal strength of the released code has no effect.
    """
    h, w = size
    ranges = {
        "AutoContrast": (0, 0), "Brightness": (0.05, 0.95), "Color": (0.05, 0.95), "Contrast": (0.05, 0.95),
        "Equalize": (0, 0), "Identity": (0, 0), "Posterize": (4, 8), "Rotate": (-30, 30), "Sharpness": (0.05, 0.95),
        "ShearX": (-0.3, 0.3), "ShearY": (-0.3, 0.3), "Solarize": (0, 256),
        "TranslateX": (-0.3 * w, 0.3 * w), "TranslateY": (-0.3 * h, 0.3 * h),
    }  # fmt: skip
    device = generator.device
    numbers = _on(device, tuple(NUMBER[name] for name in ranges))
    low, high = (_on(device, tuple(float(bound[i]) for bound in ranges.values())) for i in (0, 1))
    kind = torch.randint(len(ranges), (n, steps), generator=generator, device=device)
    share = torch.rand((n, steps), generator=generator, device=device)
    return Draws(numbers[kind], low[kind] + (high - low)[kind] * share)


def draw_rand_augment(
    n: int,
    size: tuple[int, int],  # (height, width) in pixels
    generator: torch.Generator,
    *,
    steps: int = 2,
    magnitude: int = 9,  # in [0, bins)
    bins: int = 31,
) -> Draws:
    """RandAugment (Cubuk et al. 2020) as in torchvision: 14 operations of one fixed strength, signs at random."""
    names = [name for name in OPS if name != "Invert"]
    table = _on(generator.device, tuple(_magnitudes(names, bins, size)[:, magnitude].tolist()))
    kind = torch.randint(len(names), (n, steps), generator=generator, device=generator.device)
    numbers = _on(generator.device, tuple(NUMBER[name] for name in names))
    return _with_signs(numbers[kind], table[kind], generator)


def draw_auto_augment(
    n: int,
    size: tuple[int, int],  # (height, width) in pixels
    generator: torch.Generator,
    *,
    policy: str,  # "cifar10" | "imagenet"
) -> Draws:
    """AutoAugment (Cubuk et al. 2019) as in torchvision: one of 25 pairs of operations, each with its probability.

    Only translations are not cut to whole pixels, as in AugDMix: the nearest one is further at half of the levels.
    """
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    device = generator.device
    pairs = AutoAugment(AutoAugmentPolicy(policy)).policies  # an operation, its probability, its level or None
    table = _magnitudes(OPS, 10, size, whole_pixels=False).tolist()
    numbers = _on(device, tuple(tuple(NUMBER[name] for name, _, _ in pair) for pair in pairs))
    chances = _on(device, tuple(tuple(chance for _, chance, _ in pair) for pair in pairs))
    strengths = _on(device, tuple(tuple(table[NUMBER[name]][level or 0] for name, _, level in pair) for pair in pairs))
    pair = torch.randint(len(pairs), (n,), generator=generator, device=device)
    happens = torch.rand((n, 2), generator=generator, device=device) <= chances[pair]
    op = torch.where(happens, numbers[pair], NUMBER["Identity"])
    return _with_signs(op, strengths[pair], generator)


def _magnitudes(names, bins: int, size: tuple[int, int], *, whole_pixels: bool = True) -> Tensor:
    """Strengths as in torchvision: (len(names), bins) float32; factors as offsets from 1."""
    h, w = size
    rising = torch.linspace(0, 1, bins)
    tops = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3}
    tops |= dict.fromkeys(("Brightness", "Contrast", "Color", "Sharpness"), 0.9)
    tables = {name: top * rising for name, top in tops.items()}
    for name, side in (("TranslateX", w), ("TranslateY", h)):
        pixels = 150 / 331 * side * rising
        tables[name] = pixels.floor() if whole_pixels else pixels
    tables |= {"Posterize": 8 - (4 * rising).round(), "Solarize": 255 - 255 * rising}
    return torch.stack([tables.get(name, torch.zeros(bins)) for name in names])


def _with_signs(op: Tensor, magnitude: Tensor, generator: torch.Generator) -> Draws:
    signed = _on(op.device, tuple(name in SIGNED for name in OPS))
    factor = _on(op.device, tuple(NUMBER["Brightness"] <= i <= NUMBER["Sharpness"] for i in range(len(OPS))))
    minus = torch.rand(op.shape, generator=generator, device=op.device) < 0.5
    magnitude = torch.where(signed[op] & minus, -magnitude, magnitude)
    return Draws(op, torch.where(factor[op], 1 + magnitude, magnitude))


def augment(
    images: Tensor,  # uint8 (b, c, h, w), c = 1 or 3
    draws: Draws,
    fill: int = 0,  # what shows where the image was moved away; AugDMix: 128
) -> Tensor:  # uint8 (b, c, h, w)
    """Apply every image's operations, one step after the other."""
    for step in range(draws.op.shape[1]):
        op, magnitude = draws.op[:, step], draws.magnitude[:, step]
        # An operation is a table of 256 values, a blend or a motion: of the three, two leave the image as it is.
        images = _look_up(images, op, magnitude)
        images = _blend(images, op, magnitude)
        images = _move(images, op, magnitude, fill)
    return images


def _grey(images: Tensor) -> Tensor:
    """Pillow's luminance (b, 1, h, w) int32 of uint8 images."""
    if images.shape[1] == 1:
        return images.int()
    r, g, b = images.int().unbind(1)
    return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16)[:, None]


def _look_up(images: Tensor, op: Tensor, magnitude: Tensor) -> Tensor:
    """The operations that map each value by itself, as one table (b, c, 256) an image."""
    b, c, h, w = images.shape
    op, magnitude = op.view(-1, 1, 1), magnitude.view(-1, 1, 1)
    pixels = images.flatten(2).long()
    value = torch.arange(256, device=images.device).expand(b, c, 256)
    counts = torch.zeros(b, c, 256, dtype=torch.int64, device=images.device)
    counts = counts.scatter_add(2, pixels, torch.ones_like(pixels))
    low, high = pixels.amin(2, keepdim=True), pixels.amax(2, keepdim=True)

    scale = 255 / (high - low).clamp_min(1)
    stretched = torch.where(high > low, ((value - low) * scale).long(), value)
    # A histogram spread evenly: the brightest value's count is left out of the width of a step.
    width = (h * w - counts.gather(2, high)) // 255
    spread = (width // 2 + counts.cumsum(2) - counts) // width.clamp_min(1)
    equalised = torch.where(width > 0, spread, value)
    bits = 8 - magnitude.long().clamp(0, 8)
    mean = (_grey(images).flatten(1).float().mean(1) + 0.5).floor().view(-1, 1, 1)
    tables = {
        "AutoContrast": stretched,
        "Equalize": equalised,
        "Invert": 255 - value,
        "Posterize": value >> bits << bits,
        "Solarize": torch.where(value < magnitude, value, 255 - value),
        "Brightness": (value * magnitude).long(),
        "Contrast": (mean + magnitude * (value - mean)).long(),
    }
    table = value
    for name, other in tables.items():
        table = torch.where(op == NUMBER[name], other, table)
    return table.clamp(0, 255).to(torch.uint8).gather(2, pixels).view(b, c, h, w)


def _blend(images: Tensor, op: Tensor, magnitude: Tensor) -> Tensor:
    """Color and Sharpness: a blend of the image with its grey or its smoothed self."""
    op, magnitude = op.view(-1, 1, 1, 1), magnitude.view(-1, 1, 1, 1)
    x = images.float()
    smooth = x.clone()  # Pillow's SMOOTH leaves the border as it is
    if min(x.shape[2:]) > 2:
        inner = x[:, :, 1:-1, 1:-1]
        smooth[:, :, 1:-1, 1:-1] = ((F.avg_pool2d(x, 3, 1) * 9 + 4 * inner) / 13 + 0.5).floor()
    sharpness = op == NUMBER["Sharpness"]
    plain = torch.where(sharpness, smooth, _grey(images).float())
    blended = (plain + magnitude * (x - plain)).clamp(0, 255).to(torch.uint8)
    return torch.where(sharpness | (op == NUMBER["Color"]), blended, images)


def _move(images: Tensor, op: Tensor, magnitude: Tensor, fill: int) -> Tensor:
    """Rotations, shears and translations: each pixel reads the nearest one of where it came from."""
    b, c, h, w = images.shape

    def drawn(name: str) -> Tensor:
        return torch.where(op == NUMBER[name], magnitude, 0.0).view(-1, 1, 1)

    angle = drawn("Rotate") * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    y, x = torch.meshgrid(
        torch.arange(h, device=images.device) + 0.5, torch.arange(w, device=images.device) + 0.5, indexing="ij"
    )
    from_x = cos * (x - w / 2) - sin * (y - h / 2) + w / 2 + drawn("ShearX") * y + drawn("TranslateX")
    from_y = sin * (x - w / 2) + cos * (y - h / 2) + h / 2 + drawn("ShearY") * x + drawn("TranslateY")
    column, row = from_x.floor().long(), from_y.floor().long()
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    source = (row * w + column).clamp(0, h * w - 1).view(b, 1, -1).expand(b, c, -1)
    return torch.where(inside[:, None], images.flatten(2).gather(2, source).view(b, c, h, w), fill)


def draw_cutout(
    n: int,
    size: tuple[int, int],  # (height, width) in pixels
    generator: torch.Generator,
    *,
    largest: float = 0.5,  # side of the largest square, as a share of the image's
) -> Tensor:  # (n, 4) int64: left, top, right, bottom, all inclusive
    """ProMix's cutout: a square of side uniform in (0, largest), centred in (1, w) and (1, h).

    A square that would begin beyond the left or upper edge is moved in; beyond the right or lower edge it is cut.
    """
    h, w = size
    side, x, y = torch.rand((3, n), generator=generator, device=generator.device)
    side, x, y = side * (largest * w), 1 + x * (w - 1), 1 + y * (h - 1)  # as released: not from 0
    left, top = (x - side / 2).clamp_min(0).floor(), (y - side / 2).clamp_min(0).floor()
    return torch.stack([left, top, (left + side).clamp_max(w), (top + side).clamp_max(h)], 1).long()


def cutout(
    images: Tensor,  # uint8 (b, c, h, w), c = 1 or 3
    boxes: Tensor,  # (b, 4) int64: left, top, right, bottom, all inclusive
    colour: tuple[int, int, int] = (125, 123, 114),  # CIFAR's mean; grey images get its luminance
) -> Tensor:  # uint8 (b, c, h, w)
    """Paint each image's box."""
    _, c, h, w = images.shape
    left, top, right, bottom = boxes.T[:, :, None]
    x, y = torch.arange(w, device=images.device), torch.arange(h, device=images.device)
    covered = ((x >= left) & (x <= right))[:, None, :] & ((y >= top) & (y <= bottom))[:, :, None]
    r, g, b = colour
    values = colour if c == 3 else ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16,)
    paint = torch.stack([torch.full((1, 1), v, dtype=torch.uint8, device=images.device) for v in values])
    return torch.where(covered[:, None], paint, images)


def draw_square(
    n: int,
    size: tuple[int, int],  # (height, width) in pixels
    generator: torch.Generator,
) -> Tensor:  # (n, 4) int64: left, top, right, bottom, all inclusive
    """Cutout's own squares (DeVries & Taylor 2017): half the image's side, centred on any pixel, cut at its edges."""
    h, w = size
    half = min(h, w) // 4
    x = torch.randint(w, (n,), generator=generator, device=generator.device)
    y = torch.randint(h, (n,), generator=generator, device=generator.device)
    return torch.stack([x - half, y - half, x + half - 1, y + half - 1], 1)
