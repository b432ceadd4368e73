"""Rows of a dataset as the source a run trains on: decoded images, images to be decoded, or frozen features."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from curator.engine.source import Streamed, held
from curator.evidence import Source
from curator.sources.backbones import note_unlike, open_eyes
from curator.sources.features import backbone_features, column_features
from curator.sources.images import Access, Decoded, choose_size, decode_images, reader_of
from curator.sources.pace import plan_line, timed
from curator.sources.pictures import scaled_by
from curator.sources.several import Standard
from curator.sources.table import Table, remaining
from curator.text import Log

if TYPE_CHECKING:
    from accelerate import PartialState

    from curator.config.flags import Settings
    from curator.engine.hardware import Precision

SAMPLE = 128  # rows that a dry run makes features of


@dataclass
class Inputs:
    """What was read of a split.

    Attributes:
        source: a function of a device that gives the n rows that can be used.
        shape: of one row.
        nbytes: bytes of memory that they take.
        digest: hash of what they were made from.
        broken: why the other rows cannot be used, by position in the split.
        hashes: (n,) uint64, of the content of the rows that can be used.
        measures: (n, len(MEASURES)) float32 of the pictures (faults.py), where they were decoded.
    """

    source: Callable[[torch.device], Source]
    shape: tuple[int, ...]
    nbytes: int
    digest: str | None
    broken: dict[int, str] = field(default_factory=dict)
    hashes: np.ndarray | None = None
    measures: np.ndarray | None = None


class Reader:
    """Reads splits of one table, all in the same way.

    Attributes:
        size: (h, w) of the images; None for features, and where no image can be decoded.
        eyes: what makes features of them, if anything does.
        fingerprint: of these together; empty where there are none.
    """

    def __init__(self, settings: Settings, table: Table, precision: Precision, state: PartialState, say: Log):
        s = settings
        self.table, self.state, self.say = table, state, say
        self.features_column = s.features_column
        self.eyes = open_eyes(s, table, state.device, precision, say)
        self.standard = Standard() if len(self.eyes) > 1 else None
        self.size: tuple[int, ...] | None = None
        if self.features_column is None and not self.eyes:
            self.size = choose_size(
                table.data, str(table.image_column), table.rows, s.image_size, str(s.net), table.access
            )
        for eye in self.eyes:
            eye.size = eye.size or tuple(self._images(1, eye.size, eye.access).shape[2:])
            eye.fingerprint = eye.backbone.fingerprint(eye.size) + eye.access.decoder.mark + scaled_by()
        note_unlike(self.eyes, say)
        self.fingerprint = "+".join(eye.fingerprint for eye in self.eyes)

    def __call__(self, dataset: Dataset, rows: np.ndarray, budget: float) -> Inputs:
        """Read a split.

        Args:
            dataset: the table's own rows or one of its other splits.
            rows: (n,) positions in the source, for error messages.
            budget: bytes that images may take; what does not fit is decoded when it is asked for.
        """
        column = str(self.table.image_column)
        if self.features_column is not None:
            return in_memory(*column_features(dataset, self.features_column, rows))
        if self.eyes:
            parts = [
                backbone_features(
                    dataset, column, rows, tuple(eye.size or ()), eye.backbone, eye.fingerprint, self.state, self.say,
                    eye.access,
                )
                for eye in self.eyes
            ]  # fmt: skip
            return in_memory(*(parts[0] if self.standard is None else self.standard.together(parts, len(dataset))))
        decoded = self._decode(dataset, column, rows, budget)
        good = remaining(len(dataset), decoded.broken)
        if decoded.images is not None:
            return in_memory(
                _without(decoded.images, decoded.broken), decoded.digest, decoded.broken, decoded.hashes[good],
                None if decoded.measures is None else decoded.measures[good],
            )  # fmt: skip
        part, shape = dataset.select(good) if decoded.broken else dataset, decoded.shape
        read = reader_of(part, column, rows[good], shape[1:], decoded.hashes[good], self.table.access)
        counts = torch.from_numpy(decoded.counts)

        def source(device: torch.device) -> Source:
            return Streamed(read, len(good), shape, counts, device)

        seen = None if decoded.measures is None else decoded.measures[good]
        return Inputs(source, shape, 0, decoded.digest, decoded.broken, decoded.hashes[good], seen)

    def _decode(self, dataset: Dataset, column: str, rows: np.ndarray, budget: float) -> Decoded:
        """All images in every process, or where they do not fit, a look at each of them in one process."""
        from accelerate.utils import gather_object

        world, n = self.state.num_processes, len(dataset)
        if world > 1:
            budget = min(gather_object([budget]))  # all decide alike
        if world == 1 or self.size is None or n < world or 3 * n * self.size[0] * self.size[1] <= budget:
            return decode_images(dataset, column, rows, self.size, budget, self.table.access, measure=True)
        mine = np.array_split(np.arange(n), world)[self.state.process_index]
        found = decode_images(dataset.select(mine), column, rows[mine], self.size, 0, self.table.access, measure=True)
        broken = {int(mine[i]): why for i, why in found.broken.items()}
        parts = gather_object([(found.counts, broken, found.hashes, found.measures)])
        counts, reasons, hashes, measures = zip(*parts, strict=True)
        together = {i: why for part in reasons for i, why in part.items()}
        return Decoded(None, found.shape, sum(counts), together, np.concatenate(hashes), np.concatenate(measures))

    def sample(self) -> Inputs:
        """Features (n, d) for a dry run: those of the first rows over and over. It says how long all would take."""
        n = len(self.table.rows)
        total, found = n + sum(map(len, self.table.others.values())), []
        for eye in self.eyes:
            started = time.perf_counter()
            images = self._images(SAMPLE, eye.size, eye.access)
            decoding = (time.perf_counter() - started) / len(images)
            features, encoding = timed(eye.backbone, images)
            found.append(features)
            self.say(plan_line(eye.backbone, features.shape[1], decoding, encoding, total, self.state.num_processes))
        rows = torch.cat(found, 1)
        return in_memory(rows[torch.arange(n) % len(rows)], None)

    def _images(self, n: int, size: tuple[int, ...] | None, access: Access) -> Tensor:
        """The first n images of the table; broken ones are black."""
        first = self.table.rows[:n]
        part = self.table.data.select(range(len(first)))
        images = decode_images(part, str(self.table.image_column), first, size, float("inf"), access).images
        assert images is not None
        return images


def _without(images: Tensor, broken: dict[int, str]) -> Tensor:
    """The images (n, c, h, w) without broken ones, moved together in place: there may be no room for a copy."""
    rows, at, edges = images.permute(0, 2, 3, 1).numpy(), 0, [-1, *sorted(broken), len(images)]
    for before, after in pairwise(edges):
        count = after - before - 1
        rows[at : at + count] = rows[before + 1 : after]
        at += count
    return images[:at]


def in_memory(
    rows: Tensor,
    digest: str | None,
    broken: dict[int, str] | None = None,
    hashes: np.ndarray | None = None,
    measures: np.ndarray | None = None,
) -> Inputs:
    """Images uint8 (n, c, h, w) or features float (n, d) that are all in memory."""
    shape = tuple(rows.shape[1:])
    return Inputs(lambda device: held(rows, device), shape, rows.nbytes, digest, broken or {}, hashes, measures)
