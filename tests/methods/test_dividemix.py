"""DivideMix, AugDMix and CPC: worked numbers, what the options do, and inputs that leave nothing to split."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from curator.engine.losses import negative_entropy
from curator.engine.optim import ramp
from curator.methods.cpc import CPC
from curator.methods.dividemix import DivideMix, Mixture, co_guess, co_refine, mixmatch_loss, sharpen
from curator.signals.gmm import clean_posterior, normalised
from tests.conftest import noisy
from tests.signals.test_gmm import RAW

QUICK = {"epochs": 4, "warmup": 1, "batch_size": 16, "warmup_batch": 32, "lambda_u_ramp": 1}
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


def mixture(by_class: bool = False) -> Mixture:
    """A cleaner of which only the posterior is asked."""
    found = Mixture.__new__(Mixture)
    found.by_class = by_class
    return found


def asked(peer):
    """What a net says of views while it only helps to guess."""
    peer.net.eval()
    return lambda view, rows: peer.model(view).logits


def cleaned(method, data, run):
    """The nets and the cleaner of a method."""
    peers = method.build(data, run)
    return peers, method.make_cleaner(peers, data, run)


def test_the_mean_of_past_losses_is_what_the_mixture_reads():
    method, rows = mixture(), torch.arange(6)
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


def test_the_worked_mean_of_five_epochs():
    x = normalised(RAW)
    method, history, rows = mixture(), torch.full((5, 18), torch.nan), torch.arange(18)
    for losses in (x, (x + 0.05).clamp(0, 1), x**2, x.sqrt(), 1 - 0.9 * (1 - x), 0.5 * x):
        # Losses that normalise to themselves are what the numbers were worked with: put them in as they are.
        method.posterior(x, rows * 0, history, rows, True)
        history[0] = losses.float()
    found = method.posterior(x, rows * 0, history, rows, False)
    close(found[:4], [0.985003, 0.986260, 0.676140, 0.987387], atol=1e-5)


@pytest.mark.parametrize("cleaner", CLEANERS)
@pytest.mark.parametrize("augment", ["weak", "augdmix"])
def test_every_cleaner_finds_planted_errors(cleaner, augment, make_run):
    data, truth = noisy(600, 4, share=0.3, kind="features")
    settings = {**QUICK, "epochs": 6, "lambda_u": 1.0, "augment": augment}
    method = CPC(**settings, cleaner=cleaner, cpc_warmup=1) if cleaner != "gmm_agn" else DivideMix(**settings)
    found = result(method, data, make_run(net="mlp"))
    wrong = torch.from_numpy(data.labels.numpy() != truth)
    score = found.clean_score
    assert score[~wrong].mean() > score[wrong].mean() + 0.3
    assert (found.selected == ~wrong).float().mean() > 0.85


def test_prototypes_leave_the_net_alone(make_run):
    """Their gradients stop at the projector: without a step of MixMatch the body is what it was."""
    data, _ = noisy(100, 3)
    method, run = CPC(**QUICK | {"cpc_warmup": 0}), make_run()
    peers, cleaner = cleaned(method, data, run)
    rows = [torch.arange(100)] * 2
    cleaner.judge(rows, 1)
    before = {name: value.clone() for name, value in peers[0].net.state_dict().items()}
    prototypes = cleaner.prototypes[0].weight.clone()
    cleaner.train(0, rows[0], 1)
    after = peers[0].net.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and all(name.startswith("projector") for name in changed)
    assert not torch.equal(prototypes, cleaner.prototypes[0].weight)


def splits_of(method, data, run):
    """(net, split) of every call of train, and the registered mixture and score after every epoch."""
    seen, after, train = [], [], method.train
    method.train = lambda peer, other, split, *rest: (
        seen.append((int(peer.name), split.clone())),
        train(peer, other, split, *rest),
    )
    for _ in method(data, run):
        run.close_epoch()
        mixed = run.registered["mixture"]
        after.append((mixed.clone(), run.registered.get("score", mixed).clone()))
    return seen, after


def test_co_divide(make_run):
    """Net 0 trains on what net 1's losses say, and the other way round."""
    data, _ = noisy(100, 3)
    seen, after = splits_of(DivideMix(**QUICK), data, make_run())
    assert [i for i, _ in seen] == [0, 1] * 3
    for epoch in range(3):
        for i in (0, 1):
            assert torch.equal(seen[2 * epoch + i][1], after[epoch][0][1 - i])


