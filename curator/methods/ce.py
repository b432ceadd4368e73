"""Cross-entropy: plain training on the given labels, the baseline of every noisy-label paper.

A row is kept where the trained net still predicts its given label (argmax of the logits in evaluation mode after the
last epoch); its clean score is the softmax of the given label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.optim import cosine, rates, set_rate, sgd
from curator.engine.run import Run
from curator.engine.subset import refreshed
from curator.engine.views import mixup
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import Above, AtLeast, Epochs
from curator.methods.method import Method


class Learner(NamedTuple):
    """A net that trains."""

    name: str  # of what it draws
    net: nn.Module
    model: nn.Module  # the net as it is called in training
    optimizer: torch.optim.Optimizer


@dataclass
class CrossEntropy(Method):
    """Plain training on the given labels."""

    epochs: Annotated[Epochs, AtLeast(1)] = 60
    """Epochs of training (>= 1; 120 with a net larger than `small`)."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Rows per step (>= 2)."""
    lr: Annotated[float, Above(0)] = 0.1
    """Initial learning rate of SGD with momentum (> 0); it falls to 0 along a cosine."""
    weight_decay: Annotated[float, AtLeast(0)] = 5e-4
    """Weight decay on all parameters (>= 0)."""
    alpha: Annotated[float, AtLeast(0)] = 0.0
    """Parameter of mixup's Beta(alpha, alpha) (>= 0; 0: no mixup)."""

    large_net: ClassVar[dict[str, Any]] = {"epochs": 120}

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train one net on all rows."""
        nets = run.register("nets", nn.ModuleList([run.build_net("net0", data)]), scores=True)
        learner = self.learner("0", nets[0], run)
        logits = run.register("logits", torch.zeros(len(data), len(data.classes)))
        rows = torch.arange(len(data))
        for epoch in run.epochs(self.epochs):
            self.train(learner, rows, data, run, epoch)
            part = refreshed(rows, epoch)
            logits[part] = run.predict(nets, data.inputs, part)
            yield evidence(logits.softmax(1), data)
        yield evidence(run.predict(nets, data.inputs).softmax(1), data)

    def learner(self, name: str, net: nn.Module, run: Run) -> Learner:
        """A net with its optimizer."""
        optimizer = run.register(f"optimizer{name}", sgd(net.parameters(), self.lr, self.weight_decay))
        return Learner(name, net, run.prepare(net), optimizer)

    def train(self, learner: Learner, rows: Tensor, data: NoisyDataset, run: Run, epoch: int) -> None:
        """One epoch on the rows (m,)."""
        name, net, model, optimizer = learner
        generator, normaliser = run.generator(f"views{name}", epoch), run.normaliser(data.inputs)
        labels, k = data.labels.to(run.device), len(data.classes)
        batches = run.batches(data.inputs, rows, self.batch_size, epoch, f"shuffle{name}")
        weights = run.beta(self.alpha, len(batches), f"mixup{name}", epoch)
        slopes = [cosine(self.lr, epoch + i / len(batches), self.epochs) for i in range(len(batches))]

        def step(x: Tensor, batch: Tensor, weight: Tensor, rate: Tensor) -> None:
            set_rate(optimizer, rate)
            x, target = run.views.training(x, normaliser, generator), labels[batch]
            if self.alpha:
                partner = torch.randperm(len(batch), generator=generator, device=run.device)
                x, target = mixup(x, F.one_hot(target, k).float(), weight, partner)
            with run.autocast():
                logits = model(x).logits
            run.backward(F.cross_entropy(logits, target), len(batch))
            run.step(optimizer)

        net.train()
        step = run.recorded(step, generator)
        for batch, weight, rate in zip(batches, weights, rates(slopes, run.device), strict=True):
            step(data.inputs.batch(batch), batch, weight, rate)
        set_rate(optimizer, slopes[-1])  # a number, as checkpoints hold it
