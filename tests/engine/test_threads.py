import pytest
import torch

from curator.engine import threads
from curator.engine.hardware import forward_flops
from curator.engine.nets import build_net


@pytest.mark.parametrize("net, shape, rows, expected", [
    ("small", (1, 8, 8), 16, 1),
    ("small", (1, 8, 8), 128, 8),  # digits
    ("small", (3, 32, 32), 128, 8),  # CIFAR
    ("mlp", (64,), 64, 1),
    ("mlp", (1280,), 256, 4),
    ("linear", (1280,), 256, 1),
    ("resnet18", (3, 32, 32), 2, 8),
])  # fmt: skip
def test_a_second_thread_must_pay(net, shape, rows, expected, monkeypatch):
    monkeypatch.setattr(threads, "threads_per_process", lambda: 8)
    before = torch.get_rng_state()
    assert threads.threads_of(net, shape, 10, rows) == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert threads.threads_of(net, shape, 10, rows, apart=True) == expected
    monkeypatch.setattr(threads, "threads_per_process", lambda: 2)
    two = threads.threads_of(net, shape, 10, rows, apart=True)
    assert two == (1 if net in threads.OF_FEATURES else min(2, expected))  # on features: a core each
    monkeypatch.setattr(threads, "threads_per_process", lambda: 1)
    assert threads.threads_of(net, shape, 10, rows) == 1


def test_an_mlp_of_many_rows_has_more_units_to_share(monkeypatch):
    monkeypatch.setattr(threads, "threads_per_process", lambda: 8)
    assert [threads.threads_of("mlp", (1280,), 10, 128, of=n) for n in (4_000, 20_000)] == [2, 4]


@pytest.mark.slow  # loading torch's counter is
def test_flops_are_those_of_torchs_counter():
    net = build_net("small", (3, 32, 32), 10).eval()
    assert threads._flops(net, (3, 32, 32)) == forward_flops(net, (3, 32, 32))
