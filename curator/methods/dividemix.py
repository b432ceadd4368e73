"""DivideMix (Li et al., ICLR 2020) and AugDMix (Nishi et al., CVPR 2021).

Two nets. After a warm-up on all rows each epoch learns a cleaner, which gives every row a clean probability w by what
one net has learned; the other net then takes the rows above a threshold as labelled and the rest as unlabelled
(co-divide). Labels are refined by w, those of unlabelled rows guessed by both nets, and MixMatch trains on all of them.
The cleaner is a Gaussian mixture on the losses of all rows. AugDMix guesses from weak views and trains on strong ones.

Where the released code differs from the paper it is the default, because it gave the published numbers:
- Targets are made in training mode for the net that trains (BatchNorm sees four more batches), the other one is in
  evaluation mode (`reading: paper`: both are).
- Refined labels mix in the prediction of the net that trains only.
- "Batch size 128" is 64 labelled and 64 unlabelled rows, two views of each (AugDMix: 128 and 128).
- It runs one epoch more (301 passes); this is not followed. The mixture starts from the exact 2-means instead of a
  random k-means, batches of an epoch are of nearly equal size, where there the last one is short.
- Where fewer than two rows (a process) are labelled, the epoch is one of warm-up; fewer than two unlabelled ones are
  left out. Compiled, all batches are of one size and the rest of an epoch is left out.
- AutoAugment is torchvision's but for its translations: it also rotates clockwise, shears to the nearest pixel and
  solarizes from 255.
- With several processes, batches, their statistics and the penalty on the mean prediction are each process's own.

On features the weak view is the row itself and the strong view adds noise and gaps; both nets train at once and guess
with what the other one said of the rows before. On images net 1 guesses with net 0 as it is when that has trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.losses import log_mean_prediction, negative_entropy, prior_divergence
from curator.engine.nets import Net
from curator.engine.optim import ramp, set_rate, sgd
from curator.engine.run import Run
from curator.engine.views import Normaliser, Strong, mixup, strengthen
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import BELOW_1, Above, AtLeast, Epochs
from curator.methods.method import Method
from curator.signals.gmm import clean_posterior, clean_posterior_by_class, normalised
from curator.signals.small_loss import quotas, smallest_of_class

Knows = Callable[[Tensor, Tensor], Tensor]  # views (b, ...) of rows (b,) int64 -> a net's logits (b, k) of them
TEMPERATURE = 0.5  # T, which sharpens refined and guessed labels; in all papers and codes


class Peer(NamedTuple):
    """One of the two nets."""

    name: str  # of what it draws
    net: Net
    model: Net  # the net as it is called in training
    optimizer: torch.optim.Optimizer  # of all but a projector


class Mixture:
    """The cleaner: a Gaussian mixture on the losses of a net says how likely each of the n labels is clean."""

    def __init__(self, method: DivideMix, peers: list[Peer], data: NoisyDataset, run: Run, *, by_class: bool = False):
        n, k = len(data), len(data.classes)
        self.method, self.peers, self.data, self.run, self.by_class = method, peers, data, run, by_class
        self.pair = run.pair(data.inputs)
        # By net whose losses are read: before the first epoch all rows are clean.
        self.clean = run.register("mixture", torch.ones(2, n))
        self.losses = run.register(
            "losses", torch.full((2, method.loss_history, n), torch.nan)
        )  # normalised, past ones
        self.logits = run.register("logits", torch.zeros(2, n, k))
        self.score = self.clean  # of the result

    def judge(
        self,
        rows: list[Tensor],  # by net, those to judge
        coming: int,  # the epoch that will read it
        *,
        remember: bool = True,  # whether the losses join the history
    ) -> None:
        """Losses of both nets in evaluation mode without augmentation, and what the mixture makes of them."""
        seen = [self.look(i, rows[i]) for i in (0, 1)]
        for i, (here, logits) in enumerate(zip(rows, seen, strict=True)):
            labels = self.data.labels[here]
            self.logits[i, here] = logits
            losses = F.cross_entropy(logits, labels, reduction="none")
            keep = remember and coming >= self.method.warmup
            self.clean[i, here] = self.posterior(losses, labels, self.losses[i], here, keep).float()
            self.clean[i, self.data.trusted] = 1.0

    def look(self, i: int, rows: Tensor) -> Tensor:
        """Logits (m, k) of net i."""
        return self.run.predict(self.peers[i].net, self.data.inputs, rows)

    def posterior(
        self, losses: Tensor, labels: Tensor, history: Tensor, rows: Tensor, remember: bool
    ) -> Tensor:  # (m,) float64
        """The mixture's posterior of losses (m,), averaged with those of the last epochs where that is asked for."""
        scaled = normalised(losses)
        if len(history) > 1:
            if remember:
                history[:, rows] = torch.cat([scaled[None].float(), history[:-1, rows]])
            mean = history[:, rows].nanmean(0).double()
            scaled = torch.where(mean.isnan(), scaled, mean)
        return clean_posterior_by_class(scaled, labels) if self.by_class else clean_posterior(scaled)

    def split(self, rows: list[Tensor], epoch: int) -> Tensor:
        """Clean probabilities (2, n) for the epoch on these rows, by net that judges."""
        return self.clean


