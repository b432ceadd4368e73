import torch

from curator.engine.throughput import measure_speed
from tests.conftest import noisy


def test_speed_is_measured_without_touching_the_run(make_run):
    run = make_run()
    data, _ = noisy(40, 3)
    before = run.build_net("net0", data).head.weight
    assert measure_speed(run, data, 16, seconds=0.05) > 0
    assert torch.equal(before, run.build_net("net0", data).head.weight) and not run.registered
