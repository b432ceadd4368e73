import base64
import shutil
from contextlib import closing

import numpy as np
import pytest

from curator.decisions.decision import ACTIONS
from curator.errors import CuratorError
from curator.result.read import MAP, Rows
from curator.review.map import GRID
from curator.review.session import PAGE, Session
from tests.review.serving import shown

EVERYTHING = [0, 0, GRID, 0, GRID, GRID, 0, GRID]


@pytest.fixture
def session(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    places = np.random.default_rng(0).random((400, 2)).astype(np.float32)
    places[7] = np.nan
    np.save(folder / MAP, places)
    made = Session([folder])
    with closing(made.journal):
        yield made


def numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_map_as_the_page_reads_it(session):
    rows = session.rows
    found = session.map({}, "ann")
    on = np.flatnonzero(rows.row != 7)
    assert found["state"] == "done" and numbers(found["row"], "<u4").tolist() == on.tolist()
    assert numbers(found["given"], "<u2").tolist() == rows.given[on].tolist()
    assert numbers(found["marks"], "u1").tolist() == (~rows.selected[on]).astype(int).tolist()
    places = np.load(rows.folder / MAP)[on]
    assert np.abs(numbers(found["x"], "<u2") / GRID - places[:, 0]).max() < 1e-4
    decide = {"key": "0" * 8, "kind": "do", "rows": [[3, "drop", None], [4, "keep", None]]}
    session.save({"steps": [decide], **shown(session)}, "ann")
    again = session.map({"known": 1}, "ann")
    assert "row" not in again and again["actions"] == ACTIONS
    assert numbers(again["decided"], "u1")[:6].tolist() == [0, 0, 0, 1 + ACTIONS.index("drop"), 1, 0]
    assert not numbers(session.map({"known": 1}, "ben")["decided"], "u1").any()


def test_an_area_is_a_queue(session):
    rows, half = session.rows, [0, 0, GRID // 2, 0, GRID // 2, GRID, 0, GRID]
    left = np.flatnonzero(np.load(rows.folder / MAP)[:, 0] < 0.5)
    found = session.area({"area": half}, "ann")["rows"]
    assert sorted(row for row, *_ in found) == left.tolist()
    assert all([given, suggested, flagged] == [rows.given[row], rows.suggested[row], not rows.selected[row]]
               for row, given, suggested, flagged in found)  # fmt: skip
    opened = session.open({"area": half}, "ann")
    assert opened["total"] == (~rows.selected[left]).sum()
    assert session.open({"area": EVERYTHING, "show": "all"}, "ann")["total"] == 399
    for wrong in (
        [1, 2, 3, 4],
        [0, 0, 1, 0, 1],
        [0, 0, GRID + 1, 0, 1, 1],
        [-1, 0, 1, 0, 1, 1],
        [0.5] * 6,
        "all",
        [0] * 2000,
    ):
        with pytest.raises(CuratorError, match="area: expected"):
            session.open({"area": wrong}, "ann")


def test_rows_like_others(session):
    rows = session.rows
    opened = session.open({"like": [11, 12], "show": "all"}, "ann")
    first = session.page({"token": opened["token"], "number": 0}, "ann")["cards"]
    x = rows.features.astype(np.float32)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    near = x @ (x[11] + x[12])
    assert np.allclose(near[[card["row"] for card in first]], np.sort(-near)[:64] * -1, atol=1e-4)
    assert not opened["grouped"] and opened["total"] == 400
    looked = session.look({"rows": [12, 5000, 3]}, "ann")["cards"]
    assert [card["row"] for card in looked] == [12, 3] and looked[0]["image"].startswith("data:image/")
    with pytest.raises(CuratorError, match="none of the rows"):
        session.open({"like": [5000]}, "ann")
    with pytest.raises(CuratorError, match="text side .CLIP.*More like this"):
        session.open({"words": "a dog"}, "ann")
    assert session.hello({}, "ann")["words"] is False


def test_groups_and_what_is_left(session):
    rows = session.rows
    assert session.counts("ann")["groups"] is None
    opened = session.open({"order": "cluster"}, "ann")
    pages = [session.page({"token": opened["token"], "number": n}, "ann")["cards"] for n in range(opened["pages"])]
    cards = [card for page in pages for card in page]
    assert opened["grouped"] and len(cards) == 150 and len(pages) > 2 and max(map(len, pages)) <= PAGE
    assert [card["group"] for card in cards] == sorted(card["group"] for card in cards)
    assert not any(
        {a["group"] for a in page} & {b["group"] for b in after} for page, after in zip(pages, pages[1:], strict=False)
    )
    count = len({card["group"] for card in cards})
    assert opened["counts"]["groups"] == {"groups": count, "rows": 150}
    first = [card for card in cards if card["group"] == 0]
    step = {"key": "1" * 8, "kind": "do", "rows": [[card["row"], "relabel", card["suggested"]] for card in first]}
    answer = session.save({"steps": [step], **shown(session)}, "ann")
    assert answer["counts"]["groups"] == {"groups": count - 1, "rows": 150 - len(first)}
    left = session.open({"order": "cluster", "decided": "undecided"}, "ann")
    assert left["total"] == 150 - len(first)
    everything = session.open({"order": "cluster", "show": "all"}, "ann")
    assert everything["total"] == rows.present.sum()
    with pytest.raises(CuratorError, match="no features.npy"):
        (rows.folder / "features.npy").unlink()
        Session([rows.folder], rows.folder / "other.sqlite").open({"like": [1]}, "ann")


def test_a_new_result_has_no_old_map(session):
    from curator.result.layout import staged

    with staged(session.rows.folder) as staging:
        for path in session.rows.folder.iterdir():
            if path.name in ("data", "curation.json", "features.npy"):
                (shutil.copytree if path.is_dir() else shutil.copy)(path, staging / path.name)
    assert not (session.rows.folder / MAP).exists() and len(Rows(session.rows.folder)) == 400
