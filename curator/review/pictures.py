"""Strangers' images as what a browser is given: what the nets see."""

from __future__ import annotations

import base64
import io
from typing import Any

from curator.result.facts import RANGES
from curator.sources.pictures import ORIENTATION, Decoder

AS_IT_IS = 32_000, 512  # bytes and pixels a side up to which an image is sent unchanged
SHOWN = ("PNG", "JPEG", "GIF", "WEBP")  # by every browser
DECODER = Decoder(2**30)  # the page has no --memory-budget


def decoder_of(facts: dict[str, Any]) -> Decoder:
    """The decoder of the page for a run, which makes the pixels that its nets saw."""
    spans = facts.get(RANGES)
    return Decoder(DECODER.memory, {kind: (low, high) for kind, (low, high) in spans.items()}) if spans else DECODER


def data_address(image: bytes, side: int, decoder: Decoder = DECODER) -> str | None:
    """An encoded image as a data address, at most `side` pixels a side unless it is small; None where it is broken."""
    if not image:
        return None
    try:
        opened = decoder.look(image)
        small = len(image) <= AS_IT_IS[0] and max(opened.size) <= AS_IT_IS[1]
        picture = decoder.rgb(image, near=None if small else side)
        if small and _shown_alike(opened):
            return _address(f"image/{opened.format.lower()}", image)
        picture.info.clear()  # a space of colours, which the nets do not heed
        picture.thumbnail((side, side))
        kind = "PNG" if max(picture.size) <= 64 else "JPEG"
        file = io.BytesIO()
        picture.save(file, kind, quality=85)
        return _address(f"image/{kind.lower()}", file.getvalue())
    except Exception:  # whatever a decoder makes of broken bytes: the page says that there is no picture
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


def _address(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
