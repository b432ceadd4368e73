import shutil
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curator
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.result.read import Rows
from curator.review.queue import ORDERS, Queue, View, order
from curator.review.session import Session
from tests.conftest import hf_dataset


@pytest.fixture
def queue(run, tmp_path):
    rows = Rows(run)
    with closing(
        Journal(tmp_path / "r.sqlite", {"classes": rows.classes, "dataset": "d", "split": "train"})
    ) as journal:
        yield Queue([rows], journal)


def table(run):
    import datasets

    return datasets.load_dataset(str(run), split="train").with_format("numpy")[:]


def test_columns_are_those_of_the_output(run):
    import datasets

    rows, columns = Rows(run), table(run)
    assert np.array_equal(rows.given, columns["label"]) and np.array_equal(rows.row, columns["row"])
    assert np.array_equal(rows.suggested, columns["corrected_label"])
    some = np.array([399, 0, 120, 5, 120])
    assert np.allclose(rows.soft(some), np.stack(columns["teacher_soft_label"])[some])
    raw = datasets.load_dataset(str(run), split="train").cast_column("image", datasets.Image(decode=False))
    assert [image for image, _ in rows.images(some)] == [raw[int(i)]["image"]["bytes"] for i in some]
    assert rows.position(7) == 7 and rows.position(400) is None and rows.positions([3, 900, 1]).tolist() == [3, 1]


def test_orders_against_the_columns(run):
    rows, c = Rows(run), table(run)
    score, soft, given = c["clean_score"], np.stack(c["teacher_soft_label"]), c["label"]
    assert (np.diff(score[order([rows], "least clean")]) >= 0).all()
    confidence = soft[np.arange(400), c["corrected_label"]]
    unsure = order([rows], "least sure")
    assert (np.diff(confidence[unsure]) >= 0).all()
    verified = Rows(run)  # nobody needs to look at what was looked at
    verified.trusted = dict.fromkeys(rows.row[unsure[:7]].tolist(), "0")
    assert np.array_equal(order([verified], "least sure"), np.roll(unsure, -7)) and verified.verified.sum() == 7
    others = np.where(np.eye(5, dtype=bool)[given], -1, soft).max(1)
    assert np.allclose(rows.margin, soft[np.arange(400), given] - others)
    assert (np.diff(rows.margin[order([rows], "margin")]) >= 0).all()
    by_class = order([rows], "given class")
    assert (np.diff(given[by_class]) >= 0).all()
    for label in range(5):
        assert (np.diff(score[by_class][given[by_class] == label]) >= 0).all()
    pairs = (given * 5 + c["corrected_label"])[order([rows], "pair")]
    sizes = np.bincount(pairs)[pairs]
    assert (np.diff(sizes) <= 0).all() and (np.diff(pairs) != 0).sum() == len(set(pairs)) - 1
    assert np.array_equal(order([rows], "row"), np.arange(400))
    assert all(sorted(order([rows], name)) == list(range(400)) for name in ORDERS)


def test_filters(queue):
    rows = queue.rows
    flagged = queue.open(View(), "ann")
    assert len(flagged) == 150 and not rows.selected[flagged].any()
    assert len(queue.open(View(show="all"), "ann")) == 400
    rows.ambiguous[:] = np.arange(400) % 100 == 7  # whatever the run says
    assert sorted(queue.open(View(show="ambiguous"), "ann")) == [7, 107, 207, 307]
    pairs = queue.pairs("flagged")
    assert sum(n for *_, n in pairs) == 150 and pairs == sorted(pairs, key=lambda p: -p[2])
    for given, suggested, n in pairs:
        found = queue.open(View(given=given, suggested=suggested), "ann")
        assert len(found) == n and set(rows.given[found]) == {given} and set(rows.suggested[found]) == {suggested}
    with pytest.raises(CuratorError, match="order: expected one of least clean"):
        View(order="best")


