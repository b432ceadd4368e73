"""What the page asks, without a browser, on runs of every kind."""

import json
from contextlib import closing

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Value

import curator
from curator.errors import CuratorError
from curator.review.page import ASKED, answer
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
        assert kind != "no training" or detail["near"][0]["cards"]  # without features: the cleanest rows
        acts = [[card["row"], "relabel", (card["given"] + 1) % 3] for card in cards[:4]]
        session.save({**shown(session), "steps": [{"key": "first-step", "kind": "do", "rows": acts}]}, "ann")
        counts = session.counts("ann")
        assert {**counts, "groups": 0} == {"flagged": 30, "mine": 4, "anybody": 4, "groups": 0}
        assert counts["groups"]["rows"] == 26  # by cluster was one of the orders
        verified = session.journal.verified().labels
        assert verified == {row: hello["classes"][label] for row, _, label in acts}
        card = cards[5]
        both = [[card["row"], "both", (card["given"] + 1) % 3], [cards[6]["row"], "both", cards[6]["given"]]]
        answer = session.save({**shown(session), "steps": [{"key": "both-step", "kind": "do", "rows": both}]}, "ann")
        assert answer["rows"][str(card["row"])] == {"action": "both", "label": (card["given"] + 1) % 3}
        assert answer["rows"][str(cards[6]["row"])]["action"] == "keep"  # one label is no two
        people = session.journal.verified()
        assert people.labels[card["row"]] == hello["classes"][card["given"]]
        assert people.also == {card["row"]: hello["classes"][(card["given"] + 1) % 3]}


def test_an_audit_is_a_reviewers_own_and_blind(run, tmp_path):
    truth = datasets.load_dataset(str(run), split="train").with_format("numpy")["true_label"][:]
    session = Session([run], tmp_path / "j.sqlite")
    with closing(session.journal):
        assert session.audit({}, "ann")["rows"] == []
        with pytest.raises(CuratorError, match="there is no sample yet"):
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


HUGE = 10**400
VALUES = [
    None, True, False, 0, -1, 5, 1 << 62, 1 << 63, -(1 << 63), HUGE, -HUGE, 1.5, 1e308, float("inf"), "", "x", "5",
    "\ud800", "a" * 5000, "row; DROP TABLE steps", [], [[]], [None], ["x"], [-1], [HUGE], {}, {"row": 1}, [{"a": [1]}],
]  # fmt: skip
FIELDS = {
    "hello": [], "page": ["token", "number"], "whole": ["row"], "of_class": ["label"], "classes": [], "scores": [],
    "open": [
        "order", "show", "decided", "given", "suggested", "by", "tag", "column", "has", "low", "high", "size", "area",
        "like", "words",
    ],
    "detail": ["row"], "matrix": ["show"], "people": [], "export": [], "fixed": [], "audit": ["size", "seed"],
    "pictures": ["rows"], "map": ["known"], "area": ["area"], "look": ["rows"],
    "audit_result": [], "publishing": [], "save": ["steps", "reviewer", "journal", "run"],
    "publish": ["target", "policy", "min_confidence", "format", "branch", "tag", "reviewer"],
}  # fmt: skip


@pytest.fixture(scope="module")
def session(run, tmp_path_factory):
    session = Session([run], tmp_path_factory.mktemp("session") / "j.sqlite")
    yield session
    session.journal.close()


def asked(session, call: dict) -> tuple[int, dict]:
    """As over HTTP: what the page gets is JSON."""
    status, value = answer(session, call, "ann")
    assert status < 500 and (status == 200) != ("error" in value), (call, status, value)
    assert json.loads(json.dumps(value)) is not None
    if status != 200:
        assert 0 < len(value["error"]) < 500 and len(value["error"].splitlines()) == 1, call
    return status, value


