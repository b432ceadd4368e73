import hashlib
import random

import numpy as np
import pytest

from curator.errors import CuratorError
from curator.sources.cifar_n import read_labels
from curator.sources.noise import CIFAR10, inject, long_tail, parse_noise, stratified_sample

# The label vectors of the released DivideMix / ProMix procedure: md5 of the comma-joined labels, and the wrong ones.
PUBLISHED = [
    ("sym", 0.2, 123, 8972, "47d2d96e1cfa68408d7f51d3c7054176"),
    ("sym", 0.5, 123, 22484, "906db20cc5097a470088ed783ec93bb8"),
    ("sym", 0.8, 123, 36036, "f3491d2892b882e09a722d23196669c0"),
    ("sym", 0.9, 123, 40393, "075f58c1c1390f81f705e14a62786769"),
    ("asym", 0.4, 123, 10010, "2cdbec3e84ac4046e0e5c5fececea3b0"),
    ("sym", 0.2, 123456789, 8954, "561f261e754ce9dc1c49a4b0b0608450"),
    ("sym", 0.5, 123456789, 22550, "f841c3075c5fbca9ac1bc33d1ce555c3"),
    ("sym", 0.8, 123456789, 36049, "4f71ea7f2eb2b431e4da3bddd604ebf6"),
    ("sym", 0.9, 123456789, 40548, "8f6e08d3e884eb59c399e3ab6b288fc9"),
    ("asym", 0.4, 123456789, 9960, "5134d14b1efaf2a220e658c1893fb72e"),
]
NAMES100 = tuple(map(str, range(100)))


def md5(labels: np.ndarray) -> str:
    return hashlib.md5(",".join(map(str, labels.tolist())).encode()).hexdigest()


@pytest.fixture(scope="module")
def cifar10_truth(data_dir):
    return read_labels(data_dir / "cifar-n" / "CIFAR-10_human.pt")["clean_label"]


@pytest.mark.parametrize("kind, rate, seed, wrong, digest", PUBLISHED)
def test_published_label_vectors(cifar10_truth, kind, rate, seed, wrong, digest):
    assert md5(cifar10_truth) == "1c1d1428970c927c34473b07ed0a78cf"
    given = inject(cifar10_truth, CIFAR10, kind, rate, seed)
    assert (given != cifar10_truth).sum() == wrong
    assert md5(given) == digest


@pytest.mark.parametrize("seed, first", [
    (123, [38712, 34233, 25555, 46929, 30485, 42186, 35381, 13510, 41464, 7589]),
    (123456789, [10917, 49012, 43007, 10511, 45285, 18774, 466, 26817, 9254, 46611]),
    (0, [6690, 6328, 33879, 1537, 24917, 38051, 10371, 42812, 116, 7393]),
])  # fmt: skip
def test_which_rows_are_noisy(seed, first):
    """asym to the next class changes exactly the noisy rows: the first of the published shuffle."""
    order = list(range(50000))
    random.Random(seed).shuffle(order)
    assert order[:10] == first
    truth = np.arange(50000) % 100
    given = inject(truth, NAMES100, "asym", 10 / 50000, seed)
    assert np.flatnonzero(given != truth).tolist() == sorted(first)


@pytest.mark.parametrize("k", [10, 100, 200])
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8, 0.9])
def test_symmetric_rates(k, rate):
    """Redrawn over all classes a share of 1 / k stays right; over the others none does."""
    truth = np.arange(50000) % k
    classes = tuple(map(str, range(k)))
    expected = rate * (k - 1) / k
    sd = (expected * (1 - expected) / 50000) ** 0.5
    assert (inject(truth, classes, "sym", rate, 5) != truth).mean() == pytest.approx(expected, abs=4 * sd)
    assert (inject(truth, classes, "sym-other", rate, 5) != truth).mean() == pytest.approx(rate, abs=1e-9)
    moved = inject(truth, classes, "sym-other", rate, 5)
    steps = np.bincount((moved - truth)[moved != truth] % k, minlength=k)  # every other class is equally likely
    assert steps[0] == 0 and steps[1:].min() > 0.5 * steps[1:].mean()


@pytest.mark.parametrize("rate, histogram, wrong", [
    (0.2, [6000, 6000, 4000, 5000, 4000, 5000, 5000, 6000, 5000, 4000], 0.1),
    (0.4, [7000, 7000, 3000, 5000, 3000, 5000, 5000, 7000, 5000, 3000], 0.2),
    (0.9, [9500, 9500, 500, 5000, 500, 5000, 5000, 9500, 5000, 500], 0.45),
])  # fmt: skip
def test_asymmetric_histogram(rate, histogram, wrong):
    truth = np.arange(50000) % 10
    given = inject(truth, CIFAR10, "asym", rate, 3)
    assert np.abs(np.bincount(given, minlength=10) - histogram).max() < 150
    assert (given != truth).mean() == pytest.approx(wrong, abs=0.005)
    assert set(truth[given != truth]) == {2, 3, 4, 5, 9}


