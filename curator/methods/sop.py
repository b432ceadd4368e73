"""Sparse over-parameterisation: SOP and SOP+ (Liu et al., ICML 2022).

Every row has a number u and a vector v of its own, which learn what is wrong with its label while the net learns the
rest: u^2 adds to the given class where the net does not support it, v^2 takes from the others. They start at nearly
zero and grow by a multiple whenever their row is seen, so they stay there unless a label goes against the net again and
again: few rows get them. A row's clean score is 1 - u^2; which labels are wrong, the net says.

SOP+ adds consistency of the predictions of a weak and a strong view (`consistency`, 0.9) and an even use of the classes
(`balance`, 0.1). Both views go through the net in one batch.

Where the paper is silent:
- u^2 and v^2 are clamped to [0, 1]: beyond that nothing moves them.
- The mean prediction of the balance is that of the weak views, and the penalty is the divergence, which is the
  published cross-entropy less log k. The square of cutout is cut before the image is cropped.
- With several processes each row's u and v are moved by the one that sees it, and shared at the end of an epoch.

On features both views have noise and gaps, as in plain training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.losses import log_mean_prediction, prior_divergence
from curator.engine.optim import cosine, dropped, set_rate, sgd
from curator.engine.run import Run
from curator.engine.subset import refreshed
from curator.engine.views import Strong
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import Above, AtLeast, Epochs
from curator.methods.method import Method

START = 1e-8  # deviation of u and v
FLOOR = 0.01  # of the rate, where a cosine ends
TIE = 1e-3  # of the clean score: what p tells of rows whose u is alike


@dataclass
class SOP(Method):
    """A net, and a few numbers a row that learn what is wrong with its label (SOP+: consistency 0.9, balance 0.1)."""

    epochs: Annotated[Epochs, AtLeast(1)] = 120
    """Epochs of training (>= 1; SOP+: 300)."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Rows per step (>= 2)."""
    lr: Annotated[float, Above(0)] = 0.02
    """Initial learning rate of SGD with momentum (> 0)."""
    weight_decay: Annotated[float, AtLeast(0)] = 1e-3
    """Weight decay on all parameters of the net (>= 0)."""
    first_drop: Annotated[Epochs, AtLeast(0)] = 40
    """Epoch from which the net's learning rate is a tenth (0, and no second one: it falls to .01 along a cosine)."""
    second_drop: Annotated[Epochs, AtLeast(0)] = 80
    """Epoch from which it is a hundredth (0: never)."""
    rate_u: Annotated[float, Above(0)] = 1.0
    """Learning rate of u (> 0; asymmetric noise: 0.1); with fewer epochs it has to be higher."""
    rate_v: Annotated[float, Above(0)] = 10.0
    """Learning rate of v (> 0; asymmetric noise: 100); with fewer epochs it has to be higher."""
    consistency: Annotated[float, AtLeast(0)] = 0.0
    """Weight of predicting of a strong view what is predicted of the weak one (>= 0; SOP+: 0.9)."""
    balance: Annotated[float, AtLeast(0)] = 0.0
    """Weight of the penalty on classes that are predicted more often than others (>= 0; SOP+: 0.1)."""
    strong: Strong = "auto_cifar10_cutout"
    """Operations of the strong view: a policy of AutoAugment, with cutout or without, RandAugment, or ProMix's."""
    score: Literal["u", "prediction"] = "u"
    """What the clean score is: 1 - u^2, or the softmax of the given label, for runs too short for u to grow."""

    small_net: ClassVar[dict[str, Any]] = {"epochs": 60, "first_drop": 40, "second_drop": 50, "rate_u": 2.0}

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows through one net, for the ETA."""
        return self.epochs * (2 if self.consistency else 1)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train one net on all rows, and u (n,) and v (n, k) with it."""
        n, k, rows = len(data), len(data.classes), torch.arange(len(data))
        nets = run.register("nets", nn.ModuleList([run.build_net("net0", data)]), scores=True)
        model = run.prepare(nets[0])
        optimizer = run.register("optimizer0", sgd(nets.parameters(), self.lr, self.weight_decay))
        generator = run.generator("init/uv", shared=True)
        u = run.register("u", (START * torch.randn(n, generator=generator)).to(run.device))
        v = run.register("v", (START * torch.randn(n, k, generator=generator)).to(run.device))
        logits = run.register("logits", torch.zeros(n, k))
        for epoch in run.epochs(self.epochs):
            self.train(nets[0], model, optimizer, u, v, data, run, epoch)
            part = refreshed(rows, epoch)
            logits[part] = run.predict(nets, data.inputs, part)
            yield self.result(logits, u, data)
        found = self.result(run.predict(nets, data.inputs), u, data)
        grown = (u.cpu() ** 2 > 0.5)[~found.selected].float().mean()  # NaN where no label is called wrong
        if self.score == "u" and grown < 0.5:
            run.warn(
                f"SOP: u has grown (u^2 > .5) in only {grown:.0%} of the rows whose label the net calls wrong, so "
                "clean scores tell the order and not how sure: raise --method.rate-u or --method.epochs, or take "
                "--method.score prediction"
            )
        yield found

    def rate(self, epoch: float) -> float:
        """Learning rate of the net after so many epochs."""
        if self.first_drop or self.second_drop:
            return dropped(self.lr, epoch, self.first_drop, self.second_drop)
        return cosine(self.lr, epoch, self.epochs, FLOOR * self.lr)

    def train(
        self,
        net: nn.Module,
        model: nn.Module,  # the net as it is called in training
        optimizer: torch.optim.Optimizer,
        u: Tensor,  # (n,), moved in place
        v: Tensor,  # (n, k), moved in place
        data: NoisyDataset,
        run: Run,
        epoch: int,
    ) -> None:
        """One epoch on all rows."""
        generator, normaliser = run.generator("views0", epoch), run.normaliser(data.inputs)
        labels, k, before = data.labels.to(run.device), len(data.classes), (u.clone(), v.clone())
        batches = run.batches(data.inputs, torch.arange(len(data)), self.batch_size, epoch, "shuffle0")
        net.train()
        for step, batch in enumerate(batches):
            set_rate(optimizer, self.rate(epoch + step / len(batches)))
            images = data.inputs.batch(batch)
            x = run.views.training(images, normaliser, generator)
            if self.consistency:
                x = torch.cat([x, run.views.strong(images, self.strong, normaliser, generator)])
            with run.autocast():
                logits = model(x).logits
            weak, own_u, own_v = logits[: len(batch)], u[batch].requires_grad_(), v[batch].requires_grad_()
            loss = label_loss(weak, F.one_hot(labels[batch], k).float(), own_u, own_v)
            if self.consistency:
                loss = loss + self.consistency * consistency_loss(weak, logits[len(batch) :])
            if self.balance:
                loss = loss + self.balance * prior_divergence(log_mean_prediction(weak.log_softmax(1)))
            run.backward(loss, len(x))
            run.step(optimizer)
            for values, own, rate in ((u, own_u, self.rate_u), (v, own_v, self.rate_v)):  # plain SGD, of these rows
                assert own.grad is not None
                values[batch] = own.detach() - rate / run.world * own.grad
        for values, those in zip((u, v), before, strict=True):
            run.processes.share_rows(values, those)

    def result(self, logits: Tensor, u: Tensor, data: NoisyDataset) -> Evidence:
        """Evidence of the net's logits (n, k), whose argmax says which labels are wrong, and of the size of u (n,)."""
        probs = logits.softmax(1)
        if self.score == "prediction":
            return evidence(probs, data)
        return evidence(probs, data, clean_score=clean_score(u.cpu(), probs, data.labels))


