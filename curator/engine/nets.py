"""Nets trained from scratch.

Each has a primary head and, where a method asks for them, an auxiliary and a projector head.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from curator.errors import CuratorError

# Units of an MLP's hidden layers. Twice as many learn the wrong labels of a few thousand rows by heart, but tell more
# where rows or classes are many: level on 20,000 rows of 10 classes, ahead on 3,000 of 40 (docs/log.md).
UNITS, MANY_UNITS = 256, 512
MANY_ROWS, MANY_CLASSES = 20_000, 16


class Output(NamedTuple):
    """What a net gives for a batch of b rows."""

    logits: Tensor  # (b, k), the primary head
    features: Tensor  # (b, width), what the heads read
    auxiliary: Tensor | None = None  # (b, k), where the net was built with an auxiliary head
    projected: Tensor | None = None  # (b, d), where the net was built with a projector


class Net(nn.Module):
    """A body that gives one feature vector a row, and the heads on it."""

    def __init__(self, body: nn.Module, width: int, classes: int, auxiliary: bool, projector: tuple[int, ...]):
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes)
        self.auxiliary = nn.Linear(width, classes) if auxiliary else None
        self.projector = _mlp(width, projector) if projector else None

    def begin(self, x: Tensor) -> Tensor:
        """The part of a pass that may go before rows are mixed: an MLP's first layer, which is linear; else none.

        Mixed after it they are what they were if they had been mixed before, and are read once for all views.
        """
        return self.body.begin(x) if isinstance(self.body, MLPBody) else x

    def begin_each(self, views: list[Tensor]) -> dict[Tensor, Tensor]:
        """What begin gives for views (b, ...), by view: of features in one pass, a view that is there twice once."""
        if not isinstance(self.body, MLPBody):
            return {view: view for view in views}
        distinct = list(dict.fromkeys(views))
        begun = self.begin(torch.cat(distinct)).split([len(view) for view in distinct])
        return dict(zip(distinct, begun, strict=True))

    def each(self, views: list[Tensor]) -> list[tuple[Tensor, Output]]:
        """What begin and a pass give for views (b, ...): of features in one pass, normalised view by view."""
        if not isinstance(self.body, MLPBody):
            return [(view, self(view)) for view in views]
        sizes = [len(view) for view in views]
        begun = self.begin(torch.cat(views))
        out = self.heads(torch.cat([self.body.normalise(h) for h in self.body.second(begun).split(sizes)]))
        parts = [itertools.repeat(None) if part is None else part.split(sizes) for part in out]
        return list(zip(begun.split(sizes), map(Output, *parts), strict=True))

    def forward(self, x: Tensor, begun: bool = False) -> Output:
        """Logits and features of x: float (b, c, h, w), or (b, d) where the body is an MLP; begun: what begin gave."""
        body = self.body.finish if begun and isinstance(self.body, MLPBody) else self.body
        return self.heads(body(x))

    def heads(self, features: Tensor) -> Output:
        """What the heads say of features (b, width)."""
        features = features.float()
        # Heads stay in float32 under autocast: bf16 has steps of .004 near 1, too coarse for thresholds like .99.
        with torch.autocast(features.device.type, enabled=False):
            return Output(
                self.head(features),
                features,
                self.auxiliary(features) if self.auxiliary is not None else None,
                self.projector(features) if self.projector is not None else None,
            )


def _mlp(width: int, sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of the given output sizes with a ReLU between two of them."""
    layers: list[nn.Module] = []
    for i, size in enumerate(sizes):
        layers += [nn.ReLU(inplace=True)] * (i > 0) + [nn.Linear(width, size)]
        width = size
    return nn.Sequential(*layers)


