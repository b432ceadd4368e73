"""Forgetting: rows that a net learns and forgets again are the wrong ones (Toneva et al. 2019, arXiv 1812.05159).

Plain training on the given labels. After every epoch each row is either predicted as labelled or not; a net that has
learned a row and then gets it wrong has forgotten it. Right labels are learned early and stay, wrong ones are learned
late and lost often, so the share of epochs in which a row was right is its clean score, and rows that were right in
fewer than `least` of them are flagged. The net's own last word plays no part in it: by then it may know wrong
labels by heart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.optim import cosine, set_rate, sgd
from curator.engine.run import Run
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import SHARE, Above, AtLeast, Epochs
from curator.methods.method import Method


@dataclass
class Forgetting(Method):
    """Plain training; how often a row was predicted as labelled says how clean it is."""

    epochs: Annotated[Epochs, AtLeast(1)] = 30
    """Epochs of training (>= 1)."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Rows per step (>= 2)."""
    lr: Annotated[float, Above(0)] = 0.05
    """Initial learning rate of SGD with momentum (> 0); it falls to 0 along a cosine."""
    least: Annotated[float, SHARE] = 0.5
    """Share of the epochs in which a clean row was predicted as labelled, in [0, 1]."""

    large_net: ClassVar[dict[str, Any]] = {"epochs": 100}

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train one net and count after every epoch."""
        nets = run.register("nets", nn.ModuleList([run.build_net("net0", data)]), scores=True)
        optimizer = run.register("optimizer", sgd(nets.parameters(), self.lr, weight_decay=5e-4))
        seen = run.register("seen", torch.zeros(2, len(data)))  # epochs, and those in which the label was predicted
        model, normaliser, labels = run.prepare(nets[0]), run.normaliser(data.inputs), data.labels.to(run.device)
        for epoch in run.epochs(self.epochs):
            nets.train()
            set_rate(optimizer, cosine(self.lr, epoch, self.epochs))
            generator = run.generator("views", epoch)
            for rows in run.batches(data.inputs, torch.arange(len(data)), self.batch_size, epoch):
                x = run.views.training(data.inputs.batch(rows), normaliser, generator)
                with run.autocast():
                    logits = model(x).logits
                run.backward(F.cross_entropy(logits, labels[rows]), len(rows))
                run.step(optimizer)
            found = run.predict(nets, data.inputs).argmax(1)
            seen += torch.stack([torch.ones(len(data)), found == data.labels])
            yield self.result(nets, seen, data, run)
        yield self.result(nets, seen, data, run)  # also where a run is continued after its last epoch

    def result(self, nets: nn.ModuleList, seen: Tensor, data: NoisyDataset, run: Run) -> Evidence:
        """What the net predicts, and how often it predicted the given label."""
        score = seen[1] / seen[0].clamp_min(1)
        probs = run.predict(nets, data.inputs).softmax(1)
        return evidence(probs, data, selected=score >= self.least, clean_score=score)
