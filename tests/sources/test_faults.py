import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageStat

from curator.sources import faults, pictures
from curator.sources.faults import FAULTS, MEASURES, faults_of


def photo(seed: int) -> Image.Image:
    """A coloured picture of 48 x 48 pixels with edges."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((48, 48), Image.Resampling.NEAREST)


def measured(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """The measures (7,) of one picture, whose file has a size."""
    return faults.measured(np.asarray(image)[None], np.array([size]))[0]


BLUISH = [*range(256), *(v // 2 for v in range(256)), *(255 - v for v in range(256))]
PLANTED = {
    "dark": (lambda i: i.point(lambda v: v // 8), (48, 48)),
    "bright": (lambda i: i.point(lambda v: 250 + v // 64), (48, 48)),
    "blurry": (lambda i: Image.linear_gradient("L").resize(i.size).convert("RGB").point(BLUISH), (48, 48)),
    "low information": (lambda i: Image.new("RGB", i.size, (90, 140, 60)), (48, 48)),
    "odd aspect": (lambda i: i, (400, 40)),
    "odd size": (lambda i: i, (3000, 3000)),
    "grey": (lambda i: i.convert("L").convert("RGB"), (48, 48)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault):
    spoil, size = PLANTED[fault]
    measures = [measured(photo(i), (48 + i % 3, 48)) for i in range(20)]
    measures.append(measured(spoil(photo(99)), size))
    found = faults_of(np.array(measures))
    assert found[fault].tolist() == [20]
    assert {f for f, rows in found.items() if set(rows.tolist()) & set(range(20))} == set()


def test_what_most_pictures_have_is_no_fault():
    dark = [measured(photo(i).point(lambda v: v // 8), (48, 48)) for i in range(12)]
    good = [measured(photo(i), (48, 48)) for i in range(8)]
    assert "dark" not in faults_of(np.array(dark + good)) and faults_of(np.zeros((0, len(MEASURES)), np.float32)) == {}
    darker = [photo(3).point([v // by for v in range(256)] * 3) for by in (5, 9)]
    found = faults_of(np.array(good + [measured(image, (48, 48)) for image in darker]))
    assert found["dark"].tolist() == [9, 8]  # the darkest first


def test_large_pictures_are_measured_small():
    large, small = photo(5).resize((480, 480), Image.Resampling.NEAREST), photo(5)
    before = large.size
    assert np.allclose(measured(large, (480, 480))[:3], measured(small, (48, 48))[:3], atol=0.15)
    assert large.size == before


@pytest.mark.parametrize("size", [(48, 30), (30, 48), (2, 9), (1, 1)])
def test_many_at_once_are_measured_as_by_pillow(size):
    """Brightness of grey ones as it is; luma, edges and entropy as Pillow makes them."""
    images = [photo(i).resize(size, Image.Resampling.BILINEAR) for i in range(5)]
    found = faults.measured(np.stack([np.asarray(image) for image in images]), np.arange(10).reshape(5, 2))
    for i, (image, row) in enumerate(zip(images, found, strict=True)):
        grey = image.convert("L")
        edges = ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).stddev[0]
        flat = 1 - np.exp(-0.01 * np.std(grey.histogram()))
        sharp = min(1, 1 - np.exp(-0.01 * edges) + flat * (flat > 0.18))
        assert row[3:5] == pytest.approx([sharp, image.entropy()], abs=1e-6) and row[5:].tolist() == [2 * i, 2 * i + 1]
        assert np.array_equal(row, measured(image, (2 * i, 2 * i + 1)))
    plain = measured(Image.new("RGB", size, (60, 60, 60)), size)  # whose channels Pillow counts apart: log2(3) bits
    assert plain[:3] == pytest.approx([60 / 255, 60 / 255, 0], abs=1e-4)


def test_without_torchs_filters_pillow_makes_them_small(monkeypatch):
    image = photo(5).resize((300, 200), Image.Resampling.BICUBIC)
    quick = measured(image, (1, 1))
    monkeypatch.setattr(pictures, "_torch_is_quick", lambda: False)
    assert measured(image, (1, 1)) == pytest.approx(quick, abs=0.01)


def test_only_sizes_far_outside_of_what_the_set_shows_are_odd():
    plain = measured(photo(1), (1, 1))

    def odd(sides):
        pictures = np.tile(plain, (len(sides), 1))
        pictures[:, -2] = pictures[:, -1] = sides
        return faults_of(pictures).get("odd size", np.zeros(0, int)).tolist()

    mixed = [400] * 70 + [350] * 20 + [1600] * 10
    spread = np.exp(np.random.default_rng(0).normal(6, 0.5, 200))
    for usual in (mixed, spread, [400] * 100):
        assert odd(usual) == []
    assert odd([*mixed, 40, 9000]) == [100, 101]  # a tenth of the smallest, five times the largest
    assert odd([*spread, spread.max() * 5]) == [200]
    assert odd([400] * 100 + [900, 100, 500]) == [101, 100]
