"""Linear: multinomial logistic regression, every row judged by a model that did not train on it.

Not a method for noisy labels, but what is free: on the features of a good encoder a linear model of a few seconds is
hard to beat, and the first thing to compare with. scikit-learn's solver, in stratified folds; the strength of its
penalty is the one under which held-out labels are the likeliest. A row is kept where the model predicts its given
label; its clean score is the logistic function of the margin of that label's logit over the best other one.

Images are read as their pixels, which only tiny ones (digits) are worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from curator.engine.linear import LinearNet, Rows, best_strength, fit_all, out_of_fold
from curator.engine.run import Run
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import Above, AtLeast, Epochs
from curator.methods.method import Method


@dataclass
class Linear(Method):
    """Logistic regression in stratified folds."""

    epochs: Annotated[Epochs, AtLeast(1)] = 1
    """Rounds of cross-validation, each in other folds; their logits are averaged (>= 1)."""
    folds: Annotated[int, AtLeast(2)] = 5
    """Stratified folds (>= 2); each fold's rows are scored by the model trained on the others."""
    strength: Annotated[float, Above(0)] | None = None
    """Inverse strength C of the penalty, on standardised features (> 0). None: chosen by held-out
    likelihood."""

    out_of_sample: ClassVar[bool] = True
    held_out: ClassVar[bool] = True
    fits: ClassVar[bool] = True
    large_net: ClassVar[dict[str, Any]] = {"epochs": 2}

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows, for the ETA; a fit is worth about ten of a small net's."""
        return 10 * self.epochs * (self.folds - 1)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Yield after every round; then train one more model on all rows, for the other splits."""
        n, k = len(data), len(data.classes)
        logits = run.register("logits", torch.zeros(n, k))
        net = LinearNet(run.views.shape(data.inputs.shape), k)
        run.register("nets", nn.ModuleList([net]), scores=True)
        strength = run.register("strength", torch.tensor(self.strength or 0.0, dtype=torch.double))
        x = Rows(data, run)
        for epoch in run.epochs(self.epochs):
            if not strength:
                strength.fill_(best_strength(x, data, run, self.folds))
            found = out_of_fold(x, data.labels, data, run, self.folds, float(strength), epoch)
            logits.mul_(epoch / (epoch + 1)).add_(found / (epoch + 1))
            if epoch == self.epochs - 1:
                net.load(*fit_all(x, data.labels, k, float(strength), run))
            run.count(self.folds * n)
            yield self.result(logits, data)
        yield self.result(logits, data)

    def result(self, logits: Tensor, data: NoisyDataset) -> Evidence:
        """Argmax and the margin of the given label."""
        given = data.labels[:, None]
        others = logits.scatter(1, given, -torch.inf)
        margin = logits.gather(1, given).squeeze(1) - others.amax(1)
        return evidence(logits.softmax(1), data, clean_score=margin.sigmoid())
