"""ProMix's blocks against numbers worked out from the paper's equations, and what each ablation takes away."""

import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.losses import negative_entropy
from curator.engine.nets import Output
from curator.engine.optim import cosine
from curator.engine.pair import TOGETHER
from curator.engine.subset import first_selected, masked_mean, partners
from curator.methods.cpc import CPC
from curator.methods.dividemix import DivideMix
from curator.methods.promix import Batch, ProMix, debiased_loss, debiased_pseudo_labels, move_priors
from tests.conftest import noisy


def close(a, b, atol=1e-5):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


class Lookup(nn.Module):
    """A net whose input is the number of a row, and whose outputs are the numbers that a test gives it."""

    def __init__(self, primary, auxiliary=None):
        super().__init__()
        self.primary = nn.Parameter(torch.tensor(primary, dtype=torch.float32))
        self.pseudo = None if auxiliary is None else nn.Parameter(torch.tensor(auxiliary, dtype=torch.float32))
        self.calls: list[Tensor] = []

    def each(self, views):
        return [(x, self(x)) for x in views]

    def forward(self, x, begun=False):
        self.calls.append(x)
        row = x[:, 0].round().long()
        return Output(self.primary[row], x, None if self.pseudo is None else self.pseudo[row])


def terms(method, nets, run, *, labels, selected, priors=None, epoch=25, weak=None, strong=None):
    """The terms of one batch's loss: rows 0 to b-1 are the weak views, b to 2b-1 the strong ones."""
    b = len(labels)
    k = 3
    weak = torch.arange(b).float()[:, None] if weak is None else weak
    strong = b + torch.arange(b).float()[:, None] if strong is None else strong
    flags = torch.tensor(selected, dtype=torch.bool).expand(2, -1)
    batch = Batch(weak, strong, torch.tensor(labels), flags, torch.ones(2, 2, 2))
    priors = torch.full((2, 2, k), 1 / k) if priors is None else priors
    found = method.look(nets, batch, priors, epoch, torch.Generator().manual_seed(0), run, TOGETHER)
    made = [term for i in (0, 1) for term in method.terms(i, found, run)]
    move_priors(priors, found.probs, found.selected, method.prior_momentum, run)
    return made


def plain(**changes):
    """Only what a test is about: no MHCS, no LGA, gamma 1/2 and lambda_u 1/20 at epoch 25."""
    return ProMix(**{"epochs": 600, "mhcs": False, "lga_epochs": 0, "gamma_ramp": 50, "lambda_u_ramp": 50, **changes})


# Selection


@pytest.mark.parametrize("reading, gradient_sign", [("paper", [-1, 1, 1]), ("released", [1, -1, 1])])
def test_the_label_that_guessing_gives(reading, gradient_sign, make_run, monkeypatch):
    """p = [.96, .03, .01] under the prior [.98, .01, .01]: the raw argmax is 0, the debiased one 1."""
    monkeypatch.setattr("curator.methods.promix.RHO", 1.0)
    logits = torch.tensor([0.96, 0.03, 0.01]).log().expand(8, 3).tolist()
    nets = [Lookup(logits, logits) for _ in range(2)]
    priors = torch.tensor([0.98, 0.01, 0.01]).repeat(2, 2, 1)
    method = plain(lga_epochs=600, reading=reading, tau=0.95, lambda_u=0.0, alpha=0.8)
    terms(method, nets, make_run(), labels=[2, 2, 2, 2], selected=[0, 0, 0, 0], priors=priors)[0][0].backward()
    assert nets[0].primary.grad[0].sign().tolist() == gradient_sign


def test_base_selection(make_run):
    data, _ = noisy(60, 3, share=0.3)
    logits = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(0))
    flags = plain(filter_rate=0.5).select_base(logits, data, 20)
    for net in (0, 1):
        losses = F.cross_entropy(logits[net], data.labels, reduction="none")
        for c in range(3):
            inside = data.labels == c
            assert flags[net][inside].sum() == min(10, int(inside.sum()))
            assert losses[inside & flags[net]].max() < losses[inside & ~flags[net]].min()
    assert not torch.equal(flags[0], flags[1])  # each net selects for itself
    assert not plain(base_selection="none").select_base(logits, data, 20).any()
    for rate, count in ((0.2, 12), (0.4, 24), (0.6, 36)):
        assert int(plain(filter_rate=rate).select_base(logits, data, 20)[0].sum()) == count
    long_tail = plain(quota="proportional", filter_rate=0.5).select_base(logits, data, 20)
    assert long_tail[0].sum() == (torch.bincount(data.labels) * 0.5).floor().sum()


