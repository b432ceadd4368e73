"""Work that is done ahead, and how long it takes."""

import time

import pytest
import torch

from curator.engine.encoders import Backbone
from curator.engine.held import Held
from curator.sources.pace import ahead, plan_line, timed


def test_the_next_one_is_made_meanwhile():
    made = []
    for item, square in ahead(range(5), lambda i: made.append(i) or i * i):
        assert square == item * item
        end = time.monotonic() + 5
        while len(made) < min(item + 2, 5):  # the one after it, and no other
            assert time.monotonic() < end
            time.sleep(0.001)
        assert len(made) <= item + 2
    assert list(ahead([], str)) == []


def test_an_error_comes_in_its_turn():
    seen = []
    with pytest.raises(ZeroDivisionError):
        for item, _ in ahead([2, 1, 0, 3], lambda i: 1 // i):
            seen.append(item)
    assert seen == [2, 1]


@pytest.mark.parametrize("n", [1, 32, 33, 96, 100])
def test_all_images_are_read_once(n):
    seen = []
    backbone = Backbone(Held("x", lambda x: seen.append(len(x)) or x.float().mean((2, 3))), torch.device("cpu"), "no")
    images = torch.arange(n).view(-1, 1, 1, 1).expand(n, 3, 4, 4).to(torch.uint8)
    features, seconds = timed(backbone, images)
    assert features[:, 0].tolist() == list(range(n)) and sum(seen) == n and seconds > 0
    line = plan_line(backbone, 3, 0.01, 0.03, 6000, 2)
    assert line.startswith("features  3 per row of x, 50 images/s: 1 min 30 s to 3 min 0 s for 6,000 images")