def test_prototypes_split_after_their_warm_up(make_run):
    """Warm-up 1, prototypes' 2: epochs 1 and 2 split by the mixture, 3 and 4 by the score of before its update."""
    data, _ = noisy(100, 3)
    method = CPC(**QUICK | {"epochs": 5, "cpc_warmup": 2}, reading="paper")
    seen, after = splits_of(method, data, make_run())
    assert [i for i, _ in seen] == [0, 1] * 4
    for epoch in range(4):
        by_score = epoch >= 2
        for i in (0, 1):
            assert torch.equal(seen[2 * epoch + i][1], after[epoch][by_score][1 - i])
        assert torch.equal(*after[epoch]) != by_score  # until then the score is the mixture's
    seen, after = splits_of(CPC(**QUICK | {"epochs": 3, "cpc_warmup": 0}), data, make_run())
    assert not torch.equal(seen[0][1], after[0][1][1])  # the prototypes have trained in between


def test_prototypes_learn_from_the_peer(make_run, monkeypatch):
    data, _ = noisy(60, 3)
    method, run = CPC(**QUICK), make_run()
    _, cleaner = cleaned(method, data, run)
    cleaner.clean[0], cleaner.clean[1] = 0.0, 1.0
    seen = []
    monkeypatch.setattr(
        "curator.methods.cpc.prototype_loss",
        lambda scores, labels, is_clean, *rest: (seen.append(is_clean), scores.sum())[1],
    )
    for i, expected in ((0, True), (1, False)):
        cleaner.train(i, torch.arange(60), 1)
        assert all((part == expected).all() for part in seen)
        seen.clear()


def test_who_guesses_and_who_refines(make_run, monkeypatch):
    """Guesses are of both nets on both views, refined labels of the net that trains; the larger weight is the row's."""
    import curator.methods.dividemix as module

    data, _ = noisy(64, 4)
    method, run = DivideMix(**QUICK | {"batch_size": 8}, lambda_u=3.0), make_run()
    peers = method.build(data, run)
    calls: dict[str, list] = {"co_guess": [], "co_refine": [], "mixmatch_loss": [], "mixup": []}

    def spied(name, kept):
        def spy(*words):
            calls[name].append(words)
            return kept(*words)

        return spy

    for name in calls:
        monkeypatch.setattr(module, name, spied(name, getattr(module, name)))
    before = {name: value.clone() for name, value in peers[1].net.state_dict().items()}
    split = (torch.arange(64) < 24).float()
    method.train(peers[0], asked(peers[1]), split, data, run, torch.arange(64), 2)
    assert {len(logits) for logits, _ in calls["co_guess"]} == {4}
    assert {len(logits) for logits, *_ in calls["co_refine"]} == {2} and len(calls["mixmatch_loss"]) == 3
    assert all(len(logits) == 32 and labelled == 16 for logits, _, labelled, *_ in calls["mixmatch_loss"])
    passed = [1 + step / 4 for step in range(3)]  # one epoch after warm-up; 24 // 8 + 1 steps count as an epoch
    assert [u for *_, u in calls["mixmatch_loss"]] == pytest.approx([ramp(3.0, p, 1) for p in passed])
    assert all(weight >= 0.5 and len(partner) == 32 for *_, weight, partner in calls["mixup"])
    assert all(torch.equal(before[name], value) for name, value in peers[1].net.state_dict().items())
    method.mix_unlabelled = False
    calls["mixmatch_loss"].clear()
    method.train(peers[0], asked(peers[1]), split, data, run, torch.arange(64), 2)
    assert all(len(logits) == labelled == 16 for logits, _, labelled, *_ in calls["mixmatch_loss"])
    assert all(len(partner) == 32 for *_, partner in calls["mixup"])  # partners are still of all


def test_the_ensemble_is_of_logits(make_run):
    """Logits [0, 0, 3] and [2, 1.9, -6]: their mean says class 0, the mean of probabilities would say 2."""
    data, _ = noisy(60, 3)
    method = DivideMix()
    _, cleaner = cleaned(method, data, make_run())
    cleaner.logits[0], cleaner.logits[1] = torch.tensor([0.0, 0, 3]), torch.tensor([2.0, 1.9, -6])
    cleaner.score[0], cleaner.score[1] = 0.2, 0.6
    found = method.result(cleaner, data)
    assert (found.probs.argmax(1) == 0).all() and torch.allclose(found.clean_score, torch.tensor(0.4))


def test_confidence_penalty_is_in_warm_up_only(make_run):
    data, _ = noisy(60, 3)
    losses = {}
    for penalty in (False, True):
        run = make_run()
        method = DivideMix(**QUICK | {"warmup_batch": 64}, confidence_penalty=penalty)
        method.warm_up(method.build(data, run)[0], data, run, torch.arange(60), 0)
        losses[penalty] = run.close_epoch()["loss"]
    assert losses[True] < losses[False]  # the negative entropy is below 0


