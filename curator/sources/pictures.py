"""The one decoder of strangers' images, for nets, page and thumbnails: which formats, how large, and as what."""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Condition
from typing import TYPE_CHECKING, Any

import numpy as np

from curator.errors import CuratorError

if TYPE_CHECKING:
    from torch import Tensor

# None that starts another program, as EPS does. TGA has no mark of its own, so it is tried last.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "PPM", "TGA")
ICO = b"\0\0\1\0"  # how one begins
MOST = 178_956_970  # pixels of an image, Pillow's own limit
LEAST = 2**24  # pixels that an image may have however small the memory is
PIXEL = 16  # bytes that a pixel takes at most while it is decoded: a palette, RGBA, a white ground, both together, RGB
SLOW = ("ppm", "ppm_plain", "bmp_rle")  # Pillow's decoders in Python: about 1 s for a million pixels
SLOW_MOST = 2**20
DENSE = 2**14  # pixels a byte, in images of more than LEAST: a few bytes may declare any size, and take seconds each
ICON = 2**20  # pixels of an image in an ICO, which Pillow decodes while it opens it
SCANS = 64  # of a JPEG; usual ones have up to ten, and each goes over all pixels
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of a JPEG's segments, not of what stands among its pixels
ORIENTATION = 0x0112  # EXIF's; above 4 the image lies on its side


# Values that become 0 and 255, by kind of image: 16-bit, int (of 32 bits), float.
Spans = Mapping[str, tuple[float, float]]
KINDS = ("16-bit", "int", "float")
HALF_OF_16 = 2**15
BLOCK = 2**16  # pixels that are scaled at once
BITS, SAMPLE_FORMAT = 258, 339  # tags of a TIFF
NO_NUMBER = "the image has no value that is a number"


class NoPicture(CuratorError):
    """Bytes that are no image as expected; the text says why."""


@dataclass(frozen=True)
class Scaling:
    """How images are brought to one size.

    Attributes:
        resample: Pillow's number of the filter; 3 is bicubic.
        squash: whether both sides are scaled, instead of the shorter one before the centre is cut.
        near: sides that are enough, to decode large JPEGs faster; None: pixel for pixel.
    """

    resample: int = 3
    squash: bool = False
    near: int | None = None

    def __call__(self, image: Any, size: tuple[int, ...]) -> np.ndarray:
        """A Pillow image of RGB, scaled to (h, w): uint8 (h, w, 3), which may be read-only, or cut from a larger array.

        Of the same filters torch's take a quarter of the time of Pillow's, and differ by 1 of 255 in one of 200 pixels.
        As in torchvision all of the image is scaled, then its centre cut at whole pixels; a long strip, of which that
        would be much, is left to Pillow, and so is all where torch's filters are no quicker.
        """
        from PIL import Image as Pil
        from PIL import ImageOps

        filter, (high, wide) = Pil.Resampling(self.resample), size
        scale = max(high / image.height, wide / image.width)
        h, w = size if self.squash else (max(high, round(image.height * scale)), max(wide, round(image.width * scale)))
        if filter.name not in ("BILINEAR", "BICUBIC") or w * h > 4 * high * wide or not _torch_is_quick():
            scaled = image.resize((wide, high), filter) if self.squash else ImageOps.fit(image, (wide, high), filter)
            return np.asarray(scaled)
        found = _by_torch(_pixels(image)[None], (h, w), filter.name.lower())[0]
        top, left = round((h - high) / 2), round((w - wide) / 2)
        return found[top : top + high, left : left + wide, :3]


def resized(
    pictures: np.ndarray,  # uint8 (m, h, w, 3)
    size: tuple[int, int],  # (h, w)
) -> np.ndarray:  # uint8 (m, h, w, 3)
    """Pictures of one size at another, bicubic, by torch or Pillow as above."""
    from PIL import Image as Pil

    if not _torch_is_quick():
        return np.stack([np.asarray(Pil.fromarray(p).resize(size[::-1], Pil.Resampling.BICUBIC)) for p in pictures])
    import torch

    return _by_torch(torch.from_numpy(np.require(pictures, requirements="W")), size, "bicubic")


def _by_torch(pixels: Tensor, size: tuple[int, int], mode: str) -> np.ndarray:
    """Bytes (m, h, w, c) at another (h, w), in an array, since torch starts threads for what is done to one."""
    import torch

    found = torch.nn.functional.interpolate(pixels.permute(0, 3, 1, 2), size, mode=mode, antialias=True)
    return found.permute(0, 2, 3, 1).numpy()


def _pixels(image: Any) -> Tensor:
    """(h, w, 4) uint8 of a Pillow image of RGB, where it lies; of one in several blocks a copy (h, w, 3).

    A copy, too, on a GPU machine without pyarrow, which comes with `datasets`.
    """
    import torch

    try:
        import pyarrow as pa

        return torch.from_dlpack(pa.array(image).values).view(image.height, image.width, 4)
    except (ImportError, ValueError):
        return torch.from_numpy(np.array(image))


