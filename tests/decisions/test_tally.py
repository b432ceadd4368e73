import pytest

from tests.decisions.steps import do
from tests.review.serving import verified


def test_agreement_conflicts_and_what_is_trusted(journal):
    ann = [(0, "keep", "cat"), (1, "relabel", "dog"), (2, "keep", "cat"), (3, "drop", None), (4, "unsure", None)]
    ben = [(0, "keep", "cat"), (1, "keep", "cat"), (2, "unsure", None), (3, "relabel", "dog"), (5, "relabel", "dog")]
    journal.save([do("1", *ann), do("x", (6, "drop", None))], "ann")
    journal.save([do("2", *ben)], "ben")
    assert journal.conflicts() == [1, 3]
    (both,) = journal.agreement()
    assert both["reviewers"] == ["ann", "ben"] and both["rows"] == 3 and both["agreement"] == pytest.approx(1 / 3)
    # ann: cat dog drop, ben: cat cat dog -> chance (1*2 + 1*1) / 9
    assert both["kappa"] == pytest.approx((1 / 3 - 1 / 3) / (1 - 1 / 3))
    found = journal.verified()
    assert found.labels == {0: "cat", 2: "cat", 5: "dog"}
    assert found.counts == {"keep": 2, "relabel": 1, "drop": 1, "unsure": 1, "both": 0, "conflict": 2}
    assert verified(journal.path) == found.labels
    journal.save([do("3", (1, "relabel", "dog"))], "ben")
    assert journal.conflicts() == [3] and journal.verified().labels[1] == "dog"


def test_kappa_is_undefined_where_both_gave_one_label(journal):
    journal.save([do("1", (0, "keep", "cat"), (1, "keep", "cat"))], "ann")
    journal.save([do("2", (0, "keep", "cat"), (1, "keep", "cat"), (2, "keep", "dog"))], "ben")
    journal.save([do("3", (0, "drop", None), (1, "drop", None), (2, "keep", "dog"))], "eve")
    assert [(a["reviewers"], a["agreement"], a["kappa"]) for a in journal.agreement()] == [
        (["ann", "ben"], 1, None), (["ann", "eve"], 0, 0), (["ben", "eve"], pytest.approx(1 / 3), pytest.approx(0.25)),
    ]  # fmt: skip