@pytest.mark.parametrize("what", ASKED)
def test_calls_that_no_page_would_make(session, what, monkeypatch):
    """Each field with each value: an answer or a line, never a failure of the server."""
    monkeypatch.setattr(session._publishing, "_work", lambda *words: setattr(session._publishing, "_running", False))
    monkeypatch.setattr(session.queue.map, "_make", lambda: None)
    token = session.open({}, "ann")["token"]
    usual = {
        **shown(session),
        "token": token,
        "number": 0,
        "row": 3,
        "rows": [1, 2],
        "steps": [],
        "target": "me/x",
        "label": 1,
    }
    assert asked(session, {**usual, "what": what})[0] in (200, 400)
    for name in FIELDS[what]:
        for value in VALUES:
            asked(session, {**usual, "what": what, name: value})
        asked(session, {**{n: v for n, v in usual.items() if n != name}, "what": what})
    asked(session, {"what": what, **dict.fromkeys(usual, HUGE)})


def test_names_that_are_no_calls(session):
    for what in (*VALUES, "__init__", "_decision", "cards", "near", "counts", "journal", "_require_page"):
        assert asked(session, {"what": what})[0] == 400


def test_a_step_that_is_none_keeps_no_other_from_being_saved(session):
    """Every field of every kind with every value, each between two steps that are right; and those after it."""
    kinds = {
        "do": {"rows": [[9, "drop", None]]}, "undo": {"target": "a" * 9}, "redo": {"target": "a" * 9},
        "audit": {"audit": 1, "row": 1, "label": 1}, "remark": {"row": 1, "note": "", "tags": ["x"]},
    }  # fmt: skip
    bad = [*VALUES, *({"key": value, "kind": "do", "rows": [[9, "drop", None]]} for value in VALUES)]
    for number, (kind, of) in enumerate(kinds.items()):
        for name in ("kind", *of):
            values = [*VALUES, *([[1, v, None], [1, "relabel", v], [v, "keep", None]] for v in VALUES)]
            bad += [
                {"key": f"bad-{number}-{name}-{i}", "kind": kind, **of, name: value} for i, value in enumerate(values)
            ]
    right = [
        {"key": f"right-{i:06}", "kind": "do", "rows": [[100 + i % 50, "drop", None]]} for i in range(len(bad) + 1)
    ]
    steps = [step for pair in zip(right, bad, strict=False) for step in pair] + right[-1:]
    saved: list[str] = []
    for start in range(0, len(steps), 200):
        status, answer = asked(session, {"what": "save", **shown(session), "steps": steps[start : start + 200]})
        assert status == 200
        saved += answer["saved"]
    assert {step["key"] for step in right} <= set(saved)
    assert not {key for key in saved if key.startswith("bad-0-rows")}
    status, answer = asked(session, {"what": "save", **shown(session), "steps": right * 2})
    assert status == 400 and "at most 1,000" in answer["error"]


def test_a_key_of_somebody_elses_step(session):
    """It is not told as saved, and the others are."""
    steps = [{"key": f"of-ben-{i}", "kind": "do", "rows": [[200 + i, "drop", None]]} for i in range(3)]
    saved = session.save({**shown(session, "ben"), "steps": steps[:1]}, "ben")
    assert saved["saved"] == ["of-ben-0"]
    answer = session.save({**shown(session), "steps": steps}, "ann")
    assert (answer["saved"], answer["taken"], answer["refused"]) == (["of-ben-1", "of-ben-2"], ["of-ben-0"], [])
    assert session.journal.decision(200, "ann") is None and session.journal.decision(201, "ann").action == "drop"


def test_a_journal_that_is_gone_is_said(run, tmp_path):
    session = Session([run], tmp_path / "j.sqlite")
    with closing(session.journal):
        step = {"key": "a-step-of-ann", "kind": "do", "rows": [[1, "drop", None]]}
        (tmp_path / "j.sqlite").rename(tmp_path / "away")
        status, found = asked(session, {"what": "save", **shown(session), "steps": [step]})
        assert status == 400 and "j.sqlite was removed, replaced or cut" in found["error"]
        (tmp_path / "away").rename(tmp_path / "j.sqlite")
        assert asked(session, {"what": "save", **shown(session), "steps": [step]})[1]["saved"] == [step["key"]]


def test_a_folder_that_cannot_be_written_is_said(session, monkeypatch):
    def full(folder, files):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session.journal, "export", full)
    status, found = answer(session, {"what": "export"}, "ann")
    assert status == 503 and "No space left" in found["error"]
