"""Strangers' encoded images: what is decoded, and what is refused by its header."""

import contextlib
import io
import struct
import subprocess
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from PIL import ImageOps

from curator.sources import pictures
from curator.sources.pictures import LEAST, MOST, PIXEL, Decoder, NoPicture, Scaling

NOISE = Pil.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def encode(image: Pil.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gif(w: int, h: int) -> bytes:
    """35 bytes that declare a canvas."""
    head = b"GIF89a" + struct.pack("<HH", w, h) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return head + b"," + struct.pack("<HHHH", 0, 0, w, h) + b"\0\x02\x02\x44\x01\0;"


def png(w: int, h: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def ico(content: bytes, bits: int = 32) -> bytes:
    """An icon of 16 x 16 px by its directory."""
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, bits, len(content), 22) + content


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "TGA", "PPM"])
def test_formats_that_are_read(kind):
    image = NOISE if kind != "ICO" else NOISE.resize((16, 16))
    content = encode(image, kind)
    assert np.array_equal(np.asarray(Decoder().rgb(content)), np.asarray(Pil.open(io.BytesIO(content)).convert("RGB")))


def test_photos_of_telephones_are_read():
    """They are several JPEGs in one file, by another name, or have a film behind them."""
    content = encode(NOISE, "MPO", save_all=True, append_images=[NOISE.rotate(180)])
    assert Decoder().look(content).format == "MPO" and Decoder().rgb(content).size == (30, 20)
    film = encode(NOISE, "JPEG", progressive=True) + b"\xff\xda\0\0" * 100
    assert Decoder().rgb(film).size == (30, 20)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n",
        b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 30, 60, 0, 0, 0, 0) + b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9",
        encode(NOISE, "PCX"), encode(NOISE.convert("L"), "IM"), encode(NOISE, "ICNS"), encode(NOISE, "DDS"),
        encode(NOISE.convert("1"), "XBM"), encode(NOISE, "PDF"), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"",
    ],
)  # fmt: skip
def test_other_formats_are_not(content, monkeypatch):
    """PostScript starts no Ghostscript."""
    for name in ("Popen", "check_call", "check_output", "run", "call"):
        monkeypatch.setattr(subprocess, name, lambda *args, **kwargs: pytest.fail("a program was started"))
    with pytest.raises(NoPicture, match=r"the image cannot be decoded \(cannot identify image file\)"):
        Decoder().rgb(content)


@pytest.mark.parametrize(
    "content, words",
    [
        (gif(65535, 65535), f"more than {MOST:,} px; make it smaller"),
        (gif(13377, 13377), f"13,377 x 13,377 px, more than {LEAST:,} in all; raise --memory-budget or make"),
        (png(100_000, 100_000), f"more than {MOST:,} px"),
        (png(5000, 5000), f"5,000 x 5,000 px, more than {LEAST:,} in all"),
        (encode(NOISE, "BMP").replace(struct.pack("<ii", 30, 20), struct.pack("<ii", 5000, 5000)), "more than"),
        (encode(NOISE, "TGA").replace(struct.pack("<HH", 30, 20), struct.pack("<HH", 5000, 5000), 1), "more than"),
        (b"P6 5000 5000 255 ", "more than"),
        (ico(png(12000, 12000)), "an ICO of more than 1,048,576 px"),
        (ico(struct.pack("<IiiHHIIiiII", 40, 13000, 26000, 1, 32, 0, 0, 0, 0, 0, 0)), "an ICO of more than"),
        (ico(struct.pack("<IHHHH", 12, 60000, 60000, 1, 1), 1), "an ICO of more than"),
    ],
    ids=range(10),
)  # fmt: skip
def test_what_declares_too_many_pixels_is_refused_by_its_header(content, words):
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(NoPicture) as refused:
        Decoder(0).array(content, (32, 32))  # the least memory there is
    assert words in str(refused.value)
    assert tracemalloc.get_traced_memory()[1] < 2**22 and time.monotonic() - started < 2
    tracemalloc.stop()


