"""Curator finds, fixes and publishes wrong labels in datasets of images and of texts."""

import os

from curator.curate import curate
from curator.errors import CuratorError

# OpenMP's threads spin while they wait for each other: for long, and where other programs use the cores a run takes 20
# times as long as it should; not at all, and every small operation waits to be woken: a training on idle cores takes
# half as long again. So they spin for less than a millisecond. OpenMP reads this when torch is loaded, which the
# imports above do not do: GNU's, which torch brings on Linux, counts turns, LLVM's milliseconds.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("KMP_BLOCKTIME", "1")

__all__ = ["CuratorError", "curate"]
__version__ = "0.2.0"
