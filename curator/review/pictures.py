"""Strangers' images as what a browser is given: what the nets see."""

from __future__ import annotations

import base64
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from curator.result.facts import RANGES
from curator.sources.pictures import ORIENTATION, Decoder

AS_IT_IS = 32_000, 512  # bytes and pixels a side up to which an image is sent unchanged
SHOWN = ("PNG", "JPEG", "GIF", "WEBP")  # by every browser
LOSSLESS = 2**20  # pixels of an image that is sent whole as PNG; JPEG above
KEPT = 256 << 20  # bytes of thumbnails
DECODER = Decoder(2**30)  # the page has no --memory-budget


def decoder_of(facts: dict[str, Any]) -> Decoder:
    """The decoder of the page for a run, which makes the pixels that its nets saw."""
    spans = facts.get(RANGES)
    return Decoder(DECODER.memory, {kind: (low, high) for kind, (low, high) in spans.items()}) if spans else DECODER


def data_address(image: bytes, side: int, decoder: Decoder = DECODER) -> str | None:
    """An encoded image as a data address, at most `side` pixels a side unless it is small; None where it is broken."""
    if not image:
        return None
    try:
        opened = decoder.look(image)
        small = len(image) <= AS_IT_IS[0] and max(opened.size) <= AS_IT_IS[1]
        picture = decoder.rgb(image, near=None if small else side)
        if small and _shown_alike(opened):
            return _address(f"image/{opened.format.lower()}", image)
        picture.info.clear()  # a space of colours, which the nets do not heed
        picture.thumbnail((side, side))
        kind = "PNG" if max(picture.size) <= 64 else "JPEG"
        file = io.BytesIO()
        picture.save(file, kind, quality=85)
        return _address(f"image/{kind.lower()}", file.getvalue())
    except Exception:  # whatever a decoder makes of broken bytes: the page says that there is no picture
        return None


def whole(image: bytes, decoder: Decoder = DECODER) -> str | None:
    """An encoded image as a data address at its own resolution; None where it is broken.

    Where every browser shows it as the nets see it, these are its own bytes.
    """
    if not image:
        return None
    try:
        opened = decoder.look(image)
        if _shown_alike(opened):
            return _address(f"image/{opened.format.lower()}", image)
        picture = decoder.rgb(image)
        picture.info.clear()
        kind, file = "PNG" if picture.width * picture.height <= LOSSLESS else "JPEG", io.BytesIO()
        picture.save(file, kind, quality=92)
        return _address(f"image/{kind.lower()}", file.getvalue())
    except Exception:  # as above
        return None


class Thumbnails:
    """Data addresses of images at two or three sizes: each made once, in threads, and kept in memory."""

    def __init__(self, images: Callable[[np.ndarray], list[tuple[bytes, str]]], decoder: Decoder):
        """Of a run: images(positions) gives encoded images and their source files."""
        self._images, self._decoder = images, decoder
        self._kept: OrderedDict[tuple[int, int], tuple[str | None, str]] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()
        self._threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="pictures")

    def of(self, positions: np.ndarray, side: int) -> list[tuple[str | None, str]]:
        """The image at most `side` pixels a side, as data_address has it, and its source file, of every position."""
        wanted = np.asarray(positions).tolist()
        with self._lock:
            found = {p: self._kept[p, side] for p in wanted if (p, side) in self._kept}
            for p in found:
                self._kept.move_to_end((p, side))
        missing = [p for p in dict.fromkeys(wanted) if p not in found]
        if missing:
            read = self._images(np.array(missing, np.int64))
            made = list(self._threads.map(lambda one: data_address(one[0], side, self._decoder), read))
            new = {p: (address, file) for p, address, (_, file) in zip(missing, made, read, strict=True)}
            found |= new
            with self._lock:
                for p, value in new.items():
                    if (p, side) not in self._kept:
                        self._kept[p, side] = value
                        self._size += len(value[0] or "") + len(value[1])
                while self._size > KEPT:
                    _, (address, file) = self._kept.popitem(last=False)
                    self._size -= len(address or "") + len(file)
        return [found[p] for p in wanted]


def _shown_alike(image: Any) -> bool:
    """Whether a browser shows a Pillow image as the nets see it: still, opaque, upright, its values as they are."""
    return (
        image.format in SHOWN
        and image.mode in ("1", "L", "P", "RGB")
        and not {"transparency", "icc_profile", "gamma"} & image.info.keys()
        and image.getexif().get(ORIENTATION, 1) == 1
        and not getattr(image, "is_animated", False)
    )


def _address(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
