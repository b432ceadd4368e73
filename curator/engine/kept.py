"""Work of one run that other runs on the same inputs need not do again, in the user's cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curator.engine.cache import keep, read_npz
from curator.engine.processes import Processes
from curator.system import cache_folder, is_main
from curator.text import Log


class Kept:
    """Tensors by kind and key; nothing is kept or found in a run that has no identity."""

    def __init__(
        self,
        processes: Processes,
        identity: tuple[Any, ...] | None,  # all that tensors depend on besides their key: inputs, net, seed, machine
        warn: Log,
    ):
        self.processes, self.identity, self.warn = processes, identity, warn

    def load(self, kind: str, key: dict[str, Any], like: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors that another run on these inputs has kept under the key, or None; the same in all processes.

        like: tensors of their names, shapes and types; what is broken, or not finite, is none.
        """
        path, found = self._place(kind, key), None
        if path is not None and is_main():
            arrays = read_npz(path, {name: tensor.numpy() for name, tensor in like.items()})
            if arrays is not None and all(np.isfinite(array).all() for array in arrays.values()):
                found = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return self.processes.of_main(found)  # the others may have another cache, or look a moment later

    def save(self, kind: str, key: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Keep tensors for other runs on these inputs."""
        path = self._place(kind, key)
        if path is None or not is_main():
            return
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        try:
            keep(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
        except OSError as e:
            self.warn(f"{path.parent} cannot be written ({e.strerror}): the next run will compute this again")

    def _place(self, kind: str, key: dict[str, Any]) -> Path | None:
        if self.identity is None:
            return None
        digest = hashlib.blake2b(repr(self.identity).encode())
        digest.update(repr(sorted(key.items())).encode())
        return cache_folder(kind) / f"{digest.hexdigest()[:32]}.npz"
