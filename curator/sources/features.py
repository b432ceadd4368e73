"""Frozen features of a dataset: computed by a backbone and kept, or read from a column."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, List, Value
from torch import Tensor

from curator.engine.cache import keep, read_npy
from curator.engine.encoders import UNLIKE
from curator.engine.held import Held
from curator.engine.progress import EVERY, FIRST, Pace, time_left
from curator.errors import CuratorError
from curator.sources.columns import column_array, with_columns
from curator.sources.faults import MEASURES
from curator.sources.images import NO_FILES, Access, Decoded, content_hashes, decode_images, why_broken
from curator.sources.pace import ahead, plan_line, timed
from curator.system import cache_folder, is_main
from curator.text import Log

if TYPE_CHECKING:
    from accelerate import PartialState

    from curator.engine.encoders import Backbone

Opened = TypeVar("Opened")
Finished = TypeVar("Finished")
CHUNK = 512  # rows a file of the cache; at most these are lost when a run is killed


class Chunk(NamedTuple):
    """Rows of a split on their way to the encoder.

    Attributes:
        positions: (m,) in the source, for error messages.
        path: of their features in the cache.
        hashes: (m,) uint64, of the encoded bytes.
        measures: (m, len(MEASURES)) float32 of the pictures.
        kept: features (m, d) float16 of the cache; or
        decoded: the images,
        decoding: and the seconds that each took.
    """

    positions: np.ndarray
    path: Path
    hashes: np.ndarray
    measures: np.ndarray
    kept: np.ndarray | None
    decoded: Decoded | None = None
    decoding: float = 0.0


def backbone_features(
    dataset: Dataset,
    column: str,
    rows: np.ndarray,  # (n,) positions in the source, for error messages
    size: tuple[int, ...],  # (h, w) that images are decoded to
    backbone: Backbone,
    fingerprint: str,  # of the backbone
    state: PartialState,
    say: Log,
    access: Access = NO_FILES,
) -> tuple[Tensor, str, dict[int, str], np.ndarray, np.ndarray]:
    """Features (m, d) float32 of the images of a column that can be decoded, and a hash of what they were made from.

    Besides why the other images cannot be decoded, by position, hashes (m,) uint64 of the encoded bytes, and measures
    (m, len(MEASURES)) float32 of the pictures, which are kept beside the features.

    They are rounded to float16, in which they are kept chunk by chunk under the hash of the chunk's encoded images, the
    backbone's fingerprint and the size: never used for other rows, another backbone or other weights, and used again
    where a dataset has grown at its end; of a backbone UNLIKE any other nothing is kept. Processes share the chunks. A
    broken image is kept as a row of NaN.

    Images are decoded in threads while the backbone is at work on those before. What it will take is said once it is
    known.

    Raises:
        CuratorError: for features that are not finite in float16.
    """
    folder = cache_folder("features") / f"{fingerprint}-{'x'.join(map(str, size))}"
    lasts = not fingerprint.startswith(UNLIKE)
    width = backbone(torch.zeros(1, 3, *size, dtype=torch.uint8)).shape[1]  # which all that is kept must have
    planned = False

    def opened(start: int) -> Chunk:
        positions = rows[start : start + CHUNK]
        part = dataset.select(range(start, start + len(positions)))
        hashes, digest, items = content_hashes(part, column, positions, access)
        path = folder / f"{digest}.npy"
        kept = read_npy(path, (len(part), width), np.float16) if lasts else None
        kept = kept if kept is not None and sound(kept, part, positions) else None
        measures = read_npy(measures_path(path), (len(part), len(MEASURES)), np.float32) if kept is not None else None
        if measures is not None:
            return Chunk(positions, path, hashes, measures, kept)
        began = time.perf_counter()
        decoded = decode_images(
            part, column, positions, size, float("inf"), access, measure=True, items=items, hashes=hashes
        )
        measures = cast(np.ndarray, decoded.measures)
        if kept is not None:  # by a version that did not measure
            keep_chunk(measures_path(path), measures)
            return Chunk(positions, path, hashes, measures, kept)
        return Chunk(positions, path, hashes, measures, None, decoded, (time.perf_counter() - began) / len(part))

    def measures_path(path: Path) -> Path:
        return path.with_name(f"{path.stem}-measures.npy")

    def finished(start: int, chunk: Chunk) -> tuple[np.ndarray, str, np.ndarray, np.ndarray]:
        nonlocal planned
        kept, decoded = chunk.kept, chunk.decoded
        if decoded is not None:
            images = cast(Tensor, decoded.images)
            if planned:
                features = backbone(images)
            else:
                planned, (features, encoding) = True, timed(backbone, images)
                say(plan_line(backbone, width, chunk.decoding, encoding, len(dataset) - start, state.num_processes))
            kept = halved(features, chunk.positions, f"--backbone {backbone.name}")
            kept[list(decoded.broken)] = np.nan
            if lasts:
                keep_chunk(measures_path(chunk.path), chunk.measures)
                keep_chunk(chunk.path, kept)
        return cast(np.ndarray, kept), chunk.path.stem, chunk.hashes, chunk.measures

    def sound(kept: np.ndarray, part: Dataset, positions: np.ndarray) -> bool:
        """Whether what is not finite are whole rows, of images that cannot be decoded here and now."""
        bad = np.flatnonzero(~np.isfinite(kept).all(1))
        broken = why_broken(part, column, positions, bad, access) if len(bad) else {}
        return len(broken) == len(bad) and bool(np.isnan(kept[bad]).all())

    parts = shared_chunks(len(dataset), opened, finished, backbone.name, "img", state, say)
    digest = hashlib.blake2b(folder.name.encode(), digest_size=16)
    for _, name, *_ in parts:
        digest.update(name.encode())
    values, hashes, measures = (np.concatenate([part[i] for part in parts]) for i in (0, 2, 3))
    bad = np.isnan(values[:, 0])
    broken = why_broken(dataset, column, rows, np.flatnonzero(bad), access) if bad.any() else {}
    features = torch.from_numpy(values[~bad] if broken else values).float()
    return features, digest.hexdigest(), broken, hashes[~bad], measures[~bad]


def shared_chunks(
    n: int,
    opened: Callable[[int], Opened],
    finished: Callable[[int, Opened], Finished],
    name: str,
    unit: str,
    state: PartialState,
    say: Log,
) -> list[Finished]:
    """The chunks of n rows, each made by one of the processes and found in the cache by the others.

    Args:
        n: rows.
        opened: what reads the one that begins at a row, in a thread while the one before is finished.
        finished: what makes the features of it, where they are not kept.
        name: of what makes them.
        unit: what a row is on the bar.
        state: the processes.
        say: what prints a line.
    """
    starts, done = range(0, n, CHUNK), {}
    mine = starts[state.process_index :: state.num_processes]
    for start, chunk in _progress(ahead(mine, opened), len(mine), name, unit, is_main(), say):
        done[start] = finished(start, chunk)
    state.wait_for_everyone()
    return [done[start] if start in done else finished(start, opened(start)) for start in starts]


def keep_chunk(path: Path, values: np.ndarray) -> None:
    """Write a chunk's features to the cache."""
    try:
        keep(path, lambda file: np.save(file, values))
    except OSError as e:
        raise CuratorError(
            f"features cannot be cached in {path.parent} ({e.strerror or e}): free some space there, or set "
            "another cache folder in XDG_CACHE_HOME; then the same command continues where it was"
        ) from e


