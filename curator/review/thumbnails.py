"""The pictures of a run as its page shows them: each made once, in threads, and kept."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from curator.result.read import Rows
from curator.review.pictures import SMALL, address_of, data_addresses
from curator.review.shelf import Shelf, mark_of
from curator.sources.pictures import Decoder
from curator.system import cache_folder

KEPT = 256 << 20  # bytes of thumbnails in memory
AT_ONCE = 4  # images that are made ahead before anybody looks whether others are wanted more
ON_SHELF = "image/jpeg"


class Thumbnails:
    """Data addresses of a run's images at two or three sizes, each made once, in threads, and kept.

    They are kept in memory, and in the user's cache where they take long to make: a later visit finds them there
    without reading the images.
    """

    def __init__(self, rows: Rows, decoder: Decoder):
        self.rows, self._decoder = rows, decoder
        self._kept: OrderedDict[tuple[int, int], tuple[str | None, str]] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()
        self._threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="pictures")
        self._shelf, self._mark = Shelf(cache_folder("pictures")), mark_of(rows, decoder.mark)
        self._costly = False  # whether one has taken long
        self._ahead: np.ndarray | None = None  # positions that are to be made next
        self._working = False

    def of(self, positions: np.ndarray, side: int) -> list[tuple[str | None, str]]:
        """The image at most `side` pixels a side, as data_address has it, and its source file, of every position."""
        wanted = np.asarray(positions).tolist()
        with self._lock:
            found = {p: self._kept[p, side] for p in wanted if (p, side) in self._kept}
            for p in found:
                self._kept.move_to_end((p, side))
        missing = [p for p in dict.fromkeys(wanted) if p not in found]
        if missing:
            shelved = self._from_shelf(missing, side)
            made = self._made([p for p in missing if p not in shelved], side)
            new = {**{(p, side): value for p, value in shelved.items()}, **made}
            found |= {p: new[p, side] for p in missing}
            with self._lock:
                for key, value in new.items():
                    if key not in self._kept:
                        self._kept[key] = value
                        self._size += len(value[0] or "") + len(value[1])
                while self._size > KEPT:
                    _, (address, file) = self._kept.popitem(last=False)
                    self._size -= len(address or "") + len(file)
        return [found[p] for p in wanted]

    def ahead(self, positions: np.ndarray) -> None:
        """Make small pictures of positions meanwhile, where they take long; those of an earlier call need not be."""
        if not self._costly:
            return
        with self._lock:
            self._ahead = np.asarray(positions)
            if not self._working:
                self._working = True
                threading.Thread(target=self._make_ahead, daemon=True, name="pictures ahead").start()

    def _make_ahead(self) -> None:
        while True:
            with self._lock:
                todo, self._ahead = self._ahead, None
                if todo is None:
                    self._working = False
                    return
            for i in range(0, len(todo), AT_ONCE):
                if self._ahead is not None:  # the reviewer is elsewhere
                    break
                with contextlib.suppress(Exception):  # whoever asks for the row is told
                    self.of(todo[i : i + AT_ONCE], SMALL)

    def _from_shelf(self, positions: list[int], side: int) -> dict[int, tuple[str, str]]:
        """What the cache has of positions."""
        contents = {p: self._shelf.get(self._name(p, side)) for p in positions}
        found = {p: address_of(ON_SHELF, content) for p, content in contents.items() if content is not None}
        self._costly |= bool(found)
        return {p: (address, self.rows.files[p]) for p, address in found.items()}

    def _made(self, positions: list[int], side: int) -> dict[tuple[int, int], tuple[str | None, str]]:
        """By (position, side) what is made of images now; the cache gets what took long."""
        if not positions:
            return {}
        read = self.rows.images(np.array(positions, np.int64))
        made = list(self._threads.map(lambda one: data_addresses(one[0], side, self._decoder), read))
        for p, (addresses, costly) in zip(positions, made, strict=True):
            if costly:
                self._costly = True
                for one, address in addresses.items():
                    self._threads.submit(self._shelve, self._name(p, one), address)
        return {
            (p, one): (address, file)
            for p, (addresses, _), (_, file) in zip(positions, made, read, strict=True)
            for one, address in addresses.items()
        }

    def _shelve(self, name: str, address: str | None) -> None:
        head, _, content = (address or "").partition(",")
        if head == f"data:{ON_SHELF};base64":
            self._shelf.put(name, base64.b64decode(content))

    def _name(self, position: int, side: int) -> str:
        return f"{self._mark}-{position}-{side}"
