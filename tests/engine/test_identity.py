import functools

import pytest
import torch
from torch import nn

from curator.engine.encoders import UNLIKE, Backbone
from curator.engine.held import Held
from curator.engine.identity import array_hash, code_of
from curator.errors import CuratorError


class Pixels(nn.Module):
    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.linear, self.scale = nn.Linear(48, 4), scale
        nn.init.constant_(self.linear.weight, 0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.encode(x)

    def encode(self, x):
        return self.scale * self.linear(x.float().flatten(1))


@torch.no_grad()
def pixels(x):
    return x.float().flatten(1)


def made(offset):
    def inner(x):
        return pixels(x) + offset

    return inner


def fingerprint(call) -> str:
    return Backbone(Held("python-x", call), torch.device("cpu"), "no").fingerprint((4, 4))


def test_modules_differ_by_their_state():
    own = Pixels()
    assert fingerprint(own) == fingerprint(Pixels())
    other = Pixels()
    with torch.no_grad():
        other.linear.bias[2] += 0.01
    found = [fingerprint(call) for call in (own, other, Pixels(2.0), nn.Sequential(own), own.encode, other.encode)]
    assert len({*found}) == 6  # 2.0 stands in no state, and is seen by what it does
    assert not any(f.startswith(UNLIKE) for f in found) and fingerprint(own.encode) == found[4]


def test_functions_with_a_name_are_known_again():
    assert fingerprint(pixels) == fingerprint(pixels) and not fingerprint(pixels).startswith(UNLIKE)


@pytest.mark.parametrize("call", [lambda x: pixels(x), made(1.0), functools.partial(pixels)])
def test_what_nothing_tells_from_another(call):
    assert code_of(call) is None
    assert fingerprint(call).startswith(UNLIKE) and fingerprint(call) != fingerprint(call)


def test_the_callers_module_is_left_as_it_was():
    net = nn.Sequential(Pixels(), nn.Dropout()).train()
    backbone = Backbone(Held("python-x", net), torch.device("cpu"), "no")
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    assert (backbone(images) == backbone(images)).all() and net.training and net[1].training
    with pytest.raises(CuratorError, match="--backbone python-x: it cannot read uint8 images of shape"):
        backbone(images[:, :, :2])


def test_arrays():
    one = torch.arange(6.0).view(2, 3).numpy()
    assert array_hash(one) == array_hash(one.copy()) != array_hash(one.T) != array_hash(one.reshape(3, 2))
    assert array_hash(one) != array_hash(one.astype("float64"))
