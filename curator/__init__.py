"""Curator finds, fixes and publishes wrong labels in datasets of images and of texts."""

import os

from curator.curate import curate
from curator.errors import CuratorError

# OpenMP's threads spin while they wait for each other: where other programs use the cores, a run takes 20 times as long
# as it should. OpenMP reads this when torch is loaded, which the imports above do not do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__all__ = ["CuratorError", "curate"]
__version__ = "0.2.0"
