import io
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image
from PIL import Image as Pil

from curator.engine.source import Resident, Streamed
from curator.errors import CuratorError
from curator.sources.files import real_folders
from curator.sources.images import (
    Access,
    choose_size,
    content_hashes,
    decode_images,
    reader_of,
    whole_images,
    why_broken,
)
from curator.sources.pictures import Decoder

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
    assert choose_size(small, "image", ROWS, None, "small") == (10, 20)
    assert choose_size(small, "image", ROWS, 16, "small") == (16, 16)
    assert choose_size(mixed, "image", ROWS, None, "small") == (64, 64)
    assert choose_size(large, "image", ROWS, None, "resnet50") == (224, 224)
    assert decode_images(mixed, "image", ROWS, (64, 64), 1e9).images.shape == (2, 3, 64, 64)
    with pytest.raises(CuratorError, match=r"images differ in size \(row 101\); give --image-size"):
        decode_images(mixed, "image", ROWS, None, 1e9)


def test_broken_and_missing_images():
    good = encode(Pil.new("RGB", (4, 4), (9, 9, 9)))
    for bad, reason in (
        ({"bytes": b"no image", "path": None}, "the image cannot be decoded"),
        (None, "there is no image"),
        ({"bytes": good["bytes"][:40], "path": None}, "the image cannot be decoded"),
        ({"bytes": None, "path": "/no/such/file.png"}, "its file lies outside the dataset's folder"),
    ):
        got = decode_images(dataset([good, bad, good]), "image", ROWS, None, 1e9)
        assert list(got.broken) == [1] and re.match(reason, got.broken[1])
        assert got.images[:, 0, 0, 0].tolist() == [9, 0, 9] and got.hashes[0] == got.hashes[2] != got.hashes[1]
        with pytest.raises(CuratorError, match=f"row 101: {reason}.*replace or remove it"):
            whole_images(got, ROWS)
        with pytest.raises(CuratorError, match="none of the 1 images could be decoded"):
            decode_images(dataset([bad]), "image", ROWS, None, 1e9)
        assert list(decode_images(dataset([bad]), "image", ROWS, (4, 4), 1e9).broken) == [0]


def test_modes_become_rgb_as_a_viewer_shows_them():
    deep = np.array([[0, 256, 65535]], np.uint16)
    clear = Pil.fromarray(np.array([[[200, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], np.uint8), "RGBA")
    palette = Pil.new("P", (3, 1), 0)
    palette.putpalette([10, 20, 30])
    items = [
        encode(Pil.fromarray(deep)),
        encode(clear),
        encode(Pil.fromarray(np.array([[[7, 255], [7, 0], [0, 255]]], np.uint8), "LA")),
        encode(palette, transparency=0),
        encode(Pil.new("1", (3, 1), 1)),
    ]
    got = decode_images(dataset(items), "image", ROWS, None, 1e9).images[:, :, 0]
    assert got[0].tolist() == [[0, 1, 255]] * 3
    assert got[1].tolist() == [[200, 255, 127], [0, 255, 127], [0, 255, 127]]
    assert got[2].tolist() == [[7, 255, 0]] * 3 and got[3].tolist() == got[4].tolist() == [[255] * 3] * 3


def test_images_on_their_side():
    """Of one size as they are shown, and of two as their pixels lie."""
    exif = Pil.Exif()
    exif[0x0112] = 6
    ds = dataset([encode(Pil.new("RGB", (20, 10))), encode(Pil.new("RGB", (10, 20)), exif=exif)])
    assert choose_size(ds, "image", ROWS, None, "small") == (10, 20)
    assert decode_images(ds, "image", ROWS, None, 1e9).images.shape == (2, 3, 10, 20)


def test_the_digest_is_of_the_files_bytes(tmp_path):
    """Not of their paths: a moved file is the same, a replaced one is not."""
    digests = []
    for name, colour in (("a.png", 1), ("b.png", 1), ("b.png", 2)):
        Pil.new("RGB", (4, 4), (colour, 0, 0)).save(tmp_path / name)
        digests.append(
            decode_images(
                dataset([{"bytes": None, "path": name}]), "image", ROWS, None, 1e9, Access(real_folders([tmp_path]))
            ).digest
        )
    assert digests[0] == digests[1] != digests[2]


def test_what_does_not_fit_is_decoded_when_it_is_asked_for():
    rng = np.random.default_rng(0)
    items = [encode(Pil.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))) for _ in range(10)]
    ds = dataset([*items[:4], {"bytes": b"no", "path": None}, *items[4:]])
    whole = decode_images(ds, "image", np.arange(11), None, 1e9)
    seen = decode_images(ds, "image", np.arange(11), None, 11 * 12 * 10 * 3 - 1)
    assert seen.images is None and seen.shape == (3, 12, 10) and list(seen.broken) == [4]
    with pytest.raises(CuratorError, match="do not fit --memory-budget; raise it, or use --limit-rows or a smaller"):
        whole_images(replace(seen, broken={}), np.arange(11))
    good = [i for i in range(11) if i != 4]
    held = Resident(whole.images[good])
    stream = Streamed(reader_of(ds.select(good), "image", np.arange(11)[good], (12, 10), seen.hashes[good]), 10,
                      seen.shape, torch.from_numpy(seen.counts))  # fmt: skip
    for ours, theirs in zip(stream.moments(), held.moments(), strict=True):
        assert torch.equal(ours, theirs)
    one, other = [torch.tensor(r) for r in ([3, 1], [0, 0, 9])], [torch.tensor([7]), torch.tensor([2, 5])]
    stream.expect(one)
    stream.expect(other)  # two plans take turns
    for rows in (one[0], other[0], torch.tensor([4, 8]), one[1], torch.tensor([], dtype=torch.int64), other[1], one[0]):
        assert torch.equal(stream.batch(rows), held.batch(rows)), rows


