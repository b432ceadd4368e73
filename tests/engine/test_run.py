import importlib.util

import pytest
import torch
from torch import nn

from curator.engine.hardware import best_precision
from curator.engine.run import Run
from curator.errors import CuratorError
from tests.conftest import noisy


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


def test_a_method_says_which_nets_score_other_splits(make_run):
    """Not their names do; each of several methods may have some."""
    run, nets = make_run(), [nn.ModuleList([nn.Linear(2, 2)]) for _ in range(3)]
    run.register("nets", nets[0])
    assert run.scorers == []
    for name, own in zip("ab", nets[1:], strict=True):
        list(run.within(name, (run.register("ensemble", own, scores=True) for _ in range(1))))
    assert run.scorers == nets[1:] and list(run.registered) == ["nets", "a/ensemble", "b/ensemble"]


def test_what_is_said_warned_and_found(make_run):
    said: list[str] = []
    run = make_run(say=said.append)
    run.say("seen      2 rows")
    run.warn("few rows")
    run.add_findings(a=1)
    run.add_findings(b=[2], a=3)
    assert said == ["seen      2 rows", "warning   few rows"] and run.warnings == ["few rows"]
    assert run.findings == {"a": 3, "b": [2]}


def test_weights_are_cast_once_a_step(make_run):
    """With the same gradients as casts in every pass; without autocast there is nothing to share."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Casts(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            casts = function is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") is torch.bfloat16
            self.count += casts and args[0].shape == (4, 3, 3, 3)
            return function(*args, **(kwargs or {}))

    found = []
    for once in (True, False):
        run = make_run(mixed_precision="bf16", cast_once=once)
        conv = nn.Conv2d(3, 4, 3, bias=False)
        nn.init.constant_(conv.weight, 0.1)
        with Casts() as casts, run.casting_once():
            for i in range(3):
                with run.autocast():
                    out = conv(torch.full((2, 3, 5, 5), float(i)))
                out.float().square().mean().backward()
        found.append((casts.count, conv.weight.grad))
    assert [count for count, _ in found] == [1, 3] and torch.equal(found[0][1], found[1][1])
    assert make_run().cast_once and not torch.is_autocast_enabled("cpu")
