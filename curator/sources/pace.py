"""How long features take, and work that is done ahead of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from curator.text import span

if TYPE_CHECKING:
    from curator.engine.encoders import Backbone
    from curator.engine.texts import TextEncoder

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(items: Iterable[Item], make: Callable[[Item], Made]) -> Iterator[tuple[Item, Made]]:
    """Items with what is made of each, in order: of the next one in a thread, while the caller has this one."""
    with ThreadPoolExecutor(1) as pool:
        before = None
        for item in items:
            following = item, pool.submit(make, item)
            if before is not None:
                yield before[0], before[1].result()
            before = following
        if before is not None:
            yield before[0], before[1].result()


def timed(backbone: Backbone, images: Tensor) -> tuple[Tensor, float]:
    """Features (n, d) of images, and seconds an image: of the second and third batch, since the first warms up."""
    first, some, rest = images.split_with_sizes(_thirds(len(images), backbone.batch))
    started = time.perf_counter()
    parts = [backbone(first)]
    if len(some):
        started = time.perf_counter()
        parts.append(backbone(some))
    seconds = (time.perf_counter() - started) / len(parts[-1])
    if len(rest):
        parts.append(backbone(rest))
    return torch.cat(parts), seconds


def _thirds(n: int, batch: int) -> list[int]:
    """Numbers of images: the first batch, the two after it, the others."""
    first = min(n, batch)
    some = min(n - first, 2 * batch)
    return [first, some, n - first - some]


def plan_line(
    backbone: Backbone | TextEncoder,
    width: int,
    decoding: float,
    encoding: float,
    rows: int,
    processes: int,
    what: str = "images",
) -> str:
    """What is said before features are made of so many images or texts; the seconds are those of one of them.

    On a CPU the same cores decode and encode.
    """
    each = (decoding + encoding if backbone.device.type == "cpu" else max(decoding, encoding)) / processes
    return (
        f"features  {width:,} per row of {str(backbone.name)[:80]}, {1 / max(each, 1e-9):,.0f} {what}/s: "
        f"{span(each * rows)} for {rows:,} {what}, less for what is kept of them"
    )
