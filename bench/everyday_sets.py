"""The rows that bench/everyday.py measures on: ordinary datasets of 500 to 5,000 rows, their noise and their features.

Photos of garments and CIFAR-10 come from CURATOR_DATA, digits and tumours from scikit-learn, Fashion-MNIST from
Debian's package dataset-fashion-mnist. Everything is drawn from fixed seeds; features are kept in runs/bench/everyday.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.runs import run_folder
from curator.sources.noise import inject, long_tail, stratified_sample

FASHION = Path("/usr/share/datasets/fashion-mnist")
SIDE = 128  # pixels that photos are scaled to, whatever their size
ENCODERS = ("lite0", "lite2")
INJECTED = ("none", "sym 5 %", "sym 15 %", "sym 40 %", "one-way 40 %", "alike 15 %", "alike 30 %")
HUMAN = ("human aggre", "human rand1", "human worst")  # of CIFAR-10N
HARDNESS = 0.29  # of the emulated log-probabilities, for 95 %

Rows = tuple[Tensor, np.ndarray]  # images uint8 (n, 3, h, w) or numbers float32 (n, d), and the truth (n,) int64


def clothing() -> Rows:
    """3,068 photos of garments in 10 classes, 112 to 795 rows a class."""
    from datasets import load_dataset

    rows = load_dataset(str(_data("clothing")), split="train")
    images = [_square(np.asarray(image.convert("RGB"))) for image in rows["image"]]
    return torch.stack(images), np.array(rows["label"])


def cifar() -> Rows:
    """2,000 rows of CIFAR-10, 200 a class."""
    return _cifar(_cifar_rows_of_2000())


def _cifar_rows_of_2000() -> np.ndarray:
    return stratified_sample(_cifar_labels(), 2000, 0)


def cifar_tail() -> Rows:
    """2,000 rows of CIFAR-10, the largest class 20 times the smallest."""
    tail = long_tail(_cifar_labels(), 10, 20, 0)
    return _cifar(tail[stratified_sample(_cifar_labels()[tail], 2000, 0)])


def cifar_four() -> Rows:
    """Airplane, bird, cat and dog of CIFAR-10, 500 a class."""
    images, truth = _cifar(_each(_cifar_labels(), (0, 2, 3, 5), 500))
    return images, np.searchsorted([0, 2, 3, 5], truth)


def digits() -> Rows:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return _grey(np.round(found.images * 255 / 16)), found.target.astype(np.int64)


def fashion() -> Rows:
    """2,000 pictures of garments of 28 x 28 pixels, 200 a class."""
    pixels, truth = _fashion()
    kept = stratified_sample(truth, 2000, 0)
    return _grey(pixels[kept]), truth[kept]


def _first_of_fashion(count: int) -> Rows:
    pixels, truth = _fashion()
    return _grey(pixels[:count]), truth[:count]


def forty() -> Rows:
    """40 classes of four kinds of pictures (CIFAR-10, garments, Fashion-MNIST, digits), 14 to 200 rows a class."""
    pixels, labels = _fashion()
    picked = [_each(labels, range(10), 200)]
    parts = [clothing(), _cifar(_each(_cifar_labels(), range(10), 200)), (_grey(pixels[picked[0]]), labels[picked[0]])]
    parts.append(digits())
    images = torch.cat([_resized(part) for part, _ in parts])
    truth = np.concatenate([truth + 10 * i for i, (_, truth) in enumerate(parts)])
    shuffled = np.random.default_rng(0).permutation(40)  # the tail goes through all four kinds
    sizes = np.array([int(200 * 14 ** (-place / 39)) for place in range(40)])[shuffled]
    kept = np.sort(np.concatenate([np.flatnonzero(truth == c)[: sizes[c]] for c in range(40)]))
    return images[torch.from_numpy(kept)], truth[kept]


def tumours() -> Rows:
    """30 numbers on each of 569 tumours, benign or malignant: no images."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return torch.from_numpy(found.data).float(), found.target.astype(np.int64)


def strong() -> Rows:
    """Emulated log-probabilities of a fine-tuned net on 5,000 rows of CIFAR-10, 10 numbers a row.

    Class means plus noise, so that their argmax is 95 % right. The noise is larger on rows that look less like their
    class to another encoder, as what is hard for people is for nets.
    """
    from curator.engine.encoders import Backbone

    images, truth = _cifar(_strong_rows())
    x = Backbone("bench.backbones:efficientnet_lite0", torch.device("cpu"), "no")(images)
    z = F.normalize((x - x.mean(0)) / x.std(0).clamp_min(1e-6))
    means = F.normalize(torch.stack([z[torch.from_numpy(truth == c)].mean(0) for c in range(10)]))
    near, own = z @ means.T, torch.from_numpy(truth)[:, None]
    unlike = (near.scatter(1, own, -2).amax(1) - near.gather(1, own).squeeze(1)).numpy()
    hard = np.exp(1.2 * (unlike - unlike.mean()) / unlike.std())
    random = np.random.default_rng(0)
    alike = np.eye(10) + 0.25 * np.eye(10)[np.arange(10) ^ 1]  # classes come in pairs that look alike
    seen = 4.0 * alike[truth] + HARDNESS * hard[:, None] * random.standard_normal((5000, 10))
    return torch.from_numpy(2.0 * seen).float().log_softmax(1), truth


def _strong_rows() -> np.ndarray:
    return stratified_sample(_cifar_labels(), 5000, 1)


