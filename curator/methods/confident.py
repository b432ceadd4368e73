"""Confident learning (Northcutt et al. 2021, arXiv 1911.00068): out-of-sample probabilities, pruned by cleanlab.

Every row is scored by a net that did not train on it (stratified folds of plain cross-entropy). cleanlab's
`find_label_issues` then estimates the joint of given and true labels and prunes as many rows of every off-diagonal cell
as it holds; the clean score is its label quality score. Rows that are trusted train every net.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from curator.engine.folds import stratified_folds
from curator.engine.held import Held
from curator.engine.run import Run
from curator.errors import CuratorError
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.ce import CrossEntropy
from curator.methods.fields import AtLeast

Filter = Literal["prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"]
Quality = Literal["self_confidence", "normalized_margin", "confidence_weighted_entropy"]


@dataclass
class Confident(CrossEntropy):
    """Cross-validated probabilities, then cleanlab's rule."""

    folds: Annotated[int, AtLeast(2)] = 5
    """Stratified folds (>= 2); each fold's rows are scored by the net trained on the others."""
    filter_by: Filter = "prune_by_noise_rate"
    """The rule (filter_by) of cleanlab's find_label_issues that flags rows."""
    quality: Quality = "self_confidence"
    """Cleanlab's label quality score that is used as the clean score."""
    pred_probs: Path | None = None
    """Your own out-of-sample probabilities (n, k) as .npy, one row per row of the split: no training."""

    out_of_sample: ClassVar[bool] = True
    held_out: ClassVar[bool] = True

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows: every fold trains on the rows of the others."""
        return 0 if self.pred_probs else self.epochs * (self.folds - 1)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train the nets of all folds epoch by epoch, so that a run cut short has all of them equally trained."""
        if self.pred_probs:
            probs = read_probs(self.pred_probs, data)
            warn_of_order(probs, data, run)
            yield self.clean(probs, data)
            return
        if len(data) < 2 * self.folds:
            raise CuratorError(f"--method confident: expected at least {2 * self.folds} rows, found {len(data)}")
        fold = stratified_folds(data.labels, self.folds, run.generator("folds", shared=True))
        nets = run.register(
            "nets", nn.ModuleList(run.build_net(f"net{f}", data) for f in range(self.folds)), scores=True
        )
        learners = [self.learner(str(f), nets[f], run) for f in range(self.folds)]
        logits = run.register("logits", torch.zeros(len(data), len(data.classes)))
        for epoch in run.epochs(self.epochs):
            for f in range(self.folds):
                self.train(learners[f], ((fold != f) | data.trusted).nonzero().squeeze(1), data, run, epoch)
                held_out = (fold == f).nonzero().squeeze(1)
                logits[held_out] = run.predict(nets[f], data.inputs, held_out)
            yield evidence(logits.softmax(1), data)
        yield self.clean(logits.softmax(1), data)

    def clean(self, probs: Tensor, data: NoisyDataset) -> Evidence:
        """Cleanlab's verdict on out-of-sample probabilities (n, k)."""
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        labels, p = data.labels.numpy(), probs.double().numpy()
        issues = find_label_issues(labels, p, filter_by=self.filter_by, n_jobs=1)
        quality = get_label_quality_scores(labels, p, method=self.quality)
        return evidence(probs, data, selected=torch.from_numpy(~issues), clean_score=torch.from_numpy(quality))


def own_probs(method: object) -> Path | Held | None:
    """The user's probabilities that a method takes in the place of training."""
    return getattr(method, "pred_probs", None)


def read_probs(path: Path | Held, data: NoisyDataset) -> Tensor:
    """Probabilities (n, k) float32 of the dataset's rows, from an array or .npy file with a row for each of the split.

    Raises:
        CuratorError: when the file, its shape or its values do not fit.
    """
    try:
        # Mapped first: a file cut short is found out before its promised size is asked of the memory.
        probs = path.value if isinstance(path, Held) else np.array(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, OverflowError) as e:
        raise CuratorError(f"--pred-probs {path}: expected an .npy file of numbers; {e}") from e
    shape = (data.source_rows or int(data.rows.max()) + 1, len(data.classes))
    if probs.shape != shape or probs.dtype.kind != "f":  # of more rows nobody knows which are ours
        raise CuratorError(
            f"--pred-probs {path}: expected floats of shape {shape}, a row for each of the split, "
            f"found {probs.dtype} {probs.shape}; the columns are the classes, {shown_classes(data.classes)}"
        )
    probs = probs[data.rows.numpy()]
    if not np.isfinite(probs).all() or probs.min() < 0 or abs(probs.sum(1) - 1).max() > 1e-3:
        raise CuratorError(f"--pred-probs {path}: expected rows of probabilities that sum to 1; is a softmax missing?")
    return torch.from_numpy(probs).float()


def warn_of_order(probs: Tensor, data: NoisyDataset, run: Run) -> None:
    """Say so where the columns of probabilities (n, k) seem to be in another order than the classes.

    That is where most rows have their most probable class as their label in another order, and less than half as many
    in this one.
    """
    from scipy.optimize import linear_sum_assignment

    k = len(data.classes)
    counts = torch.bincount(data.labels * k + probs.argmax(1), minlength=k * k).view(k, k).numpy()
    rows, columns = linear_sum_assignment(counts, maximize=True)
    here, best = (float(c.sum()) / len(data) for c in (counts.diagonal(), counts[rows, columns]))
    if best > 0.5 and 2 * here < best:
        run.warn(
            f"--pred-probs: the most probable class is the given label of {here:.0%} of the rows, and would be of "
            f"{best:.0%} if its columns were in another order; they are read in that of the classes, "
            f"{shown_classes(data.classes)}"
        )


def shown_classes(names: Sequence[str]) -> str:
    """The first names, in order."""
    return ", ".join(repr(name[:40]) for name in names[:8]) + ", …" * (len(names) > 8)
