import pytest
import torch


def test_streams_differ_by_purpose_epoch_seed_and_rank(make_run):
    run, other = make_run(seed=1), make_run(seed=2)
    seeds = [
        run.seeds.derived("a"),
        run.seeds.derived("b"),
        run.seeds.derived("a", 1),
        run.seeds.derived("a", rank=1),
        other.seeds.derived("a"),
    ]
    assert len(set(seeds)) == 5 and run.seeds.derived("a") == make_run(seed=1).seeds.derived("a")


def test_seeded_leaves_the_global_stream_alone(make_run):
    run = make_run()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with run.seeded("x"):
        a = torch.rand(3)
    for _ in run.epochs(2):
        torch.rand(5)
    assert torch.equal(torch.rand(3), expected)
    with run.seeded("x"):
        assert torch.equal(torch.rand(3), a)


def test_beta_draws(make_run):
    draws = make_run().beta(4.0, 20000, "mixup", 0)
    assert draws.mean() == pytest.approx(0.5, abs=0.01) and draws.var() == pytest.approx(1 / (4 * 9), rel=0.05)
    assert torch.equal(draws, make_run().beta(4.0, 20000, "mixup", 0))