def test_targets_move_batch_statistics_in_training_mode_only(make_run):
    data, _ = noisy(100, 3)
    means = {}
    for reading in ("released", "paper"):
        run = make_run()
        result(DivideMix(**QUICK, reading=reading), data, run)
        means[reading] = run.registered["nets"][0].body[1].num_batches_tracked.item()
    assert means["released"] > 2 * means["paper"]


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


@pytest.mark.parametrize("labelled", [0, 1, 2, 118, 119, 120])
def test_nothing_selected_and_everything_selected(labelled, make_run, monkeypatch):
    data, _ = noisy(120, 3, share=0.3)
    method, run = DivideMix(**QUICK), make_run()
    peers, warm = method.build(data, run), []
    warm_up = method.warm_up
    method.warm_up = lambda *words: (warm.append(1), warm_up(*words))
    split = (torch.arange(120) < labelled).float()
    method.train(peers[0], asked(peers[1]), split, data, run, torch.arange(120), 1)
    assert np.isfinite(run.close_epoch()["loss"]) and bool(warm) == (labelled < 2)
    assert all(value.isfinite().all() for value in peers[0].net.state_dict().values())


def test_prototypes_that_hold_nothing_to_be_clean(make_run):
    data, truth = noisy(120, 3, share=0.3, size=12)
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


def test_samples_and_confident_noisy_rows(make_run):
    """A net's confident rows are of the other one's sample, and it has seen them."""
    data, _ = noisy(400, 4)
    method, run = CPC(**QUICK | {"cpc_warmup": 0, "lr": 0.05}, batches=5, cpc_alpha=1.0), make_run()
    _, cleaner = cleaned(method, data, run)
    rows = method.rows(data, run, 1)
    cleaner.judge(rows, 1)
    for i in (0, 1):
        seen = torch.zeros(400, dtype=torch.bool)
        seen[torch.cat(rows)] = True
        assert (cleaner.logits[i, seen].abs().sum(1) > 0).all() and (cleaner.logits[i, ~seen] == 0).all()
        outside = torch.ones(400, dtype=torch.bool)
        outside[rows[1 - i]] = False
        assert (cleaner.pulled[i, outside] == -1).all()
        unseen = torch.ones(400, dtype=torch.bool)
        unseen[rows[i]] = False
        assert (cleaner.score[i, unseen] == 1).all()  # nobody has judged them
    assert result(method, data, make_run()).probs.isfinite().all()


def test_readings():
    for cls in (DivideMix, CPC):
        assert cls().reading == "released"  # the numbers that were published
    assert (CPC().epochs, CPC().lr_drop, CPC().batch_size, CPC().cpc_warmup, CPC().warmup) == (450, 225, 128, 22, 10)
    assert (DivideMix().epochs, DivideMix().lr_drop, DivideMix().batch_size, DivideMix().lr) == (300, 150, 64, 0.02)


@pytest.mark.parametrize("kind, shape", [("images", 4), ("features", 2)])
def test_strong_views_in_warm_up(kind, shape, make_run, monkeypatch):
    """AugDMix's SAW: warm-up sees strong views, whose operations may be others than later."""
    import curator.methods.dividemix as module

    kinds = []

    def note(images, kind, generator, *, fill=0):
        kinds.append((kind, fill))
        return images

    monkeypatch.setattr(module, "strengthen", note)
    data, _ = noisy(40, 2, kind=kind)
    for strong, expected in ((None, set()), ("auto_cifar10", {("auto_cifar10", 128)} if shape == 4 else set())):
        method = DivideMix(epochs=1, warmup=1, warmup_batch=20, warmup_strong=strong)
        list(method(data, make_run(net="small" if shape == 4 else "mlp")))
        assert set(kinds) == expected


@pytest.mark.parametrize("kind, after", [("images", True), ("features", False)])
def test_whom_net_1_guesses_with(kind, after, make_run, monkeypatch):
    """Of images with net 0 as it is when that has trained, as released; of features with what it said before."""
    data, _ = noisy(60, 3, kind=kind)
    method, run = DivideMix(**QUICK), make_run(net="mlp" if kind == "features" else "small")
    peers, cleaner = cleaned(method, data, run)
    rows, seen, train = torch.arange(60), {}, method.train
    cleaner.judge([rows, rows], method.warmup)
    view = run.normaliser(data.inputs)(data.inputs.batch(rows))
    said = [run.predict(peer.net, data.inputs) for peer in peers]

    def spy(peer, other, *words):
        seen[peer.name] = other(view, rows).detach()
        train(peer, other, *words)

    monkeypatch.setattr(method, "train", spy)
    method.train_both(peers, cleaner, data, run, method.warmup)
    now = run.predict(peers[0].net, data.inputs)
    assert torch.allclose(seen["0"], said[1], atol=1e-5) and not torch.allclose(now, said[0], atol=1e-2)
    assert torch.allclose(seen["1"], now if after else said[0], atol=1e-5)