def test_base_selection_within_predicted_classes():
    """For instance-dependent noise: rows compete within the class that their net predicts, from an epoch on."""
    data, _ = noisy(60, 3)
    logits = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(0))
    method = plain(regroup=50, filter_rate=0.5, quota="proportional")
    for epoch, groups in ((49, data.labels), (50, logits[0].argmax(1))):
        picked = method.select_base(logits, data, epoch)[0]
        assert torch.bincount(groups[picked], minlength=3).tolist() == (torch.bincount(groups) // 2).tolist()


def test_base_selection_by_a_mixture_of_each_class():
    data, _ = noisy(60, 3, share=0)
    bad = torch.arange(60) < 15
    sure = F.one_hot(data.labels, 3) * 6.0
    jitter = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    logits = torch.where(bad[:, None], -sure, sure) + jitter
    flags = plain(base_selection="gaussian_mixture").select_base(torch.stack([logits, logits]), data, 20)
    assert torch.equal(flags[0], ~bad)


def test_trusted_rows_are_selected():
    data, _ = noisy(60, 3, trusted=np.arange(60) < 20)
    logits = -8.0 * F.one_hot(data.labels, 3).expand(2, -1, -1)
    for base in ("small_loss", "gaussian_mixture", "none"):
        assert plain(base_selection=base, filter_rate=0.1).select_base(logits, data, 20)[:, :20].all()


# Losses


@pytest.mark.parametrize(
    "target, loss, gradient",
    [
        ([1, 0, 0], 0.131053, [-0.122829, 0.112414, 0.010415]),
        ([0, 1, 0], 2.185571, [0.877171, -0.887586, 0.010415]),
        ([0, 0, 1], 4.564461, [0.877171, 0.112414, -0.989585]),
        ([0.7, 0.3, 0], 0.747409, [0.177171, -0.187586, 0.010415]),
    ],
)
def test_debiased_margin_loss(target, loss, gradient):
    f = torch.tensor([[2, 0.5, -1]], dtype=torch.float64, requires_grad=True)
    prior = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    value = debiased_loss(f, torch.tensor([target], dtype=torch.float64), 0.8 * prior.log()).sum()
    value.backward()
    close(value, loss, 1e-6)
    close(f.grad[0], gradient, 1e-6)


def test_without_debiasing_it_is_cross_entropy():
    f, target = torch.tensor([[2, 0.5, -1.0]]), torch.tensor([[0.7, 0.3, 0.0]])
    for log_prior in (torch.zeros(3), 0.8 * torch.full((3,), 1 / 3).log()):
        close(debiased_loss(f, target, log_prior), F.cross_entropy(f, target, reduction="none"), 1e-6)


def test_debiased_pseudo_labels():
    f, log_prior = torch.tensor([[2, 0.5, -1]]).double(), 0.8 * torch.tensor([0.6, 0.3, 0.1]).double().log()
    close(debiased_pseudo_labels(f, log_prior, 1.0)[0], [0.626077, 0.243226, 0.130697], 1e-6)
    close(debiased_pseudo_labels(f, log_prior, 0.5)[0], [0.837167, 0.126350, 0.036483], 1e-6)
    p = torch.tensor([[0.5, 0.3, 0.2]]).double().log()
    close(debiased_pseudo_labels(p, torch.zeros(3).double(), 0.5)[0], [0.657895, 0.236842, 0.105263], 1e-6)
    close(debiased_pseudo_labels(p, torch.zeros(3).double(), 0.25)[0], [0.865651, 0.112188, 0.022161], 1e-6)


@pytest.mark.parametrize(
    "m, first, second",
    [
        (0.9, [0.36, 0.33, 0.31], [0.334, 0.307, 0.359]),
        (0.9999, [0.33336, 0.33333, 0.33331], [0.33333666, 0.33330667, 0.33335667]),
    ],
)
def test_moving_priors(m, first, second, make_run):
    run, priors = make_run(), torch.full((2, 2, 3), 1 / 3, dtype=torch.float64)
    two = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]], dtype=torch.float64).expand(2, -1, -1)
    move_priors(priors, two, torch.tensor([[True, True], [False, False]]), m, run)
    close(priors[0, 0], first, 1e-8)  # net 0 selected both rows
    close(priors[1, 1], first, 1e-8)  # net 1 none of them
    close(priors[0, 1], [1 / 3] * 3, 1e-12)  # and an empty group does not move its prior
    one = torch.tensor([[[0.1, 0.1, 0.8]]], dtype=torch.float64).expand(2, 1, 3)
    move_priors(priors, one, torch.tensor([[True], [False]]), m, run)
    close(priors[0, 0], second, 1e-8)
    close(priors.sum(2), torch.ones(2, 2), 1e-8)


