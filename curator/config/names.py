"""Names of folders that follow from settings."""

from __future__ import annotations

import re
from pathlib import Path

from curator.config import defaults
from curator.config.flags import Settings
from curator.config.values import shown
from curator.errors import CuratorError
from curator.system import is_path


def noise_name(noise: str) -> str:
    """sym:0.5 -> sym50, worst -> worst: the noise in names of folders and variants."""
    kind, colon, rate = noise.partition(":")
    try:
        return f"{kind}{100 * float(rate):g}" if colon else noise
    except ValueError:
        return noise


def folder_name(dataset: str) -> str:
    """owner/name -> owner--name; a local path -> its last part."""
    path = Path(dataset)
    if is_path(dataset):
        return path.resolve().name
    return dataset.replace("/", "--")


def inputs_name(settings: Settings) -> str:
    """What stands for images: models.dinov2:small -> dinov2-small, a column of features by its name.

    Nothing for images themselves, and for the default.
    """
    if settings.backbone == defaults.AUTO and settings.dataset not in defaults.NAMES:
        return ""
    module, colon, call = (settings.backbone or settings.features_column or "").rpartition(":")
    name = f"{module.rpartition('.')[2]}-{call}" if colon and settings.backbone else module + colon + call
    return re.sub(r"\W+", "-", name).strip("-")[:40]


def output_folder(settings: Settings, noise_given: bool) -> Path:
    """--output, or runs/DATASET-METHOD[-BACKBONE][-NOISE]."""
    noise = noise_name(str(settings.label_noise)) if noise_given and settings.label_noise else ""
    name = "-".join(filter(None, [folder_name(settings.dataset), settings.method, inputs_name(settings), noise]))
    folder = settings.output or Path("runs") / name
    try:
        folder.exists()
    except OSError as e:  # a name that is too long, a folder that may not be looked into
        raise CuratorError(f"--output {shown(str(folder))}: it cannot be written ({e.strerror})") from e
    return folder
