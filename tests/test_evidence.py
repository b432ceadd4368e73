import numpy as np
import pytest
import torch
from torch.nn import functional as F

from curator.errors import CuratorError, RunFailed
from curator.evidence import Evidence, NoisyDataset, Present, collapse_warning, collapsed_into, evidence
from tests.conftest import noisy


def test_dataset_refuses_what_does_not_fit():
    data, _ = noisy(12, 3)
    with pytest.raises(CuratorError, match=r"labels: expected torch.int64 of shape \(12,\)"):
        NoisyDataset(data.inputs, data.labels[:5], data.classes, data.trusted, data.rows)
    with pytest.raises(CuratorError, match="expected 0 to 1, found 0 to 2"):
        NoisyDataset(data.inputs, data.labels, data.classes[:2], data.trusted, data.rows)
    with pytest.raises(CuratorError, match="two classes"):
        NoisyDataset(data.inputs, data.labels * 0, data.classes[:1], data.trusted, data.rows)


def test_truth_is_no_field():
    assert set(NoisyDataset.__dataclass_fields__) == {"inputs", "labels", "classes", "trusted", "rows", "source_rows"}


def test_classes_that_no_label_names_are_not_shown():
    """Of five classes labels name 1 and 4: these are 0 and 1 inside, and again 1 and 4 outside."""
    present = Present.of([torch.tensor([4, 1]), torch.tensor([4, 4])], 5)
    assert present.names("abcde") == ("b", "e")
    assert present.inside(torch.tensor([1, 4, 0, -1])).tolist() == [0, 1, -1, -1]
    probs = torch.tensor([[0.25, 0.75]])
    found = present.evidence(Evidence(probs, torch.ones(1), torch.zeros(1, dtype=torch.bool), torch.tensor([1])))
    assert found.probs.tolist() == [[0, 0.25, 0, 0, 0.75]] and found.corrected.tolist() == [4]
    assert len(Present.of([torch.tensor([3, 3])], 5).numbers) == 5  # of one class there is nothing to learn


def test_default_rules():
    data, _ = noisy(6, 3, share=0)  # labels 0 1 2 0 1 2
    probs = torch.tensor(
        [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
    )
    found = evidence(probs, data)
    assert found.selected.tolist() == [True, False, True, False, True, True]
    assert found.corrected.tolist() == [0, 0, 2, 1, 1, 2]
    torch.testing.assert_close(found.clean_score, torch.tensor([0.8, 0.3, 0.8, 0.2, 0.8, 0.4]))


def test_trusted_rows_stay():
    import numpy as np

    data, _ = noisy(6, 3, share=0, trusted=np.array([True] * 3 + [False] * 3))
    found = evidence(torch.tensor([[0.0, 0.0, 1.0]]).repeat(6, 1), data)
    assert found.selected.tolist() == [True, True, True, False, False, True]
    assert found.corrected.tolist() == [0, 1, 2, 2, 2, 2]
    assert found.clean_score[:3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("field, value", [
    ("probs", torch.full((6, 3), float("nan"))),
    ("probs", torch.ones(6, 3)),
    ("clean_score", torch.full((6,), 1.5)),
    ("selected", torch.zeros(6)),
    ("corrected", torch.full((6,), 3)),
])  # fmt: skip
def test_check_refuses(field, value):
    data, _ = noisy(6, 3)
    good = evidence(torch.full((6, 3), 1 / 3), data)
    fields = {name: getattr(good, name) for name in Evidence.__dataclass_fields__}
    with pytest.raises(RunFailed, match=field):
        Evidence(**{**fields, field: value}).check(data)


def test_collapse():
    data, _ = noisy(120, 3)

    def of(classes):
        return evidence(F.one_hot(torch.tensor(classes), 3).float(), data)

    assert collapsed_into(of([1] * 115 + [0] * 5), data) == 1
    assert collapsed_into(of([1] * 100 + [0] * 20), data) is None
    tail, _ = noisy(120, 3, np.r_[np.ones(100, np.int64), np.zeros(20, np.int64)])
    assert collapsed_into(evidence(F.one_hot(torch.ones(120, dtype=torch.int64), 3).float(), tail), tail) is None
    assert "'class 1'" in collapse_warning(data.classes[1])
