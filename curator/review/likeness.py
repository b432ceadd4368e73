"""Rows in the space of their features: fewer numbers for each, and which rows are like some others."""

from __future__ import annotations

import numpy as np

SEEN = 10_000  # rows that the axes are made from, and that are held as float32 at once


def reduced(features: np.ndarray, positions: np.ndarray, most: int = 50) -> np.ndarray:
    """Features (n, d) at positions (m,) on their first principal axes: (m, at most `most`) float32.

    Every row counts by its direction alone. The axes are those of a fixed sample where there are many rows.
    """
    from sklearn.decomposition import PCA

    seen = positions
    if len(seen) > SEEN:
        seen = np.sort(np.random.default_rng(0).choice(seen, SEEN, replace=False))
    axes = min(most, len(seen), features.shape[1])
    pca = PCA(axes, svd_solver="auto", random_state=0).fit(directions(features, seen))
    out = np.empty((len(positions), axes), np.float32)
    for start in range(0, len(positions), SEEN):
        here = slice(start, start + SEEN)
        out[here] = pca.transform(directions(features, positions[here]))
    return out


def directions(features: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Features (n, d) at positions (m,), of length 1: (m, d) float32; a row of zeros stays one."""
    x = np.asarray(features[positions], np.float32)
    x[~np.isfinite(x)] = 0
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def likeness(features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Cosine (n,) float32 of every row's features (n, d) with the vector (d,)."""
    wanted = np.asarray(wanted, np.float32)
    wanted = wanted / max(float(np.linalg.norm(wanted)), 1e-12)
    starts = range(0, len(features), SEEN)
    parts = [directions(features, np.arange(s, min(s + SEEN, len(features)))) @ wanted for s in starts]
    return np.concatenate(parts)