H_WEAK = [[2.0, 0.0, -1.0], [0.2, 1.5, 0.0], [-0.5, 0.0, 1.0], [0.3, 0.1, 0.0]]
H_STRONG = [[1.0, 0.5, -1.0], [0.0, 1.0, 0.3], [0.0, 0.2, 0.4], [0.1, 0.2, 0.3]]
AP_WEAK = [[1.5, 0.2, -0.5], [0.0, 1.2, 0.1], [-0.2, 0.3, 0.8], [0.2, 0.2, 0.1]]
AP_STRONG = [[0.8, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 0.5], [0.0, 0.4, 0.2]]
PRIORS = torch.tensor([[[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]]).repeat(2, 1, 1)
PART = {"labels": [0, 1, 0, 1], "selected": [1, 1, 0, 0]}


def worked_nets():
    return [Lookup(H_WEAK + H_STRONG, AP_WEAK + AP_STRONG) for _ in range(2)]


def test_the_whole_loss_of_a_batch(make_run):
    nets = worked_nets()
    loss, passes = terms(plain(), nets, make_run(), priors=PRIORS.clone(), **PART)[0]
    close(loss, 1.274564, 2e-6)
    assert passes == 8  # weak and strong views of four rows
    loss.backward()
    assert (nets[0].primary.grad[[2, 3, 6, 7]] == 0).all()  # unselected rows never reach the primary head
    assert (nets[0].primary.grad[[0, 1, 4, 5]] != 0).any(1).all()
    assert (nets[0].pseudo.grad != 0).any(1).all()


def test_loss_terms_are_made_for_both_nets_and_both_heads(make_run):
    """Weak and strong views, then mixup and FMix for each head (here features, so mixup alone)."""
    nets = worked_nets()
    found = terms(plain(), nets, make_run(), priors=PRIORS.clone(), **PART)
    assert [passes for _, passes in found] == [8, 2, 2] * 2
    assert [len(x) for x in nets[0].calls] == [4, 4, 2, 2]
    shared = terms(plain(mix_per_head=False), worked_nets(), make_run(), priors=PRIORS.clone(), **PART)
    assert [passes for _, passes in shared] == [8, 2] * 2


def test_mixed_rows_train_the_head_that_they_were_drawn_for(make_run):
    """Their shares are 1 here, so they are the selected rows themselves; gamma is 1/2."""
    nets, goal = worked_nets(), F.one_hot(torch.tensor([0, 1]), 3).float()
    found = terms(plain(), nets, make_run(), priors=PRIORS.clone(), **PART)
    primary, pseudo = (
        0.5 * debiased_loss(torch.tensor(logits[:2]), goal, 0.8 * PRIORS[0, 0].log()).mean()
        for logits in (H_WEAK, AP_WEAK)
    )
    close(found[1][0], primary, 1e-6)
    close(found[2][0], pseudo, 1e-6)
    found[1][0].backward()
    assert nets[0].primary.grad.any() and (nets[0].pseudo.grad is None or not nets[0].pseudo.grad.any())
    shared = terms(plain(mix_per_head=False), worked_nets(), make_run(), priors=PRIORS.clone(), **PART)
    close(shared[1][0], primary + pseudo, 1e-6)


def test_mixed_views_of_images_go_in_the_published_order(make_run):
    """BatchNorm's running statistics depend on it: weak, strong, then mixup and FMix of each head."""
    method, x = plain(), torch.rand(4, 3, 8, 8)
    goal, inside = F.one_hot(torch.tensor([0, 1, 2, 0]), 3).float(), torch.ones(4)
    weights = torch.tensor([[0.7, 0.3], [0.6, 0.5]])
    found = list(method.mixed_views(x, goal, inside, weights, torch.Generator().manual_seed(0)))
    assert [heads for _, _, heads in found] == [[0], [0], [1], [1]]
    for i, ((inputs, goals, _), share) in enumerate(zip(found, [0.7, 0.3, 0.6, 0.5], strict=True)):
        for row in range(4):  # of the four possible partners, one explains both the inputs and the target
            fits = []
            for partner in range(4):
                mine = inputs[row] == x[row]
                seen = torch.where(mine, x[row], x[partner]) if i % 2 else share * x[row] + (1 - share) * x[partner]
                area = mine.float().mean() if i % 2 and partner != row else torch.tensor(share)
                target = share * goal[row] + (1 - share) * goal[partner]
                same = torch.allclose(seen, inputs[row]) and torch.allclose(target, goals[row])
                fits.append(same and abs(area - share) <= 1 / 64 + 1e-6)
            assert any(fits), (i, row)
    of_features = method.mixed_views(x.flatten(1), goal, inside, weights, torch.Generator())
    assert len(list(of_features)) == 2  # no FMix


class Counting(nn.Module):
    """A net whose BatchNorm sees a one-hot vector of how often it was called before."""

    def __init__(self):
        super().__init__()
        self.bn, self.head, self.count = nn.BatchNorm1d(6), nn.Linear(6, 3), 0

    def forward(self, x, begun=False):
        features = F.one_hot(torch.full((len(x),), self.count), 6).float()
        self.count += 1
        logits = self.head(self.bn(features))
        return Output(logits, features, logits)


def test_batch_norm_after_the_six_forwards_of_a_step(make_run):
    """Each forward has its own statistics; the later weigh more in the running mean."""
    nets, x = [Counting(), Counting()], torch.rand(4, 3, 8, 8)
    terms(plain(), nets, make_run(), labels=[0, 1, 2, 0], selected=[1, 1, 1, 1], weak=x, strong=x)
    for net in nets:
        close(net.bn.running_mean.sum(), 0.4686, 1e-4)
        shares = net.bn.running_mean / net.bn.running_mean.sum()
        close(shares, [0.126023, 0.140025, 0.155583, 0.172870, 0.192078, 0.213420])


def test_confidence_penalty():
    z = torch.tensor([[2, 0.5, -1], [-3, 4, -0.5]], dtype=torch.float64)
    close(negative_entropy(z), -0.344619, 1e-6)
    close(negative_entropy(z, released=True), -0.464652, 1e-6)
    assert torch.isfinite(negative_entropy(torch.tensor([[1e4, -1e4, 0.0]])))


def test_the_penalty_is_part_of_warm_up(make_run):
    nets = worked_nets()
    x, y = torch.arange(4.0)[:, None], torch.tensor([0, 1, 0, 1])
    losses = {
        p: sum(plain(confidence_penalty=p).warmup_loss(net, x, y, make_run()) for net in nets)
        for p in ("off", "log_softmax", "released")
    }
    z = torch.tensor(H_WEAK)
    close(losses["off"].detach(), 2 * F.cross_entropy(z, y))
    close((losses["log_softmax"] - losses["off"]).detach(), 2 * negative_entropy(z))
    close((losses["released"] - losses["off"]).detach(), 2 * negative_entropy(z, released=True))
    losses["off"].backward()
    assert nets[0].pseudo.grad is None  # the pseudo head does not train in warm-up


# Schedules


def test_schedules():
    epochs = (0, 10, 30, 100, 300, 350, 590, 600)
    rates = [0.05, 0.04996577, 0.04969252, 0.04665398, 0.025025, 0.01856099, 0.00008423, 0.00005]
    close([cosine(0.05, e, 600, 0.05 * 1e-3) for e in epochs], rates, 1e-8)
    released, paper = ProMix(), ProMix(reading="paper")
    close([released.ramps(e)[0] for e in (10, 25, 30, 49, 50, 400)], [0.2, 0.5, 0.6, 0.98, 1, 1], 1e-12)
    close([released.ramps(e)[1] for e in (10, 50, 99, 100, 400)], [0.01, 0.05, 0.099, 0, 0], 1e-12)
    close([paper.ramps(e)[1] for e in (10, 50, 99, 100, 400)], [0.01, 0.05, 0.099, 0.1, 0.1], 1e-12)


def test_guessing_acts_in_the_last_epochs_only(make_run):
    """K = 250 of 600: epochs 351 and later, as released."""
    sure = [[9.0, 0, 0]] * 8
    for epoch, acts in ((350, False), (351, True), (599, True)):
        nets = [Lookup(sure, sure) for _ in range(2)]
        method = ProMix(mhcs=False, lambda_u=0)
        terms(method, nets, make_run(), labels=[1] * 4, selected=[1, 0, 0, 0], epoch=epoch)[0][0].backward()
        assert (nets[0].primary.grad[1] != 0).any() == acts


def test_mhcs_at_exactly_tau():
    """The paper selects it, the released code does not."""
    probs, labels = torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]), torch.tensor([0, 1])
    for reading, expected in (("released", [False, False]), ("paper", [True, False])):
        assert ProMix(tau=0.75, reading=reading).sure(probs, labels)[0].tolist() == expected
    assert ProMix(tau=0.75).sure(probs, labels)[0].tolist() == [False, False]  # the numbers that were published


