import pytest
import torch

from curator.config.resolve import resolve
from curator.engine.estimate import estimate
from curator.evidence import NoisyDataset
from curator.methods.auto import pick
from curator.signals.contradicted import contradicted
from curator.train import _has_guard
from tests.methods.test_auto import rows


@pytest.mark.parametrize("kind, rate, found", [
    ("pairs", 0.8, True), ("pairs", 0.3, False), ("even", 0.7, False), ("even", 0.0, False),
])  # fmt: skip
def test_labels_that_are_another_class_more_often_than_the_right_one(kind, rate, found, make_run):
    data, given = rows(kind, rate, verified=0.2)
    known = data.trusted
    pair = contradicted(data.labels[known], given[known], 5)
    assert (pair is not None) is found and (pair is None or pair[1] == (pair[0] + 1) % 5)
    seen = alone(data, make_run(net="mlp"))[known]
    assert contradicted(data.labels[known], given[known], 5, seen) == pair
    few = known.nonzero()[:8, 0]  # too few to tell
    assert contradicted(data.labels[few], given[few], 5) is None is contradicted(data.labels[:0], given[:0], 5)


@pytest.mark.parametrize("method, line", [
    ("ce", "warning   more verified rows of"), ("pudistill", "guard     off: more verified rows of"),
])  # fmt: skip
def test_verified_rows_are_believed_more_than_the_guard(make_run, method, line):
    said: list[str] = []
    run, resolved = make_run(net="mlp", say=said.append), resolve({"method": method, "features_column": "f"})
    for rate, guarded in ((0.2, True), (0.8, False)):
        data, given = rows("pairs", rate, verified=0.2)
        assert _has_guard(resolved, data, given, alone(data, run), run) is guarded and len(said) == (not guarded)
    assert said[0].startswith(line) and len(run.warnings) == (method == "ce")
    off = resolve({"method": method, "features_column": "f", "guard": False})
    assert not any(_has_guard(off, data, labels, alone(data, run), run) for labels in (given, data.labels))
    data, given = rows("pairs", 0.8)
    assert not data.trusted.any() and _has_guard(resolved, data, given, alone(data, run), run)


@pytest.mark.parametrize("rate", [0.3, 0.15])
def test_reviewed_suspicious_rows_do_not_make_labels_misleading(rate, make_run):
    """Whoever looks at the least clean rows first finds wrong labels only; what the others say of them is right."""
    data, given = rows("pairs", rate)
    run = make_run(net="mlp")
    worst = estimate(data, run).clean.argsort()[:100]
    truth, known = torch.arange(len(data)) % 5, torch.zeros(len(data), dtype=torch.bool)
    known[worst] = True
    reviewed = NoisyDataset(data.inputs, torch.where(known, truth, given), data.classes, known, data.rows)
    looked_at = truth[known], given[known], 5
    assert contradicted(*looked_at) is not None  # by themselves they look as if labels misled
    assert contradicted(*looked_at, alone(reviewed, run)[known]) is None
    assert pick(reviewed, given, run).method == "posterior"


def alone(data, run):
    """Probabilities of the classes by models that did not learn the row."""
    return estimate(data, run).alone
