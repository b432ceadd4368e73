"""Images of more than 8 bits: which values of a column become black and white, the same for all of its images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from datasets import Dataset

from curator.sources.images import Access, BrokenImage, encoded, with_bytes
from curator.sources.pictures import HALF_OF_16, NoPicture, Spans

LOOKED_AT = 64  # images, from all over the column, by whose headers it is deep or not
MEASURED = 2048  # images whose values are looked at
MOST = 0.99  # of the images: what one in a hundred has beyond the others' values is cut off
FEW = 8  # of the 256 levels


def measure(dataset: Dataset, column: str, access: Access) -> tuple[Spans, list[str]]:
    """Values that become 0 and 255, by kind of image, and what the user should know; nothing where no image is deep.

    16 bits that are made use of (range of 2**15 or more) become 8 by their upper half, as every viewer shows them.
    """
    if not any(map(access.decoder.kind, _contents(dataset, column, access, LOOKED_AT))):
        return {}, []
    found: dict[str, list[tuple[float, float]]] = {}
    for content in _contents(dataset, column, access, MEASURED):
        with suppress(NoPicture):
            if kind := access.decoder.kind(content):
                found.setdefault(kind, []).append(access.decoder.range_of(content))
    spans: dict[str, tuple[float, float]] = {}
    notes = []
    for kind, ranges in sorted(found.items()):
        lows, highs = np.array(ranges).T
        low = float(np.quantile(lows, 1 - MOST, method="lower"))
        high = float(np.quantile(highs, MOST, method="higher"))
        if kind == "16-bit" and high - low >= HALF_OF_16:
            continue
        spans[kind] = low, high
        notes.append(f"column {column!r}: values {low:g} to {high:g} of {kind} images become 0 to 255")
        if np.median(highs - lows) * 256 < FEW * (high - low):
            notes.append(
                f"half of these images have fewer than {FEW} of the 256 grey levels: some have values far from the "
                "others'; save all in one range"
            )
    return spans, notes


def _contents(dataset: Dataset, column: str, access: Access, most: int) -> Iterator[bytes]:
    """Encoded images from all over a column."""
    n = len(dataset)
    places = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))
    for i, item in encoded(dataset.select(places), column):
        with suppress(BrokenImage):
            yield with_bytes(i, item, places, column, access)["bytes"]
