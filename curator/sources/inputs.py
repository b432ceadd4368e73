"""Rows of a dataset as the tensors a run trains on: decoded images, or frozen features."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from curator.engine.backbone import Backbone
from curator.sources.features import backbone_features, column_features
from curator.sources.images import choose_size, decode_images
from curator.sources.table import Table
from curator.system import duration

if TYPE_CHECKING:
    from accelerate import PartialState

    from curator.engine.hardware import Precision
    from curator.flags import Settings

SAMPLE = 128  # rows that a dry run makes features of


class Reader:
    """Reads splits of one table, all in the same way.

    Attributes:
        size: (h, w) of the images; None for a column of features, and before images of their own size are read.
        backbone: what makes features of them, if anything does, and the fingerprint of it.
    """

    def __init__(
        self, settings: Settings, table: Table, precision: Precision, state: PartialState, say: Callable[[str], None]
    ):
        s = settings
        self.table, self.state, self.say = table, state, say
        self.features_column = s.features_column
        self.backbone = Backbone(s.backbone, state.device, precision) if s.backbone else None
        self.fingerprint = ""
        self.size: tuple[int, ...] | None = None
        if self.features_column is None:
            wanted = s.image_size or (self.backbone.side if self.backbone else None)
            self.size = choose_size(table.dataset, str(table.image_column), table.rows, wanted, str(s.net))
        if self.backbone:
            self.size = self.size or tuple(self._images(1).shape[2:])
            self.fingerprint = self.backbone.fingerprint(self.size)

    def __call__(self, dataset: Dataset, rows: np.ndarray, budget: float) -> tuple[Tensor, str]:
        """Images uint8 (n, 3, h, w) or features float32 (n, d), and a hash of what they were made from.

        Args:
            dataset: the table's own or one of its other splits.
            rows: (n,) positions in the source, for error messages.
            budget: bytes that images may take.
        """
        column = str(self.table.image_column)
        if self.features_column is not None:
            return column_features(dataset, self.features_column, rows)
        if self.backbone is not None and self.size is not None:
            return backbone_features(
                dataset, column, rows, self.size, self.backbone, self.fingerprint, self.state, self.say
            )
        decoded = decode_images(dataset, column, rows, self.size, budget)
        self.size = tuple(decoded.images.shape[2:])
        return decoded.images, decoded.digest

    def sample(self) -> Tensor:
        """Features (n, d) for a dry run: those of the first rows over and over. It says how long all would take."""
        assert self.backbone is not None
        self.backbone(self._images(1))  # the first call also warms up
        started = time.perf_counter()
        found = self.backbone(self._images(SAMPLE))
        n = len(self.table.rows)
        total = n + sum(map(len, self.table.others.values()))
        seconds = (time.perf_counter() - started) * total / len(found) / self.state.num_processes
        self.say(f"features  {found.shape[1]} a row, about {duration(seconds)} where none of them is kept yet")
        return found[torch.arange(n) % len(found)]

    def _images(self, n: int) -> Tensor:
        """The first n images of the table."""
        first = self.table.rows[:n]
        part = self.table.dataset.select(range(len(first)))
        return decode_images(part, str(self.table.image_column), first, self.size, float("inf")).images
