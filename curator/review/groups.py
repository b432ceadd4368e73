"""Flagged rows in groups that one decision settles: near each other, with one given and one suggested label."""

from __future__ import annotations

import numpy as np

from curator.result.read import Rows
from curator.review.likeness import reduced

MOST = 64  # rows of a group: a person sees them at one glance, on one page
TREE = 4000  # rows that one tree is made of: it takes the square of them


def groups_of(rows: Rows) -> np.ndarray:
    """Groups (n,) int32 of the flagged rows, numbered from 0, the largest first; -1 for all others.

    Of groups of one size the least clean comes first. A group has at most MOST rows of one (given, suggested) pair:
    those that Ward's tree of their features joins first; without features, those of the nearest scores.
    """
    flagged = np.flatnonzero(rows.flagged)
    found = np.full(len(rows), -1, np.int32)
    if not len(flagged):
        return found
    places = None if rows.features is None else reduced(rows.features, flagged)
    pair = rows.given[flagged].astype(np.int64) * len(rows.classes) + rows.suggested[flagged]
    number = np.empty(len(flagged), np.int64)
    made = 0
    by_pair = np.argsort(pair, kind="stable")
    for members in np.split(by_pair, np.flatnonzero(np.diff(pair[by_pair])) + 1):
        members = members[np.argsort(rows.score[flagged[members]], kind="stable")]
        for part in np.array_split(members, -(-len(members) // TREE)):  # of very many rows those of like scores
            part_of = np.arange(len(part)) // MOST if places is None else joined(places[part], MOST)
            number[part] = made + part_of
            made += int(part_of.max()) + 1
    sizes = np.bincount(number, minlength=made)
    score = np.bincount(number, rows.score[flagged], made) / sizes
    rank = np.empty(made, np.int32)
    rank[np.lexsort((score, -sizes))] = np.arange(made)
    found[flagged] = rank[number]
    return found


def joined(points: np.ndarray, most: int) -> np.ndarray:
    """Groups (m,) int64 of points (m, d): the largest branches of Ward's tree that have at most so many points."""
    from scipy.cluster.hierarchy import linkage

    m = len(points)
    found = np.zeros(m, np.int64)
    if m <= most:
        return found
    tree = linkage(points, "ward")
    members: list[list[int] | None] = [[i] for i in range(m)]
    made = 0
    for left, right in tree[:, :2].astype(int).tolist():
        a, b = members[left], members[right]
        members[left] = members[right] = None
        if a is not None and b is not None and len(a) + len(b) <= most:
            members.append(a + b)
            continue
        for whole in (a, b):
            if whole is not None:
                found[whole] = made
                made += 1
        members.append(None)
    return found


def packed(groups: np.ndarray, most: int) -> np.ndarray:
    """Where pages (p + 1,) begin, the last end besides, of rows whose groups (m,) stand together.

    A page has at most so many rows, and whole groups as far as these are no larger.
    """
    if not len(groups):
        return np.zeros(2, np.int64)
    bounds = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1, append=groups[-1] + 1))
    starts, end = [0], len(groups)
    while starts[-1] + most < end:
        fits = int(np.searchsorted(bounds, starts[-1] + most, "right")) - 1
        starts.append(int(bounds[fits]) if bounds[fits] > starts[-1] else starts[-1] + most)
    return np.array([*starts, end])
