import io

import numpy as np
import pytest
from datasets import Dataset, Features, Image
from PIL import Image as Pil

from curator.errors import CuratorError
from curator.sources.images import choose_size, decode_images

ROWS = np.arange(100, 200)


def encode(image: Pil.Image, kind: str = "PNG", **options) -> dict:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return {"bytes": file.getvalue(), "path": None}


def dataset(items: list) -> Dataset:
    return Dataset.from_dict({"image": items}, features=Features({"image": Image()}))


def test_decoded_pixels_and_digest():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 10, 8, 3), dtype=np.uint8)
    ds = dataset([encode(Pil.fromarray(p)) for p in pixels])
    got = decode_images(ds, "image", ROWS, None, 1e9)
    assert np.array_equal(got.images.permute(0, 2, 3, 1).numpy(), pixels)
    back = decode_images(ds.select([4, 3, 2, 1, 0]), "image", ROWS, None, 1e9)
    assert np.array_equal(back.images[0].permute(1, 2, 0).numpy(), pixels[4]) and back.digest != got.digest


def test_modes_become_rgb_and_exif_turns():
    colour = Pil.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    exif = Pil.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    items = [encode(colour.convert(mode)) for mode in ("L", "P", "RGBA", "1")] + [encode(colour, "PNG", exif=exif)]
    got = decode_images(dataset(items), "image", ROWS, None, 1e9).images
    assert got.shape == (5, 3, 6, 6)
    assert np.array_equal(got[4].permute(1, 2, 0).numpy(), np.rot90(np.asarray(colour), -1))


def test_sizes():
    small = dataset([encode(Pil.new("RGB", (20, 10)))] * 3)
    mixed = dataset([encode(Pil.new("RGB", s)) for s in ((20, 10), (30, 30))])
    large = dataset([encode(Pil.new("RGB", (300, 300)))])
    assert choose_size(small, "image", ROWS, None, "small") is None
    assert choose_size(small, "image", ROWS, 16, "small") == (16, 16)
    assert choose_size(mixed, "image", ROWS, None, "small") == (64, 64)
    assert choose_size(large, "image", ROWS, None, "resnet50") == (224, 224)
    assert decode_images(mixed, "image", ROWS, (64, 64), 1e9).images.shape == (2, 3, 64, 64)
    with pytest.raises(CuratorError, match=r"images differ in size \(row 101\); give --image-size"):
        decode_images(mixed, "image", ROWS, None, 1e9)


def test_broken_and_missing_images_name_the_row():
    good = encode(Pil.new("RGB", (4, 4)))
    for bad, message in (
        ({"bytes": b"no image", "path": None}, "row 101 cannot be decoded"),
        (None, "found none in row 101"),
        ({"bytes": good["bytes"][:40], "path": None}, "row 101 cannot be decoded"),
    ):
        ds = dataset([good, bad])
        with pytest.raises(CuratorError, match=message):
            decode_images(ds, "image", ROWS, None, 1e9)


def test_the_digest_is_of_the_files_bytes(tmp_path):
    """Not of their paths: a moved file is the same, a replaced one is not."""
    digests = []
    for name, colour in (("a.png", 1), ("b.png", 1), ("b.png", 2)):
        Pil.new("RGB", (4, 4), (colour, 0, 0)).save(tmp_path / name)
        digests.append(
            decode_images(dataset([{"bytes": None, "path": str(tmp_path / name)}]), "image", ROWS, None, 1e9).digest
        )
    assert digests[0] == digests[1] != digests[2]


def test_budget():
    ds = dataset([encode(Pil.new("RGB", (32, 32)))] * 10)
    with pytest.raises(CuratorError, match="--memory-budget .* use --limit-rows or a smaller --image-size"):
        decode_images(ds, "image", ROWS, None, 10 * 32 * 32 * 3 - 1)
