"""Several methods in one run are what they are alone, and their mean."""

import pytest
import torch

from curator.methods import METHODS
from curator.methods.ensemble import Ensemble, mean_evidence
from tests.conftest import noisy
from tests.methods.test_contract import build

NAMES = ("mixup", "confident", "promix")  # of 3, 4 and 5 epochs


def members(names=NAMES):
    return {name: build(name, epochs=3 + NAMES.index(name)) for name in names}


def last(method, data, run, stop=None):
    for i, found in enumerate(method(data, run), 1):  # noqa: B007 (the last one is the result)
        run.close_epoch()
        run.checkpoint()
        if i == stop:
            break
    return found


def test_the_mean_of_what_each_finds_alone(make_run):
    data, _ = noisy(90, 3)
    alone = [last(member, data, make_run()) for member in members().values()]
    run = make_run()
    together = last(Ensemble(members()), data, run)
    torch.testing.assert_close(together.probs, torch.stack([e.probs for e in alone]).mean(0))
    torch.testing.assert_close(together.clean_score, torch.stack([e.clean_score for e in alone]).mean(0))
    assert torch.equal(together.selected, together.probs.argmax(1) == data.labels)
    assert [len(nets) for nets in run.scorers] == [1, 5, 2]
    assert run.progress == {"mixup/train": 3, "confident/train": 4, "promix/train": 5}


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_stop_and_resume_equals_straight_through(stop, make_run, tmp_path):
    data, _ = noisy(60, 3, kind="features")
    straight = last(Ensemble(members()), data, make_run(net="mlp"))
    last(Ensemble(members()), data, make_run(net="mlp", checkpoints=tmp_path), stop)
    resumed = last(Ensemble(members()), data, make_run(net="mlp", checkpoints=tmp_path))
    assert torch.equal(resumed.probs, straight.probs) and torch.equal(resumed.clean_score, straight.clean_score)


def test_stopping_ends_all_members(make_run):
    data, _ = noisy(60, 3)
    run = make_run()
    for i, found in enumerate(Ensemble({name: build(name, epochs=50) for name in NAMES})(data, run), 1):
        found.check(data)
        run.close_epoch()
        if i >= 2:
            run.stop()
    assert set(run.progress.values()) == {2}


def test_trusted_rows_and_worked_numbers():
    trusted = torch.tensor([False, True, False])
    data, _ = noisy(3, 2, torch.tensor([0, 0, 1]).numpy(), trusted=trusted.numpy())
    a, b = (
        mean_evidence([_evidence(p, data)], data)
        for p in ([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [[0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
    )
    both = mean_evidence([a, b], data)
    torch.testing.assert_close(both.probs, torch.tensor([[0.55, 0.45], [0.3, 0.7], [0.35, 0.65]]))
    torch.testing.assert_close(both.clean_score, torch.tensor([0.55, 1.0, 0.65]))
    assert both.selected.tolist() == [True, True, True] and both.corrected.tolist() == [0, 0, 1]


def _evidence(probs, data):
    from curator.evidence import evidence

    return evidence(torch.tensor(probs), data)


def test_passes_add_up():
    found = members()
    assert Ensemble(found).total_epochs(10) == sum(m.total_epochs(10) for m in found.values())
    assert Ensemble(found).epochs == 5 and set(found) <= set(METHODS)
