"""Which files are read for a stranger's dataset or run: regular ones that really lie inside its own folder."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from curator.errors import CuratorError
from curator.system import open_regular

LARGEST = 2**31 - 1  # bytes of a file; no Arrow value is larger
MACHINE = (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOMEM)  # the machine's faults, not the file's
OUTSIDE = "its file lies outside the dataset's folder: put it there, or name its folder with --data-dir"


class Refused(CuratorError):
    """A file that is not read; the text says why, and nothing of where it lies."""


def real_folders(folders: Iterable[str | Path]) -> tuple[str, ...]:
    """Folders as read_inside takes them."""
    return tuple(dict.fromkeys(os.path.realpath(folder) for folder in folders))


def whole_of(folder: str | Path) -> str:
    """A dataset's own folder: of a snapshot in the Hub's cache, which holds links, that of its repository there."""
    real = Path(os.path.realpath(folder))
    for above in (real, *real.parents):
        repository = above.parent.parent
        if above.parent.name == "snapshots" and re.match(r"(datasets|models|spaces)--", repository.name):
            return str(repository)
    return str(real)


def beside(file: str | Path) -> list[str]:
    """The folder of a single file of rows, unless it is the user's home or holds it: that is no dataset's folder."""
    folder = os.path.dirname(os.path.realpath(file))
    return [] if _within(os.path.realpath(os.path.expanduser("~")), folder) else [folder]


def read_inside(path: str, folders: tuple[str, ...], most: float = LARGEST) -> bytes:
    """The content of a file that a dataset names.

    Args:
        path: absolute, or relative to the first of the folders; never an address.
        folders: real paths; the file lies in one of them once every link is followed.
        most: bytes of the file.

    Raises:
        Refused: for any other file, and one that cannot be read.
        OSError: of MACHINE.
    """
    if "://" in path:
        raise Refused(
            "its file lies in an archive, which is not read: unpack it"
            if "::" in path
            else "its file is an address, which is not fetched"
        )
    if not folders:
        raise Refused(OUTSIDE)
    try:
        real = os.path.realpath(os.path.join(folders[0], path))
        if not any(_within(real, folder) for folder in folders):
            raise Refused(OUTSIDE)
        if not stat.S_ISREG(os.stat(real).st_mode):
            raise Refused("its path is that of no regular file")
        with open_regular(Path(real), follow=False) as file:  # it may have been replaced meanwhile
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise Refused(f"its file has {size / 2**20:,.0f} MiB, more than {most / 2**20:,.0f}")
            return file.read(size)
    except Refused:
        raise
    except OSError as e:
        if e.errno in MACHINE:
            raise
        raise Refused(f"its file cannot be read ({e.strerror or e})") from e
    except ValueError as e:  # a zero in the path
        raise Refused(f"its file cannot be read ({e})") from e


def lies_inside(path: str | Path, folders: tuple[str, ...]) -> bool:
    """Whether a path, once every link is followed, lies in one of the folders (real paths)."""
    real = os.path.realpath(path)
    return any(_within(real, folder) for folder in folders)


def own_files(folder: Path, *names: str) -> list[Path]:
    """The files of these names in a run's folder, and those below where a name is a folder's; missing ones are none.

    Raises:
        CuratorError: for a link that leads out of the run, and for what is no regular file: neither is published.
    """
    own, found = (whole_of(folder),), []
    for name in names:
        for path in (folder / name, *sorted((folder / name).rglob("*"))):
            if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink()):
                continue
            if not (lies_inside(path, own) and path.is_file()):
                raise CuratorError(
                    f"{path}: expected a file of the run, found a link that leads out of it, or no regular file, "
                    "which is not published; remove it, or put the file itself there"
                )
            found.append(path)
    return found


def source_file(path: str, folders: tuple[str, ...]) -> str:
    """What a file that a dataset names is called in a result: enough to find it, and nothing of where the folder lies.

    Args:
        path: as read_inside takes it, or an address.
        folders: real paths, as read_inside takes them.

    Returns:
        The path below the folder it lies in, with forward slashes (`cat/003.png`; of a snapshot of the Hub, below
        that). One that is relative already stays, unless it leads upwards; of any other file the name alone stays. An
        address of the Web stays as it is.
    """
    if re.match(r"(https?|hf)://", path.rpartition("::")[2]):
        return path
    if "://" in path or "\0" in path:
        return os.path.basename(path.partition("::")[0])  # of a file in an archive
    if os.path.isabs(path):
        for way in (path, os.path.realpath(path)):  # the names on its way are its own, not those that links lead to
            folder, name = os.path.split(way)
            below = _below(folder, folders)
            if below is not None:
                return f"{below}{name}"
        return os.path.basename(path)
    parts = [part for part in path.split(os.sep) if part not in ("", ".")]
    return os.path.basename(path) if ".." in parts or not parts else "/".join(parts)


@lru_cache(2**12)
def _below(folder: str, folders: tuple[str, ...]) -> str | None:
    """Where in one of the folders (real paths) an absolute one lies, as `cat/2021/`; None where in none."""
    parts = Path(os.path.normpath(folder)).parts
    for end in range(1, len(parts) + 1):
        if os.path.realpath(os.path.join(*parts[:end])) in folders:
            inner = parts[end:]
            inner = inner[2:] if inner[:1] == ("snapshots",) else inner
            return "".join(f"{part}/" for part in inner)
    return None


def _within(path: str, folder: str) -> bool:
    """Whether a real path is a folder or lies below it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
