import sys

import pytest

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
