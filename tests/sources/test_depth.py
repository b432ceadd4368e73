"""Columns of images of more than 8 bits reach nets, page and report alike, and never as constants."""

import base64
import io
import json

import numpy as np
import pytest
from datasets import Dataset, Image
from PIL import Image as Pil

from curator.errors import CuratorError
from curator.result.columns import Columns
from curator.result.facts import facts_in
from curator.result.plots import contact_sheet
from curator.review.pictures import data_address, decoder_of
from curator.sources.depth import measure
from curator.sources.images import Access, decode_images
from curator.sources.pictures import Decoder
from tests.conftest import hf_dataset, load_table

N = 12
EIGHT = np.random.default_rng(0).integers(0, 256, (N, 8, 8), dtype=np.uint8)
EIGHT[:, 0, 0], EIGHT[:, 0, 1] = 0, 255
# What the column may be instead of 8 bits, and by how much its pixels may then differ.
DEEP = {
    "floats to 1": EIGHT.astype(np.float32) / 255,
    "large floats": EIGHT.astype(np.float32) * 1e6 - 3e7,
    "int32": EIGHT.astype(np.int32) * 4_000_000 - 500_000_000,
    "int32 of 8 bits": EIGHT.astype(np.int32),
    "12 of 16 bits": EIGHT.astype(np.uint16) * 16,
    "16 bits": EIGHT.astype(np.uint16) * 257,
}


def column(images, kind="TIFF") -> Dataset:
    files = []
    for pixels in images:
        file = io.BytesIO()
        Pil.fromarray(pixels).save(file, kind)
        files.append({"bytes": file.getvalue(), "path": None})
    rows = hf_dataset(len(files)).remove_columns(["image", "true_label"])
    return rows.add_column("image", files, feature=Image())


def as_shown(address: str) -> np.ndarray:
    return np.asarray(Pil.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))


@pytest.mark.parametrize("name", DEEP)
def test_deep_images_are_as_good_as_those_of_8_bits(name):
    table = load_table(column(DEEP[name]))
    got = decode_images(table.data, "image", table.rows, None, 1e9, table.access)
    assert np.array_equal(got.images[:, 0].numpy(), EIGHT)
    said = [note for note in table.notes if "become 0 to 255" in note]
    assert len(said) == (name != "16 bits") and bool(table.access.decoder.mark) == (name != "16 bits")
    page = decoder_of({"pixel_ranges": json.loads(json.dumps(table.access.decoder.spans))})
    content = table.data.cast_column("image", Image(decode=False))[3]["image"]["bytes"]
    assert np.array_equal(as_shown(data_address(content, 160, page))[..., 0], EIGHT[3])


def test_columns_of_8_bits_need_no_range():
    assert measure(column(EIGHT, "PNG"), "image", Access()) == ({}, [])


def test_some_values_far_from_the_others():
    """One image in a hundred does not decide; where it does, it is said."""
    images = DEEP["floats to 1"][np.arange(400) % N]
    images[7] = 1e9
    spans, notes = measure(column(images), "image", Access())
    assert spans == {"float": (0, 1)} and len(notes) == 1
    spans, notes = measure(column(images[:20]), "image", Access())
    assert spans == {"float": (0, 1e9)} and "half of these images have fewer than 8 of the 256 grey levels" in notes[1]


def test_a_deep_image_among_many_of_8_bits_is_set_aside(monkeypatch):
    """It was not among those that were looked at."""
    monkeypatch.setattr("curator.sources.depth.LOOKED_AT", 2)
    rows = [*EIGHT[:5], DEEP["floats to 1"][5], *EIGHT[6:]]
    table = load_table(column(rows))
    found = decode_images(table.data, "image", table.rows, None, 1e9, table.access)
    assert list(found.broken) == [5] and "32 bits, unlike most images" in found.broken[5]


UNLIKE = {
    "16 bits": (EIGHT.astype(np.uint16) * 257, "PNG"),
    "floats": (DEEP["floats to 1"], "TIFF"),
    "ink on transparent": (np.where(EIGHT[..., None] > 99, 0, [[[[0, 0, 0, 255]]]]).astype(np.uint8), "PNG"),
    "AVIF": (np.stack([EIGHT] * 3, -1), "AVIF"),
    "JPEG 2000": (np.stack([EIGHT] * 3, -1), "JPEG2000"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_nets_page_and_contact_sheet_see_the_same(name, tmp_path, monkeypatch):
    table = load_table(column(*UNLIKE[name]))
    nets = decode_images(table.data, "image", table.rows, None, 1e9, table.access).images.permute(0, 2, 3, 1).numpy()
    assert len(np.unique(nets)) > 1
    seen: list[np.ndarray] = []
    decode = Decoder.rgb

    def noted(self, *args, **options):
        seen.append(np.asarray(picture := decode(self, *args, **options)))
        return picture

    monkeypatch.setattr(Decoder, "rgb", noted)
    zeros, some = np.zeros(2), table.data.select(range(2))
    columns = Columns(zeros, zeros > 0, zeros.astype(int), np.zeros((2, 3)), np.arange(2), zeros == 0, zeros)
    assert contact_sheet(tmp_path, columns, table.labels[:2], table.classes, some, "image", table.access)
    assert np.array_equal(np.stack(seen), nets[:2])
    content = table.data.cast_column("image", Image(decode=False))[0]["image"]["bytes"]
    address = data_address(content, 160, decoder_of({"pixel_ranges": dict(table.access.decoder.spans)}))
    assert np.array_equal(as_shown(address), nets[0])


@pytest.mark.parametrize("ranges", [{"x": [0.0, 1.0]}, {"float": 1}, {"float": [0.0]}, {"float": [0.0, None]}, [1.0]])
def test_ranges_that_no_run_writes(small_run, tmp_path, ranges):
    facts = json.loads((small_run / "curation.json").read_text())
    (tmp_path / "curation.json").write_text(json.dumps({**facts, "pixel_ranges": ranges}))
    with pytest.raises(CuratorError, match="pixel_ranges: expected"):
        facts_in(tmp_path / "curation.json", "")
