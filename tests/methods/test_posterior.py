"""The default on features: few rows, many rows, small classes, and what it says of them."""

import numpy as np
import pytest
import torch
import yaml

from curator.methods import METHODS, scale_epochs
from curator.methods.ensemble import Ensemble
from curator.methods.posterior import DROP, NETS, Posterior
from curator.methods.promix import ProMix
from curator.signals.neighbours import neighbour_vote
from tests.conftest import ROOT, noisy
from tests.methods.test_ensemble import last


def overlapping(n: int, k: int, sizes: np.ndarray | None = None, seed: int = 0):
    """Features of classes that overlap: about a tenth of the rows looks like another class."""
    data, _ = noisy(n, k, kind="features")
    random = np.random.default_rng(seed)
    truth = np.arange(n) % k if sizes is None else np.repeat(np.arange(k), sizes)
    centres = random.normal(0, 1, (k, 16))
    data.inputs.features.copy_(torch.from_numpy(centres[truth] + 1.5 * random.normal(0, 1, (n, 16))))
    return data, truth


def moved_on(share: float):
    """1,000 rows of four classes that hardly overlap; so many of each have the label of the next class."""
    data, _ = noisy(1000, 4, kind="features")
    random, truth = np.random.default_rng(0), np.arange(1000) % 4
    centres = 3 * np.eye(4, data.inputs.features.shape[1])
    data.inputs.features.copy_(torch.from_numpy(centres[truth] + random.standard_normal(data.inputs.features.shape)))
    return relabelled(data, np.where(random.random(1000) < share, (truth + 1) % 4, truth)), truth


def relabelled(data, labels):
    from dataclasses import replace

    return replace(data, labels=torch.from_numpy(labels))


def test_labels_of_hard_rows_are_left_alone(make_run):
    """No label is wrong; the linear model alone disagrees with a tenth of them."""
    data, truth = overlapping(900, 5)
    clean = relabelled(data, truth)
    free = last(METHODS["linear"](), clean, make_run())
    assert (free.corrected.numpy() != truth).mean() > 0.05
    found = last(Posterior(), clean, make_run())
    assert (found.corrected.numpy() != truth).mean() <= 0.01
    assert (found.clean_score > 0.5).float().mean() > 0.98


def test_better_than_what_is_free(make_run):
    data, truth = overlapping(900, 5)
    random = np.random.default_rng(1)
    labels = np.where(random.random(900) < 0.2, (truth + random.integers(1, 5, 900)) % 5, truth)
    noisy_data = relabelled(data, labels)
    run = make_run()
    found, free = last(Posterior(), noisy_data, run), last(METHODS["linear"](), noisy_data, make_run())
    wrong = labels != truth

    def f1(e):
        flagged = ~e.selected.numpy()
        return 2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum())

    assert f1(found) > f1(free) + 0.05
    assert (found.corrected.numpy() == truth).mean() > max((free.corrected.numpy() == truth).mean(), 0.9)
    sure = found.clean_score.numpy() >= 0.95
    assert sure.mean() > 0.5 and wrong[sure].mean() < 0.05
    assert run.findings["posterior"]["noise_rate"] == pytest.approx(wrong.mean(), abs=0.03)


@pytest.mark.parametrize("sizes", [(180,) * 5, (450, 225, 135, 60, 30)])
def test_a_class_that_is_often_taken_for_another(make_run, sizes):
    """Two fifths of class 0 are labelled 1: the models learn it, and say of many such rows that they look like 1."""
    data, truth = overlapping(900, 5, sizes)
    labels = np.where((truth == 0) & (np.random.default_rng(1).random(900) < 0.4), 1, truth)
    found = last(Posterior(), relabelled(data, labels), make_run())
    wrong = labels != truth
    corrected = found.corrected.numpy()
    assert (corrected[wrong] == truth[wrong]).mean() > 0.5
    assert (corrected[~wrong] != truth[~wrong]).mean() < 0.03


