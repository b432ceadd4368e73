"""How long a method will take: the estimate, and that nothing of it is in the run."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from curator.evidence import evidence
from curator.methods import METHODS, Method, timing
from curator.methods.ensemble import Ensemble
from curator.methods.timing import expected_seconds
from tests.conftest import noisy


class Time:
    """A clock that moves when it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class Timed(Method):
    """A net whose every step takes 20 ms and every prediction 100 ms; the first step takes much longer."""

    clock: Time
    epochs: int = 20
    batch_size: int = 10
    calls: int = 0

    def total_epochs(self, classes, rows=0):
        return self.epochs * 1.5

    def __call__(self, data, run):
        net = run.build_net("net", data)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for epoch in run.epochs(self.epochs):
            for rows in run.batches(data.inputs, torch.arange(len(data)), self.batch_size, epoch):
                self.calls += 1
                self.clock.now += 5.0 if self.calls == 1 else 0.02
                run.count(len(rows))
                run.step(optimizer)
            self.clock.now += 0.1
            yield evidence(torch.full((len(data), len(data.classes)), 1 / 3), data)


@pytest.mark.parametrize("rows, seconds", [
    (60, 20 * (6 * 0.02 + 0.1)),  # several epochs fit into a second: steps and predictions
    (2000, 20 * 1.5 * 200 * 0.02),  # not one does: by the passes that the method says it is worth
])  # fmt: skip
def test_the_first_steps_tell_how_long_all_will_take(rows, seconds, make_run, monkeypatch):
    clock = Time()
    monkeypatch.setattr(timing, "time", clock)
    data, _ = noisy(rows, 3)
    found = [expected_seconds(Timed(clock), data, make_run()) for _ in range(2)]
    assert found == pytest.approx([seconds, seconds], rel=0.15)
    assert clock.now < 2 * (5 + 2)


@pytest.mark.parametrize("name", METHODS)
def test_the_run_stays_as_it_is(name, make_run):
    kind = "features" if name in ("linear", "posterior") else "images"
    trusted = np.arange(60) < 12 if name == "pudistill" else None
    data, _ = noisy(60, 3, kind=kind, trusted=trusted)
    run = make_run(net="mlp" if kind == "features" else "small")
    before, state = run.build_net("net0", data).head.weight, torch.get_rng_state()
    method = METHODS[name]()
    settings = vars(method).copy()
    assert expected_seconds(method, data, run, limit=0.01) > 0
    assert torch.equal(torch.get_rng_state(), state) and vars(method) == settings
    assert torch.equal(before, run.build_net("net0", data).head.weight)
    assert not run.registered and not run.progress and not run.steps.rows_so_far() and run.steps.watch is None


def test_what_is_done_of_all_passes():
    done = [METHODS["promix"](epochs=20, warmup=10).passes_done({"train": e}, 3, 100) for e in (0, 5, 10, 20)]
    total = METHODS["promix"](epochs=20, warmup=10).total_epochs(3, 100)
    assert done[0] == 0 and done[-1] == total and done[2] < total / 2  # the warm-up is cheaper
    ends = {"posterior": {"folds": 3}, "pudistill": {"class 0": 3, "class 1": 1, "teachers": 60, "student": 60}}
    for name, cls in METHODS.items():
        method = cls(**cls.small_net)
        total = method.total_epochs(2, 100)
        assert method.passes_done(ends.get(name, {"train": method.epochs}), 2, 100) == pytest.approx(total), name
        assert method.passes_done({}, 2, 100) == 0
    large = METHODS["posterior"]()
    nets = {"folds": 2, "promix/train": large.nets().epochs}
    assert large.passes_done(nets, 3, 10_000) == pytest.approx(large.total_epochs(3, 10_000))
    both = Ensemble({"ce": METHODS["ce"](epochs=4), "mixup": METHODS["mixup"](epochs=4)})
    assert both.passes_done({"ce/train": 4, "mixup/train": 1}, 3) == 5
