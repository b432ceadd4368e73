"""Early-learning regularisation: ELR and ELR+ (Liu et al., NeurIPS 2020).

A net learns the right labels before it learns the wrong ones by heart. So every row keeps a running mean t of what was
predicted of it, and the loss holds the net to that: cross-entropy + lambda log(1 - <t, p>), whose second part falls
where the prediction p agrees with its own past. ELR+ trains two nets, each on mixed rows and held to what an averaged
copy of the other one predicts of the rows unmixed; its result is the mean of both nets' logits.

Where the paper is silent or the published runs differ:
- Targets are moved before the loss of the step is taken, and p is clamped first, which bounds the logarithm.
- Each net of ELR+ has targets of its own, and the averaged copies are in training mode: their batch normalisation
  keeps the statistics of their own passes, only weights are averaged.
- The rate falls within an epoch, too: --epochs may make a restart of one epoch. The ramp is in epochs, not in steps.
- With several processes each row's target is moved by the one that sees it, and shared at the end of an epoch.

On features the rows have noise and gaps, as in plain training.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.optim import cosine, dropped, set_rate, sgd, sigmoid_ramp
from curator.engine.run import Run
from curator.engine.subset import refreshed
from curator.engine.views import mixed, mixup
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import BELOW_1, Above, AtLeast, Epochs
from curator.methods.method import Method

CLAMP = 1e-4  # probabilities lie this far from 0 and 1, or the logarithm explodes where t and p are both sure
FLOOR = 0.05  # of the rate, where a cosine ends


class Peer(NamedTuple):
    """A net with what belongs to it."""

    name: str  # of what it draws
    net: nn.Module
    model: nn.Module  # the net as it is called in training
    optimizer: torch.optim.Optimizer
    averaged: nn.Module  # its copy with averaged weights; in ELR the net itself
    targets: Tensor  # (n, k), moved in place


@dataclass
class ELR(Method):
    """A net that is held to its own early predictions; with plus (ELR+) two nets, mixup and averaged weights."""

    plus: bool = False
    """ELR+: two nets that train on mixed rows, each held to the predictions of the other one's averaged copy."""
    epochs: Annotated[Epochs, AtLeast(1)] = 150
    """Epochs of training (>= 1; ELR+: 200)."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Rows per step (>= 2)."""
    lr: Annotated[float, Above(0)] = 0.02
    """Initial learning rate of SGD with momentum (> 0)."""
    weight_decay: Annotated[float, AtLeast(0)] = 1e-3
    """Weight decay on all parameters (>= 0; ELR+: 5e-4)."""
    restart: Annotated[Epochs, AtLeast(0)] = 10
    """Epochs of a cosine in which the rate falls to a twentieth, over and over (0: it does not)."""
    first_drop: Annotated[Epochs, AtLeast(0)] = 0
    """Epoch from which the learning rate is multiplied by `drop` (0: never)."""
    second_drop: Annotated[Epochs, AtLeast(0)] = 0
    """Epoch from which it is once more (0: never)."""
    drop: Annotated[float, Above(0)] = 0.01
    """What a drop multiplies the rate by (> 0; ELR+: 0.1)."""
    beta: Annotated[float, BELOW_1] = 0.7
    """Share of a target that stays when its row is seen, in [0, 1) (CIFAR-100, asymmetric noise: 0.9)."""
    lambda_t: Annotated[float, AtLeast(0)] = 3.0
    """Weight of the term that holds predictions to their targets (>= 0; asymmetric noise: 1, CIFAR-100: 7)."""
    lambda_ramp: Annotated[Epochs, AtLeast(0)] = 0
    """Epochs in which lambda_t rises along a sigmoid (0: at once; ELR+ on CIFAR-100: 102)."""
    alpha: Annotated[float, AtLeast(0)] = 1.0
    """ELR+: parameter of mixup's Beta(alpha, alpha) (>= 0; 0: no mixup)."""
    averaging: Annotated[float, BELOW_1] = 0.997
    """ELR+: share of the averaged weights that stays in a step, in [0, 1)."""
    weigh_labels: bool = False
    """ELR+: multiply the mixed labels by the mixed targets, as the published runs with 100 classes do."""
    soft_label: Literal["prediction", "target"] = "prediction"
    """What tells the result: the softmax of the trained nets' mean logits, or the targets."""

    small_net: ClassVar[dict[str, Any]] = {"epochs": 60}

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows through one net, for the ETA; a copy's predictions are a third of a pass."""
        return self.epochs * (2 * 4 / 3 if self.plus else 1)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train one net, or two that take turns by epoch, on all rows."""
        count, rows = 1 + self.plus, torch.arange(len(data))
        nets = run.register("nets", nn.ModuleList(run.build_net(f"net{i}", data) for i in range(count)), scores=True)
        peers = [self.peer(str(i), net, data, run) for i, net in enumerate(nets)]
        logits = run.register("logits", torch.zeros(len(data), len(data.classes)))
        for epoch in run.epochs(self.epochs):
            for i, peer in enumerate(peers):
                self.train(peer, peers[count - 1 - i], data, run, epoch)
            if self.soft_label == "prediction":
                part = refreshed(rows, epoch)
                logits[part] = run.predict(nets, data.inputs, part)
            yield self.result(peers, logits, data)
        if self.soft_label == "prediction":
            logits.copy_(run.predict(nets, data.inputs))
        yield self.result(peers, logits, data)

    def peer(self, name: str, net: nn.Module, data: NoisyDataset, run: Run) -> Peer:
        """A net with its optimizer, its averaged copy and the targets that it is held to."""
        optimizer = run.register(f"optimizer{name}", sgd(net.parameters(), self.lr, self.weight_decay))
        averaged = run.register(f"averaged{name}", copy.deepcopy(net)) if self.plus else net
        targets = torch.zeros(len(data), len(data.classes), device=run.device)
        return Peer(name, net, run.prepare(net), optimizer, averaged, run.register(f"targets{name}", targets))

    def rate(self, epoch: float) -> float:
        """Learning rate after so many epochs."""
        lr = cosine(self.lr, epoch % self.restart, self.restart, FLOOR * self.lr) if self.restart else self.lr
        return dropped(lr, epoch, self.first_drop, self.second_drop, factor=self.drop)

    def train(self, peer: Peer, other: Peer, data: NoisyDataset, run: Run, epoch: int) -> None:
        """One epoch of a net on all rows; `other` is the net whose copy makes its targets."""
        name, net, model, optimizer, averaged, targets = peer
        generator, normaliser = run.generator(f"views{name}", epoch), run.normaliser(data.inputs)
        labels, k = data.labels.to(run.device), len(data.classes)
        batches = run.batches(data.inputs, torch.arange(len(data)), self.batch_size, epoch, f"shuffle{name}")
        weights = run.beta(self.alpha if self.plus else 0.0, len(batches), f"mixup{name}", epoch)
        before = targets.clone()
        net.train()
        other.averaged.train()
        for step, (batch, weight) in enumerate(zip(batches, weights.maximum(1 - weights), strict=True)):
            passed = epoch + step / len(batches)
            set_rate(optimizer, self.rate(passed))
            x = run.views.training(data.inputs.batch(batch), normaliser, generator)
            y = F.one_hot(labels[batch], k).float()
            if self.plus:
                with torch.no_grad(), run.autocast():
                    guess = other.averaged(x).logits
                moved(targets, batch, guess, self.beta)
                partner = torch.randperm(len(batch), generator=generator, device=run.device)
                x, y = mixup(x, y, weight, partner)
            with run.autocast():
                logits = model(x).logits
            if self.plus:
                target = mixed(targets[batch], weight, partner)
                y = F.normalize(y * target, p=1, dim=1) if self.weigh_labels else y
            else:
                moved(targets, batch, logits, self.beta)
                target = targets[batch]
            weight_now = sigmoid_ramp(self.lambda_t, passed, self.lambda_ramp)
            run.backward(F.cross_entropy(logits, y) + weight_now * early_term(logits, target), len(batch))
            run.step(optimizer)
            if self.plus:
                average(averaged, net, self.averaging, epoch * len(batches) + step)
        run.processes.share_rows(targets, before)
        for touched in (net, averaged, other.averaged):  # in training mode; what is predicted with is shared anyway
            run.share_buffers(touched)

    def result(self, peers: list[Peer], logits: Tensor, data: NoisyDataset) -> Evidence:
        """Evidence of the targets, whose mean is scaled to a sum of 1, or of the nets' mean logits (n, k)."""
        if self.soft_label == "prediction":
            return evidence(logits.softmax(1), data)
        targets = torch.stack([peer.targets for peer in peers]).mean(0)
        return evidence(targets / targets.sum(1, keepdim=True), data)


def moved(
    targets: Tensor,  # (n, k), moved in place
    rows: Tensor,  # (b,) int64
    logits: Tensor,  # (b, k)
    beta: float,
) -> None:
    """Move the rows' targets towards what is predicted of them."""
    probs = logits.detach().softmax(1).clamp(CLAMP, 1 - CLAMP)
    targets[rows] = beta * targets[rows] + (1 - beta) * probs / probs.sum(1, keepdim=True)


def early_term(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of log(1 - <t, p>): logits and targets (b, k) -> 0-d; targets get no gradient."""
    probs = logits.softmax(1).clamp(CLAMP, 1 - CLAMP)
    return (1 - (targets * probs).sum(1)).log().mean()


@torch.no_grad()
def average(averaged: nn.Module, net: nn.Module, share: float, step: int) -> None:
    """Move averaged weights to those of the net; in early steps (from 0) by more, so that they do not lag behind."""
    share = min(1 - 1 / (step + 1), share)
    for mine, its in zip(averaged.parameters(), net.parameters(), strict=True):
        mine.lerp_(its, 1 - share)