def halved(features: Tensor, rows: np.ndarray, flag: str) -> np.ndarray:
    """Features (n, d) as float16, in which they are kept."""
    values = features.half()
    _require_finite(features, values, rows, flag, "float16 (below 65,504)")
    return values.numpy()


def _require_finite(features: Tensor, values: Tensor, rows: np.ndarray, flag: str, kind: str) -> None:
    """Refuse features (n, d) that are not finite as the values of a type."""
    finite = torch.isfinite(values)
    if not finite.all():
        i = int((~finite.all(1)).nonzero()[0])
        worst = features[i][~finite[i]][0].item()
        raise CuratorError(
            f"{flag}: expected features that are finite in {kind}, found {worst:g} in row {rows[i]}; scale or fix them"
        )


def _progress(
    chunks: Iterable[tuple[int, Opened]], count: int, name: str, unit: str, shown: bool, say: Log
) -> Iterator[tuple[int, Opened]]:
    """The chunks, with a bar on a terminal; elsewhere a line a minute, the first one soon."""
    from curator.bars import tqdm

    pace, due = Pace(), time.monotonic() + FIRST
    with tqdm(total=count * CHUNK, desc="features", unit=unit, disable=None if shown else True, leave=False) as bar:
        for i, chunk in enumerate(chunks):
            yield chunk
            bar.update(CHUNK)
            share = (i + 1) / count
            if bar.disable and shown and time.monotonic() > due:
                due = time.monotonic() + EVERY
                say(f"{share:4.0%}  features of {name}{time_left(pace.left(share))}")
            pace.mark(share)


def with_array(dataset: Dataset, column: Held, split: str) -> Dataset:
    """The split with the array (n, d) float32 that the name of its new column carries.

    Raises:
        CuratorError: for another number of rows, and where there is a column of that name.
    """
    values: np.ndarray = column.value
    if column in dataset.column_names:
        raise CuratorError(
            f"features: the dataset has a column {str(column)!r} already: read it with --features-column, or rename it"
        )
    if len(values) != len(dataset):
        raise CuratorError(
            f"features: expected an array with one row for each of the {len(dataset):,} rows of split {split!r}, "
            f"found {len(values):,}"
        )
    kind = List(Value("float32"), length=values.shape[1])
    rows = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return with_columns(dataset, {str(column): (rows, kind)})


def column_features(dataset: Dataset, column: str, rows: np.ndarray) -> tuple[Tensor, str]:
    """Features (n, d) float32 of a column of lists of numbers, and a hash of them.

    Raises:
        CuratorError: for another type, a missing or a shorter list, or numbers that are not finite.
    """
    if column not in dataset.column_names:
        raise CuratorError(
            f"--features-column: no column {column!r}; the columns are {', '.join(dataset.column_names)}"
        )
    values = column_array(dataset, column).combine_chunks()
    kind = values.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise CuratorError(
            f"--features-column {column}: expected a list of numbers in every row, found {dataset.features[column]}"
        )
    lengths = values.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero((lengths != lengths[0]) | (lengths < 1))
    if len(bad):
        found = "no list" if lengths[bad[0]] < 0 else f"{lengths[bad[0]]} numbers"
        raise CuratorError(
            f"--features-column {column}: expected lists of the same length, found {found} in row {rows[bad[0]]} and "
            f"{lengths[0]} numbers in row {rows[0]}"
        )
    numbers = values.flatten()
    if numbers.null_count:
        row = rows[int(np.flatnonzero(numbers.is_null().to_numpy(zero_copy_only=False))[0]) // lengths[0]]
        raise CuratorError(f"--features-column {column}: expected numbers, found a missing value in row {row}")
    with np.errstate(over="ignore"):  # said below
        array = np.array(numbers.to_numpy(zero_copy_only=False), np.float32).reshape(len(values), -1)
    features = torch.from_numpy(array)
    _require_finite(features, features, rows, f"--features-column {column}", "float32")
    return features, hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
