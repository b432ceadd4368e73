"""Work of one run that other runs on the same inputs need not do again, in the user's cache."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curator.engine.processes import Processes
from curator.system import atomic, cache_folder


class Kept:
    """Tensors by kind and key; nothing is kept or found in a run that has no identity."""

    def __init__(
        self,
        processes: Processes,
        identity: tuple[Any, ...] | None,  # all that tensors depend on besides their key: inputs, net, seed, machine
        warn: Callable[[str], None],
    ):
        self.processes, self.identity, self.warn = processes, identity, warn

    def load(self, kind: str, key: dict[str, Any]) -> dict[str, Tensor] | None:
        """Tensors that another run on these inputs has kept under the key, or None; the same in all processes."""
        path, found = self._place(kind, key), None
        if path is not None and self.processes.main and path.exists():
            # What is cut short, or of another program, is none.
            with (
                suppress(OSError, ValueError, zipfile.BadZipFile, zlib.error),
                np.load(path, allow_pickle=False) as file,
            ):
                found = {name: torch.from_numpy(file[name]) for name in file.files}
        return self.processes.of_main(found)  # the others may have another cache, or look a moment later

    def save(self, kind: str, key: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Keep tensors for other runs on these inputs."""
        path = self._place(kind, key)
        if path is None or not self.processes.main:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as staged, open(staged, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **{name: t.numpy() for name, t in tensors.items()})
        except OSError as e:
            self.warn(f"{path.parent} cannot be written ({e.strerror}): the next run computes this anew")

    def _place(self, kind: str, key: dict[str, Any]) -> Path | None:
        if self.identity is None:
            return None
        digest = hashlib.blake2b(repr(self.identity).encode())
        digest.update(repr(sorted(key.items())).encode())
        return cache_folder(kind) / f"{digest.hexdigest()[:32]}.npz"