def test_files_are_read_in_the_datasets_folder_alone(tmp_path):
    """By every function that reads images; the others of the rows stay whole."""
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "secret.png", tmp_path / "in" / "a.png"):
        Pil.new("RGB", (4, 4), (9, 9, 9)).save(path)
    (tmp_path / "in" / "b.png").symlink_to("../secret.png")
    os.mkfifo(tmp_path / "in" / "c.png")
    paths = ["a.png", str(tmp_path / "in" / "b.png"), "../secret.png", "/proc/self/environ", "/dev/zero", "c.png",
             f"file://{tmp_path}/in/a.png", "in\0valid"]  # fmt: skip
    ds, rows = dataset([{"bytes": None, "path": path} for path in paths]), np.arange(8)
    access = Access(real_folders([tmp_path / "in"]))
    outside = "its file lies outside the dataset's folder: put it there, or name its folder with --data-dir"
    reasons = {
        **dict.fromkeys(range(1, 5), outside),
        5: "its path is that of no regular file",
        6: "its file is an address, which is not fetched",
        7: "its file cannot be read (embedded null byte)",
    }
    found = decode_images(ds, "image", rows, None, 1e9, access)
    assert found.broken == reasons and found.images[0].unique().tolist() == [9] and not found.images[1:].any()
    assert why_broken(ds, "image", rows, rows, access) == reasons
    assert (content_hashes(ds, "image", rows, access)[0] != 0).tolist() == [True] + [False] * 7
    assert choose_size(ds, "image", rows, None, "small", access) == (4, 4)
    with pytest.raises(CuratorError, match="row 2: the image differs from the one read at the start"):
        reader_of(ds, "image", rows, (4, 4), content_hashes(ds, "image", rows, access)[0], access)(torch.tensor([0, 2]))
    nothing = decode_images(ds, "image", rows, (4, 4), 1e9)  # of a dataset that has no folder, nothing is read
    assert list(nothing.broken) == list(range(8))


def test_files_are_read_once_for_their_hashes_and_their_pixels(tmp_path, monkeypatch):
    for i in range(20):
        Pil.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    paths = [f"{i}.png" for i in range(20)] + ["none.png"]
    ds, rows = dataset([{"bytes": None, "path": path} for path in paths]), np.arange(21)
    access = Access(real_folders([tmp_path]))
    hashes, digest, items = content_hashes(ds, "image", rows, access)
    usual = decode_images(ds, "image", rows, None, 1e9, access)
    for file in tmp_path.iterdir():
        file.unlink()
    found = decode_images(ds, "image", rows, None, 1e9, access, items=items)
    assert torch.equal(found.images, usual.images) and found.broken.keys() == usual.broken.keys() == {20}
    assert np.array_equal(found.hashes, usual.hashes) and np.array_equal(found.hashes, hashes)
    monkeypatch.setattr("curator.sources.images.CHUNK", 100)  # bytes that may be held
    assert content_hashes(dataset([encode(Pil.new("RGB", (9, 9)))] * 3), "image", rows)[2] is None


def test_the_digest_does_not_tell_how_much_memory_there_was():
    """Or a run could not be continued where less of it is free."""
    large = encode(Pil.new("1", (5000, 5000)))
    ds = dataset([encode(Pil.new("RGB", (4, 4))), large])
    a, b = (decode_images(ds, "image", ROWS, (4, 4), 1e9, Access((), Decoder(memory))) for memory in (0, 2**28 + 2**20))
    assert a.broken != b.broken and a.digest == b.digest
