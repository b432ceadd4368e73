"""Columns that rows are sorted and filtered by, the borderline queue, scores and pages of classes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel

import curator
from curator.errors import CuratorError
from curator.review.session import Session
from tests.conftest import hf_dataset
from tests.review.serving import shown


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A run of 90 rows with columns of several kinds, all flagged ones of class 0 decided by ann."""
    ds = hf_dataset(90, 3, 0.4)
    ds = ds.add_column("camera", [["Leica M10", "Canon", None][i % 3] for i in range(90)])
    ds = ds.add_column("year", [None if i == 4 else 2000 + i % 20 for i in range(90)])
    ds = ds.add_column("place", [i % 2 for i in range(90)]).cast_column("place", ClassLabel(names=["in", "out"]))
    ds = ds.add_column("shot", [f"img{i}" for i in range(90, 0, -1)])
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 90).astype(np.float32)
    folder = tmp_path_factory.mktemp("metadata")
    np.save(folder / "p.npy", probs)
    curator.curate(
        ds, method="confident", pred_probs=folder / "p.npy", flag_worst=30, label_column="label", output=folder / "out"
    )
    # Rows 3 and 7 stand in test, 7 in validation too, 8 twice in train alone.
    alike = [(0, "train", 3), (0, "test", 1), (1, "train", 7), (1, "test", 2), (1, "validation", 0)]
    alike += [(2, "train", 8), (2, "train", 9)]
    columns = dict(zip(("group", "split", "row"), zip(*alike, strict=True), strict=True))
    pq.write_table(pa.table(columns), folder / "out" / "lookalikes.parquet")
    session = Session([folder / "out"])
    yield session
    session.journal.close()


def test_columns(session):
    metadata = session.queue.metadata
    assert metadata.names == ["file", "camera", "year", "place", "shot"]  # neither labels nor the truth
    assert session.hello({}, "ann")["columns"] == metadata.names
    ids = np.arange(90)
    assert np.array_equal(metadata.fits("camera", " leica"), ids % 3 == 0)
    year = np.where(ids == 4, np.nan, 2000 + ids % 20)
    for text, wanted in (
        ("2003", year == 2003), ("2003..2005", (year >= 2003) & (year <= 2005)), ("..2001", year <= 2001),
        ("2019 ..", year >= 2019),
    ):  # fmt: skip
        assert np.array_equal(metadata.fits("year", text), wanted), text
    assert np.array_equal(metadata.fits("place", "OUT"), ids % 2 == 1)
    with pytest.raises(CuratorError, match="year: expected a number, or a range as in 3..5; found 'new'"):
        metadata.fits("year", "new")
    with pytest.raises(CuratorError, match="column: expected one of file, camera"):
        metadata.values("true_label")
    assert np.array_equal(metadata.order("shot"), ids[::-1])  # img2 before img10
    assert metadata.order("year")[-1] == 4 and (np.diff(year[metadata.order("year")[:-1]]) >= 0).all()
    assert set(metadata.order("camera")[-30:] % 3) == {2}  # rows without a value last
    assert (metadata.shown("year", 3), metadata.shown("year", 4), metadata.shown("camera", 2)) == ("2003", "", "")


def rows_of(session, **view) -> list[int]:
    opened = session.open({"show": "all", "size": 192, **view}, "ann")
    return [card["row"] for card in session.page({"token": opened["token"], "number": 0}, "ann")["cards"]]


