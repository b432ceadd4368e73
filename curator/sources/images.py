"""Encoded images of a dataset become arrays: all of them in one tensor, or some at a time where they do not fit."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Image

from curator.errors import CuratorError, RunFailed
from curator.sources.faults import MEASURES, measured
from curator.sources.files import Refused, read_inside, source_file
from curator.sources.pictures import Decoder, NoPicture, lies_on_its_side
from curator.system import cores

if TYPE_CHECKING:  # publishing and reviewing need no torch
    from torch import Tensor

Made = TypeVar("Made")

# Images of one common size up to this many pixels a side are taken as they are; others become squares of SIDE.
OWN_SIZE = 64
SIDE = {"small": 64, "resnet18": 64, "preact18": 64, "resnet50": 224, "vgg19_bn": 224, "mlp": 224, "linear": 224}
CHUNK = 64 * 2**20  # bytes of encoded images held at once
CHUNK_ROWS = 1024
PIECE = 8  # images that a thread takes at once
MISSING = os.strerror(errno.ENOENT)


@dataclass(frozen=True)
class Access:
    """What may be read of a dataset.

    Attributes:
        folders: its own, as real paths: no file that lies elsewhere is read. By default none is.
        decoder: of its images.
    """

    folders: tuple[str, ...] = ()
    decoder: Decoder = field(default_factory=Decoder)


NO_FILES = Access()


class BrokenImage(CuratorError):
    """An image that is missing or cannot be decoded; `reason` says why, without the row."""

    def __init__(self, reason: str, row: int, column: str):
        super().__init__(f"column {column!r}: row {row}: {reason}; replace or remove it")
        self.reason = reason


class SizesDiffer(CuratorError):
    """Images of several sizes where one was expected."""


@dataclass
class Decoded:
    """A column of n images.

    Attributes:
        images: (n, 3, h, w) uint8, zeros where an image is broken; None where they do not fit the budget.
        shape: of one image.
        counts: (3, 256) int64, how often each value occurs in the images that are whole; only where images is None.
        broken: reasons by position.
        hashes: (n,) uint64, of the encoded bytes; 0 where there are none.
        measures: (n, len(MEASURES)) float32 of faults.py, NaN where an image is broken; None where not asked for.
    """

    images: Tensor | None
    shape: tuple[int, int, int]
    counts: np.ndarray
    broken: dict[int, str]
    hashes: np.ndarray
    measures: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """Hash of all encoded bytes, and of which images are broken."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.hashes).tobytes(), digest_size=16)
        digest.update(repr(sorted(self.broken)).encode())
        return digest.hexdigest()


def encoded(dataset: Dataset, column: str) -> Iterator[tuple[int, dict]]:
    """Position and {bytes, path} of every image, undecoded."""
    position = 0
    for batch in raw_images(dataset, column).iter(100):
        for item in batch[column].to_pylist():
            yield position, item
            position += 1


def paths(dataset: Dataset, column: str) -> list[str | None]:
    """What every image's file is called; no image is opened for it."""
    return [name for batch in raw_images(dataset, column).iter(100)
            for name in pc.struct_field(batch[column], "path").to_pylist()]  # fmt: skip


def source_files(dataset: Dataset, column: str | None, access: Access) -> list[str]:
    """What every row's file is called in a result, as source_file says; "" where it has none."""
    if column is None or not len(dataset):
        return [""] * len(dataset)
    return [source_file(path or "", access.folders) for path in paths(dataset, column)]


def raw_images(dataset: Dataset, column: str) -> Dataset:
    """The column as Arrow values {bytes, path}."""
    return dataset.select_columns(column).cast_column(column, Image(decode=False)).with_format("arrow")


