"""CIFAR-10N and CIFAR-100N: human labels (Wei et al. 2022).

They are read without running code and aligned by their own truth.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from curator.errors import CuratorError
from curator.sources.network import fetch
from curator.system import atomic, cache_folder

# label-noise setting -> key in the file
LABEL_SETS = {
    "cifar10n": {
        "worst": "worse_label",
        "aggre": "aggre_label",
        "rand1": "random_label1",
        "rand2": "random_label2",
        "rand3": "random_label3",
    },
    "cifar100n": {"noisy": "noisy_label"},
}
FILES = {
    "cifar10n": ("CIFAR-10_human.pt", "96644db5574813cae939af5f7f2a0aec"),
    "cifar100n": ("CIFAR-100_human.pt", "a67b45c1d7992051865b5c755bd68bb1"),
}
URL = "https://raw.githubusercontent.com/UCSC-REAL/cifar-10-100n/main/data/{}"
LARGEST = 64 * 2**20  # bytes of such a file; they have 2
BLOCKS = 5  # CIFAR's five training batches


def find_file(name: str, data_dir: Path | None) -> Path:
    """The label file of cifar10n or cifar100n: anywhere below data_dir, or downloaded once.

    Raises:
        CuratorError: when it is not below data_dir or cannot be downloaded.
    """
    file, md5 = FILES[name]
    if data_dir is not None:
        found = sorted(path for path in data_dir.rglob(file) if path.is_file())
        if not found:
            raise CuratorError(f"--data-dir {data_dir}: expected the label file {file} in it or below, found none")
        return found[0]
    path = cache_folder(file)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        url = URL.format(file)
        try:
            content = fetch(url, LARGEST)
        except OSError as e:
            raise CuratorError(
                f"could not download {url} ({e}); download it yourself and name its folder with --data-dir"
            ) from e
        if hashlib.md5(content).hexdigest() != md5:
            raise CuratorError(
                f"{url} is not the file that was published (md5 {md5}); get it elsewhere and use --data-dir"
            )
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    return path


def read_labels(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays by name. It is a pickle: only numpy arrays are let through, nothing in it is run.

    Raises:
        CuratorError: when it holds anything else.
    """
    import codecs

    import torch

    if path.stat().st_size > LARGEST:
        raise CuratorError(f"{path}: expected a CIFAR-N label file, of 2 MB; found {path.stat().st_size:,} bytes")
    from numpy._core.multiarray import _reconstruct  # type: ignore[attr-defined]

    allowed: list[Any] = [
        (_reconstruct, "numpy.core.multiarray._reconstruct"),  # as numpy 1 wrote it
        _reconstruct,
        np.ndarray,
        np.dtype,
        np.dtypes.Int64DType,
        codecs.encode,
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        reason = next(
            (line for line in str(e).splitlines() if "Unsupported" in line or "GLOBAL" in line), type(e).__name__
        )
        raise CuratorError(
            f"{path}: expected a CIFAR-N label file of numpy arrays; it was not opened ({reason.strip()[:120]})"
        ) from e
    found = content if isinstance(content, dict) else {}
    arrays = {str(k): np.asarray(v) for k, v in found.items() if isinstance(v, np.ndarray) and v.ndim == 1}
    if "clean_label" not in arrays:
        raise CuratorError(
            f"{path}: expected a CIFAR-N label file with an array 'clean_label'; found {_describe(content)}"
        )
    return arrays


def _describe(content: object) -> str:
    return f"the keys {', '.join(map(str, content))[:120]}" if isinstance(content, dict) else type(content).__name__


def align(content: dict[str, np.ndarray], key: str, truth: np.ndarray, classes: int, path: Path) -> np.ndarray:
    """The labels (n,) int64 under `key`, in the dataset's row order.

    The file is in the order of CIFAR's five batches, a copy of the dataset may hold these in another order: the file's
    clean labels must equal the dataset's row by row under one order of the batches.

    Raises:
        CuratorError: when the arrays do not fit, or no order of the batches does.
    """
    clean, noisy = content["clean_label"], content.get(key)
    if noisy is None:
        raise CuratorError(f"{path}: expected an array {key!r}, found {', '.join(content)}")
    for name, array in (("clean_label", clean), (key, noisy)):
        if array.shape != truth.shape or array.dtype.kind != "i" or array.min() < 0 or array.max() >= classes:
            raise CuratorError(
                f"{path}: expected {name!r} to hold {len(truth)} integers from 0 to {classes - 1}, "
                f"found {array.dtype} of shape {array.shape}"
                + (f" from {array.min()} to {array.max()}" if array.size else "")
            )
    if np.array_equal(clean, truth):
        return noisy.astype(np.int64)
    if len(truth) % BLOCKS == 0:
        blocks = np.arange(len(truth)).reshape(BLOCKS, -1)
        for order in itertools.permutations(range(BLOCKS)):
            index = blocks[list(order)].reshape(-1)
            if np.array_equal(clean[index], truth):
                return noisy[index].astype(np.int64)
    wrong = int((clean != truth).sum())
    raise CuratorError(
        f"{path}: its clean_label differs from the dataset's labels in {wrong} rows and under every order of the five "
        "batches; use a copy of CIFAR in the order of its original files"
    )
