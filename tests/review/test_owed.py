from contextlib import closing

import numpy as np
import pytest

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.result.read import Rows
from curator.review.owed import owed, require_enough
from curator.review.page import launch
from curator.review.queue import Queue, View
from curator.review.session import Session
from tests.review.serving import shown

NAMES = ["ann", "ben", "eve"]


def test_every_row_is_owed_by_as_many():
    ids = np.arange(30_000)
    of = np.stack([owed(ids, 2, name, NAMES, {}) for name in NAMES])
    assert (of.sum(0) == 2).all() and np.allclose(of.mean(1), 2 / 3, atol=0.01)
    pairs = [(of[i] & of[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert np.allclose(pairs, 1 / 3, atol=0.01)  # every two share rows
    some = np.arange(30_000) % 2 == 0
    after = np.stack([owed(ids, 2, name, NAMES, {"eve": some, "guest": some & (ids % 4 == 0)}) for name in NAMES])
    assert (after.sum(0) == np.where(ids % 4 == 0, 0, np.where(some, 1, 2))).all() and not after[2][some].any()
    assert (owed(ids, 2, "ann", [], {"ben": some}) == True).all()  # noqa: E712 - nobody knows who else reviews
    assert (owed(ids, 1, "ann", [], {"ben": some}) == ~some).all()


@pytest.mark.parametrize(("flags", "expected"), [
    ({"overlap": 3, "auth": ["a:b", "c:d"]}, "--overlap 3: expected as many accounts, found 2; add --auth"),
    ({"overlap": 0}, "--overlap 0: expected a number of people from 1 on"),
    ({"adjudicator": ["eve"], "auth": ["a:b"]}, "--adjudicator eve: expected the name of an account; add --auth eve:"),
])  # fmt: skip
def test_flags_that_do_not_fit(run, flags, expected):
    with pytest.raises(CuratorError, match=expected):
        launch([run], **flags)
    assert require_enough(5, []) == ""


def test_two_decide_each_row_unseen_and_a_third_settles(run, tmp_path):
    session = Session([run], tmp_path / "r.sqlite", overlap=2, accounts=NAMES, adjudicators=["eve"])

    def save(who, key, *acts, **more):
        step = {"key": f"the-step-{key}", "kind": "do", "rows": list(acts), **more}
        return session.save({"steps": [step], **shown(session, who)}, who)

    def rows(who, **view):
        return {int(p) for p in session.queue.open(View(**view), who)}

    with closing(session.journal):
        assert "owed" in session.hello({}, "ann")["decided"] and not session.hello({}, "ann")["rules"]
        owe = {who: rows(who, decided="owed") for who in NAMES}
        assert [session.counts(who)["owed"] for who in NAMES] == [len(owe[who]) for who in NAMES]
        row = min(owe["ann"] & owe["ben"])  # ids are positions here
        other = next(c for c in range(5) if c != session.rows.given[row])
        save("ann", "a", [row, "keep", None])
        assert session.decided(row, "ben") == {"mine": None, "others": []}  # and so is not swayed
        assert session.decided(row, "eve")["others"] == []
        assert row not in rows("ann", decided="owed") and row in rows("ben", decided="owed")
        assert save("ben", "b", [row, "relabel", other], ruling=True)["refused"] == ["the-step-b"]
        save("ben", "c", [row, "relabel", other])
        assert [o["reviewer"] for o in session.decided(row, "ben")["others"]] == ["ann"]
        assert [o["reviewer"] for o in session.decided(row, "eve")["others"]] == ["ann", "ben"]
        assert not any(row in rows(who, decided="owed", show="all") for who in NAMES)
        assert rows("eve", show="conflicts") == {row}
        save("eve", "d", [row, "relabel", other], ruling=True)
        assert rows("eve", show="conflicts") == set() and session.decided(row, "eve")["mine"]["ruling"]
        assert [o.get("ruling") for o in session.decided(row, "ben")["others"]] == [None, True]
        people = session.people({}, "ann")
        assert people["quality"]["ben"]["right"] == 1 and people["quality"]["ann"]["right"] == 0
        assert people["rulings"] == 1 and people["owed"]["ann"] == len(owe["ann"]) - 1
        assert people["verified"]["conflict"] == 0 and people["agreement"][0]["agreement"] == 0


def test_one_word_is_enough_by_default(run, tmp_path):
    session = Session([run], tmp_path / "r.sqlite")
    with closing(session.journal):
        hello = session.hello({}, "ann")
        assert hello["overlap"] == 1 and hello["rules"] and "owed" not in hello["decided"]
        assert "owed" not in hello["counts"] and session.people({}, "ann")["owed"] == {}
    rows = Rows(run)
    with closing(Journal(tmp_path / "r.sqlite")) as journal:
        assert Queue([rows], journal).overlap == 1