def decode_images(
    dataset: Dataset,
    column: str,
    rows: np.ndarray,  # (n,) positions in the source, for error messages
    size: tuple[int, ...] | None,  # (h, w); None: the images' own
    budget: float,  # bytes the tensor may take
    access: Access = NO_FILES,
    *,
    measure: bool = False,  # whether to look for faults of the pictures
    items: Iterable[tuple[int, dict | None]] | None = None,  # what `encoded` gives, if it was read before
    hashes: np.ndarray | None = None,  # (n,) uint64 of the encoded images, if they are known
) -> Decoded:
    """Decode a column as RGB, into memory where it fits the budget; else every image is looked at once.

    Raises:
        SizesDiffer: without a size, where images have several.
        CuratorError: where there is no row, or without a size, where no image can be decoded.
    """
    n = len(dataset)
    if not n:
        raise CuratorError(f"column {column!r}: expected images, found no rows")
    shape: Any = None if size is None else (*size, 3)
    # Where a size is given, by the threads that decode: most of its time is the system's, which makes the pages ready.
    out = np.zeros((n, *shape), np.uint8) if shape is not None and n * np.prod(shape) <= budget else None
    fills = out is not None
    counts, broken = np.zeros((3, 256), np.int64), {}
    found_hashes = np.zeros(n, np.uint64) if hashes is None else hashes
    sizes, measures = np.zeros((n, 2)), np.full((n, len(MEASURES)), np.nan, np.float32) if measure else None

    def decode(position: int, item: dict | None) -> tuple[int, np.ndarray | BrokenImage]:
        try:
            item = with_bytes(position, item, rows, column, access)
            if hashes is None:
                found_hashes[position] = hash_of(item["bytes"])
            image, sizes[position] = to_array(position, item, rows, column, size, access)
        except BrokenImage as e:
            return position, e
        if out is not None and fills:
            out[position] = image
            return position, out[position]
        return position, np.ascontiguousarray(image)  # else it may hold all of what it was cut from

    def decode_all(entries: Sequence[tuple[int, dict | None]]) -> list[tuple[int, np.ndarray | BrokenImage]]:
        made = [decode(*entry) for entry in entries]
        if measures is not None:
            seen = [(position, image) for position, image in made if not isinstance(image, BrokenImage)]
            for form in {image.shape for _, image in seen}:
                places, images = zip(*((p, image) for p, image in seen if image.shape == form), strict=True)
                measures[list(places)] = measured(np.stack(images), sizes[list(places)])
        return made

    def chunks() -> Iterator[list[tuple[int, dict | None]]]:
        chunk: list[tuple[int, dict | None]] = []
        held = 0
        for position, item in encoded(dataset, column) if items is None else items:
            chunk.append((position, item))
            held += len(item["bytes"] or b"") if item else 0
            if held > CHUNK or len(chunk) == CHUNK_ROWS:
                yield chunk
                chunk, held = [], 0
        yield chunk

    with ThreadPoolExecutor(cores()) as pool:
        for chunk in chunks():
            for position, image in in_pieces(pool, decode_all, chunk):
                if isinstance(image, BrokenImage):
                    broken[position] = image.reason
                    continue
                if shape is None:
                    shape = image.shape
                    out = np.zeros((n, *shape), np.uint8) if n * image.size <= budget else None
                if image.shape != shape:
                    raise SizesDiffer(
                        f"column {column!r}: the images differ in size (row {rows[position]}); give --image-size"
                    )
                if out is not None and not fills:
                    out[position] = image
                elif out is None:
                    for c in range(3):
                        counts[c] += np.bincount(image[..., c].reshape(-1), minlength=256)
    if shape is None and size is None:
        first = min(broken)
        hint = "; paths are looked up beside the dataset's tables, or in --data-dir" if MISSING in broken[first] else ""
        raise CuratorError(
            f"column {column!r}: none of the {n:,} images could be decoded (row {rows[first]}: {broken[first]}){hint}"
        )
    if out is None and len(broken) == n:  # the caller sees how many are broken
        out = np.zeros((n, *shape), np.uint8)
    images = None if out is None else as_tensor(out)
    return Decoded(images, (3, *shape[:2]), counts, dict(sorted(broken.items())), found_hashes, measures)


def whole_images(decoded: Decoded, rows: np.ndarray) -> Tensor:
    """The images, where all of them are needed.

    Raises:
        CuratorError: where some are broken, or they do not fit the budget.
    """
    if decoded.broken:
        first = min(decoded.broken)
        raise CuratorError(f"row {rows[first]}: {decoded.broken[first]}; replace or remove it")
    if decoded.images is None:
        raise CuratorError(
            f"{len(decoded.hashes):,} images of {decoded.shape[2]} x {decoded.shape[1]} px do not fit --memory-budget; "
            "raise it, or use --limit-rows or a smaller --image-size"
        )
    return decoded.images


def reader_of(
    dataset: Dataset,
    column: str,
    rows: np.ndarray,
    size: tuple[int, ...],
    hashes: np.ndarray,
    access: Access = NO_FILES,
) -> Callable[[Tensor], Tensor]:
    """A function that decodes the images at some positions (b,) int64 to uint8 (b, 3, h, w).

    It raises RunFailed for one whose encoded bytes do not have the hash (Decoded.hashes) that they had at the start.
    """
    raw = raw_images(dataset, column)

    def same(position: int, item: dict | None) -> dict:
        try:
            item = with_bytes(position, item, rows, column, access)
        except BrokenImage as e:  # it was whole
            raise changed(column, rows[position]) from e
        if hash_of(item["bytes"]) != hashes[position]:
            raise changed(column, rows[position])
        return item

    def read(positions: Tensor) -> Tensor:
        items = raw[positions.tolist()][column].to_pylist()
        pairs = zip(positions.tolist(), items, strict=True)
        arrays = [to_array(position, same(position, item), rows, column, size, access)[0] for position, item in pairs]
        return as_tensor(np.stack(arrays))

    return read


