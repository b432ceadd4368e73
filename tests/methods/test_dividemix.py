"""DivideMix, AugDMix and CPC: worked numbers, what the options do, and inputs that leave nothing to split."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from curator.methods.dividemix import CPC, DivideMix, co_guess, co_refine, mixmatch_loss, ramp, sharpen
from curator.methods.promix import negative_entropy
from curator.signals.gaussian import clean_posterior, normalised
from tests.conftest import noisy

QUICK = {"epochs": 4, "warmup": 1, "batch_size": 16, "lambda_u_ramp": 1, "flip": False}
CLEANERS = ("gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr")


def close(found, expected, atol=1e-6):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


def result(method, data, run):
    for found in method(data, run):  # noqa: B007 (the last one is the result)
        run.close_epoch()
        run.checkpoint()
    return found.check(data)


def test_refined_and_guessed_labels():
    own = [torch.tensor([[2.0, 0, 0]]), torch.tensor([[1.0, 0.5, 0]])]
    mean = torch.stack([z.softmax(1) for z in own]).mean(0)
    close(mean, [[0.646733, 0.206851, 0.146415]])
    goal = F.one_hot(torch.tensor([1]), 3).float()
    close(co_refine(own, goal, torch.tensor([0.8]), 0.5), [[0.023061, 0.975757, 0.001182]])
    close(co_refine(own, goal, torch.tensor([0.8]), 1.0), [[0.129347, 0.841370, 0.029283]])
    four = [torch.tensor([z]) for z in ([0, 1.0, 0], [0, 0.5, 0.5], [0.2, 0.9, 0.1], [0, 2.0, 0])]
    close(co_guess(four, 1.0), [[0.201585, 0.565163, 0.233252]])
    close(co_guess(four, 0.5), [[0.098048, 0.770678, 0.131274]])
    # A label that is surely right stays what it is: probabilities of 0 are no trouble.
    close(co_refine(own, goal, torch.tensor([1.0]), 0.5), goal)
    close(sharpen(torch.tensor([[0.25, 0.75]]), 0.5), [[0.1, 0.9]])


LOGITS = torch.tensor([[1.0, 0.2, 0], [0.5, 0.5, 0.1], [0, 1.0, 0.3], [0.3, 0.8, 0]])


def test_mixmatch():
    refined, guessed = torch.tensor([0.023061, 0.975757, 0.001182]), torch.tensor([0.098048, 0.770678, 0.131274])
    targets = torch.stack([refined, refined, guessed, guessed])
    mixed = 0.75 * targets + 0.25 * targets[[2, 3, 0, 1]]
    close(mixed[1:3], [[0.041808, 0.924487, 0.033705], [0.079302, 0.821948, 0.098751]])
    close(mixmatch_loss(LOGITS, mixed, 2, 0.0, 0.0), 1.183138)
    close(mixmatch_loss(LOGITS, mixed, 2, 1.0, 0.0) - 1.183138, 0.049509)
    close(mixmatch_loss(LOGITS, mixed, 2, 0.0, 1.0) - 1.183138, 0.026863)
    close(mixmatch_loss(LOGITS, mixed, 2, 12.5), 1.828864, atol=3e-6)
    close(mixmatch_loss(LOGITS, mixed, 2, 0.0), 1.210001, atol=2e-6)
    labelled_only = mixmatch_loss(LOGITS[:2], mixed[:2], 2, 12.5, 0.0)  # Clothing1M, WebVision
    close(labelled_only, 1.183138)


def test_the_penalty_on_collapse_is_finite():
    logits = torch.tensor([[200.0, 0, 0]] * 4, requires_grad=True)
    loss = mixmatch_loss(logits, torch.eye(3)[[0, 0, 0, 0]], 2, 1.0)
    loss.backward()
    assert loss.isfinite() and loss > 100 and logits.grad.isfinite().all()


def test_ramp():
    for epochs, expected in ((0.0, 0.0), (0.5, 0.78125), (8.0, 12.5), (16.0, 25.0), (90.0, 25.0), (-3.0, 0.0)):
        assert ramp(25.0, epochs, 16) == pytest.approx(expected)
    assert ramp(25.0, 0.0, 0) == 25.0


def test_confidence_penalty():
    close(negative_entropy(torch.tensor([[2.0, 0.5, -1], [-3, 4, -0.5]])), -0.344619)


def test_learning_rate_and_loss_history(make_run):
    data, _ = noisy(120, 3)
    method = DivideMix(**{**QUICK, "epochs": 5, "lr_drop": 3, "loss_history": 3, "lr": 0.04})
    run, rates = make_run(), []
    for _ in method(data, run):
        run.close_epoch()
        rates.append(run.registered["optimizer0"].param_groups[0]["lr"])
    assert rates[:5] == pytest.approx([0.04, 0.04, 0.04, 0.004, 0.004])
    kept = run.registered["losses"]
    assert kept.shape == (2, 3, 120) and not kept.isnan().any() and kept.min() >= 0 and kept.max() <= 1
    assert len({tuple(kept[0, j].tolist()) for j in range(3)}) == 3  # three epochs of their own


def test_the_mean_of_past_losses_is_what_the_mixture_reads():
    method, rows = DivideMix(loss_history=2), torch.arange(6)
    history = torch.full((2, 6), torch.nan)
    first, second = torch.tensor([0.0, 1, 5, 8, 9, 10]), torch.tensor([0.0, 4, 5, 3, 9, 10])
    alone = method.posterior(first, rows % 2, history.clone(), rows, False)
    close(alone, clean_posterior(normalised(first)))
    close(method.posterior(first, rows % 2, history, rows, True), alone)
    assert history[1].isnan().all()
    both = method.posterior(second, rows % 2, history, rows, True)
    close(history, torch.stack([second, first]) / 10)  # the newest stands first
    close(both, clean_posterior((first + second) / 20), atol=1e-5)
    assert (both - alone).abs().max() > 0.1
    close(method.posterior(second, rows % 2, history, rows, False), both)  # looked at again, nothing moves


@pytest.mark.parametrize("cleaner", CLEANERS)
@pytest.mark.parametrize("augment", ["weak", "augdmix"])
def test_every_cleaner_finds_planted_errors(cleaner, augment, make_run):
    data, truth = noisy(600, 4, share=0.3, kind="features")
    method = DivideMix(**QUICK | {"epochs": 6, "lambda_u": 1.0}, cleaner=cleaner, augment=augment, cpc_warmup=1)
    found = result(method, data, make_run(net="mlp"))
    wrong = torch.from_numpy(data.labels.numpy() != truth)
    score = found.clean_score
    assert score[~wrong].mean() > score[wrong].mean() + 0.3
    assert (found.selected == ~wrong).float().mean() > 0.85


def test_prototypes_leave_the_net_alone(make_run):
    """Their gradients stop at the projector: without a step of MixMatch the body is what it was."""
    data, _ = noisy(100, 3)
    method, run = CPC(**QUICK | {"cpc_warmup": 0}), make_run()
    trained, clean = method.build(data, run), method.knowledge(data, run)
    rows = [torch.arange(100)] * 2
    method.judge(trained, clean, data, run, rows, remember=False)
    before = {name: value.clone() for name, value in trained.nets[0].state_dict().items()}
    prototypes = trained.prototypes[0].weight.clone()
    method.train_prototypes(0, trained, clean, data, run, rows[0], 1)
    after = trained.nets[0].state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and all(name.startswith("projector") for name in changed)
    assert not torch.equal(prototypes, trained.prototypes[0].weight)


def test_co_divide(make_run):
    """Net 0 trains on what net 1's losses say, and the other way round."""
    data, _ = noisy(100, 3)
    method, run = DivideMix(**QUICK), make_run()
    seen, train = [], method.train
    method.train = lambda i, trained, split, *rest: (seen.append((i, split.clone())), train(i, trained, split, *rest))
    mixtures = []
    for _ in method(data, run):
        run.close_epoch()
        mixtures.append(run.registered["mixture"].clone())
    assert [i for i, _ in seen] == [0, 1] * 3
    for epoch in range(3):
        for i in (0, 1):
            assert torch.equal(seen[2 * epoch + i][1], mixtures[epoch][1 - i])


