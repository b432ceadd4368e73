"""Where on this machine the rows of a run lie.

A run does not say so itself, since it may be published: the user's cache knows, or the user.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from curator.errors import CuratorError
from curator.system import cache_folder, read_file, user_path, write_text


def remember(run: Path, dataset: str | None) -> None:
    """Note that a run was made of a folder, or of a file in one, or of neither; nothing is said where that fails."""
    with suppress(OSError):
        note = _note(run)
        if dataset is None:
            note.unlink(missing_ok=True)
            return
        source = user_path(dataset)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_text(note, json.dumps({"folder": os.fspath(source if source.is_dir() else source.parent)}))


def home_of(run: Path, given: Path | None) -> Path:
    """The folder that a run's rows lie in: the one that was given, else the one of its command.

    Raises:
        CuratorError: where neither is there.
    """
    if given is not None:
        if not given.is_dir():
            raise CuratorError(f"--folder {given}: no such folder")
        return given.resolve()
    try:
        folder = Path(json.loads(read_file(_note(run), 2**16))["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CuratorError(f"{run}: where its images lie is not known here; name their folder with --folder") from None
    if not folder.is_dir():
        raise CuratorError(f"{run}: its images lay in {folder}, which is not there; name their folder with --folder")
    return folder.resolve()


def _note(run: Path) -> Path:
    key = hashlib.blake2b(os.fsencode(run.resolve()), digest_size=16).hexdigest()
    return cache_folder("folders") / f"{key}.json"
