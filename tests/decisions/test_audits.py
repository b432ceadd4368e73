import pytest

from curator.decisions.database import TakenKey


def test_the_latest_sample_and_the_latest_label_hold(journal):
    assert journal.audits.last("run", "ann") is None and journal.audits.reviewers("run") == []
    journal.audits.add("run", "ann", 1, [(5, "selected"), (2, "flagged")])
    journal.audits.add("run", "ben", 1, [(5, "selected")])
    journal.audits.add("run", "ann", 2, [(9, "flagged"), (7, "selected")])
    assert journal.audits.last("run", "ann") == (3, [(9, "flagged"), (7, "selected")])
    assert journal.audits.reviewers("run") == ["ann", "ben"] and journal.audits.reviewers("another run") == []
    for key, label in [("a", "cat"), ("b", None), ("c", "dog")]:
        assert journal.audits.save_label(3, 9, label, "ann", key)
    assert journal.audits.labels(3, "ann") == {9: "dog"}
    assert not journal.audits.save_label(3, 5, "cat", "ann", "d")  # no row of that sample
    assert not journal.audits.save_label(3, 9, "cat", "ben", "e")  # nor a sample of ben's


def test_a_key_is_of_one_label(journal):
    """A label with the key of another one is not taken for it."""
    journal.audits.add("run", "ann", 1, [(1, "selected"), (2, "selected")])
    assert journal.audits.save_label(1, 1, "cat", "ann", "label")
    for audit, row, label, who in [(1, 1, "cat", "ben"), (1, 2, "cat", "ann"), (1, 1, "dog", "ann")]:
        with pytest.raises(TakenKey):
            journal.audits.save_label(audit, row, label, who, "label")
    assert journal.audits.save_label(1, 1, "cat", "ann", "label") and journal.audits.labels(1, "ann") == {1: "cat"}
