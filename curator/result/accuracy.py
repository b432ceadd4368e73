"""Accuracy of a run's nets on the other splits that have labels, epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from curator.engine.linear import LinearNet
from curator.errors import CuratorError
from curator.evidence import Source
from curator.sources.load import other_labels
from curator.sources.read import Reading
from curator.sources.table import Table, remaining

if TYPE_CHECKING:
    from curator.engine.run import Run

TOP = (1, 5)
LAST = 10  # epochs whose mean papers give as the last accuracy


def predicted(run: Run, rows: Source, reading: Reading) -> Tensor:
    """Probabilities (m, k) of all classes for rows of another split, by the mean of all ensembles a run has trained."""
    normaliser = run.normaliser(reading.data.inputs)
    probs = torch.stack([run.predict(nets, rows, normaliser=normaliser).softmax(1) for nets in run.scorers]).mean(0)
    return reading.present.probs(probs)


def top(probs: Tensor, labels: Tensor, most: int) -> float:
    """Share of rows whose label (m,) is among the classes of the highest probabilities (m, k)."""
    return float((probs.topk(most, 1).indices == labels[:, None]).any(1).float().mean())


class Accuracy:
    """Scores the labelled rows of the other splits by the nets as they are; one pass over these rows a call.

    Raises:
        CuratorError: where no other split has labels.
    """

    def __init__(self, table: Table, reading: Reading, run: Run):
        self.reading, self.run = reading, run
        self.splits: dict[str, tuple[Source, Tensor]] = {}
        for name, read in reading.others.items():
            labels = other_labels(table, name)
            labels = labels[remaining(len(labels), read.broken)]
            if (labels >= 0).any():
                self.splits[name] = read.source(run.device), torch.from_numpy(labels)
        if not self.splits:
            raise CuratorError("--eval-every scores other splits with labels; this dataset has none: leave it out")

    def __call__(self) -> dict[str, float]:
        """Figures "topN/SPLIT"; none before there are nets that have learned something."""
        nets = [net for ensemble in self.run.scorers for net in ensemble]
        if not nets or any(isinstance(net, LinearNet) and not net.fitted for net in nets):
            return {}
        found = {}
        for name, (rows, labels) in self.splits.items():
            probs, known = predicted(self.run, rows, self.reading), labels >= 0
            for most in TOP:
                if most < len(self.reading.present.numbers):
                    found[f"top{most}/{name}"] = top(probs[known], labels[known], most)
        return found


def figures(history: list[dict[str, float]]) -> list[str]:
    """Names of the accuracies in a history, in the order of their first epochs."""
    return list(dict.fromkeys(name for entry in history for name in entry if name.startswith("top")))


def summary(history: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """By split and figure (top1, top5): last, best, epoch of the best, mean of the last 10, and all by epoch from 1."""
    found: dict[str, dict[str, Any]] = {}
    for name in figures(history):
        figure, _, split = name.partition("/")
        scored = {epoch: entry[name] for epoch, entry in enumerate(history, 1) if name in entry}
        values = list(scored.values())
        best = max(scored, key=lambda epoch: scored[epoch])
        found.setdefault(split, {})[figure] = {
            "last": values[-1],
            "best": scored[best],
            "best_epoch": best,
            "mean_of_last_10": float(np.mean(values[-LAST:])),
            "epochs": list(scored),
            "by_epoch": values,
        }
    return found