SETS: dict[str, Callable[[], Rows]] = {
    "clothing": clothing, "CIFAR": cifar, "CIFAR tail": cifar_tail, "CIFAR 4 classes": cifar_four, "digits": digits,
    "Fashion": fashion, "40 classes": forty, "tumours": tumours, "strong": strong,
}  # fmt: skip
NUMBERS = ("tumours", "strong")
# What bench/drawn.py draws from: more rows than a set has.
POOLS: dict[str, Callable[[], Rows]] = {
    "clothing": clothing, "CIFAR": lambda: _cifar(np.arange(12_000)), "Fashion": lambda: _first_of_fashion(6000),
    "digits": digits,
}  # fmt: skip


def noises(name: str) -> tuple[str, ...]:
    """The kinds of noise that a set is measured with."""
    if name == "tumours":  # of two classes, each is the other's look-alike
        return INJECTED[:5]
    return INJECTED + (HUMAN if name in ("CIFAR", "strong") else ())


def encoders(name: str) -> tuple[str, ...]:
    """The encoders of a set; numbers stay as they are."""
    return ("numbers",) if name in NUMBERS else ENCODERS


@cache
def features(name: str, encoder: str) -> tuple[Tensor, np.ndarray]:
    """Features float32 (n, d) and the truth (n,), made once and kept."""
    kept = run_folder("everyday") / f"{name} {encoder}.npz".replace(" ", "-")
    if not kept.exists():
        rows, truth = SETS[name]()
        if encoder != "numbers":
            from curator.engine.encoders import Backbone

            rows = Backbone(f"bench.backbones:efficientnet_{encoder}", torch.device("cpu"), "no")(rows)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, features=rows.numpy(), truth=truth)
    found = np.load(kept, allow_pickle=False)
    return torch.from_numpy(found["features"]), found["truth"]


def noisy_labels(name: str, noise: str, seed: int) -> np.ndarray:
    """Given labels (n,) int64 under the noise."""
    x, truth = features(name, encoders(name)[0])
    k = int(truth.max()) + 1
    kind, *rest = noise.split()
    if kind == "none":
        return truth.copy()
    if kind == "human":
        return _human(rest[0], _strong_rows() if name == "strong" else _cifar_rows_of_2000())
    rate = float(rest[0]) / 100
    random = np.random.default_rng(seed)
    if kind == "sym":
        return inject(truth, tuple(map(str, range(k))), "sym-other", rate, seed)
    wrong = random.permutation(len(truth))[: round(rate * len(truth))]
    if kind == "one-way":  # every other class is taken for the one that it looks most like, and not the other way round
        wrong = wrong[truth[wrong] % 2 == 0]
    given = truth.copy()
    given[wrong] = look_alikes(x, truth)[truth[wrong]]
    return given


def look_alikes(x: Tensor, truth: np.ndarray) -> np.ndarray:
    """The class (k,) int64 that each class looks most like, by the cosine of their mean features (n, d)."""
    z = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    means = torch.stack([z[torch.from_numpy(truth == c)].mean(0) for c in range(int(truth.max()) + 1)])
    means = F.normalize(means)
    return (means @ means.T).fill_diagonal_(-2).argmax(1).numpy()


@cache
def pool(name: str) -> dict[str, np.ndarray]:
    """Features `lite0` and `lite2` float32 (n, d), `pixels` uint8 (n, 3, 16, 16) and `truth` (n,) of POOLS; kept."""
    kept = run_folder("everyday") / f"pool-{name}.npz"
    if not kept.exists():
        from curator.engine.encoders import Backbone

        images, truth = POOLS[name]()
        small = F.interpolate(images.float(), (16, 16), mode="area").round().to(torch.uint8)
        seen = []
        for encoder in ENCODERS:
            backbone = Backbone(f"bench.backbones:efficientnet_{encoder}", torch.device("cpu"), "no")
            seen.append(torch.cat([backbone(part) for part in images.split(1000)]).numpy())
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, truth=truth, pixels=small.numpy(), lite0=seen[0], lite2=seen[1])
    with np.load(kept, allow_pickle=False) as there:
        return {part: there[part] for part in there.files}


def _data(part: str) -> Path:
    return Path(os.environ["CURATOR_DATA"]) / part


def _square(image: np.ndarray) -> Tensor:
    return _resized(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])[0]


def _resized(images: Tensor) -> Tensor:
    scaled = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)


def _grey(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images.astype(np.uint8))[:, None].expand(-1, 3, -1, -1).contiguous()


def _each(labels: np.ndarray, classes, count: int) -> np.ndarray:
    """Positions (sorted) of the first rows of every class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in classes]))


@cache
def _cifar_rows():
    from datasets import load_dataset

    return load_dataset(str(_data("cifar10")), split="train")


@cache
def _cifar_labels() -> np.ndarray:
    return np.array(_cifar_rows()["label"])


def _cifar(kept: np.ndarray) -> Rows:
    images = [
        torch.from_numpy(np.array(i.convert("RGB"))).permute(2, 0, 1) for i in _cifar_rows().select(kept)["image"]
    ]
    return torch.stack(images), _cifar_labels()[kept]


def _human(name: str, kept: np.ndarray) -> np.ndarray:
    from curator.sources.cifar_n import LABEL_SETS, align, read_labels

    file = _data("cifar-n") / "CIFAR-10_human.pt"
    return align(read_labels(file), LABEL_SETS["cifar10n"][name], _cifar_labels(), 10, file)[kept]


@cache
def _fashion() -> tuple[np.ndarray, np.ndarray]:
    pixels = gzip.decompress((FASHION / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((FASHION / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    return np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8).astype(np.int64)