def test_filters(session):
    rows = session.rows
    assert rows_of(session, column="camera", has="leica", order="column") == list(range(0, 90, 3))
    found = rows_of(session, low=0.25, high=0.5)
    assert found and set(found) == set(rows.row[(rows.score >= 0.25) & (rows.score < 0.5)].tolist())
    assert session.hello({}, "ann")["splits"] == ["test", "validation"]
    assert [rows_of(session, order="row", split=split) for split in ("test", "validation", "x")] == [[3, 7], [7], []]
    border = rows_of(session, show="borderline")
    least = rows.row[rows.selected][np.argsort(rows.score[rows.selected], kind="stable")][:30]
    assert border == least.tolist()
    for view, error in (
        ({"order": "column", "column": "x"}, "column: expected one of"), ({"by": "nobody"}, "by: no reviewer"),
        ({"low": 2}, "from 0 to 1"),
        ({"size": 0}, "size: expected 1 to 192"), ({"column": "year", "has": "x"}, "expected a number"),
    ):  # fmt: skip
        with pytest.raises(CuratorError, match=error):
            session.open(view, "ann")


def test_remarks_story_and_a_page_of_a_class(session):
    rows = session.rows
    mine = rows.given == 0
    flagged, kept = rows.row[mine & ~rows.selected].tolist(), rows.row[mine & rows.selected].tolist()
    acts = [[row, "relabel", 1] for row in flagged] + [[row, "keep", None] for row in kept[:5]]
    steps = [
        {"key": "a-step-of-ann", "kind": "do", "rows": acts},
        {"key": "a-note-of-ann", "kind": "remark", "row": flagged[0], "note": "hm", "tags": ["odd", "none of these"]},
        {"key": "no-note-of-ann", "kind": "remark", "row": flagged[0], "note": "hm", "tags": ["odd", "odd"]},
    ]
    answer = session.save({**shown(session), "steps": steps}, "ann")
    assert answer["saved"] == ["a-step-of-ann", "a-note-of-ann"] and answer["refused"] == ["no-note-of-ann"]
    assert rows_of(session, tag="odd") == [flagged[0]] and rows_of(session, tag="x") == []
    assert set(rows_of(session, by="ann")) == {*flagged, *kept[:5]}
    detail = session.detail({"row": flagged[0]}, "ann")
    assert [remark["tags"] for remark in detail["remarks"]] == [["odd", "none of these"]]
    assert [(of["reviewer"], of["action"], of["label"]) for of in detail["story"]] == [("ann", "relabel", 1)]
    assert ("camera", ["Leica M10", "Canon", ""][flagged[0] % 3]) in detail["values"] and len(detail["top"]) == 3
    assert detail["near"][0]["cards"][0]["row"] == rows.row[session.examples(0)[0]]  # without features: the cleanest

    page = session.of_class({"label": 0}, "ann")
    assert (page["rows"], page["flagged"]) == (int(mine.sum()), len(flagged))
    assert page["decided"] == {"selected": 5, "flagged": len(flagged)}
    assert page["wrong"]["estimate"] == pytest.approx(len(flagged) / mine.sum())
    assert page["wrong"]["low"] <= page["wrong"]["estimate"] < page["wrong"]["high"]
    assert sum(n for _, n in page["becomes"]) == len(flagged)
    assert session.of_class({"label": 1}, "ann")["wrong"] is None
    of_classes = session.classes({}, "ann")["classes"]
    assert [n for n, *_ in of_classes] == np.bincount(rows.given).tolist() and sum(f for _, f, _ in of_classes) == 30
    scores = session.scores({}, "ann")
    assert sum(scores["rows"]) == 90 and sum(scores["flagged"]) == 30
    assert sum(scores["expected"]) == pytest.approx(float((1 - rows.score).sum()), abs=0.1)
    below = sum(scores["rows"][:100])
    assert below == session.open({"show": "all", "high": 0.5}, "ann")["total"]


def test_a_picture_as_it_is(session):
    ((image, _),) = session.rows.images(np.array([3]))
    import base64

    address = session.whole({"row": 3}, "ann")["image"]
    assert base64.b64decode(address.partition(",")[2]) == image  # a browser shows it as it is
    first, again = (session.thumbnails.of(np.array([3, 4, 3]), 160) for _ in range(2))
    assert first == again and first[0] == first[2] and first[0][0].startswith("data:image/")
