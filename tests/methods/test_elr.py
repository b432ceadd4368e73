"""ELR and ELR+: worked numbers, what carries gradients, rates, and the result of both."""

import copy
import shutil
from math import log

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from curator.engine.optim import sigmoid_ramp
from curator.methods.elr import CLAMP, ELR, average, early_term, moved
from tests.conftest import noisy
from tests.methods.test_contract import equal, result

PLUS = {"plus": True, "restart": 2, "lambda_ramp": 2, "weigh_labels": True}
P = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)


def test_a_target_and_its_term():
    targets = torch.zeros(4, 3, dtype=torch.float64)
    moved(targets, torch.tensor([2]), P.log(), 0.7)
    assert targets[2].tolist() == pytest.approx([0.15, 0.09, 0.06]) and not targets[[0, 1, 3]].any()
    assert float(early_term(P.log(), targets[[2]])) == pytest.approx(log(1 - 0.114))
    assert float(early_term(P.log(), targets[[2]])) == pytest.approx(-0.1210, abs=5e-5)
    moved(targets, torch.tensor([2]), P.log(), 0.7)
    assert targets[2].tolist() == pytest.approx([0.255, 0.153, 0.102])


def test_sure_predictions_stay_finite():
    logits = torch.tensor([[500.0, 0, 0]], requires_grad=True)
    targets = torch.zeros(1, 3)
    for _ in range(100):
        moved(targets, torch.tensor([0]), logits, 0.7)
    assert not targets.requires_grad
    term = early_term(logits, targets)
    term.backward()
    assert -log(1 / CLAMP) < term < -6 and logits.grad.isfinite().all()


def test_the_term_pulls_to_the_target():
    logits, targets = torch.zeros(1, 3, requires_grad=True), torch.tensor([[0.8, 0.1, 0.1]])
    early_term(logits, targets).backward()
    pull = -logits.grad[0]
    assert pull[0] > 0 > pull[1] and pull[1] == pull[2]


def test_averaged_weights():
    net, averaged = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for step, (now, expected) in enumerate([(4.0, 4.0), (2.0, 3.0), (0.0, 2.0), (10.0, 4.0)]):  # means, so far
        nn.init.constant_(net.weight, now)
        average(averaged, net, 0.997, step)
        assert averaged.weight.item() == pytest.approx(expected), step
    average(averaged, net, 0.9, 1000)
    assert averaged.weight.item() == pytest.approx(0.9 * 4 + 0.1 * 10)


def test_rates_and_the_ramp():
    restarts = ELR()
    assert [restarts.rate(e) for e in (0, 5, 9.999, 10, 15)] == pytest.approx([0.02, 0.0105, 0.001, 0.02, 0.0105], 1e-3)
    drops = ELR(restart=0, first_drop=40, second_drop=80)
    assert [drops.rate(e) for e in (0, 39.9, 40, 80)] == pytest.approx([0.02, 0.02, 2e-4, 2e-6])
    assert [sigmoid_ramp(7.0, e, 4) for e in (0, 2, 4, 9)] == pytest.approx(
        [7 * 0.006738, 7 * 0.286505, 7, 7], rel=1e-4
    )
    assert sigmoid_ramp(7.0, 0, 0) == 7.0


def test_every_row_has_a_target_of_the_labels_that_were_seen(make_run):
    data, _ = noisy(60, 3, kind="features")
    run = make_run(net="mlp")
    found = result("elr", data, run, epochs=2, beta=0.7, soft_label="target")
    targets = run.registered["targets0"]
    assert targets.sum(1).tolist() == pytest.approx([1 - 0.7**2] * 60)  # each was moved twice
    torch.testing.assert_close(found.probs, F.normalize(targets, p=1, dim=1))
    predicted = result("elr", data, make_run(net="mlp"), epochs=2, beta=0.7)
    torch.testing.assert_close(predicted.probs, run.predict(run.scorers[0], data.inputs).softmax(1))


def test_the_nets_of_elr_plus_learn_from_each_other(make_run):
    data, _ = noisy(60, 3, kind="features")
    run = make_run(net="mlp")
    method = ELR(**PLUS, epochs=1, batch_size=30, beta=0.5)
    peers = [method.peer(str(i), run.build_net(f"net{i}", data), data, run) for i in (0, 1)]
    copied = copy.deepcopy(peers[1].averaged.state_dict())
    method.train(peers[0], peers[1], data, run, 0)
    assert peers[0].targets.all() and not peers[1].targets.any()
    for name, value in peers[1].averaged.state_dict().items():  # it only predicts, in training mode
        assert torch.equal(value, copied[name]) == ("running" not in name and "batches" not in name), name
    moved_by = [(a - b).abs().sum() for a, b in zip(peers[0].averaged.parameters(), peers[0].net.parameters())]  # noqa: B905
    assert all(m > 0 for m in moved_by)  # two steps: the mean of both


def test_elr_plus_stops_and_resumes(make_run, tmp_path):
    data, _ = noisy(60, 3, kind="features")
    straight, copies = make_run(net="mlp", checkpoints=tmp_path / "now"), []
    for found in ELR(**PLUS, epochs=3, batch_size=16)(data, straight):  # noqa: B007 (the last one is the result)
        straight.close_epoch()
        straight.checkpoint()
        copies.append(shutil.copytree(tmp_path / "now", tmp_path / f"after {len(copies)}"))
    resumed = result("elr", data, make_run(net="mlp", checkpoints=copies[1]), **PLUS, epochs=3, batch_size=16)
    assert all(equal(resumed, found).values())
