"""Frozen nets are compiled where that pays, and then give the same features."""

import shutil

import pytest
import torch
from torch import nn

from curator.engine.encoders import Backbone
from curator.engine.held import Held
from curator.engine.pretrained import Encoder, Look
from curator.engine.quick import pays

CPU = torch.device("cpu")
NET = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def encoder() -> Encoder:
    return Encoder(NET, Look(16, 16), lambda net, x: net(x)).eval()


def test_when_it_pays(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert pays(encoder(), 16, CPU, 10**7)
    assert not pays(encoder(), 16, CPU, 1000) and not pays(encoder(), 16, torch.device("cuda"), 10**7)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not pays(encoder(), 16, CPU, 10**7)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_compiled_features(precision):
    """Those of the net as it is, whatever the number of images."""
    if not shutil.which("g++"):
        pytest.skip("no compiler")
    images = torch.randint(256, (45, 3, 20, 20), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    for make in (encoder, lambda: Held("net", nn.Sequential(encoder()))):
        given = make()
        named = ("x", given) if isinstance(given, Encoder) else (given, None)
        plain, compiled = (Backbone(named[0], CPU, precision, named[1], rows=n) for n in (0, 10**9))
        assert compiled.compiled and not plain.compiled
        torch.testing.assert_close(compiled(images), plain(images), rtol=0.02, atol=0.02)
        assert compiled.fingerprint((20, 20)) != plain.fingerprint((20, 20))
