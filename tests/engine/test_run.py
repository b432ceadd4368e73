import importlib.util

import pytest
import torch
from torch import nn

from curator.engine.hardware import best_precision
from curator.engine.run import Run
from curator.engine.throughput import measure_speed
from curator.errors import CuratorError, RunFailed
from tests.conftest import noisy


def test_batches_hold_every_row_once(make_run):
    run = make_run()
    rows = torch.arange(1000) * 3
    for n, size in ((1000, 128), (129, 128), (5, 128), (1, 128), (256, 128)):
        batches = run.batches(None, rows[:n], size, 0)
        assert torch.equal(torch.cat(batches).sort().values, rows[:n])
        sizes = [len(b) for b in batches]
        assert max(sizes) <= size and max(sizes) - min(sizes) <= 1
    assert not torch.equal(run.batches(None, rows, 128, 0)[0], run.batches(None, rows, 128, 1)[0])
    assert torch.equal(run.batches(None, rows, 128, 1)[0], run.batches(None, rows, 128, 1)[0])


def test_drop_last(make_run):
    batches = make_run().batches(None, torch.arange(1000), 256, 0, drop_last=True)
    assert [len(b) for b in batches] == [256] * 3
    assert [len(b) for b in make_run().batches(None, torch.arange(100), 256, 0, drop_last=True)] == [100]


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


def test_predict_is_the_mean_of_the_nets_in_evaluation_mode(make_run):
    run = make_run()
    data, _ = noisy(70, 3)
    nets = run.register("nets", nn.ModuleList([run.build_net("a", data), run.build_net("b", data)]))
    assert not torch.equal(nets[0].head.weight, nets[1].head.weight)
    x = run.normaliser(data.inputs)(data.inputs.batch(torch.arange(70)))
    nets.eval()
    with torch.no_grad():
        expected = (nets[0](x).logits + nets[1](x).logits) / 2
    nets.train()
    got = run.predict(nets, data.inputs, batch=16)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    assert nets[0].training and got.dtype == torch.float32
    some = torch.tensor([5, 3, 60])
    torch.testing.assert_close(run.predict(nets, data.inputs, some), expected[some], atol=1e-5, rtol=1e-4)


def test_state_comes_back(make_run, tmp_path):
    def build(run):
        data, _ = noisy(20, 3)
        net = run.register("net", run.build_net("a", data))
        optimizer = run.register("optimizer", torch.optim.SGD(net.parameters(), 0.1, momentum=0.9))
        table = run.register("table", torch.zeros(4))
        return net, optimizer, table, data

    run = make_run(checkpoints=tmp_path)
    net, optimizer, table, data = build(run)
    seen = []
    for epoch in run.epochs(5, "first"):
        loss = net(run.normaliser(data.inputs)(data.inputs.batch(torch.arange(20)))).logits.square().mean()
        run.backward(loss, 20)
        run.step(optimizer)
        table += 1
        seen.append(epoch)
        run.close_epoch()
        run.checkpoint()
        if epoch == 2:
            break
    again = make_run(checkpoints=tmp_path, threads=None)
    assert again.threads == 1  # of the checkpoint, not of the machine
    net2, optimizer2, table2, _ = build(again)
    assert torch.equal(table2, torch.full((4,), 3.0))
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), net2.state_dict().values(), strict=True))
    assert str(optimizer.state_dict()) == str(optimizer2.state_dict())
    assert list(again.epochs(5, "first")) == [3, 4] and list(again.epochs(2, "second")) == [0, 1]


def test_a_finished_stage_gives_nothing_and_names_are_unique(make_run, tmp_path):
    run = make_run(checkpoints=tmp_path)
    list(run.epochs(2, "a"))
    run.checkpoint()
    again = make_run(checkpoints=tmp_path)
    assert list(again.epochs(2, "a")) == []
    with pytest.raises(ValueError, match="unique"):
        list(again.epochs(2, "a"))
    with pytest.raises(ValueError, match="registered already"):
        again.register("x", torch.zeros(1))
        again.register("x", torch.zeros(1))


def test_stopping_ends_every_stage(make_run):
    run, seen = make_run(), []
    for epoch in run.epochs(10):
        seen.append(epoch)
        if epoch == 3:
            run.stop()
    assert seen == [0, 1, 2, 3] and list(run.epochs(10, "next")) == []


def test_stopping_is_remembered(make_run, tmp_path):
    run = make_run(checkpoints=tmp_path)
    for epoch in run.epochs(10):
        if epoch == 3:
            run.stop()
        run.checkpoint()
    assert list(make_run(checkpoints=tmp_path).epochs(10)) == []


def test_nan_loss_is_named(make_run, tmp_path):
    run = make_run(checkpoints=tmp_path)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    for epoch in run.epochs(3):
        for step in range(4):
            run.backward(weight.sum() * (float("nan") if epoch == 1 and step == 2 else 1), 1)
            run.step(optimizer)
        if epoch == 1:
            with pytest.raises(
                RunFailed, match=r"nan in epoch 1 of stage train, step 2; last good checkpoint: .*000000"
            ):
                run.close_epoch()
            return
        stats = run.close_epoch()
        assert stats["images"] == 4 and stats["loss"] == pytest.approx(1 - 0.1 * 1.5)
        run.checkpoint()


def test_precision_and_threads(make_run, monkeypatch):
    assert Run(seed=1, threads=1).precision == best_precision(torch.device("cpu")) in ("bf16", "no")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # what accelerate launch sets
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert make_run(mixed_precision="bf16").precision == "bf16"
    import os

    assert make_run(threads=None).threads == len(os.sched_getaffinity(0)) == torch.get_num_threads()


def test_autocast_is_used(make_run):
    run = make_run(mixed_precision="bf16")
    with run.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with make_run().autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_a_tracker_that_is_not_installed(make_run):
    if importlib.util.find_spec("trackio"):
        pytest.skip("trackio is installed")
    with pytest.raises(CuratorError, match="--track trackio: the package is not installed"):
        make_run(track="trackio")


def test_trackers(make_run, tmp_path):
    pytest.importorskip("tensorboard")
    run = make_run(track="tensorboard", track_dir=tmp_path)
    run.start_tracking({"lr": 0.1, "path": None})
    run.track({"loss": 1.0}, 1)
    run.close()
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_speed_is_measured_without_touching_the_run(make_run):
    run = make_run()
    data, _ = noisy(40, 3)
    before = run.build_net("net0", data).head.weight
    assert measure_speed(run, data, 16, seconds=0.05) > 0
    assert torch.equal(before, run.build_net("net0", data).head.weight) and not run.registered
