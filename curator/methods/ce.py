"""Cross-entropy: plain training on the given labels, the baseline of every noisy-label paper.

A row is kept where the trained net still predicts its given label (argmax of the logits in evaluation mode after the
last epoch); its clean score is the softmax of the given label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.run import Run
from curator.engine.views import mixup, training_view
from curator.evidence import Evidence, NoisyDataset, evidence

# The type of a hyperparameter that counts epochs: --epochs scales it.
Epochs = Annotated[int, "epochs"]

# During training a fifth of the rows is scored again each epoch: 7 % more work instead of 33 %. The result scores all.
REFRESH = 5


@dataclass
class CrossEntropy:
    """Plain training on the given labels."""

    epochs: Epochs = 60
    """Epochs of training (>= 1; 120 with a net larger than `small`)."""
    batch_size: int = 128
    """Rows per step (>= 2)."""
    lr: float = 0.1
    """Initial learning rate of SGD with momentum (> 0); it falls to 0 along a cosine."""
    momentum: float = 0.9
    """Momentum of SGD, in [0, 1)."""
    weight_decay: float = 5e-4
    """Weight decay on all parameters (>= 0)."""
    flip: bool = True
    """Mirror images left-right at random; off where a mirrored image may be of another class, as for digits."""
    feature_noise: float = 0.2
    """On features: deviation of the noise that is added, in deviations of a feature (>= 0)."""
    feature_drop: float = 0.2
    """On features: share of the features set to their mean, in [0, 1)."""
    alpha: float = 0.0
    """Parameter of mixup's Beta(alpha, alpha) (>= 0; 0: no mixup)."""

    large_net: ClassVar[dict[str, Any]] = {"epochs": 120}

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows, for the ETA."""
        return self.epochs

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train one net on all rows."""
        nets = run.register("nets", nn.ModuleList([run.build_net("net0", data)]), scores=True)
        fit = self.trainer(nets[0], data, run, "0")
        rows = torch.arange(len(data))
        logits = run.register("logits", torch.zeros(len(data), len(data.classes)))
        normaliser = run.normaliser(data.inputs)
        for epoch in run.epochs(self.epochs):
            fit(epoch, rows)
            part = rows[epoch % REFRESH :: REFRESH] if epoch else rows
            logits[part] = run.predict(nets, data.inputs, part, normaliser=normaliser)
            yield evidence(logits.softmax(1), data)
        yield evidence(run.predict(nets, data.inputs, normaliser=normaliser).softmax(1), data)

    def trainer(self, net: nn.Module, data: NoisyDataset, run: Run, name: str) -> Callable[[int, Tensor], None]:
        """A function (epoch, rows) that trains the net for one epoch on the rows.

        Its optimizer is registered under the name.
        """
        optimizer = torch.optim.SGD(
            net.parameters(), self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
        )
        run.register(f"optimizer{name}", optimizer)
        model = run.prepare(net)
        normaliser = run.normaliser(data.inputs)
        labels = data.labels.to(run.device)
        classes = len(data.classes)

        def fit(epoch: int, rows: Tensor) -> None:
            net.train()
            batches = run.batches(data.inputs, rows, self.batch_size, epoch, f"shuffle{name}")
            generator = run.generator(f"views{name}", epoch)
            weights = run.beta(self.alpha, len(batches), f"mixup{name}", epoch) if self.alpha else None
            for step, batch in enumerate(batches):
                for group in optimizer.param_groups:
                    group["lr"] = cosine(self.lr, epoch + step / len(batches), self.epochs)
                x, target = self.view(data.inputs.batch(batch), normaliser, generator), labels[batch]
                if weights is not None:
                    partner = torch.randperm(len(batch), generator=generator, device=run.device)
                    x, target = mixup(x, F.one_hot(target, classes).float(), weights[step], partner)
                with run.autocast():
                    logits = model(x).logits
                run.backward(F.cross_entropy(logits, target), len(batch))
                run.step(optimizer)

        return fit

    def view(self, x: Tensor, normaliser: Callable[[Tensor], Tensor], generator: torch.Generator) -> Tensor:
        """Float rows: cropped and mirrored images, or features with noise and gaps."""
        noise, drop = self.feature_noise, self.feature_drop
        return training_view(x, normaliser, generator, flip=self.flip, noise=noise, drop=drop)


def cosine(lr: float, epoch: float, epochs: int, floor: float = 0.0) -> float:
    """Learning rate after `epoch` of `epochs` on a cosine from lr down to floor."""
    return floor + (lr - floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def dropped(lr: float, epoch: float, *drops: int) -> float:
    """Learning rate of an epoch: a tenth from each of the epochs `drops` on; 0 is none."""
    return lr * 0.1 ** sum(epoch >= drop for drop in drops if drop)
