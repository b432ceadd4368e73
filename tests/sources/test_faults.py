import numpy as np
import pytest
from PIL import Image

from curator.sources.faults import FAULTS, MEASURES, faults_of, measured


def photo(seed: int) -> Image.Image:
    """A coloured picture of 48 x 48 pixels with edges."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((48, 48), Image.Resampling.NEAREST)


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