def test_two_fifths_of_every_class_are_given_as_the_next_one(make_run):
    """Models that learned such labels say that all rows are hard (.60 right with them alone); neighbours tell it."""
    given, truth = moved_on(0.4)
    run = make_run()
    found = last(Posterior(), given, run)
    assert (found.corrected.numpy() == truth).mean() > 0.95 > 0.65 > (given.labels.numpy() == truth).mean()
    assert run.findings["posterior"]["noise_rate"] == pytest.approx(0.4, abs=0.03)


def test_fewer_neighbours_vote_where_classes_are_small(make_run, monkeypatch):
    counts = []

    def counted(*args):
        counts.append(args[-1])
        return neighbour_vote(*args)

    monkeypatch.setattr("curator.methods.posterior.neighbour_vote", counted)
    for n in (20, 120, 240):  # 4, 24 and 48 rows a class
        last(Posterior(rounds=0), overlapping(n, 5)[0], make_run())
    assert counts == [5, 12, 20]


def test_classes_that_mostly_overlap_are_told_of(make_run):
    data, truth = overlapping(900, 3)
    data.inputs.features.mul_(0.3).add_(torch.randn(900, 16, generator=torch.Generator().manual_seed(0)) * 1.5)
    run = make_run()
    last(Posterior(), relabelled(data, truth), run)
    assert any("tell the classes of only about" in line for line in run.warnings)


@pytest.mark.parametrize("n", [900, 3000])
def test_features_that_tell_little_are_told_of(make_run, n):
    """Rings around each other in two of eight numbers: no linear model and few neighbours see them.

    Of 900 rows they take the ring in the middle for the two about it.
    """
    random = np.random.default_rng(0)
    data, _ = noisy(n, 3, kind="features")
    truth, angle = random.integers(0, 3, n), random.uniform(0, 2 * np.pi, n)
    radius = 1 + truth + 0.15 * random.standard_normal(n)
    data.inputs.features.normal_(generator=torch.Generator().manual_seed(1))
    data.inputs.features[:, :2] = torch.from_numpy(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1))
    rings, plain = make_run(), make_run()
    found = last(Posterior(), relabelled(data, truth), rings)
    assert n == 900 or (found.corrected.numpy() != truth).mean() < 0.1
    told = ("held to be right", repr(data.classes[1])) if n == 900 else ("tell the classes of only about",)
    assert any(all(part in line for part in told) for line in rings.warnings)
    assert all(repr(data.classes[i]) not in line for i in (0, 2) for line in rings.warnings)
    last(Posterior(), noisy(900, 3, kind="features", share=0.3)[0], plain)
    assert not plain.warnings and plain.findings["posterior"]["told_apart"] > 0.75


def test_rounds_go_on_until_the_labels_settle(make_run, tmp_path):
    """A third of every class has the label of the next one, and no neighbour votes: .91, .96 are right after 2, 4."""
    moved, truth = moved_on(0.35)

    def alone(**fields):
        return Posterior(neighbours=0, **fields)

    def right(found):
        return (found.corrected.numpy() == truth).mean()

    run = make_run()
    found = last(alone(), moved, run)
    made = run.progress["folds"] - 1  # the one that finds them settled is handed out, too
    assert 3 < made < 7  # the first fit and more than two rounds
    assert right(found) > right(last(alone(rounds=2), moved, make_run())) + 0.03
    for stop in (made - 1, made):  # before the last round, and after it
        folder = tmp_path / str(stop)
        last(alone(), moved, make_run(checkpoints=folder), stop)
        assert torch.equal(last(alone(), moved, make_run(checkpoints=folder)).probs, found.probs)
    clean = make_run()
    last(alone(), relabelled(moved, truth), clean)
    assert clean.progress["folds"] - 1 == 3