def test_targets_move_batch_statistics_in_training_mode_only(make_run):
    data, _ = noisy(100, 3)
    means = {}
    for mode in ("training", "evaluation"):
        run = make_run()
        result(DivideMix(**QUICK, targets_in=mode), data, run)
        means[mode] = run.registered["nets"][0].body[1].num_batches_tracked.item()
    assert means["training"] > 2 * means["evaluation"]


@pytest.mark.parametrize("labels", [True, False])
def test_balanced_batches(labels, make_run):
    """The Clothing1M variant: so many balanced batches an epoch, only labelled rows are mixed."""
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 400, p=[0.55, 0.25, 0.15, 0.05])
    data, _ = noisy(400, 4, truth)
    method = DivideMix(**QUICK | {"lr": 0.05, "epochs": 6}, batches=5, mix_unlabelled=labels)
    a, b = method.rows(data, make_run(), 3)
    assert len(a) <= 5 * 16 and not torch.equal(a, b) and (a.diff() > 0).all()
    counts = torch.bincount(data.labels[a], minlength=4)
    assert counts.max() <= 20 and counts.min() > 0
    assert len(method.rows(data, make_run(), 0)[0]) > len(a)  # warm-up takes twice as many
    run = make_run()
    assert result(method, data, run).probs.isfinite().all()
    assert (run.registered["logits"].abs().sum(2) > 0).all()  # in the end all rows were judged