def changed(column: str, row: int) -> RunFailed:
    """The one line for an image that is another one now."""
    return RunFailed(
        f"column {column!r}: row {row}: the image differs from the one read at the start: the dataset was changed "
        "meanwhile; leave it unchanged and start anew with --no-resume"
    )


def content_hashes(
    dataset: Dataset, column: str, rows: np.ndarray, access: Access = NO_FILES
) -> tuple[np.ndarray, str, list[tuple[int, dict | None]] | None]:
    """Hashes (n,) uint64 of a column's encoded images, and one of all of them; nothing is decoded.

    Besides the images as `encoded` gives them, with the bytes of files, where they are CHUNK bytes at most.
    """
    digest, hashes = hashlib.blake2b(digest_size=16), np.zeros(len(dataset), np.uint64)
    held: list[tuple[int, dict | None]] | None = []
    size = 0

    def look(position: int, item: dict | None) -> tuple[int, dict | None, bytes]:
        try:
            item = with_bytes(position, item, rows, column, access)
        except BrokenImage as e:
            return position, item, e.reason.encode()
        hashes[position] = hash_of(item["bytes"])
        return position, item, item["bytes"]

    entries = encoded(dataset, column)
    with ThreadPoolExecutor(cores()) as pool:
        while some := list(islice(entries, PIECE * cores())):
            for position, item, content in in_pieces(pool, lambda piece: [look(*entry) for entry in piece], some):
                digest.update(content)
                size += len(content)
                if held is not None:
                    held.append((position, item))
            held = held if size <= CHUNK else None
    return hashes, digest.hexdigest(), held


def in_pieces(
    pool: ThreadPoolExecutor,
    work: Callable[[Sequence[tuple[int, dict | None]]], list[Made]],
    entries: Sequence[tuple[int, dict | None]],
) -> Iterator[Made]:
    """What the work makes of the entries, in order; a thread takes some of them at once."""
    pieces = [entries[i : i + PIECE] for i in range(0, len(entries), PIECE)]
    return chain.from_iterable(pool.map(work, pieces))


def hash_of(content: bytes) -> int:
    """64 bits of a hash."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def why_broken(
    dataset: Dataset, column: str, rows: np.ndarray, positions: np.ndarray, access: Access = NO_FILES
) -> dict[int, str]:
    """Why those of the images at some positions that cannot be decoded cannot."""
    found = {}
    for i, item in encoded(dataset.select(positions), column):
        try:
            to_array(i, item, rows[positions], column, None, access)
        except BrokenImage as e:
            found[int(positions[i])] = e.reason
    return found


def with_bytes(position: int, item: dict | None, rows: np.ndarray, column: str, access: Access) -> dict:
    """The item with its bytes, read from its file where it has none.

    Raises:
        BrokenImage: where there are none, or its file may not be read.
    """
    if not item or (item.get("bytes") is None and not item.get("path")):
        raise BrokenImage("there is no image", int(rows[position]), column)
    if item.get("bytes") is not None:
        return item
    try:
        return {"bytes": read_inside(item["path"], access.folders, access.decoder.memory), "path": item["path"]}
    except Refused as e:
        raise BrokenImage(str(e), int(rows[position]), column) from e


def to_array(
    position: int, item: dict | None, rows: np.ndarray, column: str, size: tuple[int, ...] | None, access: Access
) -> tuple[np.ndarray, tuple[int, int]]:
    """One image as Decoder.array gives it.

    Raises:
        BrokenImage: where that cannot be done.
    """
    content = with_bytes(position, item, rows, column, access)["bytes"]
    try:
        return access.decoder.array(content, size)
    except NoPicture as e:
        raise BrokenImage(str(e), int(rows[position]), column) from e


def choose_size(
    dataset: Dataset, column: str, rows: np.ndarray, wanted: int | None, net: str, access: Access = NO_FILES
) -> tuple[int, int] | None:
    """(h, w) to decode to: the wanted square, or the images' own size where they share one of at most OWN_SIZE.

    None where no image can be decoded.
    """
    if wanted:
        return wanted, wanted
    sizes: set[tuple[int, int]] = set()
    for position, item in encoded(dataset, column):
        try:
            with access.decoder.look(with_bytes(position, item, rows, column, access)["bytes"]) as image:
                w, h = image.size
                turned = w != h and lies_on_its_side(image)
        except (BrokenImage, NoPicture):
            continue
        sizes.add((h, w) if turned else (w, h))
        if len(sizes) > 1 or max(w, h) > OWN_SIZE:
            return SIDE[net], SIDE[net]
    return next(((h, w) for w, h in sizes), None)


def as_tensor(images: np.ndarray) -> Tensor:
    """Images uint8 (n, h, w, c) as (n, c, h, w) over the same memory."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2)
