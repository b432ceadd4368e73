"""Strangers' images as what a browser is given: what the nets see."""

from __future__ import annotations

import base64
import io
from typing import Any

from curator.result.facts import RANGES
from curator.sources.pictures import ORIENTATION, Decoder

SMALL, LARGE = 160, 1024  # pixels a side of thumbnails and of the large view
SIDES = SMALL, LARGE
COSTLY = 2**20  # pixels of an image above which what is made of it is kept in the cache
DRAFTED = ("JPEG", "MPO")  # decoded small faster than large
AS_IT_IS = 32_000, 512  # bytes and pixels a side up to which an image is sent unchanged
SHOWN = ("PNG", "JPEG", "GIF", "WEBP")  # by every browser
LOSSLESS = 2**20  # pixels of an image that is sent whole as PNG; JPEG above
DECODER = Decoder(2**30)  # the page has no --memory-budget


def decoder_of(facts: dict[str, Any]) -> Decoder:
    """The decoder of the page for a run, which makes the pixels that its nets saw."""
    spans = facts.get(RANGES)
    return Decoder(DECODER.memory, {kind: (low, high) for kind, (low, high) in spans.items()}) if spans else DECODER


def data_address(image: bytes, side: int, decoder: Decoder = DECODER) -> str | None:
    """An encoded image as a data address, at most `side` pixels a side unless it is small; None where it is broken."""
    return data_addresses(image, side, decoder)[0][side]


def data_addresses(image: bytes, side: int, decoder: Decoder = DECODER) -> tuple[dict[int, str | None], bool]:
    """By side the data addresses of an image, and whether it takes long to decode: then there are those of SIDES, too.

    Of a JPEG there are not, which is decoded the faster the smaller it is to be.
    """
    if not image:
        return {side: None}, False
    try:
        opened = decoder.look(image)
        small = len(image) <= AS_IT_IS[0] and max(opened.size) <= AS_IT_IS[1]
        costly = opened.width * opened.height > COSTLY
        sides = {side, *(SIDES if costly and opened.format not in DRAFTED else ())}
        picture = decoder.rgb(image, near=None if small else max(sides))
        if small and _shown_alike(opened):
            return {side: address_of(f"image/{opened.format.lower()}", image)}, False
        picture.info.clear()  # a space of colours, which the nets do not heed
        found: dict[int, str | None] = {}
        for one in sorted(sides, reverse=True):
            picture.thumbnail((one, one))
            kind = "PNG" if max(picture.size) <= 64 else "JPEG"
            file = io.BytesIO()
            picture.save(file, kind, quality=85)
            found[one] = address_of(f"image/{kind.lower()}", file.getvalue())
        return found, costly
    except Exception:  # whatever a decoder makes of broken bytes: the page says that there is no picture
        return {side: None}, False


def whole(image: bytes, decoder: Decoder = DECODER) -> str | None:
    """An encoded image as a data address at its own resolution; None where it is broken.

    Where every browser shows it as the nets see it, these are its own bytes.
    """
    if not image:
        return None
    try:
        opened = decoder.look(image)
        if _shown_alike(opened):
            return address_of(f"image/{opened.format.lower()}", image)
        picture = decoder.rgb(image)
        picture.info.clear()
        kind, file = "PNG" if picture.width * picture.height <= LOSSLESS else "JPEG", io.BytesIO()
        picture.save(file, kind, quality=92)
        return address_of(f"image/{kind.lower()}", file.getvalue())
    except Exception:  # as above
        return None


def _shown_alike(image: Any) -> bool:
    """Whether a browser shows a Pillow image as the nets see it: still, opaque, upright, its values as they are."""
    return (
        image.format in SHOWN
        and image.mode in ("1", "L", "P", "RGB")
        and not {"transparency", "icc_profile", "gamma"} & image.info.keys()
        and image.getexif().get(ORIENTATION, 1) == 1
        and not getattr(image, "is_animated", False)
    )


def address_of(mime: str, content: bytes) -> str:
    """A file as a data address."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