def test_what_would_take_minutes_is_refused():
    large = Decoder(2**32)
    with pytest.raises(NoPicture, match="9,000 x 9,000 px in 35 bytes"):
        large.rgb(gif(9000, 9000))
    with pytest.raises(NoPicture, match="1,025 x 1,025 px of a kind that is slow to decode; save it as PNG"):
        large.rgb(b"P6 1025 1025 254 " + bytes(1025 * 1025 * 3))
    content = encode(Pil.new("L", (40, 40)), "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    with pytest.raises(NoPicture, match="40 x 40 px in more than 64 scans; save it again"):
        large.rgb(content[:-2] + scan * 99 + content[-2:])
    assert large.rgb(content[:-2] + scan * 20 + content[-2:]).size == (40, 40)


@pytest.mark.parametrize("before", [0, 2**20 - 2, 2**20 - 1, 2**20, 2**21 - 1])
def test_marks_of_scans_are_counted_wherever_they_stand(before):
    content = bytes(before) + b"\xff\xda\xff\xff\xda" + bytes(9)
    assert pictures._may_scan(content) == 2 and pictures._may_scan(content[: before + 1]) == 0


def test_unpacked_text_and_tags_are_limited():
    """A profile of colours and a comment that unpack to more than is sane, and a TIFF that promises 4 GB of tags."""
    whole = encode(NOISE, "PNG")

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packed = zlib.compress(bytes(50_000_000))
    tiff = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 256, 4, 2**30 - 1, 26) + bytes(8)
    for content in (
        whole[:33] + chunk(b"zTXt", b"Comment\0\0" + packed) + whole[33:],
        whole[:33] + chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed) + whole[33:],
        tiff,
    ):
        with pytest.raises(NoPicture, match="the image cannot be decoded"):
            Decoder().rgb(content)
    profile = whole[:33] + chunk(b"iCCP", b"x\0\0" + packed) + whole[33:]
    tracemalloc.start()
    with contextlib.suppress(NoPicture):
        Decoder().rgb(profile)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_the_limit_follows_the_memory():
    assert (Decoder(0).most, Decoder(2**30).most, Decoder(float("inf")).most) == (LEAST, 2**30 // PIXEL, MOST)
    assert Decoder(0).array(encode(Pil.new("1", (4096, 4096)), "PNG"), (8, 8))[0].shape == (8, 8, 3)


def test_threads_share_the_memory(monkeypatch):
    """Of images that fill it only one is decoded at a time; small ones go beside each other, and none is lost."""
    decoder, held, most = Decoder(0), [0], []
    really = decoder._room

    class Room:
        def __init__(self, size):
            self.size, self.room = size, really(size)

        def __enter__(self):
            self.room.__enter__()
            held[0] += self.size
            most.append(held[0])

        def __exit__(self, *args):
            held[0] -= self.size
            self.room.__exit__(*args)

    monkeypatch.setattr(decoder, "_room", Room)
    large, small = encode(Pil.new("1", (3500, 3500)), "PNG"), encode(NOISE, "PNG")
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(
                lambda content: decoder.array(content, (8, 8))[0].shape, [large, small, large, small, b""[:0] or small]
            )
        )
        broken = [pool.submit(decoder.rgb, small[:60]) for _ in range(4)]
    assert found == [(8, 8, 3)] * 5 and max(most) <= decoder.memory and held == [0]
    assert all(isinstance(future.exception(), NoPicture) for future in broken) and decoder._free == decoder.memory


@pytest.mark.parametrize("values", [[0, 256, 65535], [0, 1, 255]])
def test_deep_images_are_not_copied_to_eight_bytes_a_pixel(values):
    deep = np.resize(np.array(values, np.uint16), (600, 600))
    content, decoder = encode(Pil.fromarray(deep), "PNG"), Decoder()
    decoder.rgb(content)  # what is made once
    tracemalloc.start()
    found = np.asarray(decoder.rgb(content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found[..., 0], deep >> 8) and peak < 7 * deep.size  # it was 17 a pixel


WIDE = np.array([[-5, 0, 255], [256, 65535, 70000]], np.int32)
UNIT = np.array([[0, 0.5, 1], [np.nan, np.inf, -np.inf]], np.float32)


@pytest.mark.parametrize("values, kind, span, seen", [
    (WIDE, "int", (-5, 255), [[0, 5, 255], [255, 255, 255]]),
    (WIDE, "int", (0, 70000), [[0, 0, 1], [1, 239, 255]]),
    (UNIT, "float", (0, 1), [[0, 128, 255], [0, 255, 0]]),
    (UNIT, "float", (0.5, 0.5), [[0] * 3] * 2),
    (np.array([[0, 2048, 4095]], np.uint16), "16-bit", (0, 4095), [[0, 128, 255]]),
])  # fmt: skip
def test_deep_images_are_scaled_as_their_column_is(values, kind, span, seen):
    content = encode(Pil.fromarray(values), "TIFF")
    assert Decoder().kind(content) == kind
    assert np.asarray(Decoder(spans={kind: span}).rgb(content))[..., 0].tolist() == seen
    turned = Pil.Exif()
    turned[0x0112] = 6
    content = encode(Pil.fromarray(values), "TIFF", exif=turned)
    found = np.asarray(Decoder(spans={kind: span}).rgb(content))[..., 0]
    assert found.tolist() == np.rot90(np.array(seen), -1).tolist()


def test_deep_images_without_a_span():
    """Of 32 bits nobody knows what is bright; of none of them may come a constant image."""
    for values in (WIDE, UNIT):
        with pytest.raises(NoPicture, match="32 bits, unlike most images of its column; save it with 8 or"):
            Decoder().rgb(encode(Pil.fromarray(values), "TIFF"))
    nothing = encode(Pil.fromarray(UNIT * np.nan), "TIFF")
    with pytest.raises(NoPicture, match="no value that is a number"):
        Decoder(spans={"float": (0, 1)}).rgb(nothing)
    assert Decoder().kind(b"") is None and Decoder().kind(encode(NOISE, "PNG")) is None


def test_unsigned_integers_of_32_bits_are_not_negative():
    """Pillow reads them as signed ones."""
    signed = encode(Pil.fromarray(np.array([[1, -1]], np.int32)), "TIFF")
    at = signed.index(struct.pack("<HHII", 339, 3, 1, 2))
    unsigned = signed[:at] + struct.pack("<HHII", 339, 3, 1, 1) + signed[at + 12 :]
    assert Decoder().range_of(signed) == (-1, 1) and Decoder().range_of(unsigned) == (1, 2**32 - 1)
    assert np.asarray(Decoder(spans={"int": (1, 2**32 - 1)}).rgb(unsigned))[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "PPM", "JPEG2000"])
