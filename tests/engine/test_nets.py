import copy
import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from curator.engine.hardware import forward_flops
from curator.engine.nets import NETS, OF_FEATURES, Block, Lowered, PreactBlock, build_net
from curator.engine.optim import sgd
from curator.engine.source import Features
from curator.engine.views import mixed
from curator.errors import CuratorError
from curator.evidence import NoisyDataset


def count(net):
    return sum(p.numel() for p in net.parameters())


def scattered(*shape):
    """Numbers in [-1, 1) that look random and are the same on every machine."""
    i = torch.arange(math.prod(shape))
    return (((40503 * i + 7919) * i % 65537) / 32768.5 - 1).view(shape)


def filled(make):
    """A module in evaluation mode whose weights and running statistics follow from their shapes."""
    with torch.device("meta"):  # no time for an initialisation
        net = make()
    net = net.to_empty(device="cpu").eval()
    for name, value in net.state_dict().items():
        if value.ndim > 1:
            value.copy_((6 / value[0].numel()) ** 0.5 * scattered(*value.shape))
        elif value.ndim:
            value.copy_(name.endswith(("weight", "running_var")) + scattered(*value.shape) / 4)
    return net


# Stated numbers of blocks and nets: written down from a second implementation in numpy and float64.
BLOCKS = [
    (Block, 2, 1, [[0, 0, 0.80205, 0.54601], [0, 0, 2.35425, 0], [0, 0, 0, 0], [0.25042, 0, 0, 0]], 13.97081),
    (Block, 3, 2, [[1.12101, 0], [0.57261, 1.89609]], 8.00681),
    (PreactBlock, 2, 1, [
        [0.02732, 0.17032, 0.02626, 0.73651], [-0.50021, -0.19197, 0.66233, 0.02853],
        [-0.42936, -0.08881, -0.11918, -0.51567], [-0.18459, -0.44581, -0.50379, -0.45913],
    ], 7.38639),
    (PreactBlock, 3, 2, [[0.19738, -0.49643], [0.78466, 0.4145]], 1.70601),
]  # fmt: skip
FORWARD = {  # logits, and the first three features
    "small": ([0.206586, -1.61413, -1.05614], [0.300931, 0.357651, 0.779398]),
    "resnet18": ([10.1889, 10.7433, -13.7233], [4.91282, 1.84553, 12.2598]),
    "preact18": ([7.83658, 11.6874, -11.7238], [6.87575, -3.46701, 12.5464]),
    "resnet50": ([2037.58, -286.714, -859.951], [1063.10, 818.234, 0]),
    "vgg19_bn": ([4.12317, 0.301466, -0.540066], [0, 0.021528, 0.190737]),
    "mlp": ([3.04285, 1.00018, -1.73428], [0.979871, 0.248313, 0]),
    "linear": ([4.73034, 0.672587, -0.654762], [-1, 0.4777, 0.427468]),
}


@pytest.mark.parametrize("kind, c_out, stride, first, total", BLOCKS)
def test_a_worked_block(kind, c_out, stride, first, total):
    """All of its first channel, and the sum of all."""
    out = filled(lambda: kind(2, c_out, stride))(scattered(1, 2, 4, 4)).detach()
    torch.testing.assert_close(out[0, 0], torch.tensor(first), rtol=0, atol=2e-5)
    assert float(out.sum()) == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_a_worked_forward_pass(name):
    shape = (20,) if name in OF_FEATURES else (3, 32, 32)
    out = filled(lambda: build_net(name, shape, 3, rows=20_000))(scattered(1, *shape))
    logits, features = FORWARD[name]
    assert out.logits[0].tolist() == pytest.approx(logits, rel=1e-4)
    assert out.features[0, :3].tolist() == pytest.approx(features, rel=1e-4)


def test_a_checkpoint_of_another_preact18_is_refused(make_run, tmp_path):
    """One of before the skip was activated has the same shapes, and would be misread."""
    run = make_run(checkpoints=tmp_path)
    run.register("nets", torch.nn.ModuleList([PreactBlock(2, 2, 1)]))
    run.checkpoint()
    file = next(tmp_path.glob("*/state.pt"))
    state = torch.load(file, weights_only=True)
    nets = state["registered"]["nets"]
    state["registered"]["nets"] = {name.replace("activated.0", "bn1"): value for name, value in nets.items()}
    assert state["registered"]["nets"].keys() != nets.keys()
    torch.save(state, file)
    with pytest.raises(CuratorError, match="'nets' does not fit .*another net; start anew with --no-resume"):
        make_run(checkpoints=tmp_path).register("nets", torch.nn.ModuleList([PreactBlock(2, 2, 1)]))


