"""The map: every row as a point, near those whose features are like its own. Made once, in the background, and kept."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import numpy as np

from curator.engine.cache import keep, read_npy
from curator.errors import CuratorError
from curator.result.read import MAP, Rows
from curator.review.likeness import reduced
from curator.system import cores

MOST = 100_000  # rows of a map
LEAST_OTHERS = 20_000  # of them that are not flagged, at least, where there are so many
GRID = 65_535  # the map's sides in whole numbers, as areas and pages have them
CORNERS = 400  # of an area
CLUSTERS = 40  # of the table
EDGE = np.array([[-2, -2], [-2, 2], [2, -2], [2, 2]])  # around a row
FEW = 100  # rows that are laid out by their first two axes alone
EARLY, LATE = 150, 250  # iterations of t-SNE: see bench/RESULTS.md


class Map:
    """The map of a run: none, being made, or there.

    Its file holds (n, 2) float32 in [0, 1], NaN for rows that are not on it. Where the folder cannot be written, the
    map is made anew for every server.
    """

    def __init__(self, rows: Rows):
        self.rows, self.path = rows, rows.folder / MAP
        self._lock = threading.Lock()
        self._started: float | None = None  # time of a clock
        self._why = ""  # it could not be made
        self._grid: np.ndarray | None = None

    def grid(self) -> np.ndarray | None:
        """(n, 2) int32 in [0, GRID], -1 for rows that are not on the map; None while there is none."""
        if self._grid is None:
            found = read_npy(self.path, (len(self.rows), 2), np.float32)
            if found is not None and fits(found):
                self._grid = on_grid(found)
        return self._grid

    def state(self) -> dict[str, Any]:
        """{"state": "done"}, or "making" with the seconds so far, or "none" with why; begins where nothing has."""
        if self.rows.features is None:
            return {"state": "none", "why": "this run has no features.npy: there is nothing to lay out"}
        if self.grid() is not None:
            return {"state": "done"}
        with self._lock:
            if self._why:
                return {"state": "none", "why": self._why}
            if self._started is None:
                self._started = time.monotonic()
                threading.Thread(target=self._make, daemon=True).start()
            return {"state": "making", "seconds": time.monotonic() - self._started}

    def _make(self) -> None:
        try:
            found = laid_out(self.rows)
        except Exception as e:  # what nobody has thought of must not leave the page waiting
            self._why = f"the map could not be made ({type(e).__name__}: {' '.join(str(e).split())[:200]})"
            return
        with contextlib.suppress(OSError):  # a folder that is read only
            keep(self.path, lambda file: np.save(file, found))
        self._grid = on_grid(found)

    def inside(self, area: tuple[int, ...]) -> np.ndarray:
        """(n,) bool: rows in a polygon x, y, x, y, ... on the grid.

        Raises:
            CuratorError: where there is no map yet.
        """
        grid = self.grid()
        if grid is None:
            raise CuratorError("the area is one of the map, which is not made yet: open Map first")
        corners = np.array(area, np.float64).reshape(-1, 2)
        found = grid[:, 0] >= 0
        near = np.flatnonzero(found & ((grid >= corners.min(0)) & (grid <= corners.max(0))).all(1))
        found[:] = False
        found[near] = within(grid[near].astype(np.float64), corners)
        return found

    def clusters(self) -> list[dict[str, Any]]:
        """Parts of the map, those with the most flagged rows first: "area", "rows", "flagged", and their "labels".

        An area is the hull of its rows; "labels" are the most frequent given ones with their counts, at most three.
        """
        from scipy.spatial import ConvexHull
        from sklearn.cluster import MiniBatchKMeans

        grid = self.grid()
        assert grid is not None
        places = np.flatnonzero(grid[:, 0] >= 0)
        points = grid[places].astype(np.float64)
        count = min(CLUSTERS, max(1, len(places) // 10))
        part = MiniBatchKMeans(count, random_state=0, n_init=1).fit_predict(points)
        found = []
        for one in range(count):
            here, at = places[part == one], points[part == one]
            if not len(here):
                continue
            corners = np.concatenate([at + step for step in EDGE])  # so that no row lies on the hull itself
            area = np.clip(corners[ConvexHull(corners).vertices], 0, GRID)
            labels, counts = np.unique(self.rows.given[here], return_counts=True)
            top = np.argsort(-counts, kind="stable")[:3]
            found.append(
                {
                    "area": area.astype(int).ravel().tolist(),
                    "rows": len(here),
                    "flagged": int(self.rows.flagged[here].sum()),
                    "labels": [[int(labels[i]), int(counts[i])] for i in top],
                }
            )
        return sorted(found, key=lambda one: -one["flagged"])


def fits(values: np.ndarray) -> bool:
    """Whether (n, 2) are places of a map: both in [0, 1], or both NaN, and some there."""
    gone = np.isnan(values)
    there = values[~gone]
    return bool((gone[:, 0] == gone[:, 1]).all() and len(there) and (there >= 0).all() and (there <= 1).all())


def on_grid(values: np.ndarray) -> np.ndarray:
    """Places (n, 2) in [0, 1] as whole numbers; -1 for NaN."""
    return np.where(np.isnan(values), -1, np.round(np.nan_to_num(values) * GRID)).astype(np.int32)


def within(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(m,) bool: whether points (m, 2) lie in the polygon of corners (c, 2); a line that crosses itself is allowed."""
    found = np.zeros(len(points), bool)
    x, y = points.T
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crosses = (ay > y) != (by > y)
        if crosses.any():
            found ^= crosses & (x < ax + (bx - ax) * (y - ay) / ((by - ay) or 1.0))
    return found


def sampled(rows: Rows, most: int = MOST) -> np.ndarray:
    """Positions (m,) of the rows of the map: all, or the flagged ones (the least clean of too many) and a sample."""
    here = np.flatnonzero(rows.present)
    if len(here) <= most:
        return here
    flagged = np.flatnonzero(rows.flagged)
    others = np.flatnonzero(rows.present & ~rows.flagged)
    room = most - min(LEAST_OTHERS * most // MOST, len(others))
    flagged = flagged[np.argsort(rows.score[flagged], kind="stable")[:room]]
    drawn = np.random.default_rng(0).choice(others, min(most - len(flagged), len(others)), replace=False)
    return np.sort(np.concatenate([flagged, drawn]))


def laid_out(rows: Rows) -> np.ndarray:
    """The map (n, 2) float32 of a run's features, in [0, 1]; NaN for rows that are not on it."""
    assert rows.features is not None
    places = sampled(rows)
    found = np.full((len(rows), 2), np.nan, np.float32)
    flat = projected(reduced(rows.features, places))
    low, high = flat.min(0), flat.max(0)
    found[places] = 0.02 + 0.96 * (flat - low) / np.maximum(high - low, 1e-9)
    return found


def projected(points: np.ndarray) -> np.ndarray:
    """Points (m, d) laid out in the plane, (m, 2) float32, so that near ones stay near."""
    if len(points) < FEW:
        return np.pad(points, ((0, 0), (0, 2)))[:, :2]
    from openTSNE import TSNE

    layout = TSNE(
        n_jobs=cores(), random_state=0, neighbors="approx", early_exaggeration_iter=EARLY, n_iter=LATE, verbose=False
    )
    return np.asarray(layout.fit(points), np.float32)
