"""Pictures that take long to make, as files in the user's cache, where those longest unused make room."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path
from typing import IO

from curator.engine.cache import keep
from curator.result.read import Rows
from curator.system import open_regular

MOST = 1 << 30  # bytes of all pictures
ONE = 4 << 20  # bytes of one, at most
LEFT = 0.8  # share of MOST that is left when some have gone
MADE_AS = "1"  # by which pictures of another version of this program are told apart
JPEG = b"\xff\xd8\xff", b"\xff\xd9"  # how one begins and ends


class Shelf:
    """JPEG files by name; one that is cut or none counts as not there. What cannot be written is not kept."""

    def __init__(self, folder: Path, most: int = MOST):
        self.folder, self.most = folder, most
        self._new, self._lock = most, threading.Lock()  # bytes since the folder was looked at, which nobody has yet

    def get(self, name: str) -> bytes | None:
        """A picture; it counts as used now."""
        path = self.folder / name
        with contextlib.suppress(OSError), open_regular(path, follow=False) as file:
            content = file.read(ONE + 1)
            if len(content) <= ONE and content.startswith(JPEG[0]) and content.endswith(JPEG[1]):
                with contextlib.suppress(OSError):  # a cache that is read only
                    os.utime(file.fileno())
                return content
        return None

    def put(self, name: str, content: bytes) -> None:
        """Keep a picture; the longest unused ones go where all are more than may be."""
        if len(content) > min(ONE, self.most):
            return
        with contextlib.suppress(OSError):
            keep(self.folder / name, lambda file: _write(file, content))
            with self._lock:
                self._new += len(content)
                if self._new > self.most // 16:  # others may have written, too
                    self._new = 0
                    self._make_room()

    def _make_room(self) -> None:
        files = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(OSError):  # another server removes the same ones
                found = entry.stat(follow_symlinks=False)
                files.append((found.st_mtime_ns, found.st_size, entry.path))
        size = sum(of for _, of, _ in files)
        if size <= self.most:
            return
        for _, of, path in sorted(files):
            if size <= LEFT * self.most:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                size -= of


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)


def mark_of(rows: Rows, how: str) -> str:
    """What the pictures of a run are named by: its rows and its files as they lie there, and how pictures are made.

    Files are not read, which would take longer than to make the pictures: those of other content have another time of
    change, size, number or place.
    """
    found = [(str(path.resolve()), path.stat()) for path in rows.paths]
    files = [(place, of.st_ino, of.st_size, of.st_mtime_ns) for place, of in found]
    return hashlib.blake2b(repr((MADE_AS, how, rows.verdict, files)).encode(), digest_size=16).hexdigest()