def test_what_is_kept_hangs_on_the_code_of_the_nets(make_run):
    (name, code) = make_run(content="rows").kept.identity[3]
    assert name == b"build_net" and b"class PreactBlock" in code


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


@pytest.mark.parametrize("rows, classes, units", [(19_999, 15, 256), (20_000, 2, 512), (40, 16, 512)])
def test_units_of_an_mlp_by_rows_and_classes(make_run, rows, classes, units):
    blank, names = torch.zeros(rows, dtype=torch.long), tuple(map(str, range(classes)))
    data = NoisyDataset(Features(torch.zeros(rows, 4)), blank, names, blank.bool(), torch.arange(rows))
    assert make_run(net="mlp").build_net("net0", data)(torch.randn(5, 4)).features.shape == (5, units)


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


def test_rows_may_be_mixed_after_an_mlps_first_layer():
    net = build_net("mlp", (6,), 3).train()
    x, partner, weight = torch.randn(8, 6), torch.randperm(8), torch.tensor(0.3)
    begun = mixed(net.begin(x), weight, partner)
    torch.testing.assert_close(net(begun, True).logits, net(mixed(x, weight, partner)).logits)
    images = torch.randn(4, 1, 8, 8)
    small = build_net("small", (1, 8, 8), 3).eval()
    assert torch.equal(small.begin(images), images)
    assert torch.equal(small(images, True).logits, small(images).logits)


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, fused=True),  # fused ones do not tell autograd of their changes
    lambda p: sgd(p, 0.1, 0.0),
    lambda p: torch.optim.Adam(p, 0.1, fused=True),
    lambda p: torch.optim.SGD(p, 0.1),
])  # fmt: skip
def test_bf16_weights_follow_every_step(make):
    net = build_net("mlp", (6,), 3).train()
    plain = build_net("mlp", (6,), 3).train()
    for module in plain.body.modules():
        if isinstance(module, Lowered):
            module.forward = partial(F.linear, weight=module.weight, bias=module.bias)  # autocast casts every time
    plain.load_state_dict(net.state_dict())
    x, y = torch.randn(16, 6), torch.randint(3, (16,))
    optimizers = [make(n.parameters()) for n in (net, plain)]
    for _ in range(3):
        losses = []
        for n, optimizer in zip((net, plain), optimizers, strict=True):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                n(x)  # casts that carry no gradient would stay
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(n(x).logits, y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[0] == losses[1]
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), plain.parameters(), strict=True))
    again = copy.deepcopy(net)  # casts are no leaves, which cannot be copied
    with torch.no_grad():
        again.body[0][0].weight.zero_()
        with torch.autocast("cpu", torch.bfloat16):
            assert not again.begin(x).float().sub(again.body[0][0].bias.bfloat16().float()).any()


def test_views_begun_together_are_what_they_are_begun_alone():
    """Each once, whatever stands there twice; of images nothing is begun."""
    net, (a, b) = build_net("mlp", (5,), 3), torch.randn(2, 4, 5)
    begun = net.begin_each([a, a, b])
    assert list(begun) == [a, b] and all(torch.allclose(begun[view], net.begin(view), atol=1e-6) for view in (a, b))
    image = torch.zeros(2, 1, 8, 8)
    assert build_net("small", (1, 8, 8), 3).begin_each([image])[image] is image


@pytest.mark.parametrize("name, shape", [("mlp", (6,)), ("linear", (6,)), ("small", (1, 8, 8))])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_passes_of_views_together_are_what_they_are_alone(name, shape, auxiliary):
    """Each normalised by itself, first and last rows of other numbers; gradients and running statistics are alike."""
    together = build_net(name, shape, 3, auxiliary=auxiliary).train()
    alone = copy.deepcopy(together)
    views = [torch.randn(8, *shape), 3 + 2 * torch.randn(5, *shape)]
    found, wanted = together.each(views), [(alone.begin(view), alone(view)) for view in views]
    for passes in (found, wanted):
        sum((seen.logits * torch.arange(3)).square().sum() for _, seen in passes).backward()
    for (begun, seen), (first, one) in zip(found, wanted, strict=True):
        torch.testing.assert_close(begun, first)
        assert len(seen) == len(one)
        for a, b in zip(seen, one, strict=True):
            assert a is b is None or torch.allclose(a, b, atol=1e-5)
    for (key, a), b in zip(together.state_dict().items(), alone.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), key
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        assert a.grad is b.grad is None or torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-3)
