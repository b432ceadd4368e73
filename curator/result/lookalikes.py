"""Rows that are there more than once, in one split or in several: of these, what stands in train is a leak."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from curator.result.duplicates import Duplicates, alike_groups, conflicting, kinds_of

TRAIN = "train"  # the split that others must not share rows with; where there is none, the curated one


@dataclass(frozen=True)
class Part:
    """n rows of a split: their numbers in it, hashes of their content, and features (n, d) of a frozen encoder."""

    rows: np.ndarray
    hashes: np.ndarray | None
    features: Tensor | None


@dataclass(frozen=True)
class LookAlikes:
    """m rows of all splits in groups of alike ones.

    Attributes:
        splits: names of those that were compared, the curated one first.
        split: (m,) numbers of these.
        rows: (m,) int64, of the split.
        groups: (m,) int64, from 0.
        near: (m,) bool: by features, else the same content.
        leak: (m,) bool: of a split that is not for training, while the group has a row of the one that is.
        by_features: whether near ones were looked for.
    """

    splits: tuple[str, ...]
    split: np.ndarray
    rows: np.ndarray
    groups: np.ndarray
    near: np.ndarray
    leak: np.ndarray
    by_features: bool

    @property
    def training(self) -> str:
        """The split that the others are compared with."""
        return TRAIN if TRAIN in self.splits else self.splits[0]

    def facts(self) -> dict[str, Any]:
        """What curation.json says: `look_alikes` of the curated split, `leaks` where there are several splits."""
        own = self.groups[self.split == 0]
        several = np.bincount(own)[own] > 1 if len(own) else np.zeros(0, bool)
        found: dict[str, Any] = {
            "look_alikes": {
                "rows": int(several.sum()),
                "groups": len(np.unique(own[several])),
                "near": self.by_features,
            }
        }
        if len(self.splits) > 1:
            others = [name for name in self.splits if name != self.training]
            counts = {name: int((self.leak & (self.split == self.splits.index(name))).sum()) for name in others}
            found["leaks"] = {"rows": sum(counts.values()), "in": self.training, "splits": counts}
        return found

    def write(self, path: Path, files: list[str]) -> None:
        """Write them with their own source files (m) where there are any."""
        columns = {
            "group": self.groups,
            "split": np.array(self.splits)[self.split],
            "row": self.rows,
            "kind": np.where(self.near, "near", "exact"),
            "leak": self.leak,
        }
        pq.write_table(pa.table({**columns, **({"file": files} if any(files) else {})}), path)


def look_alikes(parts: dict[str, Part], labels: np.ndarray) -> tuple[LookAlikes, Duplicates]:
    """Alike rows of all splits, the curated one first, and those of the curated one whose labels (n,) differ."""
    names = tuple(parts)
    sizes = [len(part.rows) for part in parts.values()]
    split, rows = np.repeat(np.arange(len(names)), sizes), np.concatenate([part.rows for part in parts.values()])
    hashes = _together([part.hashes for part in parts.values()])
    features = _together([part.features for part in parts.values()])
    content, groups = alike_groups(len(rows), hashes, features)
    order = np.flatnonzero(np.bincount(groups)[groups] > 1)
    order = order[np.argsort(groups[order], kind="stable")]
    near = kinds_of(groups, content)[groups[order]] > 1
    train = names.index(TRAIN) if TRAIN in names else 0
    in_train = np.zeros(groups.max() + 1, bool)
    in_train[groups[split == train]] = True
    leak = (split[order] != train) & in_train[groups[order]]
    number = np.unique(groups[order], return_inverse=True)[1]
    found = LookAlikes(names, split[order], rows[order], number, near, leak, features is not None)
    own = slice(0, sizes[0])
    return found, conflicting(labels, content[own], groups[own])


def _together(values: list[Any]) -> Any:
    """Hashes or features of all splits; None where one has none."""
    if any(value is None for value in values):
        return None
    return values[0] if len(values) == 1 else (torch.cat if torch.is_tensor(values[0]) else np.concatenate)(values)