def test_selected_rows_are_forwarded_as_they_are_as_released():
    gpu = SimpleNamespace(compile=False, device=torch.device("cuda"))
    assert ProMix().pads(gpu) and ProMix(reading="paper").pads(gpu) and not ProMix(reading="released").pads(gpu)
    assert ProMix(reading="released", subset="pad").pads(gpu)


def test_pseudo_labels_have_a_strength_of_their_own(make_run):
    """Under the prior [.98, .01, .01] a row of p = [.96, .03, .01] is of class 0, debiased of class 1."""
    logits = torch.tensor([0.96, 0.03, 0.01]).log().expand(8, 3).tolist()
    priors = torch.tensor([0.98, 0.01, 0.01]).repeat(2, 2, 1)
    signs = {}
    for pseudo in (None, 0.0, 0.8):  # the loss is not debiased
        nets = [Lookup(logits, logits) for _ in range(2)]
        method = plain(alpha=0.0, pseudo_alpha=pseudo, lambda_u=1.0)
        terms(method, nets, make_run(), labels=[2, 2, 2, 2], selected=[0, 0, 0, 0], priors=priors)[0][0].backward()
        signs[pseudo] = nets[0].pseudo.grad[0].sign().tolist()
    assert signs == {None: [-1, 1, 1], 0.0: [-1, 1, 1], 0.8: [1, -1, -1]}


