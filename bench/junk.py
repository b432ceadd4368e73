"""Junk among ordinary pictures: typicality beside Datalab's outlier score and LOF on the same features.

CURATOR_DATA=../shared/data python -m bench.junk    # 10 minutes on a core
Into each set 2 % of rows are planted that have a label by chance and are nothing that any class has; 15 % of the labels
are wrong besides. "few" is two rows of each kind. Features are EfficientNet-Lite0's at 128 px (bench/backbones.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from bench.everyday_sets import SETS, SIDE, _resized, features, noisy_labels
from bench.table import Table, processor, today
from curator.signals.typicality import typicality

HEADING = "Junk among ordinary pictures: AUROC"
COLUMNS = ["typicality", "Datalab", "LOF", "junk that is flagged", "other rows flagged", "date and machine"]
NAMES = ("CIFAR", "clothing", "Fashion", "digits", "40 classes")
SHARE = 0.02
WORDS = ["lorem", "ipsum", "dolor", "sit", "amet", "invoice", "total", "page", "chapter", "figure", "table", "name"]


def noise(n: int, random: np.random.Generator) -> Tensor:
    """Pixels by chance."""
    return torch.from_numpy(random.integers(0, 256, (n, 3, SIDE, SIDE), dtype=np.uint8))


def blank(n: int, random: np.random.Generator) -> Tensor:
    """One colour each."""
    return torch.from_numpy(random.integers(0, 256, (n, 3, 1, 1), dtype=np.uint8)).expand(-1, -1, SIDE, SIDE)


def text(n: int, random: np.random.Generator) -> Tensor:
    """Lines of text, turned by 20 to 340 degrees."""
    from PIL import Image, ImageDraw, ImageFont

    font, pages = ImageFont.load_default(size=18), []
    for _ in range(n):
        page = Image.new("RGB", (180, 180), "white")
        for y in range(5, 175, 22):
            ImageDraw.Draw(page).text((4, y), " ".join(random.choice(WORDS, 4)), fill="black", font=font)
        turned = page.rotate(float(random.uniform(20, 340)), fillcolor="white").crop((26, 26, 154, 154))
        pages.append(np.asarray(turned))
    return torch.from_numpy(np.stack(pages)).permute(0, 3, 1, 2)


def domain(name: str) -> Callable[[int, np.random.Generator], Tensor]:
    """Pictures of another set: of garments on white, or of photos."""

    def pick(n: int, random: np.random.Generator) -> Tensor:
        images = SETS["CIFAR" if name in ("Fashion", "digits") else "Fashion"]()[0]
        return _resized(images[torch.from_numpy(random.choice(len(images), n, replace=False))])

    return pick


@cache
def planted(name: str, kind: str) -> Tensor:
    """Features (m, d) of the planted rows of a kind."""
    from curator.engine.encoders import Backbone

    n = round(SHARE * len(features(name, "lite0")[1]))
    make = {"noise": noise, "blank": blank, "text": text, "other domain": domain(name)}[kind]
    images = make(n, np.random.default_rng(0)).contiguous()
    return Backbone("bench.backbones:efficientnet_lite0", torch.device("cpu"), "no")(images)


def datalab(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Datalab's outlier score (n,), low for outliers, with its defaults."""
    from cleanlab import Datalab

    lab = Datalab({"label": labels}, label_name="label", verbosity=0)
    lab.find_issues(features=x, issue_types={"outlier": {}})
    return lab.get_issues("outlier")["outlier_score"].to_numpy()


def lof(x: np.ndarray) -> np.ndarray:
    """The local outlier factor (n,) of scikit-learn, negative, with its defaults and cosine distances."""
    from sklearn.neighbors import LocalOutlierFactor

    return LocalOutlierFactor(metric="cosine").fit(x).negative_outlier_factor_


def kinds(name: str) -> list[str]:
    """What is planted in a set; one of four domains has no other."""
    return ["noise", "blank", "text", *(["other domain"] if name != "40 classes" else []), "few"]


def main() -> None:
    """Measure what is missing of the table."""
    from sklearn.metrics import roc_auc_score

    table = Table(HEADING, COLUMNS)
    for name in NAMES:
        x, truth = features(name, "lite0")
        for kind in kinds(name):
            cell = f"{name}, {kind}"
            if cell in table:
                continue
            some = [planted(name, k)[:2] for k in kinds(name)[:-1]] if kind == "few" else [planted(name, kind)]
            rows, count = torch.cat([x, *some]), sum(map(len, some))
            labels = np.concatenate([noisy_labels(name, "sym 15 %", 0), np.random.default_rng(1).choice(truth, count)])
            junk = np.arange(len(rows)) >= len(x)
            ours = typicality(rows, labels)
            scores = ours.score, datalab(rows.numpy(), labels), lof(rows.numpy())
            aurocs = [f"{roc_auc_score(junk, -score):.3f}" for score in scores]
            flagged = [f"{ours.junk[mask].mean():.1%}" for mask in (junk, ~junk)]
            print(cell, *aurocs, *flagged, flush=True)
            table.append(cell, [*aurocs, *flagged, f"{today()}, {processor()}"])


if __name__ == "__main__":
    main()
