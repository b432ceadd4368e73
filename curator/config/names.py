"""Names of folders that follow from settings."""

from __future__ import annotations

from pathlib import Path

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


def output_folder(settings: Settings, noise_given: bool) -> Path:
    """--output, or runs/DATASET-METHOD[-NOISE]."""
    suffix = f"-{noise_name(str(settings.label_noise))}" if noise_given and settings.label_noise else ""
    folder = settings.output or Path("runs") / f"{folder_name(settings.dataset)}-{settings.method}{suffix}"
    try:
        folder.exists()
    except OSError as e:  # a name that is too long, a folder that may not be looked into
        raise CuratorError(f"--output {shown(str(folder))}: it cannot be written ({e.strerror})") from e
    return folder