def test_mixup_weights(make_run):
    run = make_run()
    larger, drawn = (ProMix(reading=r).draw_weights(run, 500, 3) for r in ("released", "paper"))
    assert larger.shape == (500, 2, 2, 2)
    close(larger[..., 0], drawn[..., 0].maximum(1 - drawn[..., 0]), 1e-7)
    assert (drawn[..., 0] < 0.5).any() and abs(drawn[..., 0].var() - 1 / 36) < 0.004  # Beta(4, 4)
    assert abs(drawn[..., 1].var() - 1 / 12) < 0.01  # Beta(1, 1)
    assert len(larger.unique()) > 3900  # every net and head draws for itself


# What must not happen without a part: the ablation


def gradients(method, make_run, primary, **part):
    nets = [Lookup(primary, primary if method.auxiliary_head else None) for _ in range(2)]
    terms(method, nets, make_run(), **part)[0][0].backward()
    return nets[0].primary.grad, nets[0].pseudo.grad if method.auxiliary_head else None


SURE = [[9.0, 0, 0], [0, 9.0, 0], [1.0, 0.5, 0.2], [0.3, 0.2, 0.1]] * 2


def test_without_mhcs_a_confident_match_stays_unselected(make_run):
    part = {"labels": [0, 1, 2, 2], "selected": [0, 0, 1, 0]}
    with_it, _ = gradients(plain(mhcs=True, lambda_u=0), make_run, SURE, **part)
    without, _ = gradients(plain(mhcs=False, lambda_u=0), make_run, SURE, **part)
    assert (with_it[:2] != 0).any(1).all() and (without[:2] == 0).all()


