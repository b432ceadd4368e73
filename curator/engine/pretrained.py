"""Encoders of images from the files of a pretrained model: of timm, or of transformers. No code of a model is run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.loading import loading, quiet
from curator.errors import CuratorError
from curator.system import read_file

MOST = 16 * 2**20  # bytes of a config.json
OTHER = "name another --backbone; --net small trains from scratch"
MODES = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # as Pillow numbers them

# What timm's config.json says of weights and images; anything else there could name other files.
DATA = (
    "input_size", "fixed_input_size", "min_input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std",
    "num_classes", "pool_size", "first_conv", "classifier", "label_offset",
)  # fmt: skip
# Arguments of timm.create_model that are none of a model's.
FACTORY = {
    "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "num_classes", "in_chans", "features_only",
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How a model wants to see images.

    Attributes:
        side: pixels a side of the squares that it sees.
        read: pixels that the shorter side has before the centre is cut to them.
        squash: whether both sides are scaled to `read`, whatever the shape.
        interpolation: a name of MODES.
        mean, std: of the three channels, which are in [0, 1].
    """

    side: int
    read: int
    squash: bool = False
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """A model on uint8 images (b, 3, h, w) of any one size: float features (b, d).

    Attributes:
        look: how it sees them; what has another size is scaled here.
        body: the model.
        features: of its images, given the body.
    """

    def __init__(self, body: nn.Module, look: Look, features: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.body, self.look, self.features = body, look, features
        self.mean = nn.Buffer(255 * torch.tensor(look.mean).view(-1, 1, 1))
        self.std = nn.Buffer(255 * torch.tensor(look.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, d) in the type of the body's weights."""
        x = (_seen(images, self.look) - self.mean) / self.std
        x = x.to(next(self.body.parameters()).dtype, memory_format=torch.channels_last)
        return self.features(self.body, x)


def _seen(images: Tensor, look: Look) -> Tensor:
    """Squares (b, 3, side, side) of float32 in [0, 255]."""
    x, (h, w) = images.float(), images.shape[2:]
    size = [look.read if look.squash else round(look.read * s / min(h, w)) for s in (h, w)]
    if [h, w] != size:
        mode = "bicubic" if look.interpolation in ("bicubic", "lanczos") else "bilinear"
        x = F.interpolate(x, size, mode=mode, antialias=True).clamp(0, 255)
    top, left = ((s - look.side) // 2 for s in size)
    return x[..., top : top + look.side, left : left + look.side]


def load_encoder(folder: Path, name: str, side: int | None = None) -> Encoder:
    """The encoder in a folder with config.json and safetensors; side: that of its squares, by default its own.

    Raises:
        CuratorError: in one line, for what is no encoder of images.
    """
    try:
        config = json.loads(read_file(folder / "config.json", MOST))
    except (OSError, ValueError, RecursionError) as e:
        raise CuratorError(f"--backbone {name}: its config.json is none ({str(e)[:100]}); {OTHER}") from e
    if not isinstance(config, dict):
        raise CuratorError(f"--backbone {name}: its config.json is no object; {OTHER}")
    of_timm = "architecture" in config
    if not of_timm:
        _require_transformers(name)
    with quiet(), loading(name, OTHER):
        return (_timm if of_timm else _transformers)(folder, config, name, side).eval()


def _timm(folder: Path, config: dict[str, Any], name: str, side: int | None) -> Encoder:
    """A model of timm, by its architecture."""
    import timm
    from safetensors import SafetensorError
    from timm.data import resolve_model_data_config

    known = str(config["architecture"])
    if not timm.is_model(known):
        raise CuratorError(
            f"--backbone {name}: timm {timm.__version__} has no architecture {known[:60]!r}: pip install -U timm, or "
            f"{OTHER}"
        )
    file = folder / "model.safetensors"
    if not file.is_file():
        raise CuratorError(f"--backbone {name}: expected weights in one file, {file.name}; {OTHER}")
    told = config.get("pretrained_cfg") or config
    arguments = dict(config.get("model_args") or {})
    if odd := next((k for k in arguments if k in FACTORY or k.startswith("pretrained")), None):
        raise CuratorError(f"--backbone {name}: its config.json sets {odd}, which would read other files; {OTHER}")
    if side and told.get("fixed_input_size"):
        arguments["img_size"] = side
    cfg = {k: told[k] for k in DATA if k in told} | {k: config[k] for k in ("num_classes",) if k in config}
    # By its file: of a folder timm might take pickled weights, and of an address whatever is there.
    cfg |= {"architecture": known, "file": str(file), "url": "", "hf_hub_id": None, "source": ""}
    try:
        body = timm.create_model(known, pretrained=True, pretrained_cfg=cfg, num_classes=0, **arguments)
    except SafetensorError as e:
        raise CuratorError(f"--backbone {name}: its weights are damaged ({str(e)[:100]}); {OTHER}") from e
    data = resolve_model_data_config(body)
    side = side or int(data["input_size"][1])
    mode = data["interpolation"] if data["interpolation"] in MODES else "bicubic"
    read = math.floor(side / (data["crop_pct"] or 1))
    return Encoder(
        body,
        Look(side, read, data["crop_mode"] == "squash", mode, tuple(data["mean"]), tuple(data["std"])),
        lambda net, x: net(x).flatten(1),
    )


def _require_transformers(name: str) -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as e:
        raise CuratorError(
            f"--backbone {name}: it is a model of transformers, which is not installed: "
            f"pip install 'label-curator[transformers]', or {OTHER}"
        ) from e


def _transformers(folder: Path, config: dict[str, Any], name: str, side: int | None) -> Encoder:
    """A model of transformers that reads pixels."""
    import transformers

    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    kind = config.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        why = "its own code, which is not run" if config.get("auto_map") else f"another transformers ({kind!r})"
        raise CuratorError(f"--backbone {name}: it needs {why}; {OTHER}")
    if not (folder / "preprocessor_config.json").is_file():
        raise CuratorError(
            f"--backbone {name}: expected an encoder of images, found a {kind} model without "
            f"preprocessor_config.json; {OTHER}"
        )
    told = transformers.AutoConfig.from_pretrained(folder, **safe)
    body, found = transformers.AutoModel.from_pretrained(
        folder, config=told, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **safe
    )
    missing = [key for key in found["missing_keys"] if not key.startswith("pooler.")]
    if missing:
        raise CuratorError(
            f"--backbone {name}: its weights lack {len(missing)} parts of the model ({missing[0][:60]}); {OTHER}"
        )
    if getattr(body, "main_input_name", "") != "pixel_values" and not hasattr(body, "get_image_features"):
        raise CuratorError(f"--backbone {name}: expected an encoder of images, found a {kind} model; {OTHER}")
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False, **safe)
    return Encoder(_Vision(body, pooled=not found["missing_keys"]), _look(processor, told, side), lambda net, x: net(x))


class _Vision(nn.Module):
    """The image features of a model of transformers: of CLIP and SigLIP those that texts are compared with."""

    def __init__(self, model: nn.Module, pooled: bool):
        super().__init__()
        self.together = hasattr(model, "get_image_features")
        if self.together and hasattr(model, "text_model"):
            del model.text_model  # half of the memory
        self.model, self.pooled = model, pooled

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (b, d)."""
        model: Any = self.model
        found: Any = model.get_image_features(pixel_values=pixels) if self.together else model(pixels)
        if isinstance(found, Tensor):
            return found.flatten(1)
        if self.pooled and getattr(found, "pooler_output", None) is not None:
            return found.pooler_output.flatten(1)
        last = found.last_hidden_state
        return last[:, 0] if last.ndim == 3 else last.mean((2, 3))


def _look(processor: Any, config: Any, side: int | None) -> Look:
    """How an image processor of transformers prepares images."""

    def pixels(value: Any) -> int | None:
        value = dict(value) if value is not None and not isinstance(value, int) else value
        if isinstance(value, dict):
            value = value.get("shortest_edge") or value.get("height")
        return int(value) if value else None

    size = processor.size
    whole = isinstance(size, int) or (dict(size).get("shortest_edge") is None if size else True)
    read = pixels(size) or pixels(getattr(getattr(config, "vision_config", config), "image_size", None)) or 224
    cut = pixels(getattr(processor, "crop_size", None)) if getattr(processor, "do_center_crop", False) else None
    own = min(cut or read, read)
    name = next((k for k, v in MODES.items() if v == int(getattr(processor, "resample", None) or 3)), "bicubic")
    plain = not getattr(processor, "do_normalize", True)
    mean = (0.0,) * 3 if plain else tuple(processor.image_mean)
    std = (1.0,) * 3 if plain else tuple(processor.image_std)
    if (share := getattr(processor, "crop_pct", None)) and not whole:  # ConvNeXt's: it cuts small images alone
        read, whole = (int(own / share), False) if own < 384 else (own, True)
    if side:
        read = round(read * side / own)
    return Look(side or own, read, whole and cut is None, name, mean, std)
