"""Curator finds, fixes and publishes wrong labels in image datasets."""

from curator.curate import curate
from curator.errors import CuratorError

__all__ = ["CuratorError", "curate"]
__version__ = "0.1.0"
