"""Arrays in files that may be broken: read whole, of the expected shape and type, or not at all; never unpickled."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from curator.system import atomic, open_regular

Shape = tuple[int | None, ...]  # None: of any length but 0
HEADER = re.compile(rb"\{'descr': '([^']{1,8})', 'fortran_order': False, 'shape': \(([\d, ]{0,200})\), \} *\n")


class Unfit(ValueError):
    """What a file holds is not what is looked for."""


def read_npy(path: Path, shape: Shape, dtype: type, *, mapped: bool = False) -> np.ndarray | None:
    """The array of a .npy file; None where there is none of this shape and type. No more is read than the file has.

    mapped: read from the disk where it is touched; links are followed.
    """
    try:
        with open_regular(path, follow=mapped) as file:
            found, count = _header(file, shape, dtype)
            if os.fstat(file.fileno()).st_size != file.tell() + count * np.dtype(dtype).itemsize:
                raise Unfit("it is cut short, or longer than its header says")
            if mapped:
                return np.memmap(file, dtype, "r", file.tell(), found)  # type: ignore[call-overload]
            return np.fromfile(file, dtype, count).reshape(found)
    except (OSError, ValueError):
        return None


def read_npz(path: Path, like: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Arrays of a .npz file by their names; None where one is not there, whole, in the shape and type of its like."""
    out: dict[str, np.ndarray] = {}
    try:
        with open_regular(path, follow=False) as file, zipfile.ZipFile(file) as archive:
            for name, wanted in like.items():
                info = archive.getinfo(f"{name}.npy")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # of others no part is read
                    raise Unfit("it is packed in another way")
                with archive.open(info) as member:
                    _header(member, wanted.shape, wanted.dtype.type)
                    data = bytearray(member.read(wanted.nbytes))
                    if member.read(1):  # at the end its checksum is looked at
                        raise Unfit("it is longer than its header says")
                out[name] = np.frombuffer(data, wanted.dtype).reshape(wanted.shape)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    return out


def _header(file: IO[bytes], shape: Shape, dtype: type) -> tuple[tuple[int, ...], int]:
    """Shape and count of the numbers that follow, as np.save writes them; they must be those that are looked for."""
    start = file.read(10)
    if start[:8] != b"\x93NUMPY\x01\x00" or len(start) < 10:
        raise Unfit("it is no array")
    header = HEADER.fullmatch(file.read(int.from_bytes(start[8:], "little")))
    if header is None or header[1].decode() != np.dtype(dtype).str:
        raise Unfit("it is an array of another type")
    found = tuple(int(number) for number in header[2].split(b",") if number.strip())
    if len(found) != len(shape) or any(n != (want or n) or n < 1 for n, want in zip(found, shape, strict=True)):
        raise Unfit(f"its shape is {found}")
    return found, int(np.prod(found, dtype=object))


def keep(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file of a cache, whole or not at all, over whatever lies in its place.

    Raises:
        OSError: where the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        with open(temporary, "wb") as file:
            write(file)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def require_sound(path: Path) -> None:
    """Look at a file that torch.save wrote before torch does: it believes sizes, and reads past damage.

    Raises:
        OSError: where it cannot be read.
        Unfit: for what is no whole file of torch.save.
    """
    with open_regular(path, follow=False) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                if any(e.compress_type != zipfile.ZIP_STORED or e.file_size > size for e in entries):
                    raise Unfit("it says that it holds more than it does")
                broken = archive.testzip()
        except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as e:
            raise Unfit("it is cut short, or was written by another program") from e
    if broken is not None:
        raise Unfit("it is damaged")