def label_loss(
    logits: Tensor,  # (b, k)
    labels: Tensor,  # (b, k) float, one-hot
    u: Tensor,  # (b,)
    v: Tensor,  # (b, k)
) -> Tensor:  # 0-d
    """Both losses on the given labels: cross-entropy trains the net and u, the squared error u and v."""
    probs = logits.softmax(1)
    added = (u[:, None] ** 2 * labels).clamp(0, 1)
    taken = (v**2 * (1 - labels)).clamp(0, 1)
    explained = F.normalize((probs + added - taken.detach()).clamp_min(1e-4), p=1, dim=1)
    predicted = F.one_hot(probs.argmax(1), probs.shape[1])
    error = ((predicted + added - taken - labels) ** 2).sum(1)
    return (error - (labels * explained.log()).sum(1)).mean()


def consistency_loss(weak: Tensor, strong: Tensor) -> Tensor:
    """KL divergence of the strong view's prediction from the weak one's, which gets no gradient: logits (b, k), 0-d."""
    return F.kl_div(strong.log_softmax(1), weak.detach().softmax(1), reduction="batchmean")


def clean_score(u: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """1 - u^2 (n,), in [0, 1]; rows alike in that are in the order of their given label's probability."""
    given = probs.gather(1, labels[:, None]).squeeze(1)
    return (1 - u**2).clamp(0, 1) * (1 - TIE) + TIE * given
