"""What the rooms ask of the machine: cores, memory, and files that are whole or not there."""

from __future__ import annotations

import difflib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from curator.errors import CuratorError


def as_cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return "'" + text if text[:1] in ("=", "+", "@", "\t", "\r") or (text[:1] == "-" and len(text) > 1) else text


def from_cell(text: str) -> str:
    """What as_cell was given."""
    return text[1:] if text[:1] == "'" and as_cell(text[1:]) == text else text


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rank() -> int:
    """This process's rank as the launcher set it, before Accelerate is imported."""
    return int(os.environ.get("RANK", 0))


def is_path(name: str) -> bool:
    """Whether the name of a dataset means a file or folder."""
    try:
        return name.startswith((".", "/", "~")) or Path(name).exists()
    except (OSError, ValueError):  # too long, not to be read, with a zero in it: a name of nothing
        return False


def user_path(text: str) -> Path:
    """The path, absolute, with ~ as the user's home.

    Raises:
        CuratorError: for what can be no path, or one that may not be looked at.
    """
    try:
        path = Path(text).expanduser().resolve()
        path.exists()
        return path
    except (OSError, RuntimeError, ValueError) as e:
        raise CuratorError(f"{text[:200]!r}: expected a path that can be read; {e}") from e


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of an error, "; did you mean 'x'?", for the nearest known word; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff)
    return f"; did you mean {near[0].replace('_', '-')!r}?" if near else ""


def local_processes() -> int:
    """Processes of this run on this machine, as the launcher tells."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def threads_per_process() -> int:
    """This process's share of the cores. accelerate launch sets OMP_NUM_THREADS=1 on a CPU, so it is set by hand."""
    return max(1, cores() // local_processes())


def duration(seconds: float) -> str:
    """90 -> '1 min 30 s'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def free_memory() -> float:
    """Bytes of memory that can be had without swapping, within the limit of a container."""
    import psutil

    free = float(psutil.virtual_memory().available)
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        return free if limit == "max" else min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return free


def cache_folder(kind: str) -> Path:
    """Where results are kept to be used again: label-curator/KIND in the user's cache; it may be removed any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "label-curator" / kind


def open_regular(path: Path, follow: bool = True) -> IO[bytes]:
    """Open a file that is one: no folder, pipe or device, and no link but where they are followed.

    Raises:
        OSError: for what is none, or cannot be opened.
    """
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)), "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return file


def read_file(path: Path, most: int) -> bytes:
    """What a file holds, of at most so many bytes.

    Raises:
        OSError: for what is no file, is larger, or cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most / 2**20:,.0f} MiB", str(path))
    return content


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path to write to; on leaving the block it is flushed and takes the path's place, or is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
