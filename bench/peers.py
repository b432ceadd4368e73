"""What others do with the same features, for the arena."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.confident import Confident

BLOCK = 4096  # rows whose similarities to all others are held at once


def cleanlab_probe(data: NoisyDataset, seed: int, *, c: float = 0.001) -> Evidence:
    """Cleanlab with its defaults on the out-of-sample probabilities of a linear probe in five folds.

    Args:
        data: rows with features.
        seed: of the folds.
        c: scikit-learn's inverse strength of regularisation, on standardised features.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels = data.inputs.batch(torch.arange(len(data))).numpy(), data.labels.numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    probs = cross_val_predict(probe, x, labels, cv=folds, method="predict_proba")
    return Confident().clean(torch.from_numpy(probs), data)


def knn_vote(data: NoisyDataset, *, k: int = 10) -> Evidence:
    """SimiFeat's vote (Zhu et al. 2022) on features as they are: flagged where the neighbours' vote is another label.

    The k nearest rows by cosine vote with their similarity; a row is one of its own neighbours, its similarity to
    itself extrapolated from the next two. The released code repeats this on 21 random crops and flips and takes the
    majority, which frozen features do not allow.
    """
    x = data.inputs.batch(torch.arange(len(data)))
    x = x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)
    votes = torch.cat([_votes(part, x, data.labels, len(data.classes), k) for part in x.split(BLOCK)])
    return evidence(votes / votes.sum(1, keepdim=True), data)


def _votes(part: Tensor, x: Tensor, labels: Tensor, classes: int, k: int) -> Tensor:
    """Similarity-weighted counts (b, classes) of the labels of each row's k nearest rows."""
    similarity, nearest = (part @ x.T).topk(k, dim=1)
    similarity[:, 0] = 2 * similarity[:, 1] - similarity[:, 2]
    weights = similarity.clamp_min(0)
    return torch.zeros(len(part), classes).scatter_add_(1, labels[nearest], weights)


def of_run(folder: Path) -> tuple[NoisyDataset, np.ndarray]:
    """The rows of a finished run on features, and their true labels."""
    from datasets import load_dataset

    from curator.engine.source import Features

    rows = load_dataset(str(folder), split="train").select_columns(["label", "true_label"]).with_format("numpy")
    labels, truth = (torch.from_numpy(np.asarray(rows[name])) for name in ("label", "true_label"))
    n = len(labels)
    features = torch.from_numpy(np.load(folder / "features.npy", allow_pickle=False)).float()
    classes = tuple(map(str, range(int(truth.max()) + 1)))
    return NoisyDataset(Features(features), labels, classes, torch.zeros(n, dtype=torch.bool), torch.arange(n)), (
        truth.numpy()
    )
