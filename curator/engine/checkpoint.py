"""Checkpoints: numbered folders, of which a pointer names the one that counts."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from curator.engine.cache import require_sound
from curator.errors import CuratorError
from curator.system import TEMPORARY, atomic, read_file, remove, sync_folder, write_text

SETTINGS, FINISHED = "settings.json", "finished"  # written by the caller
NUMBER = r"\d{6,}"


class Checkpoints:
    """Numbered folders, and a pointer file `latest` that names the one that counts."""

    def __init__(self, folder: Path):
        self.folder = folder

    def latest(self) -> Path | None:
        """The folder of the checkpoint that counts.

        Raises:
            CuratorError: when the pointer names none.
        """
        pointer = self.folder / "latest"
        try:
            name = read_file(pointer, 1000).decode().strip()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as e:
            raise CuratorError(f"{pointer} cannot be read ({e}); start anew with --no-resume") from e
        if not re.fullmatch(NUMBER, name):  # never a path to somewhere else
            raise CuratorError(
                f"{pointer}: expected the number of a checkpoint, found {name[:50]!r}; start anew with --no-resume"
            )
        return self.folder / name

    def save(self, state: dict[str, Any]) -> None:
        """Write a new checkpoint, then let the pointer name it, then remove the old ones."""
        import torch

        before = self.latest()
        folder = self.folder / f"{int(before.name) + 1 if before else 0:06d}"
        remove(folder)  # left by a run that was killed while it wrote
        folder.mkdir(parents=True)
        with atomic(folder / "state.pt") as temporary, open(temporary, "wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as e:  # torch hides a full disk behind one of its own
                raise e.__context__ if isinstance(e.__context__, OSError) else e from None
        sync_folder(self.folder)
        write_text(self.folder / "latest", folder.name)
        for old in self.folder.iterdir():
            if old != folder and (re.fullmatch(NUMBER, old.name) or TEMPORARY.fullmatch(old.name)):
                remove(old)

    def interrupted(self) -> bool:
        """Whether there is a checkpoint of a run that did not finish."""
        return (self.folder / "latest").exists() and not (self.folder / FINISHED).exists()

    def foreign(self) -> list[str]:
        """Names in the folder that no run of Curator wrote."""
        ours = re.compile(rf"{NUMBER}|latest|{TEMPORARY.pattern}|{SETTINGS}|{FINISHED}")
        names = [p.name for p in self.folder.iterdir()] if self.folder.is_dir() else [""] * self.folder.exists()
        return [name for name in names if not ours.fullmatch(name)]

    def remove(self) -> None:
        """Remove all, the pointer first: should the process be killed now, what is left counts for nothing.

        Where the folder is a link, to another disk say, the link stays.
        """
        with contextlib.suppress(OSError):  # nothing is there, or something that cannot be removed
            remove(self.folder / "latest")
            for path in self.folder.iterdir():
                remove(path)
            if not self.folder.is_symlink():
                self.folder.rmdir()

    def load(self) -> dict[str, Any] | None:
        """The state of the checkpoint that counts, or None.

        Raises:
            CuratorError: when it cannot be read.
        """
        import torch

        folder = self.latest()
        if folder is None:
            return None
        path = folder / "state.pt"
        try:
            require_sound(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as e:  # the machine's, and whatever torch does not like about it
            raise CuratorError(
                f"{path} cannot be read ({type(e).__name__}: {' '.join(str(e).split())[:150]}); "
                "start anew with --no-resume"
            ) from e
        if not isinstance(state, dict):
            raise CuratorError(f"{path} holds {type(state).__name__}; start anew with --no-resume")
        return state
