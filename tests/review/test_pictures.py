import base64
import io

import pytest
from PIL import Image

from curator.review.pictures import data_address


def encoded(size=(40, 30), kind="PNG", mode="RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(file, kind, **options)
    return file.getvalue()


def decoded(address: str) -> tuple[str, bytes]:
    head, content = address.split(",", 1)
    return head, base64.b64decode(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_small_images_stay_as_they_are(kind):
    image = encoded(kind=kind)
    assert decoded(data_address(image, 160)) == (f"data:image/{kind.lower()};base64", image)


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
def test_what_browsers_do_not_show_is_converted(kind):
    head, content = decoded(data_address(encoded(kind=kind), 160))
    assert head == "data:image/png;base64" and Image.open(io.BytesIO(content)).size == (40, 30)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_large_images_become_small(mode):
    head, content = decoded(data_address(encoded((900, 600), "JPEG", mode), 160))
    assert Image.open(io.BytesIO(content)).size == (160, 107)


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        encoded()[:200],
        b"<svg onload='alert(1)'>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_broken_and_dangerous_bytes_are_no_picture(image):
    assert data_address(image, 160) is None


def test_a_bomb_is_no_picture(monkeypatch):
    image = encoded((600, 600))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert data_address(image, 160) is None