def test_nothing_selected_and_everything_selected(make_run):
    data, truth = noisy(120, 3, share=0.3)
    for threshold in (0.0, 0.999999):
        found = result(DivideMix(**QUICK, p_threshold=threshold, lambda_u=25.0), data, make_run())
        assert found.probs.isfinite().all()
    # Prototypes that hold nothing to be clean: training goes on as in warm-up.
    found = result(CPC(**QUICK | {"cpc_warmup": 0, "lr": 0.05, "epochs": 6}, p_threshold=0.9999), data, make_run())
    assert (found.probs.argmax(1).numpy() == truth).mean() > 0.8


def test_one_class_batches(make_run):
    data, _ = noisy(90, 3, np.zeros(90, np.int64))
    for method in (DivideMix(**QUICK), CPC(**QUICK | {"cpc_warmup": 1})):
        assert result(method, data, make_run()).probs.isfinite().all()


def test_posterior_rule(make_run):
    data, _ = noisy(120, 3)
    found = result(DivideMix(**QUICK, selected_rule="posterior", p_threshold=0.6), data, make_run())
    assert torch.equal(found.selected, found.clean_score > 0.6)


def test_order_of_the_score(make_run):
    data, _ = noisy(120, 3)
    a, b = (
        result(CPC(**QUICK | {"cpc_warmup": 0}, score_order=order), data, make_run()) for order in ("after", "before")
    )
    assert not torch.equal(a.probs, b.probs)


def test_loss_scale_within_classes(make_run):
    losses, labels = torch.tensor([0.0, 0.1, 1, 10, 11, 20]), torch.tensor([0, 0, 0, 1, 1, 1])
    nothing, rows = torch.full((1, 6), torch.nan), torch.arange(6)
    scaled = [
        DivideMix(cleaner="gmm_awr", loss_scale=scale).posterior(losses, labels, nothing, rows, False)
        for scale in ("all", "class")
    ]
    assert (scaled[1] > 0.5).tolist() == [True, True, False, True, True, False]
    assert not torch.allclose(*scaled)


def test_presets():
    for cls in (DivideMix, CPC):
        default, parity, paper = cls(), cls(preset="parity"), cls(preset="paper")
        assert {**vars(default), "preset": "parity"} == vars(parity)
        assert (paper.targets_in, paper.score_order) == ("evaluation", "before")
    assert (CPC().epochs, CPC().lr_drop, CPC().batch_size, CPC().cpc_warmup, CPC().warmup) == (450, 225, 128, 22, 10)
    assert (DivideMix().epochs, DivideMix().lr_drop, DivideMix().batch_size, DivideMix().lr) == (300, 150, 64, 0.02)
