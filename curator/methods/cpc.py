"""CPC: class prototypes as the cleaner of AugDMix and DivideMix (arXiv 2212.10766).

The loop is DivideMix's (methods/dividemix.py). What splits clean from noisy rows is, beside the Gaussian mixture on the
losses, how near a row's projected feature is to the prototype of its label. The four cleaners of table 3: a mixture on
the losses of all rows (gmm_agn) or one on those of every class (gmm_awr), and prototypes that learn from either split
(cpc_agn, cpc_awr). The defaults are AugDMix with prototypes and the paper's own schedule.

Where the paper is silent or contradicts itself: the projector is one linear map to 128 numbers, prototypes start from
N(0, 1 / 128), and both train for one pass an epoch over joint batches of weak views, features in evaluation mode, at
the net's learning rate; the score is taken after the update (`reading: paper`: before it, as in algorithm 1), in
evaluation mode without augmentation; class-wise mixtures read losses that were normalised over all rows. Before the
prototypes split, the mixture's posterior is the clean score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from curator.engine.nets import Output
from curator.engine.optim import set_rate, sgd
from curator.engine.run import Run
from curator.evidence import NoisyDataset
from curator.methods.dividemix import DivideMix, Mixture, Peer
from curator.methods.fields import AtLeast, Epochs
from curator.signals.prototypes import prototype_loss, prototype_score, pulled_classes

WIDTH = 128  # numbers of a projected feature and of a prototype; the paper does not say


class Prototypes(Mixture):
    """The cleaner: how near each row is to the prototype of its label."""

    method: CPC

    def __init__(self, method: CPC, peers: list[Peer], data: NoisyDataset, run: Run, *, by_class: bool):
        super().__init__(method, peers, data, run, by_class=by_class)
        n, k = len(data), len(data.classes)
        self.score = run.register("score", torch.ones(2, n))
        # Per net: pulled_classes of its predictions and the other one's split, for its own prototypes.
        self.pulled = run.register("pulled", torch.full((2, n), -1))
        self.prototypes: list[nn.Linear] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.projected: dict[int, Tensor] = {}  # by net, of the rows that it saw last
        for i, peer in enumerate(peers):
            with run.seeded(f"init/prototypes{i}"):
                prototypes = nn.Linear(WIDTH, k, bias=False)
                nn.init.normal_(prototypes.weight, std=WIDTH**-0.5)
            self.prototypes.append(run.register(f"prototypes{i}", prototypes))
            both = [*self.projector(peer).parameters(), *prototypes.parameters()]
            optimizer = sgd(both, method.lr, method.weight_decay)
            self.optimizers.append(run.register(f"prototype_optimizer{i}", optimizer))

    @staticmethod
    def projector(peer: Peer) -> nn.Module:
        """The net's linear map to what prototypes are compared with."""
        assert peer.net.projector is not None
        return peer.net.projector

    def look(self, i: int, rows: Tensor) -> Tensor:
        """Logits (m, k) of net i; the projected features of the same pass are put aside."""
        seen = self.run.predict(self.peers[i].net, self.data.inputs, rows, output=logits_and_projection)
        k = len(self.data.classes)
        self.projected[i] = seen[:, k:]
        return seen[:, :k]

    def judge(self, rows: list[Tensor], coming: int, *, remember: bool = True) -> None:
        """What the mixture and, when they have trained for a while, the prototypes make of the rows."""
        super().judge(rows, coming, remember=remember)
        for i, here in enumerate(rows):
            self.score[i, here] = self.clean[i, here]
            if coming >= self.method.first_split():
                self.compare(i, here)
        if self.method.cpc_alpha:
            for i in (0, 1):
                self.pull(i, rows)

    def pull(self, i: int, rows: list[Tensor]) -> None:
        """Classes to whose prototype net i will draw the confident noisy rows of the other one's split."""
        here = rows[1 - i]
        if not torch.equal(rows[0], rows[1]):  # it has not seen that sample
            self.logits[i, here] = self.run.predict(self.peers[i].net, self.data.inputs, here)
        is_clean = self.clean[1 - i, here] > self.method.p_threshold
        self.pulled[i, here] = pulled_classes(self.logits[i, here].softmax(1), self.data.labels[here], is_clean)

    def compare(self, i: int, rows: Tensor) -> None:
        """Put down the prototypes' score of the rows that net i has just seen; trusted rows are clean."""
        weight = self.prototypes[i].weight.detach().cpu()
        self.score[i, rows] = prototype_score(self.projected[i], weight, self.data.labels[rows])
        self.score[i, self.data.trusted] = 1.0

    def split(self, rows: list[Tensor], epoch: int) -> Tensor:
        """Train the prototypes; when they have done so for a while their score splits, until then the mixture."""
        before = self.score.clone()
        self.run.apart(self.pair, lambda i: self.train(i, rows[1 - i], epoch))
        if epoch < self.method.first_split():
            return self.clean
        if self.method.reading == "paper":
            return before
        for i in (0, 1):
            self.look(i, rows[i])
            self.compare(i, rows[i])
        return self.score

    def train(self, i: int, rows: Tensor, epoch: int) -> None:
        """One pass of net i's projector and prototypes over the rows (equation 5); the net itself stays as it is."""
        run, data, method, net = self.run, self.data, self.method, self.peers[i].net
        projector, prototypes, optimizer = self.projector(self.peers[i]), self.prototypes[i], self.optimizers[i]
        normaliser, generator = run.normaliser(data.inputs), run.generator(f"prototype views{i}", epoch)
        labels, pulled = data.labels.to(run.device), self.pulled[i].to(run.device)
        is_clean = (self.clean[1 - i] > method.p_threshold).to(run.device)
        set_rate(optimizer, method.rate(epoch))
        net.eval()

        def step(x: Tensor, batch: Tensor) -> None:
            with torch.no_grad(), run.autocast():
                features = net(run.views.weak(x, normaliser, generator)).features
            scores = prototypes(projector(features))
            loss = prototype_loss(scores, labels[batch], is_clean[batch], pulled[batch], method.cpc_alpha)
            run.backward(loss, 0)
            run.step(optimizer)

        step = run.recorded(step, generator)
        for batch in run.batches(data.inputs, rows, method.warmup_batch, epoch, f"prototypes{i}"):
            step(data.inputs.batch(batch), batch)


