"""Learning rates as steps read them, and SGD."""

import subprocess
import sys
from pathlib import Path

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


def test_no_training_waits_for_the_loading_of_compilers(tmp_path):
    """torch._dynamo takes a second or more, several where Python may keep no bytecode; two epochs and a resumed one."""
    code = (
        "import sys\n"
        "sys.modules['torch._dynamo'] = None\n"  # its import is an error
        "from pathlib import Path\n"
        "from curator.methods import METHODS\n"
        "from tests.conftest import cpu_runs, noisy\n"
        "from tests.methods.test_contract import fit, result\n"
        "with cpu_runs() as make:\n"
        "    for name in METHODS:\n"
        "        data = fit(name, *noisy(60, 3, kind='features'))\n"
        "        for epochs in (2, 3):\n"
        f"            run = make(net='mlp', checkpoints=Path({str(tmp_path)!r}) / name)\n"
        "            result(name, data, run, epochs=epochs)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_sgd_is_that_of_torch():
    """Steps, and what a checkpoint holds."""
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2)]
    ours = sgd([weights[0]], 0.1, 5e-4)
    theirs = torch.optim.SGD([weights[1]], 0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    for _ in range(3):
        for weight, optimizer in zip(weights, (ours, theirs), strict=True):
            optimizer.zero_grad()
            weight.pow(3).sum().backward()
            optimizer.step()
    assert torch.equal(*weights)
    kept, wanted = ours.state_dict(), theirs.state_dict()
    assert kept["param_groups"] == wanted["param_groups"] and kept["state"].keys() == wanted["state"].keys()
    assert torch.equal(kept["state"][0]["momentum_buffer"], wanted["state"][0]["momentum_buffer"])
    again = sgd([weights[0]], 1.0, 0.0)
    again.load_state_dict(wanted)
    assert again.param_groups[0]["lr"] == 0.1
