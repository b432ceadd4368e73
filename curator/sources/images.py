"""Encoded images of a dataset become one resident tensor."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Image

from curator.errors import CuratorError
from curator.system import cores

# Images of one common size up to this many pixels a side are taken as they are; others become squares of SIDE.
OWN_SIZE = 64
SIDE = {"small": 64, "resnet18": 64, "preact18": 64, "resnet50": 224, "vgg19_bn": 224, "mlp": 224, "linear": 224}


@dataclass
class Decoded:
    """Images (n, 3, h, w) uint8, and a hash of their encoded bytes."""

    images: torch.Tensor
    digest: str


CHUNK = 64 * 2**20  # bytes of encoded images held at once


def encoded(dataset: Dataset, column: str) -> Iterator[tuple[int, dict]]:
    """Position and {bytes, path} of every image, undecoded."""
    raw = dataset.select_columns(column).cast_column(column, Image(decode=False)).with_format("arrow")
    position = 0
    for batch in raw.iter(100):
        for item in batch[column].to_pylist():
            yield position, item
            position += 1


def decode_images(
    dataset: Dataset,
    column: str,
    rows: np.ndarray,  # (n,) positions in the source, for error messages
    size: tuple[int, ...] | None,  # (h, w); None: the images' own
    budget: float,  # bytes the tensor may take
) -> Decoded:
    """Decode a column into memory, as RGB.

    Raises:
        CuratorError: naming the row, when an image is missing or broken; or the flags, when all do not fit the budget.
    """
    n = len(dataset)
    out: np.ndarray | None = None
    digest = hashlib.blake2b(digest_size=16)

    def decode(entry: tuple[int, dict]) -> tuple[int, np.ndarray]:
        return entry[0], to_array(*entry, rows, column, size)

    def chunks() -> Iterator[list[tuple[int, dict]]]:
        chunk, held = [], 0
        for position, item in encoded(dataset, column):
            item = with_bytes(position, item, rows, column)
            digest.update(item["bytes"])
            chunk.append((position, item))
            held += len(item["bytes"])
            if held > CHUNK or len(chunk) == 4096:
                yield chunk
                chunk, held = [], 0
        yield chunk

    with ThreadPoolExecutor(cores()) as pool:
        for chunk in chunks():
            for position, image in pool.map(decode, chunk):
                if out is None:
                    need = n * image.size
                    if need > budget:
                        raise CuratorError(
                            f"{n:,} images of {image.shape[1]} x {image.shape[0]} px need {need / 2**30:.2f} GiB, "
                            f"more than --memory-budget {budget / 2**30:.2f}; "
                            "raise it, or use --limit-rows or a smaller --image-size"
                        )
                    out = np.empty((n, *image.shape), np.uint8)
                if image.shape != out.shape[1:]:
                    raise CuratorError(
                        f"column {column!r}: the images differ in size (row {rows[position]}); give --image-size"
                    )
                out[position] = image
    if out is None:
        raise CuratorError(f"column {column!r}: expected images, found no rows")
    return Decoded(torch.from_numpy(out).permute(0, 3, 1, 2), digest.hexdigest())


def content_digest(dataset: Dataset, column: str, rows: np.ndarray) -> str:
    """Hash of a column's encoded images, which are read but not decoded; rows as in decode_images."""
    digest = hashlib.blake2b(digest_size=16)
    for position, item in encoded(dataset, column):
        digest.update(with_bytes(position, item, rows, column)["bytes"])
    return digest.hexdigest()


def with_bytes(position: int, item: dict | None, rows: np.ndarray, column: str) -> dict:
    """The item with its bytes, read from its file where it has none."""
    if not item or (item.get("bytes") is None and not item.get("path")):
        raise CuratorError(f"column {column!r}: expected an image in every row, found none in row {rows[position]}")
    if item.get("bytes") is not None:
        return item
    try:
        return {"bytes": Path(item["path"]).read_bytes(), "path": item["path"]}
    except OSError as e:
        raise _broken(position, rows, column, e) from e


def _open(position: int, item: dict | None, rows: np.ndarray, column: str):
    from PIL import Image as Pil

    item = with_bytes(position, item, rows, column)
    try:
        return Pil.open(io.BytesIO(item["bytes"]))
    except Exception as e:
        raise _broken(position, rows, column, e) from e


def _broken(position: int, rows: np.ndarray, column: str, error: Exception) -> CuratorError:
    reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
    return CuratorError(
        f"column {column!r}: the image in row {rows[position]} cannot be decoded ({reason}); replace or remove it"
    )


def to_array(
    position: int, item: dict | None, rows: np.ndarray, column: str, size: tuple[int, ...] | None
) -> np.ndarray:
    """One image as (h, w, 3) uint8.

    It is turned as its EXIF says, RGB, its shorter side scaled to the size and the centre cut.
    """
    from PIL import ImageOps

    image = _open(position, item, rows, column)
    try:
        image = ImageOps.exif_transpose(image).convert("RGB")
        if size and image.size != (size[1], size[0]):
            image = ImageOps.fit(image, (size[1], size[0]))
        return np.asarray(image)
    except Exception as e:
        raise _broken(position, rows, column, e) from e


def choose_size(
    dataset: Dataset, column: str, rows: np.ndarray, wanted: int | None, net: str
) -> tuple[int, int] | None:
    """(h, w) to decode to: the wanted square; None for the images' own where they share one of at most OWN_SIZE."""
    if wanted:
        return wanted, wanted
    sizes = set()
    for position, item in encoded(dataset, column):
        with _open(position, item, rows, column) as image:
            sizes.add(image.size)
        if len(sizes) > 1 or max(image.size) > OWN_SIZE:
            return SIDE[net], SIDE[net]
    return None
