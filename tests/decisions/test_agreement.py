import numpy as np
import pytest

from curator.decisions.agreement import agreement_by_class, fleiss, qualities

# The worked example of Fleiss (1971) as Wikipedia has it: 10 subjects, 14 raters, 5 categories.
WORKED = np.array([
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
])  # fmt: skip


def test_fleiss():
    assert fleiss(WORKED) == pytest.approx(0.210, abs=5e-4)
    assert fleiss(np.vstack([WORKED, [[1, 0, 0, 0, 0]]])) == fleiss(WORKED)  # one reviewer agrees with nobody
    assert fleiss(np.array([[2, 0], [2, 0]])) is None and fleiss(np.zeros((0, 3))) is None
    assert fleiss(np.array([[2, 0], [0, 3]])) == 1


def test_agreement_by_class():
    named = {"ann": {0: "cat", 1: "dog", 2: None, 3: "cat", 9: "fox"}, "ben": {0: "cat", 1: "cat", 2: None, 3: "dog"}}
    kappa, by_class = agreement_by_class(named)
    assert kappa == pytest.approx(fleiss(np.array([[2, 0, 0], [1, 1, 0], [0, 0, 2], [1, 1, 0]])))
    assert [(label, rows) for label, rows, _ in by_class] == [("dog", 2), ("cat", 3), (None, 1)]
    assert by_class[-1][2] == 1 and by_class[0][2] < 0  # they agree on what to drop, and never on dogs


@pytest.mark.parametrize("rules", [False, True])
def test_quality(rules):
    """Three reviewers of known quality, two of them on each row: what is estimated is near what they are."""
    rng, names, skill = np.random.default_rng(0), [f"c{i}" for i in range(5)], {"ann": 0.95, "ben": 0.95, "eve": 0.7}
    truth = rng.integers(5, size=600)
    named: dict[str, dict[int, str | None]] = {who: {} for who in skill}
    for row in range(600):
        for who in rng.permutation(list(skill))[:2]:
            code = truth[row] if rng.random() < skill[who] else (truth[row] + rng.integers(1, 5)) % 5
            named[who][row] = names[code]
    named["ann"][700] = "c1"  # alone
    settled = {}
    if rules:
        said = {row: {of[row] for of in named.values() if row in of} for row in range(600)}
        settled = {row: names[truth[row]] for row, of in said.items() if len(of) > 1}
    think = np.where(rng.random(600) < 0.7, truth, rng.integers(5, size=600))
    beliefs = 0.1 + 0.5 * np.eye(5)[think]
    found = qualities(named, settled, lambda rows, labels: beliefs[np.ix_(rows, [names.index(x) for x in labels])])
    for who, of in named.items():
        real = np.mean([label == names[truth[row]] for row, label in of.items() if row < 600])
        got = found[who]
        assert got["rows"] == len(of) - (700 in of) and got["low"] < got["right"] / got["rows"] < got["high"]
        assert got["right"] / got["rows"] == pytest.approx(real, abs=0.015 if rules else 0.06), who
    assert qualities({"ann": {1: "c1"}, "ben": {2: "c1"}}, {}, lambda *_: np.zeros((0, 0))) == {}
    few = qualities({"ann": {1: "a", 2: "b"}, "ben": {1: "b", 3: None}}, {3: "a"}, lambda rows, _: np.ones((2, 2)))
    assert few["ben"]["rows"] == 2 and few["ben"]["right"] <= 1 and few["ann"]["rows"] == 1
    alone = qualities({"ann": {1: "c1", 2: "c1"}}, {1: "c0", 2: "c1"}, lambda rows, labels: np.ones((2, 2)))
    assert alone["ann"]["right"] == 1 and alone["ann"]["worst"] == {"label": "c0", "rows": 1, "wrong": 1}
