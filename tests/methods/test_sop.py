"""SOP and SOP+: worked numbers, what trains what, and the clean score."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from curator.engine.augment import draw_square
from curator.engine.optim import sgd
from curator.methods.sop import SOP, clean_score, consistency_loss, label_loss
from tests.conftest import noisy
from tests.methods.test_contract import result

P = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
LOGITS = P.log()
Y = torch.tensor([[0.0, 0, 1]], dtype=torch.float64)
U, V = torch.tensor([0.5], dtype=torch.float64), torch.tensor([[0.2, 0.4, 0.3]], dtype=torch.float64)


def leaves(logits=LOGITS, u=U, v=V):
    return [x.clone().requires_grad_() for x in (logits, u, v)]


def test_both_losses():
    logits, u, v = leaves()
    label_loss(logits, Y, u, v).backward()
    with torch.no_grad():
        assert float(label_loss(logits, Y, u, v)) == pytest.approx(0.8473 + 1.5097, abs=1e-4)
        mixed = torch.tensor([0.46, 0.14, 0.45])
        assert float(-(mixed[2] / mixed.sum()).log()) == pytest.approx(0.8473, abs=1e-4)
    # v learns by the squared error alone: d/dv (0.96^2 + 0.16^2) = -4 v (difference) of the other classes.
    assert v.grad[0].tolist() == pytest.approx([-4 * 0.2 * 0.96, 4 * 0.4 * 0.16, 0])
    # u by both: 4 u (u^2 - 1), and 2 u (1 / 1.05 - 1 / 0.45).
    assert u.grad.tolist() == pytest.approx([4 * 0.5 * -0.75 + 2 * 0.5 * (1 / 1.05 - 1 / 0.45)])
    # the net by the first alone, as it is without u and v but for their sizes
    explained = P.log().clone().requires_grad_()
    sizes = torch.tensor([[-0.04, -0.16, 0.25]])
    (-F.normalize(explained.softmax(1) + sizes, p=1, dim=1)[0, 2].log()).backward()
    torch.testing.assert_close(logits.grad, explained.grad)


def test_without_u_and_v_it_is_cross_entropy_and_a_count():
    logits, u, v = leaves(torch.tensor([[2.0, 0, -1], [0.5, 1, 0]]), torch.zeros(2), torch.zeros(2, 3))
    labels = F.one_hot(torch.tensor([0, 2]), 3).float()
    wrong = torch.tensor([0.0, 2])  # of the second the predicted and the given class differ
    loss = label_loss(logits, labels, u, v)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels) + wrong.mean(), atol=1e-6, rtol=0)


def test_large_sizes_are_clamped():
    logits, u, v = leaves(u=torch.tensor([30.0]), v=torch.full((1, 3), -20.0))
    loss = label_loss(logits, Y.float(), u, v)
    loss.backward()
    assert loss.isfinite() and not u.grad.any() and not v.grad.any()


def test_consistency():
    weak, strong = torch.tensor([[1.0, 0, 0]], requires_grad=True), torch.tensor([[0.0, 1, 0]], requires_grad=True)
    loss = consistency_loss(weak, strong)
    p, q = weak.detach().softmax(1), strong.detach().softmax(1)
    torch.testing.assert_close(loss.detach(), (p * (p / q).log()).sum())
    loss.backward()
    assert weak.grad is None
    torch.testing.assert_close(strong.grad, q - p)


def test_clean_score():
    probs = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    u = torch.tensor([0, 0, 0.8, 1.0, -3])
    score = clean_score(u, probs, torch.zeros(5, dtype=torch.int64))
    assert score.tolist() == pytest.approx([1, 1, 0.36, 0, 0], abs=1e-3)
    assert score.argsort(descending=True).tolist() == [0, 1, 2, 4, 3]  # where u is alike, by p
    assert score.min() >= 0 and score.max() <= 1


def test_rates():
    assert [SOP().rate(e) for e in (0, 40, 79, 80, 119)] == pytest.approx([0.02, 0.002, 0.002, 2e-4, 2e-4])
    falling = SOP(epochs=300, first_drop=0, second_drop=0)
    assert [falling.rate(e) for e in (0, 150, 300)] == pytest.approx([0.02, 0.0101, 2e-4])


def test_u_grows_where_the_label_goes_against_the_net(make_run):
    data, truth = noisy(300, 3, kind="features")
    run = make_run(net="mlp")
    found = result("sop", data, run, epochs=4, lr=0.05, batch_size=16, rate_u=30.0, consistency=0.0, balance=0.0)
    wrong, u = torch.from_numpy(data.labels.numpy() != truth), run.registered["u"].abs()
    assert u[wrong].median() > 1e4 * u[~wrong].median()
    assert torch.equal(found.selected, found.probs.argmax(1) == data.labels)
    assert (found.clean_score[u > 1] < 2e-3).all() and (found.clean_score[u < 1e-4] > 0.998).all()


def test_where_no_u_grows_it_says_so(make_run):
    data, _ = noisy(60, 3, kind="features")
    run = make_run(net="mlp")
    result("sop", data, run, epochs=1, rate_u=1.0)
    assert "u has grown (u^2 > .5) in only 0% of" in run.warnings[0] and "--method.score" in run.warnings[0]
    run = make_run(net="mlp")
    result("sop", data, run, epochs=3, rate_u=1e4)
    assert not run.warnings
    run = make_run(net="mlp")
    found = result("sop", data, run, epochs=1, rate_u=1.0, score="prediction")
    torch.testing.assert_close(found.clean_score, found.probs.gather(1, data.labels[:, None])[:, 0])
    assert not run.warnings


def test_u_and_v_step_by_plain_descent_row_by_row(make_run):
    data, _ = noisy(8, 2, kind="features")
    run = make_run(net="mlp")
    method, net = SOP(batch_size=8, rate_u=3.0, rate_v=5.0), run.build_net("net0", data)
    u, v = torch.full((8,), 0.5), torch.full((8, 2), 0.4)
    seen = []
    hook = net.register_forward_hook(lambda module, x, out: seen.append(out.logits.detach()))
    method.train(net, net, sgd(net.parameters(), 0.1, 0.0), u, v, data, run, 0)
    hook.remove()
    (order,) = run.batches(None, torch.arange(8), 8, 0, "shuffle0")
    labels = F.one_hot(data.labels[order], 2).float()
    logits, own_u, own_v = leaves(seen[0], torch.full((8,), 0.5), torch.full((8, 2), 0.4))
    label_loss(logits, labels, own_u, own_v).backward()
    torch.testing.assert_close(u[order], 0.5 - 3 * own_u.grad)
    torch.testing.assert_close(v[order], 0.4 - 5 * own_v.grad)


def test_cutouts_squares():
    boxes = draw_square(5000, (32, 40), torch.Generator().manual_seed(1))
    assert torch.equal(boxes[:, 2:] - boxes[:, :2], torch.full((5000, 2), 15))  # 16 px with both ends
    assert boxes.amin(0)[:2].tolist() == [-8, -8] and boxes.amax(0)[2:].tolist() == [39 + 7, 31 + 7]
    middle = (boxes[:, 0] + 8).double().numpy()
    assert np.abs(middle.mean() - 19.5) < 0.7
