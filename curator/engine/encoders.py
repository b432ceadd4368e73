"""Frozen backbones: a pretrained model, or a callable of one's own, turns images into features."""

from __future__ import annotations

import copy
import hashlib
import importlib
import secrets
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curator.engine.hardware import Precision
from curator.engine.held import Held
from curator.engine.identity import as_bytes, code_of, state_of
from curator.engine.nets import fetching
from curator.engine.pretrained import Encoder
from curator.engine.quick import frozen, pays, plain_attention
from curator.errors import CuratorError
from curator.text import did_you_mean

UNLIKE = "unlike-"  # what the fingerprint of a callable begins with that nothing tells from another one


class Backbone:
    """Images to features, always the same ones for the same image.

    Attributes:
        name: as it was given: what to import or to load, or the callable itself.
        side: pixels a side that its weights want images to have; None: not known.
        call: the callable, on its device.
        batch: images that go through it at once.
        whole: whether its weights are bf16, instead of being turned by autocast.
        compiled: whether it was compiled.
    """

    def __init__(
        self,
        name: str,
        device: torch.device,
        precision: Precision,
        encoder: Encoder | None = None,  # what the name stands for, of a model of the Hub
        rows: int = 0,  # images that will come, for which it may pay to compile it
    ):
        self.name, self.device, self.precision = name, device, precision
        self.side: int | None = None
        self.code: list[bytes] | None = []
        self.held = isinstance(name, Held)
        if isinstance(name, Held):
            self.call, self.code = own_copy(name), code_of(name.value)
        elif encoder is not None:
            self.call, self.side = encoder, encoder.look.read
            self.code = [repr(encoder.look).encode()]
        elif ":" in name:
            self.call, code = imported(name)
            self.code = [code]
        else:
            self.call, self.side = _torchvision(name)
        if isinstance(self.call, nn.Module):
            self.call = self.call.eval().to(device).to(memory_format=torch.channels_last)
        # On a CPU, what 32 small images need between two layers stays in its cache: three times as fast as 256.
        self.batch = 32 if device.type == "cpu" else 256
        if isinstance(self.call, Encoder) and device.type == "cpu" and plain_attention(self.call):
            self.batch = 8  # as above; of 32 the attention alone is larger
        self.run, self.whole, self.compiled = self.call, False, False
        if isinstance(self.call, nn.Module):
            if pays(self.call, self.side or 224, device, rows):
                self.run, self.compiled = frozen(self.call), True
            if isinstance(self.call, Encoder | _Normalised) and precision == "bf16":
                self.call.body.to(torch.bfloat16)  # autocast would turn the weights anew for every batch
                self.whole = True

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Features (n, d) float32 on the CPU of images uint8 (n, 3, h, w).

        Raises:
            CuratorError: when what comes back is not one row of floats an image.
        """
        return torch.cat([self._checked(part) for part in images.split(self.batch)])

    def _checked(self, images: Tensor) -> Tensor:
        cast = self.precision == "bf16" and not self.whole
        return checked(
            self.name,
            lambda: self._padded(images.to(self.device)),
            torch.autocast(self.device.type, torch.bfloat16, enabled=cast),
            len(images),
            f"uint8 images of shape {tuple(images.shape)}",
            "; it gets uint8 (b, 3, h, w), 0..255, so scale and normalise in it, as by x.float() / 255; "
            "--image-size sets h and w",
        )

    @property
    def kind(self) -> str:
        """How it computes."""
        return self.precision + " weights" * self.whole + " compiled" * self.compiled

    def _padded(self, images: Tensor) -> Any:
        """What comes of them; compiled code is made for one size of batches."""
        if not self.compiled or len(images) == self.batch:
            return self.run(images)
        room = images.new_zeros(self.batch - len(images), *images.shape[1:])
        return self.run(torch.cat([images, room]))[: len(images)]

    def fingerprint(self, size: tuple[int, ...]) -> str:
        """Hash of its weights, its code and the precision: features of an equal one may be used again.

        The code is the file that names it and those of the modules it is made of. The weights of a plain function
        cannot be seen, so what it makes of two fixed images of the size (h, w) stands for them. It begins with UNLIKE
        where nothing tells it from another one, and is never the same twice.
        """
        if self.code is None:
            return UNLIKE + secrets.token_hex(12)
        digest = hashlib.blake2b(f"{self.name}\0{self.kind}\0{torch.__version__}\0".encode(), digest_size=16)
        seen = list(self.code)
        if isinstance(self.call, nn.Module) and not self.held:
            seen += state_of(self.call)
        else:
            noise = torch.randint(256, (2, 3, *size), generator=torch.Generator().manual_seed(0))
            seen.append(as_bytes(self(noise.to(torch.uint8))))
        for part in seen:
            digest.update(part)
        return digest.hexdigest()


def checked(
    name: str | Held,  # of the backbone
    call: Callable[[], Any],
    precision: AbstractContextManager,
    n: int,  # rows that were given
    given: str,  # what they are
    hint: str = "",
) -> Tensor:
    """Features (n, d) float32 on the CPU, of a call in a precision.

    Raises:
        CuratorError: when it fails, and when what comes back is not one row of floats for each that was given.
    """
    try:
        with precision:
            features = call()
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as e:  # whatever it does not like about them
        raise CuratorError(
            f"--backbone {name}: it cannot read {given} ({type(e).__name__}: {' '.join(str(e).split())[:150]}){hint}"
        ) from e
    what = f"{features.dtype} {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
    fits = isinstance(features, Tensor) and features.ndim == 2 and len(features) == n
    if not fits or not features.is_floating_point():
        raise CuratorError(f"--backbone {name}: expected floats of shape ({n}, d) for {given}, found {what}")
    return features.float().cpu()


def own_copy(held: Held) -> Callable[[Any], Tensor]:
    """The callable; of a module a copy, since it will be moved and set to evaluation, and the caller's is his own."""
    call: Any = held.value
    if not isinstance(call, nn.Module):
        return call
    try:
        return copy.deepcopy(call)
    except Exception as e:  # whatever its parts do not like
        raise CuratorError(
            f"--backbone {held}: it cannot be copied ({type(e).__name__}: {' '.join(str(e).split())[:150]}); give a "
            "function that calls it"
        ) from e


