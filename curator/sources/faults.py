"""Faults of pictures: dark, bright, blurry, with little in them, of odd shape or size, grey among coloured ones.

The measures and limits are CleanVision's (0.3.7, Apache-2.0), taken in the pass that decodes the pictures anyway; its
own pass would decode all of them again, and is slower. Only the limit of an odd size is another: CleanVision takes
three times the distance between the quartiles, which is next to nothing where most pictures have one size, and then
flags all others of a folder of mixed sizes. bench/picture_faults.py sets both side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curator.sources.pictures import Scaling

SIDE = 64  # pixels of a side of what is measured
# Of one picture. dark: brightness that 99 % of its pixels do not exceed, bright: that 95 % do, both in [0, 1]; colour:
# mean difference of the channels, in [0, 1]; sharp: in [0, 1]; entropy: bits of its histogram; width, height: pixels.
MEASURES = ("dark", "bright", "colour", "sharp", "entropy", "width", "height")
FAULTS = ("dark", "bright", "blurry", "low information", "odd aspect", "odd size", "grey")
USUAL = 0.5  # share of the pictures from which a fault is none, but how they are in this dataset
WEIGHTS = np.array([0.241, 0.691, 0.068], np.float32)  # of red, green and blue, squared
BYTES = np.arange(256)
GREY = 0.01
COMMON = 0.95  # share of the pictures that are no larger, or no smaller, than what is common
ODD = 2.0  # times as large, or as small, as common ones is an odd size at least


def measured(image: Any, size: tuple[int, int]) -> np.ndarray:
    """MEASURES (7,) float32 of a Pillow image as RGB, whose file has a size (w, h)."""
    from PIL import ImageFilter

    if (longer := max(image.size)) > SIDE:
        w, h = (max(1, round(n * SIDE / longer)) for n in image.size)
        image = Scaling(squash=True)(image, (w, h))
    pixels = np.asarray(image, np.float32).reshape(-1, 3)
    bright = np.sort(np.sqrt(pixels**2 @ WEIGHTS))
    grey = image.convert("L")
    edges, spread = _deviation(grey.filter(ImageFilter.FIND_EDGES).histogram()), np.std(grey.histogram())
    flat = 1 - np.exp(-0.01 * spread)  # few values: sharp, though without many edges
    sharp = 1 - np.exp(-0.01 * edges) + (flat if flat > 0.18 else 0)
    last = len(bright) - 1
    red, green, blue = pixels.T  # by channel, which is ten times as fast as along rows of three
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    colour = (most - least).mean() / 255
    ends = bright[int(0.99 * last)] / 255, bright[int(0.05 * last)] / 255
    return np.array([*ends, colour, min(sharp, 1), image.entropy(), *size], np.float32)


def _deviation(counts: list[int]) -> float:
    """The standard deviation of bytes, by how often each of the 256 occurs."""
    share = np.array(counts) / sum(counts)
    mean = share @ BYTES
    return float(np.sqrt(share @ (BYTES - mean) ** 2))


def faults_of(measures: np.ndarray) -> dict[str, np.ndarray]:
    """By fault, positions of the pictures that have it, the worst first; of measures (n, len(MEASURES))."""
    n = len(measures)
    if not n:
        return {}
    dark, bright, colour, sharp, entropy, width, height = measures.astype(np.float64).T
    badness = {  # above 0 is a fault
        "dark": 0.32 - dark,
        "bright": bright - 0.95,
        "blurry": 0.29 - sharp,
        "low information": 3.0 - entropy,
        "odd aspect": 0.35 - np.minimum(width / height, height / width),
        "odd size": _outside(np.log(np.sqrt(width * height))),
        "grey": GREY - colour,
    }
    found = {fault: np.argsort(-bad, kind="stable")[: int((bad > 0).sum())] for fault, bad in badness.items()}
    return {fault: places for fault, places in found.items() if 0 < len(places) <= USUAL * n}


def _outside(size: np.ndarray) -> np.ndarray:
    """How far the logarithms of sizes (n,) are outside of what is common in the set; above 0 is odd.

    An odd size is ODD times as far from the common ones, and twice as far from the middle as they reach.
    """
    middle = np.median(size)
    low = np.quantile(size, 1 - COMMON, method="higher")
    high = np.quantile(size, COMMON, method="lower")
    reach = np.log(ODD)
    return np.maximum(low - max(reach, middle - low) - size, size - high - max(reach, high - middle))