def test_without_lga_an_agreed_row_stays_unselected(make_run):
    part = {"labels": [2, 2, 2, 2], "selected": [0, 0, 1, 0]}
    with_it, _ = gradients(plain(lga_epochs=600, lambda_u=0), make_run, SURE, **part)
    without, _ = gradients(plain(lga_epochs=0, lambda_u=0), make_run, SURE, **part)
    assert (with_it[:2] != 0).any(1).all() and (without[:2] == 0).all()


def test_without_the_pseudo_head_pseudo_labels_reach_the_primary_one(make_run):
    part = {"labels": [0, 1, 2, 2], "selected": [1, 1, 0, 0]}
    primary, pseudo = gradients(plain(), make_run, SURE, **part)
    assert (primary[2:4] == 0).all() and (pseudo[2:4] != 0).any(1).all()
    primary, pseudo = gradients(plain(auxiliary_head=False), make_run, SURE, **part)
    assert (primary[2:4] != 0).any(1).all() and pseudo is None


def test_without_debiasing_the_priors_do_not_matter(make_run):
    skewed = torch.tensor([0.8, 0.15, 0.05]).repeat(2, 2, 1)
    for alpha, same in ((0.0, True), (0.8, False)):
        method = plain(alpha=alpha)
        a, b = (terms(method, worked_nets(), make_run(), priors=p, **PART)[0][0].item() for p in (None, skewed.clone()))
        assert math.isclose(a, b, rel_tol=1e-6) == same


def test_only_clean_rows_train_without_lambda_u(make_run):
    part = {"labels": [0, 1, 2, 2], "selected": [1, 1, 0, 0]}
    primary, pseudo = gradients(plain(lambda_u=0), make_run, SURE, **part)
    assert (primary[2:4] == 0).all() and (pseudo[2:4] == 0).all() and (pseudo[:2] != 0).any()


# Hard batches


