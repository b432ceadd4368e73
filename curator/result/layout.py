"""The output folder: its names, its lock, and how files come into it, all or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curator.errors import CuratorError
from curator.result.facts import FACTS
from curator.result.read import DUPLICATES, MAP, TRUSTED
from curator.result.suspects import LOOK_ALIKES, PICTURES
from curator.system import lock_file, put, put_aside, remove, sync_folder, sync_tree

FEATURES = "features.npy"  # of runs that trained
QUARANTINE = "quarantine.parquet"  # split, row, reason
PENDING = ".pending"  # the identity of a finished run, while its command still has to clean up or to push it
CONTACT_SHEET = "contact_sheet.png"  # in report
REPORT, ALONE = "report.md", "report.html"  # in report
OPTIONAL = (
    FEATURES,
    TRUSTED,
    QUARANTINE,
    DUPLICATES,
    LOOK_ALIKES,
    PICTURES,
    MAP,
    PENDING,
)  # files that not every run writes
STAGING = ".staging"  # results that are being written
READY = ".ready"  # results that are whole, on their way to their places
REPLACED = ".replaced"  # those that stood there
GONE = ".gone"  # in READY: which of OPTIONAL these results do not have


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the output folder, creating it if need be; a folder that stays empty is removed again.

    Raises:
        CuratorError: when another run holds it, or the system has no file locks.
    """
    path = folder / ".lock"
    try:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115
    except OSError as e:
        raise CuratorError(f"--output {folder}: it cannot be written ({e.strerror}); choose another folder") from e
    with file:
        if not lock_file(file):
            raise CuratorError(f"--output {folder}: another run is writing there; wait for it or choose another folder")
        try:
            yield
        except BaseException:
            if missing and [p.name for p in folder.iterdir()] == [".lock"]:
                path.unlink()  # while we hold it
                with contextlib.suppress(OSError):  # somebody else may use a folder above by now
                    for empty in missing:
                        empty.rmdir()
            raise


def content_hash(folder: Path, *names: str) -> str:
    """Hash of the files below some folders of a folder, each with its path: one that changes its class counts."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(p for name in names for p in (folder / name).rglob("*") if p.is_file()):
        place = os.fsencode(path.relative_to(folder).as_posix())
        digest.update(place + b"\0%d\0" % path.stat().st_size)
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def no_space(folder: Path, detail: str = "the disk is full") -> CuratorError:
    """The one line for a full disk."""
    return CuratorError(
        f"no space left for --output {folder}: {detail}; free some or choose another folder, "
        "then run the same command again"
    )


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder to write results to; on leaving the block they replace the old ones, all or none of them.

    A run killed in between leaves the old results as they are, and STAGING, which tells that what lies beside it is
    ours; or READY, and then settle() goes on.
    """
    settle(folder)
    staging = folder / STAGING
    remove(staging)
    staging.mkdir()
    try:
        yield staging
        write_json(staging / GONE, [name for name in OPTIONAL if not (staging / name).exists()])
        sync_tree(staging)
        os.rename(staging, folder / READY)
    finally:
        with contextlib.suppress(OSError):
            remove(staging)
    settle(folder)


def settle(folder: Path) -> None:
    """Put results that are whole in their places, the FACTS file last; a run that was killed may have begun it.

    The old results are put aside before, and go when the new ones stand.
    """
    ready, replaced = folder / READY, folder / REPLACED
    if (ready / FACTS).exists():
        gone = json.loads((ready / GONE).read_text(encoding="utf-8"))
        replaced.mkdir(exist_ok=True)
        sync_folder(folder)
        for name in (FACTS, *(name for name in OPTIONAL if name in gone)):
            put_aside(folder / name, replaced / name)
        for path in sorted(ready.iterdir(), key=lambda path: path.name == FACTS):
            if path.name == FACTS:
                sync_folder(folder)
            if path.name != GONE:
                put(path, folder / path.name, replaced / path.name)
        sync_folder(folder)
    for left in (ready, replaced):
        remove(left)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON."""
    path.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
