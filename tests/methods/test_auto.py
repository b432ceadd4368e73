import pytest
import torch

from curator.engine.source import Features
from curator.evidence import NoisyDataset
from curator.methods import auto
from curator.methods.auto import Noise, pick
from tests.conftest import noisy

K, N = 5, 500


def rows(kind: str, rate: float, verified: float = 0.0):
    """Features of five classes, labels that are wrong evenly or as the next class, and given labels (n,)."""
    g = torch.Generator().manual_seed(0)
    truth = torch.arange(N) % K
    x = 3 * torch.eye(K, 8)[truth] + torch.randn(N, 8, generator=g)
    step = torch.randint(1, K, (N,), generator=g) if kind == "even" else torch.ones(N, dtype=torch.int64)
    given = torch.where(torch.rand(N, generator=g) < rate, (truth + step) % K, truth)
    known = torch.rand(N, generator=g) < verified
    labels = torch.where(known, truth, given)
    return NoisyDataset(Features(x), labels, tuple("abcde"), known, torch.arange(N)), given


@pytest.mark.parametrize("kind, rate", [("even", 0.3), ("pairs", 0.3), ("pairs", 0.15)])
def test_noise_is_told_by_rate_and_kind(kind, rate, make_run, monkeypatch):
    monkeypatch.setattr(auto, "SAMPLED", 400)  # some of the rows are looked at
    data, given = rows(kind, rate)
    found = pick(data, given, make_run(net="mlp"))
    assert found.noise is not None and abs(found.noise.rate - rate) < 0.08
    assert ("as one other" in found.why) is (kind == "pairs") and ("over many" in found.why) is (kind == "even")
    assert found.method == "posterior" and "500 rows of 8 features" in found.why
    assert found.facts()["noise_rate"] == round(found.noise.rate, 4)


def test_how_few_wrong_labels_are_spread_is_not_said(make_run):
    data, given = rows("pairs", 0.0)
    found = pick(data, given, make_run(net="mlp"))
    assert found.noise is not None and found.noise.rate < 0.03 and found.noise.together is None
    assert str(Noise(0.004, None)) == "about 0% of the labels wrong"
    assert pick(data, given, make_run(net="mlp"), estimated=False).facts()["noise_rate"] is None


def test_verified_rows_that_contradict_the_labels_are_all_that_is_believed(make_run):
    data, given = rows("pairs", 0.8, verified=0.2)
    found = pick(data, given, make_run(net="mlp"))
    assert found.method == "pudistill" and "were labelled" in found.why and abs(found.facts()["noise_rate"] - 0.8) < 0.1
    one_class = data.trusted & (data.labels == 0)
    few = NoisyDataset(data.inputs, torch.where(one_class, data.labels, given), data.classes, one_class, data.rows)
    assert pick(few, given, make_run(net="mlp")).method == "posterior"  # pudistill needs some of every class


def test_images_are_learned_by_nets(make_run):
    data, _ = noisy(200, 3, share=0.3)
    found = pick(data, data.labels, make_run())
    assert found.method == "promix" and found.noise is not None and abs(found.noise.rate - 0.3) < 0.1
