import sys

import pytest
import torch

from curator.engine import hardware
from curator.engine.hardware import launched_precision
from curator.errors import CuratorError

LAUNCH = ["python", "/bin/accelerate", "launch"]


@pytest.mark.parametrize("launcher, found", [
    ([*LAUNCH, "curator/clean.py"], None),
    ([*LAUNCH, "--mixed_precision", "no", "curator/clean.py"], "no"),
    ([*LAUNCH, "--mixed-precision=bf16", "--num_processes", "2", "curator/clean.py"], "bf16"),
    ([*LAUNCH, "curator/clean.py", "--mixed-precision", "no"], None),  # a flag of the script
    ([], None),
])  # fmt: skip
def test_the_launchers_precision_is_what_its_user_said(launcher, found, monkeypatch):
    """Its variable is "no" where nothing was said, too."""
    monkeypatch.setattr(sys, "argv", ["curator/clean.py"])
    monkeypatch.setattr(hardware, "_launcher", lambda: launcher)
    assert launched_precision() is None  # nobody launched this
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert launched_precision() == found


def test_a_precision_that_there_is_none_of(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setattr(hardware, "_launcher", lambda: [*LAUNCH, "--mixed_precision", "fp16", "curator/clean.py"])
    with pytest.raises(CuratorError, match="accelerate launch --mixed_precision fp16: expected one of no, bf16"):
        launched_precision()


@pytest.mark.parametrize("seconds, found", [({"bf16": 1, "no": 4}, "bf16"), ({"bf16": 2, "no": 1}, "no")])
def test_a_cpu_takes_bf16_where_it_is_quicker_not_where_it_is_there(seconds, found, monkeypatch):
    """A Xeon with AVX512-BF16 and no AMX takes twice as long in it."""
    now = 0.0

    def product(x, w):
        nonlocal now
        now += seconds["bf16" if x.dtype == torch.bfloat16 else "no"]

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.nn.functional, "linear", product)
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: now)
    hardware._bf16_pays.cache_clear()
    try:
        assert hardware.best_precision(torch.device("cpu")) == found
    finally:
        hardware._bf16_pays.cache_clear()
