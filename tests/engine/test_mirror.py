import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from curator.config.resolve import resolve
from curator.engine.mirror import mirrored_class
from curator.engine.patches import Patches
from curator.engine.source import Resident
from curator.evidence import NoisyDataset, Present
from curator.sources.read import Reading
from curator.train import start


@pytest.fixture(scope="module")
def digits():
    """600 digits, uint8 (600, 1, 8, 8), and their classes."""
    found = load_digits()
    images = np.round(found.images[:600] * 255 / 16).astype(np.uint8)
    return torch.from_numpy(images)[:, None], torch.from_numpy(found.target[:600]).long()


def rows(images, labels):
    n = len(labels)
    none = torch.zeros(n, dtype=torch.bool)
    return NoisyDataset(Resident(images), labels, tuple("0123456789"), none, torch.arange(n))


def generator():
    return torch.Generator().manual_seed(0)


def test_mirrored_digits_are_others(digits):
    images, labels = digits
    found = mirrored_class(rows(images, labels), generator())
    assert found is not None and found.own > 0.9 and found.mirrored < 0.3 and found.like != found.label
    wrong = torch.rand(600, generator=generator()) < 0.3
    noisy = torch.where(wrong, (labels + 1) % 10, labels)
    assert mirrored_class(rows(images, noisy), generator()) is not None


def test_the_run_says_why_it_does_not_flip(digits, no_gpu):
    data = rows(*digits)
    reading = Reading(data, Present.of([data.labels], 10), None, {}, None, None)
    for given, flips in (({}, False), ({"flip": True}, True)):
        said: list[str] = []
        run = start(resolve({"dataset": "rows", "net": "small", "method": "ce", **given}), reading, say=said.append)
        assert run.views.flip is flips and len(said) == (not flips) == len(run.findings)
        assert flips or "look like" in said[0] and "--flip turns it on" in said[0]


def test_images_that_face_both_ways_are_not(digits):
    images, labels = digits
    either = torch.where((torch.arange(600) % 2 == 0)[:, None, None, None], images, images.flip(3))
    assert mirrored_class(rows(either, labels), generator()) is None
    assert mirrored_class(rows(images[:60], labels[:60]), generator()) is None  # too few to tell


def test_patches_are_alike_for_alike_images_and_need_no_labels(digits):
    images, _ = digits
    big = images[:50].repeat_interleave(9, 2).repeat_interleave(9, 3).expand(-1, 3, -1, -1)  # 72 px, colour
    for some in (images, big):
        describe = Patches(some, generator())
        x = describe(some[:40])
        assert x.shape == (40, 512) and torch.isfinite(x).all()
        torch.testing.assert_close(x[7:9], describe(some[7:9]))
        assert not torch.allclose(x[0], x[1])
    plain = Patches(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), generator())
    assert torch.isfinite(plain(images[:5])).all()
