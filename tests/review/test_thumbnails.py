"""Pictures that take long to make: made once in both sizes, found in the cache, made ahead."""

import base64
import io
import os
import time

import numpy as np
import pytest
from PIL import Image

from curator.review import pictures, thumbnails
from curator.review.pictures import LARGE, SMALL
from curator.review.shelf import Shelf
from curator.review.thumbnails import Thumbnails
from curator.sources.pictures import Decoder


def encoded(side: int, seed: int = 0, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(noise).resize((side, side)).save(file, kind)
    return file.getvalue()


class Photos:
    """In the place of Rows: which positions were read."""

    def __init__(self, folder, contents: list[bytes]):
        (folder / "data").mkdir(exist_ok=True, parents=True)
        self.paths, self.verdict, self.contents = [folder / "data" / "train.parquet"], "v", contents
        self.paths[0].write_bytes(b"".join(contents))
        self.files = [f"{i}.jpg" for i in range(len(contents))]
        self.read: list[int] = []

    def images(self, positions: np.ndarray) -> list[tuple[bytes, str]]:
        self.read += positions.tolist()
        return [(self.contents[p], self.files[p]) for p in positions.tolist()]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two photos, one that is broken, a small picture and a JPEG; every image above 300 px is one that takes long."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pictures, "COSTLY", 300**2)
    return Photos(tmp_path, [encoded(600), encoded(600, 1), encoded(600)[:400], encoded(40), encoded(600, 1, "JPEG")])


def opened(rows: Photos) -> Thumbnails:
    return Thumbnails(rows, Decoder())


def closed(made: Thumbnails) -> list[str]:
    """What lies in the cache when all is done."""
    made._threads.shutdown()
    folder = made._shelf.folder
    return sorted(os.listdir(folder)) if folder.exists() else []


def size_of(address: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).size


def test_photos_are_made_once_in_both_sizes(photos, tmp_path):
    first = opened(photos)
    small, large = first.of(np.array([1, 0, 1]), SMALL), first.of(np.array([0, 1]), LARGE)
    assert photos.read == [1, 0] and small[0] == small[2] != small[1]
    assert size_of(small[0][0]) == (160, 160) and size_of(large[1][0]) == (600, 600) and small[1][1] == "0.jpg"
    assert first.of(np.array([2, 3]), SMALL)[0] == (None, "2.jpg")
    assert size_of(first.of(np.array([4]), SMALL)[0][0]) == (160, 160)
    sides = [name.partition("-")[2] for name in closed(first)]  # neither of the broken one nor of the small one
    assert sides == ["0-1024", "0-160", "1-1024", "1-160", "4-160"]

    again = opened(photos)
    photos.read.clear()
    assert again.of(np.array([1, 0, 1]), SMALL) == small and again.of(np.array([0, 1]), LARGE) == large
    assert photos.read == []
    closed(again)

    photos.contents[0] = encoded(600, 2)  # other files in the place of these, of the same size
    photos.paths[0].write_bytes(b"".join(photos.contents))
    os.utime(photos.paths[0], ns=(1, 1))
    other = opened(photos)
    assert other.of(np.array([0]), SMALL)[0] != small[1] and photos.read == [0]
    photos.verdict = "of another run"
    assert opened(photos)._mark != other._mark


def test_a_cache_that_is_broken_or_cannot_be_written(photos, tmp_path):
    first = opened(photos)
    small = first.of(np.array([0, 1]), SMALL)
    for i, name in enumerate(closed(first)):
        path = tmp_path / "cache" / "label-curator" / "pictures" / name
        whole = path.read_bytes()
        path.unlink()
        if i == 0:
            path.write_bytes(whole[:-9])
        elif i == 1:
            path.symlink_to(tmp_path / "elsewhere")
        elif i == 2:
            path.write_bytes(b"<svg onload=alert(1)>")
        else:
            path.mkdir()
    (tmp_path / "elsewhere").write_bytes(encoded(40))
    photos.read.clear()
    again = opened(photos)
    assert again.of(np.array([0, 1]), SMALL) == small and photos.read == [0, 1]
    assert len(closed(again)) == 4 and opened(photos).of(np.array([0]), SMALL) == small[:1]

    (tmp_path / "file").write_text("no folder")
    again = opened(photos)
    again._shelf.folder = tmp_path / "file" / "pictures"
    assert again.of(np.array([0, 1]), SMALL) == small and closed(again) == []


def test_pictures_are_made_ahead(photos, monkeypatch):
    monkeypatch.setattr(thumbnails, "AT_ONCE", 1)
    made = opened(photos)
    made.ahead(np.array([1]))
    assert not made._working  # nothing has taken long yet: pages are made as fast
    made.of(np.array([0]), SMALL)
    photos.read.clear()
    made.ahead(np.array([1, 2]))
    end = time.monotonic() + 20
    while made._working and time.monotonic() < end:
        time.sleep(0.01)
    assert photos.read == [1, 2]
    made.of(np.array([1]), SMALL)
    assert photos.read == [1, 2]


def test_no_more_than_may_be(tmp_path):
    shelf, content = Shelf(tmp_path / "shelf", 8000), b"\xff\xd8\xff" + bytes(395) + b"\xff\xd9"
    for i in range(60):
        shelf.put(str(i), content)
        if i > 2:
            assert shelf.get("2")  # in use
            os.utime(tmp_path / "shelf" / "2", (2e9, 2e9))
    left = {int(path.name) for path in (tmp_path / "shelf").iterdir()}
    assert 15 <= len(left) <= 22 and {2, 59} <= left and 5 not in left
    shelf.put("large", content + bytes(8000))
    assert shelf.get("large") is None