class Lowered(nn.Linear):
    """A linear layer whose weights are cast to bf16 once a step on a CPU, where autocast does so in every pass."""

    _kept: tuple[tuple, Tensor, Tensor] | None = None  # what the weights were known by, and the casts

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear's; the casts of a step carry the gradients of all its passes."""
        if (
            x.device.type != "cpu"
            or not torch.is_autocast_enabled("cpu")
            or not isinstance(self.weight, nn.Parameter)  # another takes its place, as in Members
            or torch.is_inference_mode_enabled()
            or torch.compiler.is_compiling()
        ):
            return super().forward(x)
        known = tuple((p._version, p.data_ptr(), p.requires_grad) for p in (self.weight, self.bias))
        if self._kept is None or self._kept[0] != known:
            with torch.enable_grad():
                self._kept = known, self.weight.bfloat16(), self.bias.bfloat16()
        return F.linear(x.bfloat16(), *self._kept[1:])

    def __getstate__(self) -> dict:
        """Without the casts: a copy makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}


def _tell_versions(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Fused optimizers change weights without a word to autograd, by whose versions a layer knows of a change."""
    torch.autograd.graph.increment_version([p for group in optimizer.param_groups for p in group["params"]])


register_optimizer_step_post_hook(_tell_versions)


class MLPBody(nn.Sequential):
    """Two linear layers with a ReLU between them, batch normalisation and a ReLU."""

    def __init__(self, width: int, units: int):
        layers = nn.Sequential(Lowered(width, units), nn.ReLU(), Lowered(units, units))
        super().__init__(layers, nn.BatchNorm1d(units), nn.ReLU(inplace=True))

    def begin(self, x: Tensor) -> Tensor:
        """The first layer (b, units) of rows (b, d)."""
        first, _, _ = self._layers()
        return first(x)

    def second(self, h: Tensor) -> Tensor:
        """The second layer (b, units) of what the first one gave."""
        _, relu, second = self._layers()
        return second(relu(h))

    def normalise(self, h: Tensor) -> Tensor:
        """The features (b, units) of what the second layer gave."""
        return self[2](self[1](h))

    def finish(self, h: Tensor) -> Tensor:
        """The features (b, units) of what the first layer gave."""
        return self.normalise(self.second(h))

    def forward(self, x: Tensor) -> Tensor:
        """The features (b, units) of rows (b, d)."""
        return self.finish(self.begin(x))

    def _layers(self) -> nn.Sequential:
        return cast(nn.Sequential, self[0])


class Block(nn.Module):
    """A residual block of two 3x3 convolutions, post-activation (He et al. 2016a)."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, (b, c_out, h / stride, w / stride)."""
        skip = x if self.shortcut is None else self.shortcut(x)
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + skip)


