import pytest

from curator.config.resolve import resolve
from curator.signals.contradicted import contradicted
from curator.train import _has_guard
from tests.methods.test_auto import rows


@pytest.mark.parametrize("kind, rate, found", [
    ("pairs", 0.8, True), ("pairs", 0.3, False), ("even", 0.7, False), ("even", 0.0, False),
])  # fmt: skip
def test_labels_that_are_another_class_more_often_than_the_right_one(kind, rate, found):
    data, given = rows(kind, rate, verified=0.2)
    known = data.trusted
    pair = contradicted(data.labels[known], given[known], 5)
    assert (pair is not None) is found and (pair is None or pair[1] == (pair[0] + 1) % 5)
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
        assert _has_guard(resolved, data, given.numpy(), run) is guarded and len(said) == (not guarded)
    assert said[0].startswith(line) and len(run.warnings) == (method == "ce")
    off = resolve({"method": method, "features_column": "f", "guard": False})
    assert not any(_has_guard(off, *it, run) for it in [(data, given.numpy()), (data, data.labels.numpy())])
    data, given = rows("pairs", 0.8)
    assert not data.trusted.any() and _has_guard(resolved, data, given.numpy(), run)