def test_decided_rows_and_snapshots(queue):
    save, flagged = queue.journal.save, queue.open(View(), "ann")
    before = queue.open(View(decided="undecided"), "ann")
    names = queue.rows.classes
    save([{"key": "1", "kind": "do", "rows": [(int(p), "drop", None) for p in flagged[:10]]}], "ann")
    save([{"key": "2", "kind": "do", "rows": [(int(p), "keep", names[0]) for p in flagged[5:20]]}], "ben")
    assert len(before) == 150  # what was opened stays
    for decided, reviewer, expected in [
        ("undecided", "ann", flagged[10:]), ("mine", "ann", flagged[:10]), ("open", "ann", flagged[20:]),
        ("conflicts", "ann", flagged[5:10]), ("mine", "ben", flagged[5:20]), ("undecided", "eve", flagged),
    ]:  # fmt: skip
        assert np.array_equal(queue.open(View(decided=decided), reviewer), expected), (decided, reviewer)


def test_several_runs(run, queue, tmp_path):
    other = tmp_path / "other"
    ds = hf_dataset(400, 5, share=0.5)
    curator.curate(ds, method="ce", epochs=2, seed=5, output=other)
    a, b = Rows(run), Rows(other)
    first = order([a, b], "disagreement")
    differ = a.suggested != b.suggested
    assert 0 < differ.sum() < 400 and differ[first[: differ.sum()]].all()
    spread = np.abs(a.score - b.score)
    assert (np.diff(spread[first[: differ.sum()]]) <= 0).all() and (np.diff(spread[first[differ.sum() :]]) <= 0).all()
    assert len(Queue([a, b], queue.journal).open(View("disagreement", "all"), "ann")) == 400
    curator.curate(ds.select(range(300)), method="ce", epochs=1, output=tmp_path / "fewer")
    with pytest.raises(CuratorError, match="expected a run on the rows, classes and given labels of"):
        Queue([a, Rows(tmp_path / "fewer")], queue.journal)


def test_nearest_rows(run):
    rows = Rows(run)
    features = rows.features.astype(np.float64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for label in set(rows.given[rows.selected].tolist()):
        same = np.flatnonzero((rows.given == label) & rows.selected & (np.arange(400) != 11))
        near = rows.nearest(11, label, count=4)
        assert np.allclose((unit @ unit[11])[near], np.sort((unit @ unit[11])[same])[::-1][:4], atol=1e-3)
    assert set(rows.nearest(11, 2, count=3, most=50)) <= set(np.flatnonzero(rows.given == 2))


def test_a_sample_keeps_its_ids(tmp_path):
    curator.curate(hf_dataset(200, 4), method="ce", epochs=1, limit_rows=50, output=tmp_path / "sample", seed=3)
    rows = Rows(tmp_path / "sample")
    assert rows.row.max() > 60 and rows.position(int(rows.row[20])) == 20
    absent = next(i for i in range(200) if i not in set(rows.row.tolist()))
    assert rows.position(absent) is None and rows.positions([absent, int(rows.row[3])]).tolist() == [3]


def test_no_run(tmp_path):
    with pytest.raises(CuratorError, match="expected the output folder of a finished run"):
        Rows(tmp_path)
    (tmp_path / "curation.json").write_text('{"split": "train", "settings": {}}')
    with pytest.raises(CuratorError, match="it lacks method; run it again"):
        Rows(tmp_path)


def test_rows_that_were_verified_before_the_run_are_not_asked_again(run, tmp_path):
    """A second run flags a row whose verified label is another one than the given: nobody is to decide it twice."""
    shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("review.sqlite*"))
    rows = Rows(run)
    known = rows.row[~rows.selected][:5].tolist() + rows.row[rows.selected][:2].tolist()
    labels = pa.table({"row": sorted(known), "label": [rows.classes[0]] * 7})
    pq.write_table(labels, tmp_path / "again" / "trusted.parquet")
    session = Session([tmp_path / "again"])
    with closing(session.journal):
        opened = session.open({"order": "cluster", "size": 192}, "ann")
        assert opened["total"] == opened["counts"]["flagged"] == opened["counts"]["groups"]["rows"] == 145
        shown = [card["row"] for card in session.page({"token": opened["token"], "number": 0}, "ann")["cards"]]
        assert len(shown) > 100 and not {*shown} & {*known}
        (card,) = session.cards(session.rows.positions(known[:1]), "ann")
        assert card["said"][:1] == [f"verified before this run: {rows.classes[0]}"] and card["group"] == -1
        assert sum(session.scores({}, "ann")["flagged"]) == 145
        assert sum(flagged for _, flagged, _ in session.classes({}, "ann")["classes"]) == 145