@cache
def _torch_is_quick() -> bool:
    """Whether torch scales bytes as they are: with AVX2; elsewhere it takes longer than Pillow."""
    import torch

    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


def scaled_by() -> str:
    """By which machines and versions are told apart that scale to other pixels."""
    return "-torch" if _torch_is_quick() else ""


class Decoder:
    """Decodes images, in any number of threads at once, within some memory.

    Attributes:
        memory: bytes that all images together may take while they are decoded.
        most: pixels that an image may have.
        spans: what becomes of more than 8 bits. Without one, 16 bits become 8 by their upper half, and 32 are refused:
            what is dark in them and what is bright, only the other images of their column tell.
        scaling: how images are brought to one size.
    """

    def __init__(
        self,
        memory: float = 2**31,
        spans: Spans | None = None,
        scaling: Scaling = Scaling(),  # noqa: B008
    ):
        warnings.filterwarnings("ignore", module="PIL")  # here, since threads share the filters: of size, which has a
        # limit here, and of EXIF that is damaged, where the image can be decoded
        self.memory = int(min(max(memory, LEAST * PIXEL), 2**62))
        self.most = min(self.memory // PIXEL, MOST)
        self.spans: Spans = spans or {}
        self.scaling = scaling
        self._free, self._changed = self.memory, Condition()

    @property
    def mark(self) -> str:
        """By which decoders are told apart that make other pixels of an image; empty without spans."""
        return "".join(f"-{kind}{low:g}:{high:g}" for kind, (low, high) in sorted(self.spans.items()))

    def kind(self, content: bytes) -> str | None:
        """One of KINDS for encoded bytes of more than 8 bits; None for others, and for what is no image."""
        try:
            return _kind(self.look(content))
        except NoPicture:
            return None

    def range_of(self, content: bytes) -> tuple[float, float]:
        """The least and the largest finite value of an image of some kind.

        Raises:
            NoPicture: where there is none, or it cannot be decoded.
        """
        image = self.look(content)
        with self._room(image.width * image.height * PIXEL), _readable():
            values = _deep(image)
            values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            if not values.size:
                raise NoPicture(NO_NUMBER)
            return float(values.min()), float(values.max())

    def look(self, content: bytes) -> Any:
        """The Pillow image of encoded bytes, of which only the header was read.

        Raises:
            NoPicture: for another format, or too many pixels.
        """
        from PIL import Image as Pil

        try:
            if content[:4] == ICO and any(w * h > ICON for w, h in _sizes_in_ico(content)):
                raise NoPicture(f"the image cannot be decoded (an ICO of more than {ICON:,} px)")
            image = Pil.open(io.BytesIO(content), formats=FORMATS)
        except NoPicture:
            raise
        except Pil.DecompressionBombError as e:
            raise NoPicture(f"the image has more than {MOST:,} px; make it smaller") from e
        except MemoryError:
            raise  # the machine's fault, not the image's
        except Exception as e:  # a stranger's bytes: Pillow's readers raise anything
            raise _why(e) from e
        self._require(image, content)
        return image

    def _require(self, image: Any, content: bytes) -> None:
        """Refuse what would take too much memory or time to decode."""
        pixels, has = image.width * image.height, f"the image has {image.width:,} x {image.height:,} px"
        if pixels > self.most:
            hint = "" if self.most == MOST else "raise --memory-budget or "
            raise NoPicture(f"{has}, more than {self.most:,} in all; {hint}make it smaller")
        if pixels > max(LEAST, DENSE * len(content)):
            raise NoPicture(f"{has} in {len(content):,} bytes; make it smaller")
        if pixels > SLOW_MOST and any(tile[0] in SLOW for tile in getattr(image, "tile", ())):
            raise NoPicture(f"{has} of a kind that is slow to decode; save it as PNG")
        if image.format in ("JPEG", "MPO") and _may_scan(content) > SCANS and _scans(content) > SCANS:
            raise NoPicture(f"{has} in more than {SCANS} scans; save it again")

    def rgb(self, content: bytes, near: int | None = None) -> Any:
        """The Pillow image of encoded bytes as RGB: its first frame, turned as its EXIF says, on white.

        Args:
            content: the encoded image.
            near: sides that are enough, to decode large JPEGs faster; not pixel for pixel what is decoded without.

        Raises:
            NoPicture: where that cannot be done.
        """
        with self._decoded(content, near) as (image, _):
            return image

    def array(self, content: bytes, size: tuple[int, ...] | None = None) -> tuple[np.ndarray, tuple[int, int]]:
        """What rgb gives as uint8 (h, w, 3), and the (w, h) that the image has by itself.

        Args:
            content: the encoded image.
            size: (h, w): the shorter side is scaled to it and the centre cut.

        Raises:
            NoPicture: where that cannot be done.
        """
        with self._decoded(content, None) as (image, own):
            if size and image.size != (size[1], size[0]):
                return self.scaling(image, size), own
            return np.asarray(image), own

    @contextmanager
    def _decoded(self, content: bytes, near: int | None) -> Iterator[tuple[Any, tuple[int, int]]]:
        """The image as rgb gives it, and its own (w, h), while there is room for it."""
        from PIL import ImageOps

        image = self.look(content)
        own = image.size
        if near := near or self.scaling.near:
            image.draft("RGB", (near, near))
        with self._room(image.width * image.height * PIXEL), _readable():
            kind = _kind(image)
            ImageOps.exif_transpose(image, in_place=True)
            yield _rgb(image if kind is None else _eight_bits(image, kind, self.spans.get(kind))), own

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Wait until so many bytes are free, or all are."""
        with self._changed:
            self._changed.wait_for(lambda: size <= self._free or self._free == self.memory)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


@contextmanager
def _readable() -> Iterator[None]:
    """Say in one line why the image that a block decodes cannot be decoded."""
    try:
        yield
    except (MemoryError, NoPicture):
        raise
    except Exception as e:
        raise _why(e) from e


def lies_on_its_side(image: Any) -> bool:
    """Whether a Pillow image is to be turned by 90 degrees."""
    return image.getexif().get(ORIENTATION, 1) > 4


def _sizes_in_ico(content: bytes) -> Iterator[tuple[int, int]]:
    """(w, h) of the images in an ICO, which its directory need not tell."""
    for i in range(int.from_bytes(content[4:6], "little")):
        start = int.from_bytes(content[18 + 16 * i : 22 + 16 * i], "little")
        head = content[start : start + 24].ljust(24, b"\0")
        if head[1:4] == b"PNG":
            yield struct.unpack(">II", head[16:24])
        elif head[0] == 12:  # bytes of an old header
            yield struct.unpack("<HH", head[4:8])
        else:
            w, h = struct.unpack("<ii", head[4:12])
            yield abs(w), abs(h) // 2


def _may_scan(content: bytes) -> int:
    """How often the mark of a scan stands in a JPEG, in its pixels or not; by numpy, which lets other threads go on."""
    values, step = np.frombuffer(content, np.uint8), 2**20
    blocks = (values[i : i + step + 1] for i in range(0, len(values), step))
    return sum(int(np.count_nonzero((block[:-1] == 0xFF) & (block[1:] == 0xDA))) for block in blocks)


def _scans(content: bytes) -> int:
    """How many scans the first image of a JPEG has; what stands behind it, a film of a telephone, does not count."""
    at, scans = 2, 0
    while (found := MARKER.search(content, at)) and found[0] != b"\xff\xd9":
        scans += found[0] == b"\xff\xda"
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return scans


def _kind(image: Any) -> str | None:
    """One of KINDS for a Pillow image of more than 8 bits."""
    if image.mode == "F":
        return "float"
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return "16-bit"  # Pillow brings both to 0..65535
    return "int" if image.mode.startswith("I") else None


def _deep(image: Any) -> np.ndarray:
    """(h, w) values of a Pillow image of more than 8 bits, of their own type."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    unsigned = tags.get(BITS) in (32, (32,)) and tags.get(SAMPLE_FORMAT, (1,)) in (1, (1,))
    return values.view(np.uint32) if unsigned and values.dtype == np.int32 else values  # Pillow makes int32 of them


def _eight_bits(image: Any, kind: str, span: tuple[float, float] | None) -> Any:
    """A Pillow image of more than 8 bits as one of 8."""
    from PIL import Image as Pil

    values = _deep(image)
    if span is None and kind != "16-bit":
        raise NoPicture("its values have 32 bits, unlike most images of its column; save it with 8 or 16 bits")
    if values.dtype.kind == "f" and not np.isfinite(values).any():
        raise NoPicture(NO_NUMBER)
    flat, out = values.reshape(-1), np.empty(values.size, np.uint8)
    for i in range(0, values.size, BLOCK):
        part = flat[i : i + BLOCK]
        if span is None:
            out[i : i + BLOCK] = part.clip(0, 2**16 - 1) >> 8
        else:
            low, high = span
            part = np.nan_to_num(part.astype(np.float64).clip(low, high), nan=low) - low
            out[i : i + BLOCK] = np.rint(part * (255 / (high - low or 1)))
    return Pil.fromarray(out.reshape(values.shape))


def _rgb(image: Any) -> Any:
    """A Pillow image of 8 bits as RGB, as a viewer would show it: what is transparent on white."""
    from PIL import Image as Pil

    if "A" in image.getbands() or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Pil.alpha_composite(Pil.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _why(error: Exception) -> NoPicture:
    if isinstance(error, OSError) and error.strerror:
        why = error.strerror
    else:
        why = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        why = why.partition(" <_io.")[0]  # an address in memory tells nobody anything
    return NoPicture(f"the image cannot be decoded ({why})")