def imported(name: str) -> tuple[Callable[[Any], Tensor], bytes]:
    """The callable that MODULE:CALLABLE names, from the working folder or what is installed; and its module's code."""
    module_name, _, attribute = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # at the end: its files hide no module of others
    try:
        found: Any = importlib.import_module(module_name)
        source = Path(found.__file__).read_bytes() if getattr(found, "__file__", None) else b""
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as e:  # whatever the module does when it is imported
        raise CuratorError(
            f"--backbone {name}: expected MODULE:CALLABLE that can be imported; {type(e).__name__}: "
            f"{' '.join(str(e).split())[:200]}"
        ) from e
    if isinstance(found, type) or not callable(found):
        raise CuratorError(f"--backbone {name}: expected a function or a module that can be called, found {found!r}")
    return found, source


class _Normalised(nn.Module):
    """A torchvision model on uint8 images (b, 3, h, w), normalised as its weights want it."""

    def __init__(self, body: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.body = body
        self.mean = nn.Buffer(255 * torch.tensor(mean).view(-1, 1, 1))
        self.std = nn.Buffer(255 * torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, d)."""
        x = (images.float() - self.mean) / self.std
        x = x.to(next(self.body.parameters()).dtype, memory_format=torch.channels_last)
        return self.body(x).flatten(1)


def _torchvision(name: str) -> tuple[nn.Module, int]:
    """A classifier of torchvision with its best weights, without its last linear layer; and the side it was tested at.

    Raises:
        CuratorError: for a name that torchvision does not have, or weights that are not there.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise CuratorError(
            "--backbone: expected auto, timm/NAME or another id of the Hub, a classifier of torchvision (resnet50, "
            f"...), or MODULE:CALLABLE, found {name!r}{did_you_mean(name, known)}"
        )
    weights = models.get_model_weights(name).DEFAULT
    with fetching("--backbone", name):
        model = models.get_model(name, weights=weights)
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise CuratorError(f"--backbone {name}: it does not end in a linear layer, so its features cannot be taken")
    parent, _, last = linear[-1].rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Identity())
    views = weights.transforms()
    return _Normalised(model, views.mean, views.std), views.crop_size[0]