@pytest.mark.parametrize("pad", ["pad", "exact"])
@pytest.mark.parametrize("selected", [[1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
def test_no_nan(selected, pad, make_run):
    priors = torch.full((2, 2, 3), 1 / 3)
    found = terms(plain(subset=pad), worked_nets(), make_run(), labels=[0, 1, 0, 1], selected=selected, priors=priors)
    assert all(torch.isfinite(loss) for loss, _ in found) and torch.isfinite(priors).all()
    assert masked_mean(torch.ones(3), torch.zeros(3)) == 0
    losses = torch.arange(24.0).view(2, 3, 4)
    close(masked_mean(losses, torch.tensor([0.0, 1, 1, 0])), losses[..., 1:3].mean(-1), 1e-6)


def test_padding_repeats_the_selected_rows():
    selected = torch.tensor([0, 1, 0, 1, 1, 0, 0, 0], dtype=torch.bool)
    rows, inside = first_selected(selected, pad=True)
    assert rows.tolist() == [1, 3, 4, 1, 3, 4, 1, 3] and inside.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    exact, all_inside = first_selected(selected, pad=False)
    assert exact.tolist() == [1, 3, 4] and all_inside.tolist() == [1, 1, 1]
    assert first_selected(torch.tensor([False, True, False]), pad=False)[0].tolist() == [1, 1]  # BatchNorm needs two
    assert first_selected(torch.zeros(3, dtype=torch.bool), pad=False)[1].tolist() == [0, 0]


def test_partners_are_a_permutation_of_the_rows_that_count():
    inside = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 0])
    seen = set()
    for seed in range(40):
        partner = partners(inside, torch.Generator().manual_seed(seed))
        assert sorted(partner[:3].tolist()) == [0, 1, 2] and torch.equal(partner[3:6], partner[:3])
        seen.add(tuple(partner[:3].tolist()))
    assert len(seen) == 6


def test_padded_and_exact_subsets_give_the_same_loss_without_batch_statistics(make_run):
    totals = []
    for subset in ("pad", "exact"):
        found = terms(plain(subset=subset), worked_nets(), make_run(), priors=PRIORS.clone(), **PART)
        totals.append([loss.item() for loss, _ in found])
    assert totals[0] == pytest.approx(totals[1], abs=1e-6)


def test_padding_changes_only_batch_statistics(make_run):
    data, _ = noisy(120, 3)
    results = {}
    for subset in ("pad", "exact"):
        method = ProMix(epochs=6, warmup=2, batch_size=32, subset=subset, gamma_ramp=3, lga_epochs=3, tau=0.9)
        for found in method(data, make_run()):
            results[subset] = found
    assert (results["pad"].corrected == results["exact"].corrected).float().mean() > 0.95
    assert not torch.equal(results["pad"].probs, results["exact"].probs)


# The result


def test_the_ensemble_means_logits_not_probabilities():
    data, _ = noisy(3, 3, np.array([0, 2, 0]))
    logits = torch.tensor([[[0, 0, 3.0], [6, 0, 0], [0, 0, 0]], [[2, 1.9, -6], [0, 3.5, 3], [0, 0, 0]]])
    found = plain().result(logits, torch.zeros(2, 3, dtype=torch.bool), data)
    assert found.probs.argmax(1)[:2].tolist() == [0, 0]  # the mean of the probabilities would say 2 for the first row
    assert found.selected.tolist() == [True, False, True]


def test_selected_rule_small_loss():
    data, _ = noisy(4, 2, np.array([0, 1, 0, 1]))
    base = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)
    logits = torch.tensor([[5.0, 0], [0, 0.1], [0.1, 0], [0, 9.0]]).expand(2, -1, -1)
    small = plain(selected_rule="small_loss").result(logits, base, data)
    assert small.selected.tolist() == [True, False, False, False]  # what both nets select
    sure = plain(selected_rule="small_loss", mhcs=True, tau=0.99).result(logits, base, data)
    assert sure.selected.tolist() == [True, False, False, True]  # or are sure of
    assert plain().result(logits, base, data).selected.all()


def test_the_pseudo_head_is_left_out_of_the_result(make_run):
    data, _ = noisy(60, 3)
    run = make_run()
    *_, found = ProMix(epochs=2, warmup=1, batch_size=32)(data, run)
    nets = run.registered["nets"]
    before = run.predict(nets, data.inputs)
    with torch.no_grad():
        for net in nets:
            net.auxiliary.weight.zero_()
    close(run.predict(nets, data.inputs), before, 0)
    close(before.softmax(1), found.probs, 1e-6)


@pytest.mark.parametrize("method", [
    ProMix(epochs=3, warmup=1, lga_epochs=1, batch_size=16, gamma_ramp=1, lambda_u_ramp=2, tau=0.4),
    DivideMix(epochs=3, warmup=1, batch_size=8, warmup_batch=16),
    CPC(epochs=4, warmup=1, cpc_warmup=1, batch_size=8, warmup_batch=16),
])  # fmt: skip
def test_nets_on_a_core_each_learn_the_same(method, make_run, monkeypatch):
    data, _ = noisy(48, 3, kind="features")
    found = []
    for cores in (1, 2):
        monkeypatch.setattr("curator.engine.run.threads_per_process", lambda cores=cores: cores)
        run = make_run(net="mlp", mixed_precision="bf16")
        threads = set()
        run.descend = run.steps.descend = lambda loss, run=run, threads=threads: (
            threads.add(threading.get_ident()), loss.backward(),
        )  # fmt: skip
        *_, last = method(data, run)
        assert len(threads) == cores
        found.append((last.probs, run.close_epoch()["loss"]))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