@dataclass
class DivideMix(Method):
    """Co-divide by a mixture on the losses, then MixMatch with refined and guessed labels."""

    epochs: Annotated[Epochs, AtLeast(1)] = 300
    """Epochs of training, warm-up included (>= 1)."""
    warmup: Annotated[Epochs, AtLeast(1)] = 10
    """Epochs of plain cross-entropy on all rows before the first split (CIFAR-100: 30)."""
    batch_size: Annotated[int, AtLeast(2)] = 64
    """Labelled rows per step, and as many unlabelled ones, two views of each (>= 2)."""
    warmup_batch: Annotated[int, AtLeast(2)] = 128
    """Rows per step of warm-up and of the prototypes' training (>= 2)."""
    lr: Annotated[float, Above(0)] = 0.02
    """Learning rate of SGD with momentum (> 0)."""
    lr_drop: Annotated[Epochs, AtLeast(0)] = 150
    """Epoch from which the learning rate is a tenth."""
    weight_decay: Annotated[float, AtLeast(0)] = 5e-4
    """Weight decay on all parameters (>= 0)."""
    augment: Literal["weak", "augdmix"] = "weak"
    """Views that train: weak ones as in DivideMix, or strong ones with targets from weak ones as in AugDMix."""
    strong: Strong = "auto_cifar10"
    """Operations of the strong view of augdmix: a policy of AutoAugment, RandAugment, or ProMix's with cutout."""
    warmup_strong: Strong | None = None
    """Operations of strong views in warm-up, as AugDMix's with strong warm-up (SAW). None: weak views."""
    alpha: Annotated[float, AtLeast(0)] = 4.0
    """Parameter of mixup's Beta distribution (> 0)."""
    p_threshold: Annotated[float, BELOW_1] = 0.5
    """Clean probability above which a row is labelled, in [0, 1) (90 % noise: 0.6)."""
    lambda_u: Annotated[float, AtLeast(0)] = 25.0
    """Weight of the unlabelled loss after its ramp (>= 0): 0 for little noise, 25 to 150 for much."""
    lambda_u_ramp: Annotated[Epochs, AtLeast(0)] = 16
    """Epochs after warm-up in which lambda_u rises from 0."""
    confidence_penalty: bool = False
    """Penalise confident predictions in warm-up, for asymmetric noise."""
    loss_history: Annotated[int, AtLeast(1)] = 1
    """Epochs whose normalised losses are averaged before the mixture is fitted (>= 1; 90 % noise: 5)."""
    batches: Annotated[int, AtLeast(0)] = 0
    """Batches per epoch, a new class-balanced sample each time (>= 0; 0: all rows; Clothing1M: 1000)."""
    mix_unlabelled: bool = True
    """Mix and train on unlabelled rows too; off: they are only partners (Clothing1M, WebVision)."""
    selected_rule: Literal["agreement", "posterior"] = "agreement"
    """What the result keeps: rows whose given label is predicted, or rows above p_threshold."""

    reading: Literal["released", "paper"] = "released"
    """Mode of the training net while it makes targets: training (released code), or evaluation (paper)."""

    two_nets: ClassVar[bool] = True
    # With 25, what a net of 0.2 M parameters knows after so few epochs drowns in its own guesses.
    small_net: ClassVar[dict[str, Any]] = {"epochs": 90, "warmup": 10, "lr_drop": 60, "lambda_u": 0.0}

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows through one net, for the ETA; half of them are taken to be labelled."""
        mixed = 0.5 * (4 if self.mix_unlabelled else 2) + 0.5 * 6 / 3  # trained, and only predicted
        return 2 * (min(self.warmup, self.epochs) * 4 / 3 + (mixed + 1 / 3) * max(0, self.epochs - self.warmup))

    def rows_at_once(self) -> int:
        """Two views of labelled rows, and of as many unlabelled ones."""
        return self.batch_size * (4 if self.mix_unlabelled else 2)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train both nets and yield after every epoch."""
        peers = self.build(data, run)
        cleaner = self.make_cleaner(peers, data, run)
        for epoch in run.epochs(self.epochs):
            for peer in peers:
                set_rate(peer.optimizer, self.rate(epoch))
            self.train_both(peers, cleaner, data, run, epoch)
            cleaner.judge(self.rows(data, run, epoch + 1), epoch + 1)
            yield self.result(cleaner, data)
        if self.batches:  # so far only samples were judged
            cleaner.judge([torch.arange(len(data))] * 2, self.epochs, remember=False)
        yield self.result(cleaner, data)

    # What is there

    def build(self, data: NoisyDataset, run: Run) -> list[Peer]:
        """The two nets with their optimizers."""
        nets = [run.build_net(f"net{i}", data, projector=self.projector()) for i in (0, 1)]
        run.register("nets", nn.ModuleList(nets), scores=True)
        peers = []
        for i, net in enumerate(nets):
            own = [p for name, p in net.named_parameters() if not name.startswith("projector")]
            optimizer = run.register(f"optimizer{i}", sgd(own, self.lr, self.weight_decay))
            peers.append(Peer(str(i), net, run.prepare(net), optimizer))
        return peers

    def projector(self) -> tuple[int, ...]:
        """Sizes of a net's projector: there is none."""
        return ()

    def make_cleaner(self, peers: list[Peer], data: NoisyDataset, run: Run) -> Mixture:
        """What splits clean from noisy."""
        return Mixture(self, peers, data, run)

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch."""
        return self.lr * (0.1 if epoch >= self.lr_drop else 1)

    def rows(self, data: NoisyDataset, run: Run, epoch: int) -> list[Tensor]:
        """The rows of an epoch, by net that judges them: all, or a sample that is balanced by class, one a net."""
        n, k = len(data), len(data.classes)
        size = self.batches * (self.warmup_batch if epoch < self.warmup else self.batch_size)
        if not self.batches or size >= n:
            return [torch.arange(n)] * 2
        chosen = []
        for i in (0, 1):
            rank = torch.randperm(n, generator=run.generator(f"sample{i}", epoch, shared=True)).argsort()
            quota = quotas(torch.bincount(data.labels, minlength=k), size / n)
            chosen.append(smallest_of_class(rank, data.labels, quota).nonzero()[:, 0])
        return chosen

    # Training

    def train_both(self, peers: list[Peer], cleaner: Mixture, data: NoisyDataset, run: Run, epoch: int) -> None:
        """An epoch of both nets, each on the rows that the other one judged."""
        rows = self.rows(data, run, epoch)
        if epoch < self.warmup:
            return run.apart(cleaner.pair, lambda i: self.warm_up(peers[i], data, run, rows[1 - i], epoch))
        split = cleaner.split(rows, epoch)

        def known(i: int) -> Knows:
            if data.inputs.kind == "features":  # weak views are the rows themselves, which the net has just judged
                logits = cleaner.logits[i].to(run.device)
                return lambda _, here: logits[here]
            peers[i].net.eval()
            return lambda view, _: peers[i].model(view).logits

        run.apart(
            cleaner.pair, lambda i: self.train(peers[i], known(1 - i), split[1 - i], data, run, rows[1 - i], epoch)
        )

    def warm_up(self, peer: Peer, data: NoisyDataset, run: Run, rows: Tensor, epoch: int) -> None:
        """An epoch of cross-entropy with the given labels."""
        normaliser, generator = run.normaliser(data.inputs), run.generator(f"views{peer.name}", epoch)
        labels = data.labels.to(run.device)
        peer.net.train()

        def step(x: Tensor, batch: Tensor) -> None:
            if self.warmup_strong is None:
                seen = run.views.weak(x, normaliser, generator)
            elif x.ndim == 2:
                seen = run.views.strong(x, self.warmup_strong, normaliser, generator)
            else:
                seen = strong_view(run.views.window(x, generator), self.warmup_strong, normaliser, generator)
            with run.autocast():
                logits = peer.model(seen).logits
            loss = F.cross_entropy(logits, labels[batch])
            if self.confidence_penalty:
                loss = loss + negative_entropy(logits)
            run.backward(loss, len(batch))
            run.step(peer.optimizer)

        step = run.recorded(step, generator)
        for batch in run.batches(data.inputs, rows, self.warmup_batch, epoch, f"warmup{peer.name}"):
            step(data.inputs.batch(batch), batch)

    def train(
        self,
        peer: Peer,  # it trains
        other: Knows,  # the net that only helps to guess
        split: Tensor,  # (n,) clean probabilities, from the other net
        data: NoisyDataset,
        run: Run,
        rows: Tensor,
        epoch: int,
    ) -> None:
        """An epoch of MixMatch."""
        is_clean = split[rows] > self.p_threshold
        labelled, unlabelled = rows[is_clean], rows[~is_clean]
        if len(labelled) < 2 * run.world:  # nothing tells right from wrong
            return self.warm_up(peer, data, run, rows, epoch)
        name, net, model, optimizer = peer
        batches = run.batches(data.inputs, labelled, self.batch_size, epoch, f"labelled{name}", drop_last=run.compile)
        others = self.as_many(unlabelled, len(batches), name, run, epoch)
        data.inputs.expect(others)
        weights = run.beta(self.alpha, len(batches), f"mixup{name}", epoch)
        weights = weights.maximum(1 - weights)
        passed = [epoch + step / (len(labelled) // self.batch_size + 1) - self.warmup for step in range(len(batches))]
        lambdas = torch.tensor([ramp(self.lambda_u, p, self.lambda_u_ramp) for p in passed], device=run.device)
        normaliser, generator = run.normaliser(data.inputs), run.generator(f"views{name}", epoch)
        labels, split, k = data.labels.to(run.device), split.to(run.device), len(data.classes)

        def step(x: Tensor, batch: Tensor, y: Tensor, rest: Tensor, weight: Tensor, lambda_u: Tensor) -> None:
            seen, inputs = self.views(x, normaliser, generator, run)
            looked, shown = self.views(y, normaliser, generator, run) if len(y) else ([], [])
            net.train(self.reading == "released")
            with run.autocast():
                begun = model.begin_each([*inputs, *shown])

            def look(z: Tensor) -> Tensor:  # of what trains, too, only the rest of the pass
                return (model(begun[z], True) if z in begun else model(z)).logits

            with torch.no_grad(), run.autocast():
                guesses = [logits for z in looked for logits in (look(z), other(z, rest))]
                guessed = [co_guess(guesses, TEMPERATURE)] * 2 if guesses else []
                goal = F.one_hot(labels[batch], k).float()
                refined = co_refine([look(z) for z in seen], goal, split[batch], TEMPERATURE)
            both, target = torch.cat([begun[z] for z in (*inputs, *shown)]), torch.cat([refined, refined, *guessed])
            partner = torch.randperm(len(both), generator=generator, device=run.device)
            both, target = mixup(both, target, weight, partner)
            count = 2 * len(batch)  # of rows that come from labelled ones
            if not self.mix_unlabelled:
                both, target = both[:count], target[:count]
            net.train()
            with run.autocast():
                logits = model(both, True).logits
            run.backward(mixmatch_loss(logits, target, count, lambda_u), len(both))
            run.step(optimizer)

        step = run.recorded(step, generator)
        for batch, unlabelled_batch, weight, lambda_u in zip(batches, others, weights, lambdas, strict=True):
            y = data.inputs.batch(unlabelled_batch) if len(unlabelled_batch) else unlabelled_batch
            step(data.inputs.batch(batch), batch, y, unlabelled_batch, weight, lambda_u)

    def as_many(self, rows: Tensor, count: int, name: str, run: Run, epoch: int) -> list[Tensor]:
        """So many batches of the rows, shuffled anew whenever they are used up; empty ones below two rows a process."""
        if len(rows) < 2 * run.world:
            return [rows[:0].to(run.device)] * count
        batches: list[Tensor] = []
        while len(batches) < count:
            purpose = f"unlabelled{name}/{len(batches)}"
            batches += run.batches(None, rows, self.batch_size, epoch, purpose, drop_last=run.compile)
        return batches[:count]

    # Views

    def views(
        self, x: Tensor, normaliser: Normaliser, generator: torch.Generator, run: Run
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Two views that make targets, and two that train on them: the same ones, or with augdmix strong ones.

        The weak views of features are alike, so one makes the targets.
        """
        seen = [run.views.weak(x, normaliser, generator) for _ in range(2 if x.ndim == 4 else 1)]
        if self.augment == "weak":
            return seen, (seen * 2)[:2]
        if x.ndim == 2:
            return seen, [run.views.jittered(seen[0], generator) for _ in range(2)]
        cropped = [run.views.window(x, generator) for _ in range(2)]
        return seen, [strong_view(crop, self.strong, normaliser, generator) for crop in cropped]

    # The result

    def result(self, cleaner: Mixture, data: NoisyDataset) -> Evidence:
        """Evidence of the ensemble: softmax of the mean logits; the score is the mean of the cleaner's of both nets."""
        probs, score = cleaner.logits.mean(0).softmax(1), cleaner.score.mean(0)
        selected = score > self.p_threshold if self.selected_rule == "posterior" else None
        return evidence(probs, data, clean_score=score, selected=selected)


