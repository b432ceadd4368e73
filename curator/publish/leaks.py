"""Rows that stand in the split for training and in another one, left out of the other one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from curator.errors import CuratorError
from curator.publish.policy import Verdict
from curator.result.facts import data_files, split_of
from curator.result.read import Rows
from curator.result.suspects import leaked


def leaks_of(rows: Rows) -> dict[str, np.ndarray]:
    """By split its rows (m,) int64 that stand in the training split too.

    Raises:
        CuratorError: where the run has not compared all splits.
    """
    compared = rows.facts.get("leaks") or {}
    names = {*compared.get("splits", {}), compared.get("in")}
    missing = sorted({split_of(path) for path in data_files(rows.folder)} - names)
    if not compared:
        why = "the run has one split, or is of an older version"
        raise CuratorError(
            f"--drop-leaks: {rows.folder} compared no splits ({why}); leave the flag out, or run it again"
        )
    if missing:
        raise CuratorError(
            f"--drop-leaks: the run did not read split {missing[0]!r} (it has no labels, or nothing was trained); "
            "leave the flag out"
        )
    return leaked(rows.folder)


def without(said: Verdict, rows: Rows, leaks: dict[str, np.ndarray]) -> Verdict:
    """The verdict with leaks of the curated split in no config."""
    ids = leaks.get(rows.facts["split"])
    if ids is None:
        return said
    leak = np.isin(rows.row, ids)
    return replace(said, kept=said.kept & ~leak, leaked=leak)
