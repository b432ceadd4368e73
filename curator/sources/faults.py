"""Faults of pictures: dark, bright, blurry, with little in them, of odd shape or size, grey among coloured ones.

The measures and limits are CleanVision's (0.3.7, Apache-2.0), taken in the pass that decodes the pictures anyway; its
own pass would decode all of them again, and is slower. Only the limit of an odd size is another: CleanVision takes
three times the distance between the quartiles, which is next to nothing where most pictures have one size, and then
flags all others of a folder of mixed sizes. bench/picture_faults.py sets both side by side.
"""

from __future__ import annotations

import numpy as np

from curator.sources.pictures import resized

SIDE = 64  # pixels of a side of what is measured
# Of one picture. dark: brightness that 99 % of its pixels do not exceed, bright: that 95 % do, both in [0, 1]; colour:
# mean difference of the channels, in [0, 1]; sharp: in [0, 1]; entropy: bits of its histogram; width, height: pixels.
MEASURES = ("dark", "bright", "colour", "sharp", "entropy", "width", "height")
FAULTS = ("dark", "bright", "blurry", "low information", "odd aspect", "odd size", "grey")
USUAL = 0.5  # share of the pictures from which a fault is none, but how they are in this dataset
WEIGHTS = np.array([0.241, 0.691, 0.068], np.float32)  # of red, green and blue, squared
GREY = 0.01
COMMON = 0.95  # share of the pictures that are no larger, or no smaller, than what is common
ODD = 2.0  # times as large, or as small, as common ones is an odd size at least


def measured(
    pictures: np.ndarray,  # uint8 (m, h, w, 3)
    sizes: np.ndarray,  # (m, 2), width and height of their files
) -> np.ndarray:  # (m, len(MEASURES)) float32
    """The measures of pictures, of many at once, since of one numpy's calls would take longer than their work."""
    m, h, w, _ = pictures.shape
    if (longer := max(h, w)) > SIDE:
        h, w = (max(1, round(n * SIDE / longer)) for n in (h, w))
        pictures = resized(pictures, (h, w))
    channels = np.ascontiguousarray(pictures.reshape(m, h * w, 3).transpose(2, 0, 1))  # by channel, which is faster
    red, green, blue = channels.astype(np.float32)
    bright = np.sqrt(WEIGHTS[0] * red**2 + WEIGHTS[1] * green**2 + WEIGHTS[2] * blue**2)
    low, high = (int(share * (h * w - 1)) for share in (0.05, 0.99))
    bright = np.partition(bright, (low, high), axis=1)
    colour = (channels.max(0) - channels.min(0)).mean(1)
    grey = _grey(channels).reshape(m, h, w)
    edges, spread = _edges(grey).reshape(m, -1).std(1), _counts(grey.reshape(1, m, -1)).std(1)
    flat = 1 - np.exp(-0.01 * spread)  # few values: sharp, though without many edges
    sharp = 1 - np.exp(-0.01 * edges) + np.where(flat > 0.18, flat, 0)
    share = _counts(channels) / channels[:, 0].size
    entropy = -(share * np.log2(share, out=np.zeros_like(share), where=share > 0)).sum(1)
    found = [bright[:, high] / 255, bright[:, low] / 255, colour / 255, sharp.clip(max=1), entropy, *sizes.T]
    return np.stack(found, 1).astype(np.float32)


def _grey(channels: np.ndarray) -> np.ndarray:
    """Luma (m, p) uint8 of channels (3, m, p) uint8, rounded as Pillow rounds it."""
    red, green, blue = channels.astype(np.uint32)
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).astype(np.uint8)


def _edges(grey: np.ndarray) -> np.ndarray:
    """Eight times every pixel (m, h, w) less its neighbours, in 0..255: Pillow's FIND_EDGES, which leaves the rim."""
    out, wide = grey.copy(), grey.astype(np.int16)
    if min(grey.shape[1:]) > 2:
        rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
        around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
        out[:, 1:-1, 1:-1] = (9 * wide[:, 1:-1, 1:-1] - around).clip(0, 255)
    return out


def _counts(channels: np.ndarray) -> np.ndarray:
    """How often each byte occurs in every channel of every picture: (m, c 256) of uint8 (c, m, p)."""
    c, m, _ = channels.shape
    start = 256 * (np.arange(c)[:, None, None] + c * np.arange(m)[:, None])
    return np.bincount((channels + start).reshape(-1), minlength=256 * c * m).reshape(m, 256 * c)


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