class PreactBlock(nn.Module):
    """A residual block of two 3x3 convolutions, pre-activation (He et al. 2016b) as released.

    The skip carries relu(bn(x)) even where it is the identity; in the paper it is x there. Checkpoints of the net that
    did as the paper have a `bn1` where this block has `activated`: they are refused, not misread.
    """

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.activated = nn.Sequential(nn.BatchNorm2d(c_in), nn.ReLU())
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, (b, c_out, h / stride, w / stride)."""
        h = self.activated(x)
        skip = h if self.shortcut is None else self.shortcut(h)
        return self.conv2(F.relu(self.bn2(self.conv1(h)))) + skip


def _pooled(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _stages(widths: tuple[int, ...], c_in: int, depth: int, kind: type[Block | PreactBlock]) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for i, width in enumerate(widths):
        for j in range(depth):
            blocks.append(kind(c_in, width, 2 if i > 0 and j == 0 else 1))
            c_in = width
    return blocks


def _resnet18(channels: int) -> tuple[nn.Module, int]:
    stem = [nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    body = _pooled(*stem, *_stages((64, 128, 256, 512), 64, 2, Block))
    for m in body.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    return body, 512


def _preact18(channels: int) -> tuple[nn.Module, int]:
    stem = [nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    return _pooled(*stem, *_stages((64, 128, 256, 512), 64, 2, PreactBlock)), 512


def _small(channels: int, side: int) -> tuple[nn.Module, int]:
    # Halving 32 px in the stem costs no accuracy on CIFAR-10 at this size and doubles the speed; 8 px cannot spare it.
    stem = [
        nn.Conv2d(channels, 32, 3, 2 if side >= 24 else 1, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
    ]
    return _pooled(*stem, *_stages((32, 64, 96), 32, 1, Block)), 96


def _torchvision(name: str, channels: int, pretrained: bool) -> tuple[nn.Module, int]:
    import torchvision

    if channels != 3:
        raise CuratorError(f"--net {name}: expected images of 3 channels, found {channels}")
    with fetching("--pretrained", name):
        net = getattr(torchvision.models, name)(weights="IMAGENET1K_V1" if pretrained else None)
    if name == "resnet50":
        net.fc = nn.Identity()
        return net, 2048
    # ImageNet's VGG ends in 7 x 7 pools and two layers of 4,096;
    # on small images one pooled vector of 512 takes their place.
    return _pooled(net.features), 512


@contextmanager
def fetching(flag: str, name: str) -> Iterator[None]:
    """What torchvision raises when it cannot fetch weights, as one line."""
    try:
        yield
    except (OSError, RuntimeError) as e:  # no network; a file that was cut short
        raise CuratorError(
            f"{flag}: torchvision's weights of {name} could not be downloaded ({' '.join(str(e).split())[:120]}); "
            f"put the file into {torch.hub.get_dir()}/checkpoints, or leave {flag} out"
        ) from e


PRETRAINED = ("resnet50", "vgg19_bn")

NETS = {
    "small": "0.2 M parameters, for CPUs",
    "resnet18": "ResNet-18 for 32 px, post-activation",
    "preact18": "ResNet-18 for 32 px, pre-activation",
    "resnet50": "torchvision's ResNet-50",
    "vgg19_bn": "torchvision's VGG-19 with batch normalisation, pooled to 512 features",
    "mlp": "two hidden layers of 256 units, of 512 from 20,000 rows or 16 classes on, for features",
    "linear": "one linear layer, for features",
}
OF_FEATURES = ("mlp", "linear")


def build_net(
    name: str,  # of NETS
    shape: tuple[int, ...],  # of one row: (c, h, w), or (d,)
    classes: int,
    *,
    auxiliary: bool = False,  # a second linear head (ProMix's pseudo head)
    projector: tuple[int, ...] = (),  # sizes of the projector's layers; none: no projector
    pretrained: bool = False,  # the body starts from torchvision's ImageNet weights
    rows: int = 0,  # that it is trained on: of many an MLP has more units
) -> Net:
    """A freshly initialised net for rows of the shape.

    Raises:
        CuratorError: for an unknown name, a net of images for features and the other way round, or weights that are
            not there.
    """
    if name not in NETS:
        raise CuratorError(f"--net: expected one of {', '.join(NETS)}; found {name!r}")
    if (name in OF_FEATURES) != (len(shape) == 1):
        kind = "features" if len(shape) == 1 else "images"
        raise CuratorError(
            f"--net {name} does not read {kind}: use {'mlp' if kind == 'features' else 'small or resnet18'}"
        )
    if name == "vgg19_bn" and min(shape[1:]) < 32:
        raise CuratorError(f"--net vgg19_bn: expected images of at least 32 px, found {shape[2]} x {shape[1]}")
    if name == "mlp":
        width = MANY_UNITS if rows >= MANY_ROWS or classes >= MANY_CLASSES else UNITS
        body: nn.Module = MLPBody(shape[0], width)
    elif name == "linear":
        body, width = nn.Identity(), shape[0]
    elif name in ("resnet50", "vgg19_bn"):
        body, width = _torchvision(name, shape[0], pretrained)
    elif name in ("resnet18", "preact18"):
        body, width = {"resnet18": _resnet18, "preact18": _preact18}[name](shape[0])
    else:
        body, width = _small(shape[0], min(shape[1:]))
    return Net(body, width, classes, auxiliary, projector)
