"""Strangers' images as what a browser is given."""

from __future__ import annotations

import base64
import io
import warnings

AS_IT_IS = 32_000, 512  # bytes and pixels a side up to which an image is sent unchanged
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")  # none that starts another program
SHOWN = ("PNG", "JPEG", "GIF", "WEBP")  # by every browser


def data_address(image: bytes, side: int) -> str | None:
    """An encoded image as a data address, at most `side` pixels a side unless it is small; None where it is broken."""
    from PIL import Image, ImageOps

    if not image:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = Image.open(io.BytesIO(image), formats=FORMATS)
            kind = opened.format or ""
            if kind in SHOWN and len(image) <= AS_IT_IS[0] and max(opened.size) <= AS_IT_IS[1]:
                opened.verify()
                return _address(f"image/{kind.lower()}", image)
            opened.draft("RGB", (side, side))
            picture = ImageOps.exif_transpose(opened).convert("RGB")
            picture.thumbnail((side, side))
            kind = "PNG" if max(picture.size) <= 64 else "JPEG"
            file = io.BytesIO()
            picture.save(file, kind, quality=85)
            return _address(f"image/{kind.lower()}", file.getvalue())
    except Exception:  # whatever a decoder makes of broken bytes: the page says that there is no picture
        return None


def _address(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
