import sqlite3

import pytest

from curator.decisions.database import TakenKey
from tests.decisions.steps import do, labels, turn


def test_the_latest_decision_of_a_reviewer_holds(journal):
    journal.save([do("1", (7, "keep", "cat")), do("2", (7, "relabel", "dog"), (9, "drop", None))], "ann")
    assert labels(journal) == {7: ("relabel", "dog"), 9: ("drop", None)}
    first, second = journal.decision(7, "ann").previous, journal.decision(9, "ann").previous
    assert (first, second) == (1, None) and journal.decision(7, "ben") is None


def test_undo_and_redo_take_a_step_at_a_time(journal):
    journal.save([do("1", (1, "keep", "cat")), do("2", (1, "drop", None), (2, "drop", None), (3, "drop", None))], "ann")
    assert journal.save([turn("3", "undo")], "ann").keys() == {1, 2, 3}
    assert labels(journal) == {1: ("keep", "cat")} and journal.history("ann") == (["1"], ["2"])
    journal.save([turn("4", "undo"), turn("5", "undo")], "ann")  # the second has nothing to take back
    assert labels(journal) == {} and journal.history("ann") == ([], ["2", "1"])
    journal.save([turn("6", "redo"), turn("7", "redo"), turn("8", "redo")], "ann")
    assert labels(journal) == {1: ("drop", None), 2: ("drop", None), 3: ("drop", None)}
    journal.save([turn("9", "undo"), do("10", (5, "unsure", None)), turn("11", "redo")], "ann")  # nothing to redo now
    assert labels(journal) == {1: ("keep", "cat"), 5: ("unsure", None)} and journal.history("ann") == (["1", "10"], [])


def test_undo_names_its_step(journal):
    """Two tabs of one reviewer: each takes back its own, unless the row was decided again since."""
    journal.save([do("a", (1, "keep", "cat")), do("b", (2, "drop", None)), do("c", (3, "drop", None))], "ann")
    assert journal.save([{**turn("u1", "undo"), "target": "a"}], "ann") == {1: None}
    assert labels(journal) == {2: ("drop", None), 3: ("drop", None)} and journal.history("ann") == (["b", "c"], ["a"])
    journal.save([do("d", (2, "keep", "dog"))], "ann")
    found = journal.save([{**turn("u2", "undo"), "target": "b"}], "ann")  # its row was decided again
    assert found[2].label == "dog" and journal.history("ann") == (["b", "c", "d"], [])
    for key, kind, target in [("u3", "redo", "a"), ("u4", "undo", "none"), ("u5", "undo", "a"), ("u6", "redo", "c")]:
        journal.save([{**turn(key, kind), "target": target}], "ann")
        assert labels(journal) == {2: ("keep", "dog"), 3: ("drop", None)}
    journal.save([do("x", (9, "drop", None))], "ben")
    journal.save([{**turn("u7", "undo"), "target": "x"}], "ann")  # somebody else's
    assert labels(journal, "ben") == {9: ("drop", None)}
    journal.save([{**turn("u8", "undo"), "target": "d"}, {**turn("u9", "undo"), "target": "b"}], "ann")
    assert labels(journal) == {3: ("drop", None)}


def test_undo_after_redo(journal):
    journal.save([do("a", (1, "keep", "cat")), do("b", (1, "drop", None))], "ann")
    for i in range(3):
        journal.save([{**turn(f"u{i}", "undo"), "target": "b"}], "ann")
        assert labels(journal) == {1: ("keep", "cat")}
        journal.save([{**turn(f"r{i}", "redo"), "target": "b"}], "ann")
        assert labels(journal) == {1: ("drop", None)}


def test_undo_of_a_step_redone_before_an_older_one(journal):
    journal.save([do("a", (1, "keep", "cat")), do("b", (1, "drop", None))], "ann")
    for i, (kind, target) in enumerate([("undo", "b"), ("undo", "a"), ("redo", "b"), ("undo", "b")]):
        journal.save([{**turn(f"t{i}", kind), "target": target}], "ann")
    assert labels(journal) == {}  # a is still undone


def test_undo_is_a_reviewers_own(journal):
    journal.save([do("1", (1, "keep", "cat"))], "ann")
    journal.save([do("2", (1, "drop", None))], "ben")
    journal.save([turn("3", "undo")], "ann")
    assert labels(journal) == {} and labels(journal, "ben") == {1: ("drop", None)}


def test_a_step_that_is_sent_twice_counts_once(journal):
    steps = [do("1", (1, "keep", "cat")), turn("2", "undo"), turn("3", "redo")]
    for _ in range(3):
        assert journal.save(steps, "ann")[1].label == "cat"
    journal.save([turn("4", "undo")], "ann")
    assert labels(journal) == {} and journal.history("ann") == ([], ["1"])


def test_nothing_is_ever_changed(journal):
    db = sqlite3.connect(journal.path)
    seen = []
    for i, step in enumerate(
        [do("1", (1, "keep", "cat")), do("2", (1, "drop", None)), *[turn(f"u{i}", "undo") for i in range(2)]]
    ):
        journal.save([step], "ann")
        now = db.execute("SELECT * FROM decisions ORDER BY id").fetchall()
        assert now[: len(seen)] == seen and len(now) == i + 1
        seen = now
    db.close()
    assert [row[2] for row in seen] == ["keep", "drop", "keep", "clear"]


def test_a_key_is_of_one_step(journal):
    """A step with the key of another one is not taken for it, and nothing that came with it is saved."""
    journal.save([do("a", (1, "keep", "cat"), (2, "drop", None)), turn("u", "undo"), turn("r", "redo")], "ann")
    for steps, who in [
        ([do("a", (1, "keep", "cat"), (2, "drop", None))], "ben"),
        ([do("a", (1, "keep", "cat"))], "ann"),
        ([do("a", (1, "keep", "dog"), (2, "drop", None))], "ann"),
        ([turn("a", "undo")], "ann"), ([turn("u", "redo")], "ann"),
        ([do("new", (7, "drop", None)), turn("u", "undo")], "ben"),
    ]:  # fmt: skip
        with pytest.raises(TakenKey) as error:
            journal.save(steps, who)
        assert error.value.key == steps[-1]["key"]
    assert labels(journal, "ben") == {} and labels(journal) == {1: ("keep", "cat"), 2: ("drop", None)}


def test_two_right_labels(journal):
    """The given label holds and the second is noted, through undo and redo; who keeps the label agrees."""
    journal.save([do("1", (1, "both", "cat", "dog"), (2, "drop", None))], "ann")
    journal.save([do("2", (1, "keep", "cat"))], "ben")
    made = journal.decision(1, "ann")
    assert (made.action, made.label, made.also) == ("both", "cat", "dog") and journal.conflicts() == []
    journal.save([do("3", (1, "drop", None)), turn("4", "undo")], "ann")
    again = journal.decision(1, "ann")
    assert (again.action, again.label, again.also, again.origin) == ("both", "cat", "dog", made.id)
    found = journal.verified()
    assert found.labels == {1: "cat"} and found.also == {1: "dog"} and found.counts["both"] == 1
    journal.save([turn("5", "undo"), turn("6", "redo")], "ann")
    assert journal.decision(1, "ann").also == "dog"
    with pytest.raises(TakenKey):
        journal.save([do("1", (1, "both", "cat", "=2+2"), (2, "drop", None))], "ann")
    journal.save([do("7", (1, "relabel", "dog"))], "ben")
    assert journal.conflicts() == [1] and not journal.verified().also