@dataclass
class CPC(DivideMix):
    """AugDMix with class prototypes as the cleaner, and the schedule of CPC's paper."""

    epochs: Annotated[Epochs, AtLeast(1)] = 450
    """Epochs of training, warm-up included (>= 1)."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Labelled rows per step, and as many unlabelled ones, two views of each (>= 2)."""
    lr_drop: Annotated[Epochs, AtLeast(0)] = 225
    """Epoch from which the learning rate is a tenth."""
    cleaner: Literal["gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr"] = "cpc_awr"
    """What splits clean from noisy: a mixture over all rows (agn) or one a class (awr), alone or with prototypes; the
    paper's choice is cpc_agn for asymmetric noise and Clothing1M, else cpc_awr."""
    augment: Literal["weak", "augdmix"] = "augdmix"
    """Views that train: weak ones as in DivideMix, or strong ones with targets from weak ones as in AugDMix."""
    cpc_warmup: Annotated[Epochs, AtLeast(0)] = 22
    """Epochs after warm-up in which prototypes train but the mixture still splits (5 %; CIFAR-100, 80 %: 45)."""
    cpc_alpha: Annotated[float, AtLeast(0)] = 0.0
    """Weight of drawing confident noisy rows to the prototype of their predicted class (>= 0)."""
    reading: Literal["released", "paper"] = "released"
    """Targets as in DivideMix's code and the score after the prototypes' training of an epoch (released), or targets in
    evaluation mode and the score before that training (paper, algorithm 1)."""

    small_net: ClassVar[dict[str, Any]] = {
        "epochs": 90, "warmup": 10, "lr_drop": 60, "cpc_warmup": 5, "batch_size": 64, "lambda_u": 0.0,
    }  # fmt: skip

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows through one net, for the ETA: prototypes train on all rows, which are seen again."""
        again = 2 * 2 / 3 * max(0, self.epochs - self.warmup) if self.has_prototypes() else 0
        return super().total_epochs(classes, rows) + again

    def has_prototypes(self) -> bool:
        """Whether the cleaner uses prototypes."""
        return self.cleaner.startswith("cpc")

    def first_split(self) -> int:
        """The epoch from which prototypes split."""
        return self.warmup + self.cpc_warmup

    def projector(self) -> tuple[int, ...]:
        """Sizes of a net's projector."""
        return (WIDTH,) if self.has_prototypes() else ()

    def make_cleaner(self, peers: list[Peer], data: NoisyDataset, run: Run) -> Mixture:
        """What splits clean from noisy."""
        kind = Prototypes if self.has_prototypes() else Mixture
        return kind(self, peers, data, run, by_class=self.cleaner.endswith("awr"))


def logits_and_projection(out: Output) -> Tensor:  # (b, k + d)
    """Both in one pass."""
    assert out.projected is not None
    return torch.cat([out.logits, out.projected], 1)
