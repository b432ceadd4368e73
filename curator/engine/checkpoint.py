"""Checkpoints and files that are whole or not there: written beside, flushed to the disk, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curator.evidence import RunFailed


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
    temporary = path.with_name(f".{path.name}.tmp")
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


class Checkpoints:
    """Numbered folders, and a pointer file `latest` that names the one that counts."""

    def __init__(self, folder: Path):
        self.folder = folder

    def latest(self) -> Path | None:
        """The folder of the checkpoint that counts."""
        pointer = self.folder / "latest"
        return self.folder / pointer.read_text().strip() if pointer.exists() else None

    def save(self, state: dict[str, Any]) -> None:
        """Write a new checkpoint, then let the pointer name it, then remove the old ones."""
        import torch

        before = self.latest()
        folder = self.folder / f"{int(before.name) + 1 if before else 0:06d}"
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed while it wrote
        folder.mkdir(parents=True)
        with atomic(folder / "state.pt") as temporary, open(temporary, "wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as e:  # torch hides a full disk behind one of its own
                raise e.__context__ if isinstance(e.__context__, OSError) else e from None
        sync_folder(self.folder)
        write_text(self.folder / "latest", folder.name)
        for old in self.folder.iterdir():
            if old.is_dir() and old != folder:
                shutil.rmtree(old)

    def load(self) -> dict[str, Any] | None:
        """The state of the checkpoint that counts, or None.

        Raises:
            RunFailed: when it cannot be read.
        """
        import torch

        folder = self.latest()
        if folder is None:
            return None
        try:
            return torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        except Exception as e:
            raise RunFailed(
                f"{folder}/state.pt cannot be read ({type(e).__name__}); start anew with --no-resume"
            ) from e
