import pytest
import torch
from torch import nn

from curator.engine.pair import Pair
from curator.errors import RunFailed
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


def test_batches_are_made_ready_by_what_they_are_read_from(make_run):
    class Inputs:
        def expect(self, parts):
            self.parts = parts

    inputs, other = Inputs(), noisy(20, 2)[0]
    run = make_run()
    run.build_net("net", other)  # what nets read is no business of theirs
    batches = run.batches(inputs, torch.arange(20), 8, 0)
    assert inputs.parts is batches and len(batches) == 3


def test_drop_last(make_run):
    batches = make_run().batches(None, torch.arange(1000), 256, 0, drop_last=True)
    assert [len(b) for b in batches] == [256] * 3
    assert [len(b) for b in make_run().batches(None, torch.arange(100), 256, 0, drop_last=True)] == [100]


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


@pytest.mark.parametrize("pair", [Pair(apart=False), Pair(apart=True)])
def test_losses_and_rows_of_nets_apart(pair, make_run):
    """Net 1's count after net 0's, however they come; what was done before one broke counts, too."""
    run, weights = make_run(), [nn.Parameter(torch.tensor(value)) for value in (1.0, 2.0)]

    def train(i):
        for step in range(2 - i):
            run.backward(weights[i] * 10**step, 3)
            run.step(torch.optim.SGD([weights[i]], 0.0))
            assert run.steps.rows_so_far() >= 3 * (step + 1)
        if broken:
            raise RunFailed("broke")

    broken = False
    run.apart(pair, train)
    assert run.steps.finite_losses().tolist() == [1, 10, 2] and run.steps.rows_so_far() == 9
    broken = True
    with pytest.raises(RunFailed):
        run.apart(pair, train)
    assert run.steps.rows_so_far() == 9 + (9 if pair.pool else 6)


def test_an_interrupted_net_is_not_outlasted_by_the_other_one(make_run):
    """Ctrl-C comes to the thread of net 0."""
    run, weight, steps = make_run(), nn.Parameter(torch.ones(1)), []

    def train(i):
        if i == 0:
            raise KeyboardInterrupt
        for step in range(10_000):
            run.backward(weight.sum(), 1)
            run.step(torch.optim.SGD([weight], 0.0))
            steps.append(step)

    with pytest.raises(KeyboardInterrupt):
        run.apart(Pair(apart=True), train)
    assert len(steps) < 10_000
    run.step(torch.optim.SGD([weight], 0.0))  # the next one is made
