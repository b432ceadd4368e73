"""Features that are kept are those of the same images, backbone and size, and of nothing else."""

import io
import os
import sys

import numpy as np
import pytest
import torch
from accelerate import PartialState
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pil

from curator.engine.encoders import Backbone
from curator.errors import CuratorError
from curator.sources import features
from curator.sources.features import backbone_features, column_features
from curator.sources.images import Access
from curator.sources.pictures import Decoder
from tests.conftest import hf_dataset

CODE = """
import torch
factor, calls = 1.0, []
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))
    def forward(self, x):
        calls.append(len(x))
        return x.float().mean((2, 3)) * self.factor
net = Net()
"""


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """Features of a dataset, and how many images went through the backbone for them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(features, "CHUNK", 20)
    (tmp_path / "counted.py").write_text(CODE)
    sys.modules.pop("counted", None)

    def run(dataset: Dataset, factor: float = 1.0, size=(12, 12), precision="no", memory=0):
        backbone = Backbone("counted:net", torch.device("cpu"), precision)
        with torch.no_grad():
            backbone.call.factor.fill_(factor)
        calls = sys.modules["counted"].calls
        calls.clear()
        fingerprint = backbone.fingerprint(size)
        found = backbone_features(
            dataset, "image", np.arange(len(dataset)), size, backbone, fingerprint, PartialState(cpu=True), print,
            Access((), Decoder(memory)),
        )  # fmt: skip
        run.broken, run.hashes, run.measures = found[2:]
        return (*found[:2], sum(calls) - 1)  # less the blank one that tells the width

    yield run
    sys.modules.pop("counted", None)


def test_used_again_for_the_same_and_for_nothing_else(extract):
    rows = hf_dataset(50)
    values, digest, seen = extract(rows)
    assert values.shape == (50, 3) and values.dtype == torch.float32 and seen == 50
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image in rows["image"]]).float().mean((1, 2))
    torch.testing.assert_close(values, pixels.half().float())
    again, same, seen = extract(rows)
    assert seen == 0 and same == digest and torch.equal(again, values)
    assert extract(rows, factor=2.0)[1] != digest and extract(rows, factor=3.0)[2] == 50  # other weights
    assert extract(rows, precision="bf16")[2] == 50
    assert extract(rows, size=(6, 6))[2] == 50
    swapped = rows.select([1, 0, *range(2, 50)])  # another revision: the first chunk holds other images
    values_swapped, other, seen = extract(swapped)
    assert seen == 20 and other != digest and torch.equal(values_swapped[[1, 0]], values[:2])
    assert extract(hf_dataset(60).select(range(40)))[2] == 0  # its first 40 rows are the same images
    assert extract(rows.select(range(10, 50)))[2] == 40  # the same images in other chunks are not found again


def test_an_image_that_was_too_large_for_the_memory_is_read_when_there_is_more(extract):
    """Its chunk is made again; with as little, it is used again."""
    file = io.BytesIO()
    Pil.new("1", (5000, 5000)).save(file, "PNG")
    columns = hf_dataset(30).cast_column("image", Image(decode=False)).to_dict()
    columns["image"][3] = {"bytes": file.getvalue(), "path": None}
    rows = Dataset.from_dict(columns, features=hf_dataset(4).features)
    less = extract(rows)
    assert list(extract.broken) == [3] and "raise --memory-budget" in extract.broken[3] and less[2] == 30
    assert extract(rows)[1:] == (less[1], 0)
    more = extract(rows, memory=2**29)
    assert not extract.broken and more[0].shape == (30, 3) and more[2] == 20


def kept(folder, measures=False):
    """Files of the cache with features, or with what was measured of the pictures."""
    return sorted(path for path in (folder / "cache").rglob("*.npy") if ("measures" in path.name) == measures)


def test_what_was_measured_is_kept_beside_the_features(extract, tmp_path):
    rows = hf_dataset(50)
    extract(rows)
    measures = extract.measures
    assert measures.shape == (50, 7) and np.isfinite(measures).all() and (measures[:, -1] == 12).all()
    extract(rows)
    assert np.array_equal(extract.measures, measures)
    kept(tmp_path, measures=True)[0].unlink()  # as of an older version: nothing is encoded again
    assert extract(rows)[2] == 0 and np.array_equal(extract.measures, measures)
    assert len(kept(tmp_path, measures=True)) == 3


def test_a_broken_file_of_the_cache_is_made_again(extract, tmp_path):
    rows = hf_dataset(50)
    values, _, _ = extract(rows)
    files = kept(tmp_path)
    assert len(files) == 3
    files[0].write_bytes(files[0].read_bytes()[:-10])
    files[1].write_bytes(b"nonsense")
    np.save(files[2], np.zeros((3, 3)))
    again, _, seen = extract(rows)
    assert seen == 50 and torch.equal(again, values)


def without(path):
    path.unlink()
    return path


def nan(path, where=(3, 1)):
    values = np.load(path)
    values[where] = np.nan
    np.save(path, values)


SPOILT = {
    "0 bytes": lambda path: path.write_bytes(b""),
    "other width": lambda path: np.save(path, np.load(path)[:, :2]),
    "fewer rows": lambda path: np.save(path, np.load(path)[:19]),
    "other type": lambda path: np.save(path, np.load(path).astype(np.float32)),
    "a huge header": lambda path: path.write_bytes(HUGE + path.read_bytes()[len(HUGE) :]),
    "a folder": lambda path: without(path).mkdir(),
    "a link": lambda path: without(path).symlink_to("/dev/zero"),
    "a pipe": lambda path: os.mkfifo(without(path)),
    "a NaN": nan,
    "a row of NaN, as of a broken image": lambda path: nan(path, 3),
    "all NaN": lambda path: nan(path, slice(None)),
}
HUGE = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f2', 'fortran_order': False, 'shape': (20, 274877906944), }"


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_one_broken_file_of_the_cache_is_made_again(extract, tmp_path, spoil):
    rows = hf_dataset(40)
    values, digest, _ = extract(rows)
    spoil(kept(tmp_path)[0])
    again, same, seen = extract(rows)
    assert (same, seen) == (digest, 20) and torch.equal(again, values) and not extract.broken
    assert extract(rows)[2] == 0  # it was written over


def test_broken_images_have_no_features_and_are_kept_as_that(extract):
    rows = hf_dataset(50)
    images = rows.cast_column("image", Image(decode=False))["image"][:]
    images[3], images[30], images[41] = {"bytes": b"no", "path": None}, None, images[40]
    spoilt = Dataset.from_dict({"image": images}, features=Features({"image": Image()}))
    values, digest, _ = extract(spoilt)
    reasons = dict(extract.broken)
    assert list(reasons) == [3, 30] and "cannot be decoded" in reasons[3] and reasons[30] == "there is no image"
    good = [i for i in range(50) if i not in (3, 30, 41)]
    torch.testing.assert_close(values[[i - (i > 3) - (i > 30) for i in good]], extract(rows)[0][good])
    assert extract(spoilt)[1:] == (digest, 0) and extract.broken == reasons  # from the cache
    assert len(extract.hashes) == 48 and extract.hashes[38] == extract.hashes[39] != extract.hashes[37]


def test_features_too_large_for_float16(extract):
    with pytest.raises(CuratorError, match="finite in float16 .* in row 0"):
        extract(hf_dataset(5), factor=1e6)


def test_a_cache_that_cannot_be_written(extract, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(CuratorError, match="features cannot be cached in .*XDG_CACHE_HOME"):
        extract(hf_dataset(5))


def embeddings(values, feature=None) -> Dataset:
    return Dataset.from_dict({"e": values}, features=Features({"e": feature}) if feature else None)


@pytest.mark.parametrize("feature", [
    List(Value("float32")), List(Value("float16"), length=2), List(Value("float64")), List(Value("int32")),
])  # fmt: skip
def test_a_column_of_embeddings(feature):
    rows = embeddings([[1, 2], [3, 4], [5, 6]], feature)
    values, digest = column_features(rows, "e", np.arange(3))
    assert values.dtype == torch.float32 and values.tolist() == [[1, 2], [3, 4], [5, 6]]
    part, other = column_features(rows.select([2, 0]), "e", np.array([2, 0]))
    assert part.tolist() == [[5, 6], [1, 2]] and digest != other


@pytest.mark.parametrize("rows, words", [
    (embeddings(["a", "b"]), "expected a list of numbers"),
    (embeddings([["a"], ["b"]]), "expected a list of numbers"),
    (embeddings([[1.0, 2.0], [1.0]]), "same length, found 1 numbers in row 8 and 2 numbers in row 7"),
    (embeddings([[1.0, 2.0], None]), "found no list in row 8"),
    (embeddings([[1.0, 2.0], [None, 1.0]]), "found a missing value in row 8"),
    (embeddings([[], []], List(Value("float32"))), "expected lists of the same length, found 0 numbers"),
    (Dataset.from_dict({"x": [1, 2]}), "no column 'e'; the columns are x"),
    (embeddings([[1.0, 2.0], [float("nan"), 1.0]]), "--features-column e: .* found nan in row 8"),
    (embeddings([[1.0, 2.0], [0.0, -1e39]]), "finite in float32, found -inf in row 8"),
])  # fmt: skip
def test_columns_that_are_no_embeddings(rows, words):
    with pytest.raises(CuratorError, match=words):
        column_features(rows, "e", np.array([7, 8]))
