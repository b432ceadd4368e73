"""What the page asks, without a browser, on runs of every kind."""

from contextlib import closing

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Value

import curator
from curator.errors import CuratorError
from curator.review.session import PAGE, Session
from tests.conftest import hf_dataset
from tests.review.serving import shown


def strings(ds):
    return ds.remove_columns("true_label").cast_column("label", Value("string"))


def integers(ds):
    return ds.remove_columns("true_label").cast_column("label", Value("int32"))


def splits(ds):
    return datasets.DatasetDict({"train": ds, "test": ds.select(range(20))})


# How the dataset is made, and the settings of its run.
KINDS = {
    "strings": (strings, {"column_prefix": "my_"}),
    "integers": (integers, {"limit_rows": 60}),
    "splits": (splits, {}),
    "no training": (lambda ds: ds, {"method": "confident", "pred_probs": True}),
    "features": (
        lambda ds: ds.remove_columns("image").add_column("e", list(np.random.default_rng(0).random((90, 4)))),
        {"features_column": "e"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_every_kind(tmp_path, kind):
    make, settings = KINDS[kind]
    if settings.get("pred_probs"):
        probs = np.random.default_rng(0).dirichlet(np.ones(3), 90).astype(np.float32)
        np.save(tmp_path / "p.npy", probs)
        settings = {**settings, "pred_probs": tmp_path / "p.npy"}
    method = {} if "pred_probs" in settings else {"method": "ce", "epochs": 1}
    curated = curator.curate(make(hf_dataset(90, 3, 0.4)), **method, **settings, flag_worst=30, output=tmp_path / "out")
    prefix = settings.get("column_prefix", "")
    session = Session([tmp_path / "out"])
    with closing(session.journal):
        hello = session.hello({}, "ann")
        assert hello["images"] == (kind != "features") and hello["features"] == (kind != "no training")
        assert hello["classes"] == curated.features[prefix + "corrected_label"].names
        for order in hello["orders"]:
            assert session.open({"order": order}, "ann")["total"] == 30
        cards = session.page({"token": session.open({}, "ann")["token"], "number": 0}, "ann")["cards"]
        place = {row: i for i, row in enumerate(curated[prefix + "row"])}
        for card in cards:
            row = curated[place[card["row"]]]
            given = row["label"] if isinstance(row["label"], int) else hello["classes"].index(row["label"])
            assert (card["given"], card["suggested"]) == (given, row[prefix + "corrected_label"])
            assert card["score"] == pytest.approx(row[prefix + "clean_score"])
            assert card["top"][0][1] == pytest.approx(max(row[prefix + "teacher_soft_label"]))
            assert (card["image"] is None) == (kind == "features")
        detail = session.detail({"row": cards[0]["row"]}, "ann")
        assert detail["near"][0]["label"] == cards[0]["given"]
        assert all(bool(near["cards"]) <= (kind != "no training") for near in detail["near"])
        acts = [[card["row"], "relabel", (card["given"] + 1) % 3] for card in cards[:4]]
        session.save({**shown(session), "steps": [{"key": "first-step", "kind": "do", "rows": acts}]}, "ann")
        assert session.counts("ann") == {"flagged": 30, "mine": 4, "anybody": 4}
        verified = session.journal.verified().labels
        assert verified == {row: hello["classes"][label] for row, _, label in acts}


def test_an_audit_is_a_reviewers_own_and_blind(run, tmp_path):
    truth = datasets.load_dataset(str(run), split="train").with_format("numpy")["true_label"][:]
    session = Session([run], tmp_path / "j.sqlite")
    with closing(session.journal):
        assert session.audit({}, "ann")["rows"] == []
        with pytest.raises(CuratorError, match="no sample was drawn"):
            session.audit_result({}, "ann")
        with pytest.raises(CuratorError, match="expected 1 to 10,000 rows, found 0"):
            session.audit({"size": 0}, "ann")
        sample = session.audit({"size": 60, "seed": 4}, "ann")
        assert sample.keys() == {"audit", "rows", "labels"} and len(set(sample["rows"])) == 60
        assert session.pictures({"rows": sample["rows"][:2]}, "ann").keys() == {"images"}

        def label(reviewer: str, row: int, code: int | None, audit: int = sample["audit"]) -> None:
            step = {"kind": "audit", "audit": audit, "row": row, "label": code, "key": f"{reviewer}-label-{row}-{code}"}
            assert session.save({**shown(session, reviewer), "steps": [step]}, reviewer)["refused"] == []

        for row in sample["rows"][:50]:
            label("ann", row, int(truth[row]))
        label("ann", sample["rows"][0], None)  # cannot be told after all
        outside = next(row for row in range(400) if row not in sample["rows"])
        for who, row in (("ann", outside), ("ben", sample["rows"][1])):  # not in the sample; not ben's sample
            step = {"kind": "audit", "audit": sample["audit"], "row": row, "label": 1, "key": f"no-label-of-{who}"}
            answer = session.save({**shown(session, who), "steps": [step]}, who)
            assert (answer["saved"], answer["refused"]) == ([], [step["key"]])
        other = session.audit({"size": 10, "seed": 5}, "ben")
        assert session.audit({}, "ann")["rows"] == sample["rows"] != other["rows"]
        labels = session.audit({}, "ann")["labels"]
        assert len(labels) == 50 and labels[str(sample["rows"][0])] is None and str(outside) not in labels

        result = session.audit_result({}, "ann")
        told = np.array(sample["rows"][1:50])
        for when, column in (("before", session.rows.given), ("after", session.rows.suggested)):
            for stratum, inside in zip(
                result[when]["strata"], (session.rows.selected, ~session.rows.selected), strict=True
            ):
                rows = told[inside[told]]
                assert (stratum["size"], stratum["labelled"]) == (int(inside.sum()), len(rows))
                assert stratum["wrong"] == int((column[rows] != truth[rows]).sum())
        assert session.audit_result({}, "ben")["before"]["estimate"] is None

        wrong = [int(row) for row in told if session.rows.suggested[row] != truth[row]]
        acts = [[row, "drop", None] for row in wrong[:2]] + [[row, "relabel", int(truth[row])] for row in wrong[2:]]
        session.save({**shown(session), "steps": [{"key": "a-long-key", "kind": "do", "rows": acts}]}, "ann")
        after = session.audit_result({}, "ann")["after"]
        assert [s["wrong"] for s in after["strata"]] == [0, 0] and sum(s["size"] for s in after["strata"]) == 398
        assert sum(s["labelled"] for s in after["strata"]) == 47
        assert session.counts("ann")["mine"] <= len(wrong)  # labels of the audit decide nothing


def test_what_belongs_together(run, tmp_path):
    ds = hf_dataset(90, 3).cast_column("label", ClassLabel(names=["a", "b", "c"])).remove_columns("true_label")
    curator.curate(ds, method="ce", epochs=1, output=tmp_path / "other")
    Session([run], tmp_path / "j.sqlite").journal.close()
    with pytest.raises(CuratorError, match="its decisions are about other classes"):
        Session([tmp_path / "other"], tmp_path / "j.sqlite")
    with pytest.raises(CuratorError, match="open it by itself"):
        Session([run, tmp_path / "other"], tmp_path / "j.sqlite")
    session = Session([run], tmp_path / "j.sqlite")
    with closing(session.journal):
        with pytest.raises(CuratorError, match="logged in as ben now"):
            session.save({**shown(session), "steps": []}, "ben")
        for name in ("journal", "run"):  # a page that was open before another run was served there
            with pytest.raises(CuratorError, match="another run is served here now"):
                session.save({**shown(session), name: "other", "steps": []}, "ann")
        opened = session.open({"show": "all"}, "ann")
        assert opened["pages"] == -(-400 // PAGE)
        for _ in range(100):
            session.open({}, "ann")
        assert session.page({"token": opened["token"], "number": 0}, "ann") == {"gone": True}


def test_features_that_cannot_be_read(tmp_path):
    curator.curate(hf_dataset(30, 3), method="ce", epochs=1, output=tmp_path / "out")
    (tmp_path / "out" / "features.npy").write_bytes(b"no array")
    session = Session([tmp_path / "out"])
    with closing(session.journal):
        assert session.hello({}, "ann")["features"] is False
        assert session.detail({"row": 3}, "ann")["near"][0]["cards"] == []
