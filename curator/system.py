"""What the rooms ask of the machine: cores, memory, and files and folders that are whole or not there."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from curator.errors import CuratorError

OURS = ".curator-"  # what unfinished work begins with, beside what it is for
TEMPORARY = re.compile(rf"{re.escape(OURS)}[0-9a-f]{{16}}\.tmp")  # files of atomic()
OWNER, OLD = "owner", "old"  # in a workspace: the file that is locked while it is in use, and what it replaces
CGROUP = Path("/sys/fs/cgroup")  # limits of the container


def cores() -> int:
    """Cores this process may use, within the quota of a container.

    It counts as joblib.cpu_count does, whose import takes .2 s at every start.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # of cgroups 2 and 1
        with suppress(OSError, ValueError):  # the other one's files are not there; no quota is "max" or below 0
            quota, period = (int(word) for name in names for word in (CGROUP / name).read_text().split())
            if quota > 0:
                count = min(count, -(-quota // period))
    return count


def is_main() -> bool:
    """Whether this process, of those of a run, writes files and prints: its rank, as the launcher set it, is 0."""
    return int(os.environ.get("RANK", 0)) == 0


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


def local_processes() -> int:
    """Processes of this run on this machine, as the launcher tells."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def threads_per_process() -> int:
    """This process's share of the cores. accelerate launch sets OMP_NUM_THREADS=1 on a CPU, so it is set by hand."""
    return max(1, cores() // local_processes())


def free_memory() -> float:
    """Bytes of memory that can be had without swapping, within the limit of a container."""
    import psutil

    free = float(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        return free if limit == "max" else min(free, int(limit) - int((CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):
        return free


def cache_folder(kind: str) -> Path:
    """Where results are kept to be used again: label-curator/KIND in the user's cache; it may be removed any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "label-curator" / kind


def memory_is_full(error: BaseException) -> bool:
    """Whether it says, by one of its several names, that the machine has no memory left."""
    full = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return full or isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


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


def sync_tree(folder: Path) -> None:
    """Flush a folder and all that is below it to the disk."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_dir():
            sync_folder(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link, but not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path to write to; on leaving the block it is flushed and takes the path's place, or is removed.

    Its name is random: processes in two containers may have the same number, and write to the same file.
    """
    temporary = path.with_name(f"{OURS}{secrets.token_hex(8)}.tmp")
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


def lock_file(file: IO, *, wait: bool = False) -> bool:
    """Whether an open file is this process's alone now, until it is closed; it must not have been removed meanwhile.

    Raises:
        CuratorError: when the system has no file locks.
    """
    try:
        import fcntl
    except ImportError as e:
        raise CuratorError("Curator needs Linux or macOS (no file locks here); on Windows use WSL") from e
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return os.path.samestat(os.stat(file.name), os.fstat(file.fileno()))
    except OSError:
        return False


@contextmanager
def workspace(target: Path | None = None) -> Iterator[Path]:
    """A new folder for what is to replace the target, beside it; what is left in it at the end of the block goes.

    Without a target it is among the system's temporary files. Whatever a killed process left there before is cleared.
    """
    parent = target.parent if target is not None else Path(tempfile.gettempdir())
    clear_leftovers(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=OURS, dir=parent))
        with suppress(FileNotFoundError):  # another process took it for a leftover before it was locked
            file = open(folder / OWNER, "w", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
            if lock_file(file, wait=True) or (folder / OWNER).exists():  # where nothing can be locked, nobody clears it
                break
            file.close()
    name = target.name if target is not None else ""
    with file:
        file.write(name)
        file.flush()
        try:
            yield folder
        finally:
            _close(folder, name)


def clear_leftovers(parent: Path) -> None:
    """Remove the workspaces of killed processes from a folder; a target that stood and was not replaced comes back."""
    for folder in parent.glob(f"{OURS}*"):
        with suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if not (folder / OWNER).exists():
                folder.rmdir()  # killed before it made the file; what holds anything is somebody else's
                continue
            with open(folder / OWNER, "r+", encoding="utf-8", errors="surrogateescape") as file:
                if lock_file(file):
                    _close(folder, file.read())


def _close(folder: Path, name: str) -> None:
    """Remove a workspace that we have locked, the locked file last; what cannot be removed now, the next start does."""
    old, target = folder / OLD, folder.parent / name
    with suppress(OSError):
        if os.path.lexists(old) and name == Path(name).name and not os.path.lexists(target):
            os.rename(old, target)  # killed between two renames
            sync_folder(target.parent)
        for path in folder.iterdir():
            if path.name != OWNER:
                remove(path)
        remove(folder)


def replace_folder(new: Path, target: Path) -> None:
    """Put a folder that was made in the target's workspace in the target's place, on the disk when this returns.

    What stood there goes with the workspace. The names are exchanged in one step where the system can do that; else
    in two, and who is killed in between leaves the old folder in the workspace, from where clear_leftovers brings it
    back.
    """
    sync_tree(new)
    if not (os.path.lexists(target) and _exchange(new, target)):
        put(new, target, new.with_name(OLD))
    sync_folder(target.parent)


def put(new: Path, target: Path, old: Path) -> None:
    """Put a file, folder or link in the place of another, which is `old` from then on."""
    put_aside(target, old)
    os.rename(new, target)


def put_aside(target: Path, old: Path) -> None:
    """Rename what is there, if anything is."""
    if os.path.lexists(target):
        os.rename(target, old)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file to a name that nothing has, in one step: nothing is ever replaced.

    Raises:
        FileExistsError: there is something of that name.
        OSError: it cannot be renamed.
    """
    RENAME_NOREPLACE, RENAME_EXCL = 1, 4
    code = _rename(source, target, RENAME_EXCL if sys.platform == "darwin" else RENAME_NOREPLACE)
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # a file system that cannot, most often one of a network
        os.link(source, target, follow_symlinks=False)
        os.unlink(source)
    elif code:
        raise OSError(code, os.strerror(code), str(target))


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one step; whether the system and the file system can."""
    RENAME_SWAP = RENAME_EXCHANGE = 2
    return _rename(a, b, RENAME_SWAP if sys.platform == "darwin" else RENAME_EXCHANGE) == 0


def _rename(a: Path, b: Path, how: int) -> int:
    """Rename with flags of the system's: 0, or the error's number."""
    import ctypes

    libc, one, other = ctypes.CDLL(None, use_errno=True), os.fsencode(a), os.fsencode(b)
    if sys.platform == "darwin":
        done = libc.renamex_np(one, other, how)
    elif hasattr(libc, "renameat2"):
        AT_FDCWD = -100
        done = libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, how)
    else:
        return errno.ENOSYS
    return ctypes.get_errno() if done else 0
