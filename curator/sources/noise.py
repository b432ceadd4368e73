"""Injected label noise, long tails and samples, for experiments; everything is drawn from the seed."""

from __future__ import annotations

import random

import numpy as np

from curator.errors import CuratorError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog; the others stay (Patrini et al. 2017).
CIFAR10_ASYM = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
OF_IMAGES = ("idn", "idn-class")
KINDS = ("sym", "sym-other", "asym", *OF_IMAGES)


def parse_noise(text: str) -> tuple[str, float] | None:
    """("sym", 0.5) of "sym:0.5"; None where the text is not of that form.

    Raises:
        CuratorError: for an unknown kind or a rate outside [0, 1].
    """
    kind, colon, rate = text.partition(":")
    if not colon:
        return None
    try:
        value = float(rate)
    except ValueError:
        value = -1.0
    if kind not in KINDS or not 0 <= value <= 1:
        raise CuratorError(
            f"--label-noise: expected one of {', '.join(KINDS)} with a rate in [0, 1], like sym:0.5; found {text!r}"
        )
    return kind, value


def inject(
    labels: np.ndarray,  # (n,) int64, the truth
    classes: tuple[str, ...],
    kind: str,  # of KINDS
    rate: float,  # in [0, 1]
    seed: int,
    images: np.ndarray | None = None,  # (n, c, h, w) uint8, for OF_IMAGES
) -> np.ndarray:  # (n,) int64
    """Labels with noise of the kind.

    sym, asym: the procedure of the released DivideMix and ProMix code. A shuffled share of `rate` of the rows is noisy;
    sym redraws their labels over all classes (so a share of 1/k stays right), asym maps them by a fixed table
    (CIFAR-10's, elsewhere the next class). sym-other redraws over the other classes. idn, idn-class: see
    _instance_dependent.
    """
    if kind in OF_IMAGES:
        if images is None:
            raise ValueError(f"{kind} needs the images")
        return _instance_dependent(labels, len(classes), rate, seed, images, by_class=kind == "idn-class")
    n, k = len(labels), len(classes)
    rng = random.Random(seed)  # Python's own: the published label vectors come from this stream
    order = list(range(n))
    rng.shuffle(order)
    noisy = np.zeros(n, bool)
    noisy[order[: int(rate * n)]] = True
    given = labels.copy()
    if kind == "asym":
        table = np.array([CIFAR10_ASYM.get(c, c) if classes == CIFAR10 else (c + 1) % k for c in range(k)])
        given[noisy] = table[labels[noisy]]
        return given
    for i in np.flatnonzero(noisy):
        if kind == "sym":
            given[i] = rng.randint(0, k - 1)
        else:
            given[i] = (labels[i] + rng.randint(1, k - 1)) % k
    return given


def _instance_dependent(
    labels: np.ndarray, k: int, rate: float, seed: int, images: np.ndarray, *, by_class: bool
) -> np.ndarray:
    """Row i flips with probability q_i ~ N(rate, 0.1^2) truncated to [0, 1], to a class that depends on its image.

    By class: Xia et al. 2020 (arXiv 2006.07836, algorithm 2). Of a row of class y it is q times the softmax of x W_y
    over the other classes, where x is the image at mean 0 and deviation 1, and W_y ~ N(0, 1) of shape (d, k).

    Else the published label files (Zhu et al. 2021): one W for all classes, and x the pixels in
    [0, 1]. They are all above 0, so x W says much the same of every image, and most wrong labels are of a class or two.
    """
    from scipy.stats import truncnorm

    rng = np.random.default_rng(seed)
    n = len(labels)
    q = truncnorm.rvs(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1, size=n, random_state=rng)
    mean, std = _moments(images) if by_class else (np.float32(0), np.float32(255))
    uniform = rng.random(n)
    shape = (int(np.prod(images.shape[1:])), k)
    shared = None if by_class else rng.standard_normal(shape, dtype=np.float32)
    given = labels.copy()
    for y in range(k):
        rows = np.flatnonzero(labels == y)
        x = ((images[rows] - mean) / std).reshape(len(rows), shape[0])
        projection = rng.standard_normal(shape, dtype=np.float32) if shared is None else shared
        z = (x @ projection).astype(np.float64)
        z[:, y] = -np.inf
        p = np.exp(z - z.max(1, keepdims=True))
        p *= q[rows, None] / p.sum(1, keepdims=True)
        p[:, y] = 1 - q[rows]
        given[rows] = (p.cumsum(1) < uniform[rows, None]).sum(1).clip(max=k - 1)
    return given


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every channel, (c, 1, 1) float32 each."""
    counts = np.stack([np.bincount(images[:, c].reshape(-1), minlength=256) for c in range(images.shape[1])])
    share, value = counts / counts.sum(1, keepdims=True), np.arange(256)
    mean = (share @ value).astype(np.float32)[:, None, None]
    std = np.sqrt(np.maximum(share @ value**2 - (share @ value) ** 2, 1e-6)).astype(np.float32)[:, None, None]
    return mean, std


def long_tail(labels: np.ndarray, k: int, factor: float, seed: int) -> np.ndarray:
    """Positions (sorted) of a long-tailed subset.

    Class i keeps the share factor^(-i / (k - 1)) of its rows, at least one.
    """
    rng = np.random.default_rng(seed)
    kept = []
    for c in range(k):
        rows = np.flatnonzero(labels == c)
        count = min(len(rows), max(1, int(len(rows) * factor ** (-c / (k - 1)))))
        kept.append(rng.choice(rows, count, replace=False))
    return np.sort(np.concatenate(kept))


def stratified_sample(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Positions (sorted) of n rows in which every class has its share, to within one row."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    # Every len / n-th row of the rows sorted by class: each class gets its share, rounded up or down.
    return np.sort(order[(np.arange(n) * len(labels)) // n])
