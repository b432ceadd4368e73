import pytest
import torch

from curator.engine.hardware import forward_flops
from curator.engine.nets import NETS, OF_FEATURES, build_net
from curator.errors import CuratorError


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_parameters():
    shape = (3, 32, 32)
    assert count(build_net("small", shape, 10)) <= 300_000
    assert count(build_net("preact18", shape, 10)) == pytest.approx(11.171e6, rel=1e-4)
    # The published ProMix net: two linear heads and a projection head of two layers.
    assert count(build_net("resnet18", shape, 10, auxiliary=True, projector=(512, 128))) == pytest.approx(
        11.507e6, rel=1e-4
    )


def test_resnet18_flops():
    for name in ("resnet18", "preact18"):
        assert forward_flops(build_net(name, (3, 32, 32), 10), (3, 32, 32)) == pytest.approx(1.111e9, rel=2e-3)


@pytest.mark.parametrize("name", sorted(set(NETS) - set(OF_FEATURES)))
def test_outputs_and_gradients(name):
    net = build_net(name, (3, 32, 32), 7, auxiliary=True, projector=(16,))
    out = net(torch.randn(4, 3, 32, 32))
    assert out.logits.shape == (4, 7) and out.auxiliary.shape == (4, 7) and out.projected.shape == (4, 16)
    assert out.features.shape[0] == 4 and out.features.ndim == 2
    sum(t.sum() for t in out).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (33, 47)])
@pytest.mark.parametrize("name", ["small", "resnet18", "preact18"])
def test_other_sizes(name, size):
    assert build_net(name, (3, *size), 2).eval()(torch.randn(2, 3, *size)).logits.shape == (2, 2)


@pytest.mark.parametrize("name", OF_FEATURES)
def test_nets_of_features(name):
    out = build_net(name, (20,), 3)(torch.randn(5, 20))
    assert out.logits.shape == (5, 3) and out.auxiliary is None and out.projected is None


def test_logits_are_float32_under_autocast():
    net = build_net("small", (3, 8, 8), 3).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.randn(2, 3, 8, 8)).logits.dtype == torch.float32


def test_preact_block_has_no_activation_at_its_end():
    """The published pre-activation net pools the last sum as it is: features may be negative, the other's may not."""
    x = torch.randn(4, 3, 32, 32)
    assert build_net("preact18", (3, 32, 32), 3)(x).features.min() < 0
    assert build_net("resnet18", (3, 32, 32), 3)(x).features.min() >= 0


def test_refusals():
    with pytest.raises(CuratorError, match="--net: expected one of small, .* found 'resnet'"):
        build_net("resnet", (3, 8, 8), 2)
    with pytest.raises(CuratorError, match="does not read features"):
        build_net("small", (20,), 2)
    with pytest.raises(CuratorError, match="does not read images"):
        build_net("mlp", (3, 8, 8), 2)