def test_sixteen_bits_are_their_upper_half(kind):
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    content = encode(Pil.fromarray(deep), kind)
    assert Decoder().kind(content) == "16-bit"
    assert np.array_equal(np.asarray(Decoder().rgb(content))[..., 0], deep >> 8)


def off(a, b) -> int:
    """By how much two images differ at most."""
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).max()


@pytest.mark.parametrize("resample", [Pil.Resampling.BILINEAR, Pil.Resampling.BICUBIC, Pil.Resampling.LANCZOS])
@pytest.mark.parametrize("own, size, whole, at", [
    ((100, 75), (32, 32), (43, 32), (6, 0)), ((75, 100), (32, 32), (32, 43), (0, 6)),
    ((20, 10), (30, 24), (48, 24), (9, 0)),
    ((64, 64), (32, 16), (32, 32), (0, 8)), ((2200, 2100), (64, 64), (67, 64), (2, 0)),
])  # fmt: skip
def test_images_are_scaled_as_by_pillow(resample, own, size, whole, at, monkeypatch):
    """All of it, then the centre; where torch is not quick, or has no such filter, by Pillow, between pixels."""
    rng = np.random.default_rng(0)
    image = Pil.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(own, Pil.Resampling.BICUBIC)
    box = (*at, at[0] + size[0], at[1] + size[1])
    monkeypatch.setattr(pictures, "_torch_is_quick", lambda: True)
    found, torchs = Scaling(resample)(image, size[::-1]), resample != Pil.Resampling.LANCZOS
    assert found.shape == (*size[::-1], 3) and (off(found, image.resize(whole, resample).crop(box)) <= 1) >= torchs
    assert off(Scaling(resample, squash=True)(image, size[::-1]), image.resize(size, resample)) <= torchs
    monkeypatch.setattr(pictures, "_torch_is_quick", lambda: False)
    assert np.array_equal(Scaling(resample)(image, size[::-1]), ImageOps.fit(image, size, resample))


def test_a_long_strip_takes_no_more_memory_than_what_is_kept_of_it(monkeypatch):
    """Scaled whole it would have 2 million columns."""
    monkeypatch.setattr(torch.nn.functional, "interpolate", None)
    assert Scaling()(Pil.new("RGB", (20_000, 2)), (224, 224)).shape == (224, 224, 3)


def test_images_are_scaled_as_a_model_wants_them():
    """With its filter, squashed or cut; large JPEGs are decoded at a fraction of their size, and look the same."""
    rng = np.random.default_rng(0)
    photo = Pil.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((800, 600), Pil.Resampling.BICUBIC)
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=95)
    whole, size = Pil.open(file).convert("RGB"), (64, 64)
    squashed = Decoder(scaling=Scaling(2, squash=True)).array(file.getvalue(), size)[0]
    assert off(squashed, whole.resize(size, Pil.Resampling.BILINEAR)) <= 1
    found, own = Decoder().array(file.getvalue(), (32, 48))
    assert found.shape == (32, 48, 3) and own == (800, 600)
    exact = np.asarray(Decoder().array(file.getvalue(), size)[0], float)
    near = np.asarray(Decoder(scaling=Scaling(3, near=128)).array(file.getvalue(), size)[0], float)
    assert 0 < np.abs(near - exact).mean() < 3
