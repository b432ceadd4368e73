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
from curator.sources.features import CHUNK, backbone_features, column_features
from curator.sources.images import choose_size, decode_images
from curator.sources.table import Table

if TYPE_CHECKING:
    from accelerate import PartialState

    from curator.engine.hardware import Precision
    from curator.flags import Settings


class Reader:
    """Reads splits of one table, all in the same way.

    Attributes:
        size: (h, w) of the images; None for a column of features, and before images of their own size are read.
    """

    def __init__(
        self, settings: Settings, table: Table, precision: Precision, state: PartialState, say: Callable[[str], None]
    ):
        s = settings
        self.table, self.state, self.say = table, state, say
        self.features_column = s.features_column
        self.backbone = Backbone(s.backbone, state.device, precision) if s.backbone else None
        self.size: tuple[int, ...] | None = None
        if self.features_column is None:
            wanted = s.image_size or (self.backbone.side if self.backbone else None)
            self.size = choose_size(table.dataset, str(table.image_column), table.rows, wanted, str(s.net))

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
        if self.backbone is not None:
            return backbone_features(dataset, column, rows, self.size, self.backbone, self.state, self.say)
        decoded = decode_images(dataset, column, rows, self.size, budget)
        self.size = tuple(decoded.images.shape[2:])
        return decoded.images, decoded.digest

    def sample(self, budget: float) -> Tensor:
        """The first chunk of features over and over, for a dry run, which says how long all would take."""
        dataset, rows = self.table.dataset, self.table.rows
        if self.backbone is None or len(rows) <= CHUNK:
            return self(dataset, rows, budget)[0]
        started = time.perf_counter()
        first = self(dataset.select(range(CHUNK)), rows[:CHUNK], budget)[0]
        seconds = (time.perf_counter() - started) * len(rows) / CHUNK
        self.say(f"features  {first.shape[1]} a row, about {seconds / 60:.0f} min for those that are not kept yet")
        return first[torch.arange(len(rows)) % CHUNK]
