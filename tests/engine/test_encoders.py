"""Frozen backbones: what they give, and when two are the same."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from curator.engine.encoders import Backbone
from curator.errors import CuratorError

CPU = torch.device("cpu")
IMAGES = torch.randint(256, (70, 3, 12, 12), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the working folder and gives back its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = []

    def write(text: str, name: str = "my_backbone") -> str:
        (tmp_path / f"{name}.py").write_text(text)
        for known in (name, *names):
            sys.modules.pop(known, None)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


MEANS = "def means(x):\n    return x.float().mean((2, 3)) * {factor}\n"
NET = (
    "import torch\ntorch.manual_seed({seed})\nclass Net(torch.nn.Module):\n"
    "    def __init__(self):\n        super().__init__()\n        self.layer = torch.nn.Linear(3, 5)\n"
    "        self.drop = torch.nn.Dropout(0.5)\n"
    "    def forward(self, x):\n        return self.drop(self.layer(x.float().mean((2, 3))))\nnet = Net()\n"
)


def test_a_function_of_the_working_folder(module):
    backbone = Backbone(f"{module(MEANS.format(factor=1))}:means", CPU, "no")
    features = backbone(IMAGES)
    assert features.dtype == torch.float32 and backbone.side is None
    torch.testing.assert_close(features, IMAGES.float().mean((2, 3)))


def test_a_module_runs_in_evaluation_mode_and_bf16(module):
    name = module(NET.format(seed=0))
    exact, fast = Backbone(f"{name}:net", CPU, "no"), Backbone(f"{name}:net", CPU, "bf16")
    wanted = sys.modules[name].net.layer(IMAGES.float().mean((2, 3)))
    torch.testing.assert_close(exact(IMAGES), wanted)
    assert 0 < (fast(IMAGES) - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_fingerprint_tells_weights_code_and_precision(module):
    def of(text: str, what: str, precision="no", name="my_backbone") -> str:
        return Backbone(f"{module(text, name)}:{what}", CPU, precision).fingerprint((8, 8))

    first = of(NET.format(seed=0), "net")
    assert first == of(NET.format(seed=0), "net")
    assert first != of(NET.format(seed=1), "net") and first != of(NET.format(seed=0), "net", "bf16")
    # The class of another file, with equal weights.
    net = NET.format(seed=0).replace("net = Net()\n", "")
    user = "import torch, library\ntorch.manual_seed(0)\nnet = library.Net()\n"
    module(net, "library")
    before = of(user, "net")
    module(net.replace("self.drop(", "2 * self.drop("), "library")
    assert before != of(user, "net")
    # Weights alone: the same code reads other ones.
    code = (
        "import pathlib\nscale = float(pathlib.Path('scale').read_text())\n"
        "def f(x):\n    return x.float().mean((2, 3)) * scale\n"
    )
    Path("scale").write_text("1")
    one = of(code, "f")
    Path("scale").write_text("2")
    assert one != of(code, "f") and one != of(code, "f", name="other")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weights in torchvision's cache, with no network to fetch others."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    from torchvision import models

    torch.manual_seed(0)
    (tmp_path / "checkpoints").mkdir()

    def write(name: str) -> nn.Module:
        model = models.get_model(name, weights=None).eval()
        url = models.get_model_weights(name).DEFAULT.url
        torch.save(model.state_dict(), tmp_path / "checkpoints" / url.rpartition("/")[2])
        return model

    return write


@pytest.mark.parametrize("name, head, width", [("resnet18", "fc", 512), ("mobilenet_v3_small", "classifier.3", 1024)])
def test_torchvision(name, head, width, weights):
    model = weights(name)
    backbone = Backbone(name, CPU, "no")
    assert backbone.side == 224
    images = torch.randint(256, (3, 3, 64, 64)).to(torch.uint8)
    seen = []
    model.get_submodule(head).register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        model((images.float() / 255 - mean) / std)
    features = backbone(images)
    assert features.shape == (3, width)
    torch.testing.assert_close(features, seen[0], rtol=1e-4, atol=1e-5)


def test_weights_that_are_not_there(weights):
    with pytest.raises(CuratorError, match="--backbone: torchvision's weights of resnet18 could not be downloaded"):
        Backbone("resnet18", CPU, "no")


@pytest.mark.parametrize("name, words", [
    ("resnet5", "a classifier of torchvision .* found 'resnet5'; did you mean 'resnet50'"),
    ("nowhere_at_all:f", "ModuleNotFoundError"),
    ("torch:nothing", "AttributeError"),
    ("torch.nn:Linear", "can be called"),
    ("math:pi", "can be called"),
])  # fmt: skip
def test_refusals(name, words):
    with pytest.raises(CuratorError, match=words):
        Backbone(name, CPU, "no")


@pytest.mark.parametrize("body, words", [
    ("x", "expected floats of shape"),
    ("x.float()", "expected floats of shape"),
    ("x.float().mean((0, 2, 3))", "expected floats of shape"),
    ("1 / 0", "it cannot read uint8 images of shape .*ZeroDivisionError"),
])  # fmt: skip
def test_what_comes_back_is_checked(module, body, words):
    backbone = Backbone(f"{module(f'def f(x):{chr(10)}    return {body}')}:f", CPU, "no")
    with pytest.raises(CuratorError, match=words):
        backbone(IMAGES)
