"""What a photo of 20 megapixels costs the review page: made small, made large, and found again in the user's cache.

    python -m bench.thumbnails       # appends the missing rows to bench/RESULTS.md

Processor seconds of one photo in one thread, so that what else runs counts little.
"""

from __future__ import annotations

import base64
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.table import Table, processor, today

SIZE = (5472, 3648)
KINDS = {"JPEG": {"quality": 90}, "PNG": {"compress_level": 6}}
TIMES = 5
COLUMNS = ["MiB", "small, s", "large, s", "both from the cache, s", "date", "machine"]


def main() -> None:
    """Measure the kinds that have no row yet."""
    table = Table("Photos of 20 megapixels on the review page: processor seconds", COLUMNS)
    for kind in KINDS:
        if kind not in table:
            table.append(kind, [*measured(photo(kind)), today(), processor()])


def photo(kind: str) -> bytes:
    """A made-up photo: noise of 684 x 456, eight times as large."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).save(file, kind, **KINDS[kind])
    return file.getvalue()


def measured(content: bytes) -> list[str]:
    """The figures of a row."""
    from curator.review.pictures import LARGE, SMALL, data_addresses
    from curator.review.shelf import Shelf

    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder))
        for side in (SMALL, LARGE):
            address = data_addresses(content, side)[0][side]
            assert address is not None
            shelf.put(str(side), base64.b64decode(address.partition(",")[2]))
            assert shelf.get(str(side)) is not None
        works = (
            lambda: data_addresses(content, SMALL),
            lambda: data_addresses(content, LARGE),
            lambda: [shelf.get(str(side)) for side in (SMALL, LARGE)],
        )
        return [f"{len(content) / 2**20:.1f}", *(f"{seconds(work):.3f}" for work in works)]


def seconds(work: Callable[[], object]) -> float:
    """The median of some tries, in this thread."""
    found = []
    for _ in range(TIMES):
        begun = time.thread_time()
        work()
        found.append(time.thread_time() - begun)
    return statistics.median(found)


if __name__ == "__main__":
    main()
