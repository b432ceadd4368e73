"""Who decides which row, where each is to be decided by several people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def owed(
    ids: np.ndarray, overlap: int, reviewer: str, accounts: Sequence[str], decided: Mapping[str, np.ndarray]
) -> np.ndarray:
    """(n,) bool: rows that the reviewer has still to decide.

    A row that lacks the words of m people is owed by the first m of those who have said nothing of it, in an order of
    the accounts that is drawn for each row: every pair of accounts shares rows, all have as many, nothing is kept, and
    when somebody else decides a row the last in its order owes it no more. Where nobody knows who else reviews
    (no accounts), whoever asks is the first.

    Args:
        ids: (n,) of the rows.
        overlap: people who are to decide each.
        reviewer: who asks.
        accounts: who may be asked.
        decided: of everyone who has decided any row, (n,) bool which.
    """
    nothing = np.zeros(len(ids), bool)
    lacking = overlap - sum(decided.values(), np.zeros(len(ids), np.int32))
    mine = _draw(ids, reviewer)
    ahead = np.zeros(len(ids), np.int32)
    for name in accounts:
        if name != reviewer:
            ahead += ~decided.get(name, nothing) & (_draw(ids, name) < mine)
    return ~decided.get(reviewer, nothing) & (ahead < lacking)


def require_enough(overlap: int, accounts: Iterable[str]) -> str:
    """What is wrong with a number of people for each row; empty where nothing is."""
    there = list(accounts)
    if overlap < 1:
        return f"--overlap {overlap}: expected a number of people from 1 on"
    if there and overlap > len(there):
        return f"--overlap {overlap}: expected as many accounts, found {len(there)}; add --auth NAME:PASSWORD"
    return ""


def _draw(ids: np.ndarray, name: str) -> np.ndarray:
    """(n,) uint64, a random number for each row and name, always the same one (splitmix64)."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    x = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
