import shutil
import time

import numpy as np
import pytest

import curator.review.map as maps
from curator.errors import CuratorError
from curator.result.read import MAP, Rows
from curator.review.map import CORNERS, GRID, Map, fits, sampled, within


@pytest.fixture
def rows(run, tmp_path):
    return Rows(shutil.copytree(run, tmp_path / "run"))


def test_it_is_made_in_the_background_and_kept(rows, monkeypatch):
    monkeypatch.setattr(maps, "EARLY", 60)
    monkeypatch.setattr(maps, "LATE", 60)
    started = Map(rows)
    assert started.grid() is None
    with pytest.raises(CuratorError, match="open Map first"):
        started.inside((0, 0, GRID, 0, GRID, GRID))
    end = time.monotonic() + 60
    while (state := started.state())["state"] == "making" and time.monotonic() < end:
        time.sleep(0.02)
    assert state == {"state": "done"}
    kept = np.load(rows.folder / MAP)
    assert kept.shape == (400, 2) and kept.dtype == np.float32 and fits(kept)
    again = Map(rows)
    monkeypatch.setattr(maps, "laid_out", lambda rows: pytest.fail("made anew"))
    assert again.state() == {"state": "done"} and np.array_equal(again.grid(), started.grid())
    # Rows of one class lie together: the features come of a net that tells the classes apart.
    far = np.linalg.norm(kept[:, None] - kept[None], axis=-1)
    near = np.argsort(far, axis=1)[:, 1:6]
    assert (rows.suggested[near] == rows.suggested[:, None]).mean() > 0.5
    whole = again.inside((0, 0, GRID, 0, GRID, GRID, 0, GRID))
    assert whole.all()
    for part in again.clusters():
        inside = again.inside(tuple(part["area"]))
        assert (
            0 <= inside.sum() - part["rows"] <= 3
            and len(part["area"]) <= 2 * CORNERS
            and sum(n for _, n in part["labels"]) <= part["rows"]
        )
    assert sum(part["flagged"] for part in again.clusters()) <= 150


@pytest.mark.parametrize("spoil", ["shape", "type", "range", "half", "empty", "code"])
def test_a_map_that_is_none_is_made_anew(rows, spoil):
    values = np.full((400, 2), 0.5, np.float32)
    if spoil == "shape":
        values = values[:399]
    elif spoil == "type":
        values = values.astype(np.float64)
    elif spoil == "range":
        values[3] = np.inf
    elif spoil == "half":
        values[3, 0] = np.nan
    elif spoil == "empty":
        values[:] = np.nan
    np.save(rows.folder / MAP, values if spoil != "code" else np.array([print], object), allow_pickle=True)
    assert Map(rows).grid() is None


def test_what_cannot_be_made_is_said(rows, monkeypatch):
    monkeypatch.setattr(maps, "laid_out", lambda rows: 1 / 0)
    one = Map(rows)
    one._make()
    assert "ZeroDivisionError" in one.state()["why"]
    (rows.folder / "features.npy").unlink()
    assert "no features.npy" in Map(Rows(rows.folder)).state()["why"]


def test_of_many_rows_the_flagged_ones_and_a_sample(rows):
    assert sampled(rows).tolist() == list(range(400))
    some = sampled(rows, 200)
    assert len(some) == 200 and set(np.flatnonzero(~rows.selected)) < set(some.tolist())
    few = sampled(rows, 100)  # more flagged than that: the least clean of them
    flagged = few[~rows.selected[few]]
    assert len(few) == 100 and len(flagged) == 80
    assert rows.score[flagged].max() <= np.sort(rows.score[~rows.selected])[79]


def test_points_in_an_area():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    notched = np.array([[0, 0], [10, 0], [10, 10], [5, 5], [0, 10]], float)
    points = np.array([[5, 8], [1, 5], [11, 5], [5, 1]], float)
    assert within(points, square).tolist() == [True, True, False, True]
    assert within(points, notched).tolist() == [False, True, False, True]
