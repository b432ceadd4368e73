import base64
import contextlib
import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from curator.review.pictures import DECODER, data_address, decoder_of
from curator.sources.pictures import Decoder


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


# The page shows what the nets see


def shown(content: bytes, side: int = 160, decoder: Decoder = DECODER) -> np.ndarray:
    """The picture as a browser makes it of what it is given: its values as they stand, the ground of the page black."""
    image = Image.open(io.BytesIO(decoded(data_address(content, side, decoder))[1]))
    assert not getattr(image, "is_animated", False) and not image.getexif() and "icc_profile" not in image.info
    image = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB"))


def as_bytes(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned() -> dict:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


RED, BLUE = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
INK = Image.fromarray(np.where(np.arange(1200).reshape(30, 40, 1) % 7, 0, [[[0, 0, 0, 255]]]).astype(np.uint8), "RGBA")
HALF = Image.new("RGB", (40, 30), "red")
HALF.paste("blue", (20, 0, 40, 30))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
SPANS = {"int": (0.0, 1200.0)}
UNLIKE = {
    "16 bits": as_bytes(Image.fromarray(np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40)), "PNG"),
    "black ink on transparent": as_bytes(INK, "PNG"),
    "a transparent colour": as_bytes(HALF, "PNG", transparency=(255, 0, 0)),
    "a transparent entry of a palette": as_bytes(HALF.quantize(4), "GIF", transparency=0),
    "transparent WebP": as_bytes(INK, "WEBP", lossless=True),
    "turned JPEG": as_bytes(HALF, "JPEG", quality=95, **turned()),
    "turned PNG": as_bytes(HALF, "PNG", **turned()),
    "moving GIF": as_bytes(RED, "GIF", save_all=True, append_images=[BLUE]),
    "moving PNG": as_bytes(RED, "PNG", save_all=True, append_images=[BLUE]),
    "moving WebP": as_bytes(RED, "WEBP", save_all=True, append_images=[BLUE], lossless=True),
    "CMYK": as_bytes(HALF.convert("CMYK"), "JPEG"),
    "another space of colours": as_bytes(HALF, "PNG", icc_profile=PROFILE),
    "TIFF of 32 bits": as_bytes(Image.fromarray(np.arange(1200, dtype=np.int32).reshape(30, 40)), "TIFF"),
    "AVIF": as_bytes(HALF, "AVIF"),
    "JPEG 2000": as_bytes(HALF, "JPEG2000"),
}  # fmt: skip


@pytest.mark.parametrize("content", UNLIKE.values(), ids=UNLIKE)
def test_what_a_browser_would_show_otherwise_is_shown_as_the_nets_see_it(content):
    nets = Decoder(spans=SPANS).rgb(content)
    assert np.array_equal(shown(content, decoder=decoder_of({"pixel_ranges": SPANS})), np.asarray(nets))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_what_stays_as_it_is_is_what_the_nets_see(kind, mode):
    with contextlib.suppress(OSError):  # of a kind that has no such mode
        content = encoded(kind=kind, mode=mode)
        assert np.array_equal(shown(content), np.asarray(Decoder().rgb(content)))


def test_the_page_has_a_limit_of_its_own():
    """67 million pixels, whatever the run had; a large JPEG is not decoded in full."""
    assert DECODER.most == 2**26
    assert data_address(as_bytes(Image.new("1", (8200, 8200)), "PNG"), 160) is None
    small = data_address(as_bytes(Image.new("L", (4000, 4000)), "JPEG"), 160)
    assert Image.open(io.BytesIO(decoded(small)[1])).size == (160, 160)
