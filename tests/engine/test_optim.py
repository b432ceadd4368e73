"""Learning rates as steps read them, and SGD."""

import pytest
import torch

from curator.engine.optim import cosine, rates, set_rate, sgd


def test_rates_of_steps_are_exact_on_a_cpu():
    """So a step that gets its rate as a tensor, as recorded ones must, makes what it would with the number."""
    wanted = [cosine(0.1, step / 7, 3) for step in range(7)]
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = sgd([weight], 1.0, 0.0)
    for rate, number in zip(rates(wanted, torch.device("cpu")), wanted, strict=True):
        set_rate(optimizer, rate)
        assert type(optimizer.param_groups[0]["lr"]) is float and optimizer.param_groups[0]["lr"] == number


def test_a_rate_on_another_device_stays_there():
    optimizer = sgd([torch.nn.Parameter(torch.zeros(1))], 1.0, 0.0)
    rate = torch.zeros((), device="meta")
    set_rate(optimizer, rate)
    assert optimizer.param_groups[0]["lr"] is rate


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov):
    """Two steps of a constant gradient of 1 at rate 1: v = 1, then 1.9; Nesterov goes g + .9 v."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = sgd([weight], 1.0, 0.0, nesterov)
    for _ in range(2):
        weight.grad = torch.ones(1)
        optimizer.step()
    assert weight.item() == pytest.approx(-(1.9 + 2.71) if nesterov else -2.9)