def sharpen(probs: Tensor, temperature: float) -> Tensor:
    """Raise probs (b, k) to the power of 1 / T and let rows sum to 1 again."""
    return (probs.clamp_min(1e-38).log() / temperature).softmax(1)


def co_refine(
    logits: list[Tensor],  # (b, k) of each view, of the net that trains
    goal: Tensor,  # (b, k), the given labels as 0 and 1
    clean: Tensor,  # (b,) clean probabilities
    temperature: float,
) -> Tensor:  # (b, k)
    """The label of a labelled row: the given one as far as it is clean, else what the net predicts; sharpened."""
    w = clean[:, None]
    return sharpen(w * goal + (1 - w) * torch.stack([z.softmax(1) for z in logits]).mean(0), temperature)


def co_guess(logits: list[Tensor], temperature: float) -> Tensor:  # (b, k)
    """The label of an unlabelled row: the mean prediction of both nets on both views, (b, k) each; sharpened."""
    return sharpen(torch.stack([z.softmax(1) for z in logits]).mean(0), temperature)


def mixmatch_loss(
    logits: Tensor,  # (m, k) of mixed rows, those of labelled rows first
    targets: Tensor,  # (m, k)
    labelled: int,
    lambda_u: float | Tensor,  # 0-d
    prior_penalty: float = 1.0,
) -> Tensor:  # 0-d
    """L_X + lambda_u L_U + L_reg: cross-entropy, squared error (mean over rows and classes), penalty on collapse."""
    log_p = logits.float().log_softmax(1)
    loss = -(targets * log_p)[:labelled].sum(1).mean()
    if labelled < len(logits):
        loss = loss + lambda_u * ((log_p.exp() - targets) ** 2)[labelled:].mean()
    return loss + prior_penalty * prior_divergence(log_mean_prediction(log_p))


def strong_view(images: Tensor, kind: Strong, normaliser: Normaliser, generator: torch.Generator) -> Tensor:
    """AugDMix's strong view of images that were cropped and mirrored: grey shows where they were moved away."""
    return normaliser(strengthen(images, kind, generator, fill=128))
