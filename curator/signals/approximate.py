"""Near rows among millions: cells of the space by faiss, so that a row is compared with those of a few cells only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from curator.signals.neighbours import principal_axes

AXES = 64  # principal ones along which rows are compared first
CELLS = 4  # times the square root of the rows
LOOKED = 8  # cells that a row is compared with
BLOCK = 2**16  # rows held at once
FEW = 200_000  # rows that say where the axes are


def close_pairs(features: Tensor, least: float, count: int = 10) -> np.ndarray:
    """Pairs (m, 2) of positions i < j whose features (n, d), less their mean, have a cosine of at least that.

    Of a row its `count` nearest ones are looked at, and of these those that lie in other cells may be missed:
    bench/lookalikes.py measures how many are found. Beside the features it takes 4 * AXES bytes a row, twice.
    """
    import faiss

    n = len(features)
    short, mean = _short(features)
    cells = max(1, int(CELLS * n**0.5))
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(short.shape[1]), short.shape[1], cells)
    index.cp.min_points_per_centroid, index.cp.seed = 1, 0
    sample = np.random.default_rng(0).choice(n, min(n, 40 * cells), replace=False)
    index.train(short[np.sort(sample)])
    index.add(short)
    index.nprobe = LOOKED
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, n, BLOCK):
        apart, near = index.search(short[start : start + BLOCK], min(n, count + 1))
        # Unit vectors with cosine c are sqrt(2 - 2c) apart, and no farther along a few axes.
        i, j = np.nonzero((near >= 0) & (apart <= 2 - 2 * least + 1e-5))
        one, other = i + start, near[i, j]
        pairs = np.stack([np.minimum(one, other), np.maximum(one, other)], 1)[one != other]
        found.append(_close(features, mean, np.unique(pairs, axis=0), least))
    return np.unique(np.concatenate(found), axis=0)


def _short(features: Tensor) -> tuple[np.ndarray, Tensor]:
    """Unit rows (n, a) float32 along the principal axes, and the mean (d,) that was taken off before."""
    n, d = features.shape
    mean = torch.stack([part.float().sum(0) for part in features.split(BLOCK)]).sum(0) / n
    step = max(1, n // FEW)
    some = F.normalize(features[::step].float() - mean, dim=1)
    axes = principal_axes(some, min(d, AXES))
    out = np.empty((n, axes.shape[1]), np.float32)
    for start in range(0, n, BLOCK):
        out[start : start + BLOCK] = F.normalize(features[start : start + BLOCK].float() - mean, dim=1) @ axes
    return out, mean


def _close(features: Tensor, mean: Tensor, pairs: np.ndarray, least: float) -> np.ndarray:
    """Those of some pairs that are as near in all features."""
    kept = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(pairs), BLOCK):
        part = pairs[start : start + BLOCK]
        a, b = (F.normalize(features[part[:, c]].float() - mean, dim=1) for c in (0, 1))
        kept.append(part[((a * b).sum(1) >= least).numpy()])
    return np.concatenate(kept)