def test_a_rare_class_that_rounds_lose(make_run):
    """A third of the labels is wrong, and 5 % of the rows are of one class: no row is likeliest of it after a round."""
    random = np.random.default_rng(1)
    data, _ = noisy(2000, 2, kind="features")
    truth = (np.arange(2000) < 100).astype(int)
    data.inputs.features.normal_(generator=torch.Generator().manual_seed(1))
    data.inputs.features[:, :8] += torch.from_numpy(0.9 * truth[:, None])
    labels = np.where(random.random(2000) < 0.35, 1 - truth, truth)
    found = last(Posterior(), relabelled(data, labels), make_run())
    flagged, wrong = ~found.selected.numpy(), labels != truth
    assert 2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()) > 0.8
    assert (found.corrected.numpy() == truth).mean() > 0.75


def test_small_classes_are_not_erased(make_run):
    sizes = np.array([400, 200, 60, 12, 6])
    data, truth = overlapping(sizes.sum(), 5, sizes)
    found = last(Posterior(), relabelled(data, truth), make_run())
    kept = [(found.corrected.numpy() == truth)[truth == c].mean() for c in range(5)]
    assert min(kept) > 0.8, kept


def test_many_rows_have_nets_too(make_run, tmp_path):
    data, truth = noisy(300, 3, kind="features")
    lines: list[str] = []
    run = make_run(net="mlp", say=lines.append)
    method = Posterior(many=300, epochs=4, batch_size=32)
    found = last(method, data, run)
    assert [len(nets) for nets in run.scorers] == [2, 2] and run.findings["posterior"]["nets"]
    assert "about 20% of the labels wrong" in lines[0] and "and two nets" in lines[0]
    few = last(Posterior(many=301), data, make_run(net="mlp"))
    assert not torch.equal(found.probs, few.probs)
    for stop in (2, 3, 5):  # in the folds, after them, in the nets
        folder = tmp_path / str(stop)
        last(method, data, make_run(net="mlp", checkpoints=folder), stop)
        resumed = last(method, data, make_run(net="mlp", checkpoints=folder))
        assert torch.equal(resumed.probs, found.probs) and torch.equal(resumed.selected, found.selected)


def test_beside_promix_in_an_ensemble(make_run):
    """Its nets and those of the other member have names of their own."""
    data, _ = noisy(120, 3, kind="features")
    own = Posterior(many=10, epochs=2, batch_size=32)
    other = ProMix(**{**ProMix.small_net, **NETS, "epochs": 2, "batch_size": 32})
    run = make_run(net="mlp")
    last(Ensemble({"promix": other, "posterior": own}), data, run)
    assert {name for name in run.registered if name.endswith("nets")} == {
        "promix/nets", "posterior/nets", "posterior/promix/nets",
    }  # fmt: skip


def test_a_run_that_is_stopped_in_the_folds_asks_no_untrained_nets(make_run):
    data, _ = noisy(120, 3, kind="features")
    run = make_run(net="mlp")
    for found in Posterior(many=10)(data, run):  # noqa: B007 (the last one is the result)
        run.close_epoch()
        run.stop()
    assert [len(nets) for nets in run.scorers] == [2]
    assert found.check(data)


def test_the_nets_are_set_as_promix_is_on_features():
    recipe = yaml.safe_load((ROOT / "recipes" / "features-promix.yaml").read_text())
    assert {"feature_drop": DROP, **{f"method.{name}": value for name, value in NETS.items()}} == {
        name: value for name, value in recipe.items() if name != "method"
    }
    nets = ProMix(**{**ProMix.small_net, **NETS})
    assert Posterior().nets() == nets
    scale_epochs(nets, 40)
    assert Posterior(epochs=40).nets() == nets and nets.lga_epochs == 14


def test_clearly_likelier(make_run):
    """A label is changed for one that is half as likely again, not for one a little likelier."""
    data, _ = noisy(4, 3, np.array([0, 0, 0, 1]), kind="features")
    probs = torch.tensor([[0.4, 0.5, 0.1], [0.3, 0.6, 0.1], [0.98, 0.01, 0.01], [0.0, 1.0, 0.0]])
    found = Posterior().result(probs, data)
    assert found.corrected.tolist() == [0, 1, 0, 1]
    assert found.clean_score.tolist() == pytest.approx([0.4, 0.3, 0.98, 1])
    assert found.selected.tolist() == [False, False, True, True]
