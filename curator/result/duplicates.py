"""Images that are there more than once with different labels: at least one of these is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional as F

from curator.signals.approximate import close_pairs
from curator.signals.neighbours import principal_axes

# Cosine of two rows' features from which they are near duplicates: so were all 24 pairs of CIFAR-10 looked at.
ALIKE = 0.92
NEAR_MOST = 100_000  # rows of which all pairs are compared; of more, those that faiss finds near
NEAR_GROUP = 20  # rows of a group of near ones at most
BLOCK = 2**22  # numbers held at once
AXES = 32  # to begin with
COMPARED = 0.01  # share of the pairs left by the axes above which more axes are quicker than to compare them


@dataclass(frozen=True)
class Duplicates:
    """m rows in groups of alike ones that do not all have the same label; each group is of one kind."""

    positions: np.ndarray  # (m,) int64
    groups: np.ndarray  # (m,) int64, from 0
    near: np.ndarray  # (m,) bool: by features, else the same content

    def write(self, path: Path, rows: np.ndarray, files: list[str]) -> None:
        """Write them with the rows' ids (n,), and their own source files (m) where there are any."""
        columns = {"row": rows[self.positions], "group": self.groups, "kind": np.where(self.near, "near", "exact")}
        pq.write_table(pa.table({**columns, **({"file": files} if any(files) else {})}), path)


def conflicting_duplicates(
    labels: np.ndarray,  # (n,) int64
    hashes: np.ndarray | None,  # (n,) uint64, of the content
    features: Tensor | None,  # (n, d) float32, of a backbone that has not seen the labels
) -> Duplicates:
    """Groups with the same content, or with nearly the same features where there are any, whose labels differ."""
    return conflicting(labels, *alike_groups(len(labels), hashes, features))


def alike_groups(n: int, hashes: np.ndarray | None, features: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """For n rows numbers (n,) of their content, and of the group of those with the same or nearly the same features."""
    content = np.arange(n) if hashes is None else np.unique(hashes, return_inverse=True)[1]
    groups, pairs = content, near_pairs(features) if features is not None else None
    if pairs is not None:
        order = np.argsort(content, kind="stable")
        same = content[order[1:]] == content[order[:-1]]
        alike = linked(n, np.concatenate([pairs, np.stack([order[:-1][same], order[1:][same]], 1)]))
        size = np.bincount(alike)[alike]  # a long chain of rows, each near the next, is no image that is there twice
        groups = np.unique(np.where(size <= NEAR_GROUP, alike, n + content), return_inverse=True)[1]
    return content, groups


def conflicting(labels: np.ndarray, content: np.ndarray, groups: np.ndarray) -> Duplicates:
    """Of groups (n,) of alike rows those whose labels (n,) differ; they are near ones where their content (n,) does."""
    several = kinds_of(groups, labels) > 1
    order = np.flatnonzero(several[groups])
    order = order[np.argsort(groups[order], kind="stable")]
    near = kinds_of(groups, content)[groups[order]] > 1
    _, number = np.unique(groups[order], return_inverse=True)
    return Duplicates(order, number, near)


def kinds_of(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many different values (n,) >= 0 each group has."""
    base = int(values.max()) + 1
    return np.bincount(np.unique(groups.astype(np.int64) * base + values) // base)


def near_pairs(features: Tensor, least: float = ALIKE) -> np.ndarray | None:
    """Pairs (m, 2) of positions i < j whose features (n, d), less their mean, have a cosine of at least that.

    Two unit vectors with cosine c are sqrt(2 - 2c) apart, and no farther along a few axes (the principal ones), which
    rules out nearly all pairs; the others are compared in full. Where too many are left, more axes are taken. None
    where most rows are near most others: such features do not tell images apart.
    """
    if len(features) > NEAR_MOST:
        found = close_pairs(features, least)
        return None if len(found) > NEAR_GROUP / 4 * len(features) else found  # of a row, at most ten are looked at
    x = F.normalize(features.float() - features.float().mean(0), dim=1)
    n, d = x.shape
    x = x @ principal_axes(x, d).flip(1)  # turned so that the first of d numbers are the rows along the principal axes
    count = min(d, AXES)
    one, other = _factors(x[:, :count])
    parts, total, rows = [np.zeros((0, 2), np.int64)], 0, max(1, BLOCK // n)
    for start in range(0, n, rows):
        while True:
            left = one[start : start + rows] @ other[start:].T <= 2 - 2 * least + 1e-5
            if count == d or int(left.count_nonzero()) <= COMPARED * left.numel():
                break
            count = min(d, 2 * count)
            one, other = _factors(x[:, :count])
        i, j = left.nonzero(as_tuple=True)
        i, j = i[j > i] + start, j[j > i] + start
        for a, b in zip(i.split(max(1, BLOCK // d)), j.split(max(1, BLOCK // d)), strict=True):
            close = (x[a] * x[b]).sum(1) >= least
            parts.append(torch.stack([a[close], b[close]], 1).numpy())
            total += len(parts[-1])
            if total > NEAR_GROUP * n:
                return None
    return np.concatenate(parts)


def _factors(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices (n, d + 2), of which one times the other transposed is the squared distances of all rows (n, d)."""
    size = x.square().sum(1, keepdim=True)
    return torch.cat([-2 * x, size, torch.ones_like(size)], 1), torch.cat([x, torch.ones_like(size), size], 1)


def linked(n: int, pairs: np.ndarray) -> np.ndarray:
    """The number (n,) of the group that each position belongs to, where pairs (m, 2) are in the same one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    i, j = pairs.T
    return connected_components(coo_matrix((np.ones(len(i), bool), (i, j)), (n, n)), directed=False)[1]