@pytest.mark.parametrize("kind", ["idn", "idn-class"])
@pytest.mark.parametrize("rate, expected", [(0.2, 0.2055), (0.4, 0.4), (0.6, 0.6)])
def test_instance_dependent_rate(kind, rate, expected):
    """Within half a point of the mean of N(rate, .1^2) truncated to [0, 1], which for .2 is .2055."""
    rng = np.random.default_rng(0)
    truth = np.arange(50000) % 10
    images = rng.integers(0, 256, (50000, 3, 4, 4), dtype=np.uint8)
    given = inject(truth, CIFAR10, kind, rate, 9, images)
    assert (given != truth).mean() == pytest.approx(expected, abs=0.005)
    assert np.array_equal(given, inject(truth, CIFAR10, kind, rate, 9, images))


@pytest.mark.parametrize("kind", ["idn", "idn-class"])
def test_instance_dependent_noise_depends_on_the_image(kind):
    """Two equal images of a class flip to the same class nearly always; independent flips would agree 1 time in 9."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 256, (500, 3, 16, 16), dtype=np.uint8), 2, axis=0)
    truth = np.repeat(np.arange(500) % 10, 2)
    given = inject(truth, CIFAR10, kind, 0.9, 1, images).reshape(-1, 2)
    both = (given != truth.reshape(-1, 2)).all(1)
    assert both.sum() > 300 and (given[both, 0] == given[both, 1]).mean() > 0.8


def test_the_laws_of_instance_dependent_noise():
    """Of pixels that are all above 0 one projection says much the same; one a class, of normalised ones, does not."""
    rng = np.random.default_rng(0)
    images, truth = rng.integers(64, 192, (10000, 3, 8, 8), dtype=np.uint8), np.arange(10000) % 10

    def most(kind, seed):  # share of the wrong labels that are of two classes
        given = inject(truth, CIFAR10, kind, 0.4, seed, images)
        return np.sort(np.bincount(given[given != truth], minlength=10))[-2:].sum() / (given != truth).sum()

    assert min(most("idn", seed) for seed in range(3)) > 0.7
    assert max(most("idn-class", seed) for seed in range(3)) < 0.35


@pytest.mark.parametrize("kind, shared", [("idn", True), ("idn-class", False)])
def test_whether_classes_share_a_projection(kind, shared):
    """Of equal images, two wrong classes are to each other as in any other class: softmax of one x W, but for y."""
    images = np.full((40000, 1, 1, 2), 200, np.uint8)
    images[::2] = 150  # or there is no deviation to divide by
    truth = np.arange(40000) // 2 % 4
    given = inject(truth, tuple("abcd"), kind, 0.6, 2, images)[::2]
    counts = np.zeros((4, 4))
    np.add.at(counts, (truth[::2], given), 1)
    odds = [np.log(counts[y, a] / counts[y, b]) for a, b in ((0, 1), (2, 3)) for y in set(range(4)) - {a, b}]
    assert (abs(odds[0] - odds[1]) < 0.15 and abs(odds[2] - odds[3]) < 0.15) == shared


def test_parse_noise():
    assert parse_noise("sym:0.5") == ("sym", 0.5)
    assert parse_noise("idn-class:0.4") == ("idn-class", 0.4)
    assert parse_noise("worst") is None
    for text in ("sym:1.5", "sym:x", "symm:0.5", "sym:nan", "sym:-0.1"):
        with pytest.raises(
            CuratorError, match="--label-noise: expected one of sym, sym-other, asym, idn, idn-class with"
        ):
            parse_noise(text)


def test_long_tail():
    labels = np.arange(5000) % 5
    kept = long_tail(labels, 5, 16, 0)
    assert np.bincount(labels[kept]).tolist() == [1000, 500, 250, 125, 62]
    assert (np.diff(kept) > 0).all()


def test_stratified_sample():
    labels = np.random.default_rng(0).choice(4, 1000, p=[0.7, 0.2, 0.08, 0.02])
    sample = stratified_sample(labels, 100, 1)
    assert len(sample) == 100 and (np.diff(sample) > 0).all()
    assert np.abs(np.bincount(labels[sample]) - np.bincount(labels) / 10).max() <= 1
    assert np.array_equal(sample, stratified_sample(labels, 100, 1))
    assert not np.array_equal(sample, stratified_sample(labels, 100, 2))
