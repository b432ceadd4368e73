"""DivideMix (Li et al., ICLR 2020), AugDMix (Nishi et al., CVPR 2021) and CPC (arXiv 2212.10766).

Two nets. After a warm-up on all rows each epoch learns a cleaner, which gives every row a clean probability w by what
one net has learned; the other net then takes the rows above a threshold as labelled and the rest as unlabelled
(co-divide). Labels are refined by w, those of unlabelled rows guessed by both nets, and MixMatch trains on all of them.

The cleaners (CPC, table 3): a Gaussian mixture on the losses of all rows (gmm_agn, which is DivideMix), one on those
of every class (gmm_awr), or class prototypes that learn from either split (cpc_agn, cpc_awr). AugDMix guesses from weak
views and trains on strong ones. CPC is AugDMix with prototypes and its own schedule.

Where the released code differs from the paper it is the default, because it gave the published numbers:
- Targets are made in training mode for the net that trains (BatchNorm sees four more batches), the other one is in
  evaluation mode (`targets_in`).
- Refined labels mix in the prediction of the net that trains only.
- "Batch size 128" is 64 labelled and 64 unlabelled rows, two views of each (AugDMix: 128 and 128).
- It runs one epoch more (301 passes); this is not followed. The mixture starts from the exact 2-means instead of a
  random k-means, batches of an epoch are of nearly equal size, where there the last one is short.
- Where fewer than two rows (a process) are labelled, the epoch is one of warm-up; fewer than two unlabelled ones are
  left out. Compiled, all batches are of one size and the rest of an epoch is left out.
- AutoAugment is torchvision's: it also rotates clockwise, shears to the nearest pixel and solarizes from 255.
- With several processes, batches, their statistics and the penalty on the mean prediction are each process's own.

Where CPC's paper is silent or contradicts itself: the projector is one linear map to `prototype_dim` numbers,
prototypes start from N(0, 1 / d), and both train for one pass an epoch over joint batches of weak views, features in
evaluation mode, at the net's learning rate; the score is taken after the update (`score_order`), in evaluation mode
without augmentation; class-wise mixtures read losses that were normalised over all rows (`loss_scale`). Before the
prototypes split, the mixture's posterior is the clean score.

On features the weak view is the row itself and the strong view adds noise and drops features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.losses import log_mean_prediction, negative_entropy, prior_divergence
from curator.engine.nets import Net, Output
from curator.engine.optim import ramp, set_rate, sgd
from curator.engine.run import Run
from curator.engine.views import Normaliser, Strong, crop_flip, mixup, strengthen
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import BELOW_1, Above, AtLeast, Epochs
from curator.signals.gaussian import clean_posterior, clean_posterior_by_class, normalised
from curator.signals.prototypes import prototype_loss, prototype_score, pulled_classes
from curator.signals.small_loss import quotas, smallest_of_class

PRESETS: dict[str, dict[str, Any]] = {
    "parity": {"targets_in": "training", "loss_scale": "all", "score_order": "after"},
    "paper": {"targets_in": "evaluation", "loss_scale": "all", "score_order": "before"},
}


class Trained(NamedTuple):
    """What trains, a pair of each: the nets, how they are called, and their optimizers."""

    nets: list[Net]
    models: list[nn.Module]
    optimizers: list[torch.optim.Optimizer]
    projectors: list[nn.Module]  # these, too, are the nets'; empty where the cleaner uses no prototypes
    prototypes: list[nn.Linear]
    prototype_optimizers: list[torch.optim.Optimizer]


class Clean(NamedTuple):
    """What the cleaners know, by net whose losses or features they read; (2, n) each, registered."""

    mixture: Tensor  # posterior of the Gaussian mixture
    score: Tensor  # of the prototypes; without them the mixture's
    pulled: Tensor  # int64, pulled_classes of the net's predictions and the other one's split, for its own prototypes
    losses: Tensor  # (2, loss_history, n), normalised losses of the last epochs
    logits: Tensor  # (2, n, k)


@dataclass
class DivideMix:
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
    cleaner: Literal["gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr"] = "gmm_agn"
    """What splits clean from noisy: a mixture over all rows (agn) or one a class (awr), alone or with prototypes."""
    augment: Literal["weak", "augdmix"] = "weak"
    """Views that train: weak ones as in DivideMix, or strong ones with targets from weak ones as in AugDMix."""
    strong: Strong = "auto_cifar10"
    """Operations of the strong view of augdmix: a policy of AutoAugment, RandAugment, or ProMix's with cutout."""
    alpha: Annotated[float, AtLeast(0)] = 4.0
    """Parameter of mixup's Beta distribution (> 0)."""
    p_threshold: Annotated[float, BELOW_1] = 0.5
    """Clean probability above which a row is labelled, in [0, 1) (90 % noise: 0.6); tau of the prototypes."""
    temperature: Annotated[float, Above(0)] = 0.5
    """Temperature T that sharpens refined and guessed labels (> 0)."""
    lambda_u: Annotated[float, AtLeast(0)] = 25.0
    """Weight of the unlabelled loss after its ramp (>= 0): 0 for little noise, 25 to 150 for much."""
    lambda_u_ramp: Annotated[Epochs, AtLeast(0)] = 16
    """Epochs after warm-up in which lambda_u rises from 0."""
    prior_penalty: Annotated[float, AtLeast(0)] = 1.0
    """Weight of the penalty that keeps the mean prediction near uniform, against collapse (>= 0)."""
    confidence_penalty: bool = False
    """Penalise confident predictions in warm-up, for asymmetric noise."""
    loss_history: Annotated[int, AtLeast(1)] = 1
    """Epochs whose normalised losses are averaged before the mixture is fitted (>= 1; 90 % noise: 5)."""
    loss_scale: Literal["all", "class"] = "all"
    """Losses are normalised over all rows, or within each class (class-wise mixtures only)."""
    targets_in: Literal["training", "evaluation"] = "training"
    """Mode of the training net while it makes targets: training (released code), or evaluation."""
    batches: Annotated[int, AtLeast(0)] = 0
    """An epoch is a sample of so many batches, drawn anew, balanced by class (>= 0; 0: all rows; Clothing1M: 1000)."""
    mix_unlabelled: bool = True
    """Mix and train on unlabelled rows too; off: they are only partners (Clothing1M, WebVision)."""
    cpc_warmup: Annotated[Epochs, AtLeast(0)] = 0
    """Epochs after warm-up in which prototypes train but the mixture still splits."""
    cpc_alpha: Annotated[float, AtLeast(0)] = 0.0
    """Weight of drawing confident noisy rows to the prototype of their predicted class (>= 0)."""
    prototype_dim: Annotated[int, AtLeast(1)] = 128
    """Numbers of a projected feature and of a prototype (>= 1)."""
    score_order: Literal["after", "before"] = "after"
    """The prototypes' score is taken after their training of the epoch (text), or before it (algorithm 1)."""
    selected_rule: Literal["agreement", "posterior"] = "agreement"
    """What the result keeps: rows whose given label is predicted, or rows above p_threshold."""
    preset: Literal["parity", "paper"] | None = None
    """All options that have two readings at once: the released code's (the defaults), or the paper's."""

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    # With 25, what a net of 0.2 M parameters knows after so few epochs drowns in its own guesses.
    small_net: ClassVar[dict[str, Any]] = {"epochs": 90, "warmup": 10, "lr_drop": 60, "lambda_u": 0.0}

    def __post_init__(self):
        for name, value in PRESETS.get(self.preset or "", {}).items():
            setattr(self, name, value)

    @property
    def has_prototypes(self) -> bool:
        """Whether the cleaner uses prototypes."""
        return self.cleaner.startswith("cpc")

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows through one net, for the ETA; half of them are taken to be labelled."""
        mixed = 0.5 * (4 if self.mix_unlabelled else 2) + 0.5 * 6 / 3  # trained, and only predicted
        rest = (mixed + (1 + 2 * self.has_prototypes) / 3) * max(0, self.epochs - self.warmup)
        return 2 * (min(self.warmup, self.epochs) * 4 / 3 + rest)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train both nets and yield after every epoch."""
        trained, clean = self.build(data, run), self.knowledge(data, run)
        for epoch in run.epochs(self.epochs):
            for optimizer in (*trained.optimizers, *trained.prototype_optimizers):
                set_rate(optimizer, self.lr * (0.1 if epoch >= self.lr_drop else 1))
            rows = self.rows(data, run, epoch)
            if epoch < self.warmup:
                for i in (0, 1):
                    self.warm_up(i, trained, data, run, rows[1 - i], epoch)
            else:
                split = self.learn_cleaner(trained, clean, data, run, rows, epoch)
                for i in (0, 1):  # each on the split of the other one's cleaner
                    self.train(i, trained, split[1 - i], data, run, rows[1 - i], epoch)
            rows = self.rows(data, run, epoch + 1)
            self.judge(trained, clean, data, run, rows, epoch + 1)
            yield self.result(clean, data)
        if self.batches:  # so far only samples were judged
            self.judge(trained, clean, data, run, [torch.arange(len(data))] * 2, self.epochs, remember=False)
        yield self.result(clean, data)

    # What is there

    def build(self, data: NoisyDataset, run: Run) -> Trained:
        """The nets with their optimizers, and, where the cleaner asks for them, projectors and prototypes."""

        def optimizer_of(parameters: list[nn.Parameter], name: str) -> torch.optim.Optimizer:
            return run.register(name, sgd(parameters, self.lr, self.weight_decay))

        sizes = (self.prototype_dim,) if self.has_prototypes else ()
        nets = [run.build_net(f"net{i}", data, projector=sizes) for i in (0, 1)]
        run.register("nets", nn.ModuleList(nets))
        own = [[p for name, p in net.named_parameters() if not name.startswith("projector")] for net in nets]
        models, optimizers = (
            [run.prepare(net) for net in nets],
            [optimizer_of(p, f"optimizer{i}") for i, p in enumerate(own)],
        )
        trained = Trained(
            nets, models, optimizers, [net.projector for net in nets if net.projector is not None], [], []
        )
        for i, projector in enumerate(trained.projectors):
            k, d = len(data.classes), self.prototype_dim
            with run.seeded(f"init/prototypes{i}"):
                prototypes = nn.Linear(d, k, bias=False)
                nn.init.normal_(prototypes.weight, std=d**-0.5)
            trained.prototypes.append(run.register(f"prototypes{i}", prototypes))
            both = [*projector.parameters(), *prototypes.parameters()]
            trained.prototype_optimizers.append(optimizer_of(both, f"prototype_optimizer{i}"))
        return trained

    def knowledge(self, data: NoisyDataset, run: Run) -> Clean:
        """What the cleaners know before the first epoch: nothing, so all rows are clean."""
        n, k = len(data), len(data.classes)
        start = {
            "mixture": torch.ones(2, n), "score": torch.ones(2, n), "pulled": torch.full((2, n), -1),
            "losses": torch.full((2, self.loss_history, n), torch.nan), "logits": torch.zeros(2, n, k),
        }  # fmt: skip
        return Clean(**{name: run.register(name, value) for name, value in start.items()})

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

    # The cleaners

    def judge(
        self,
        trained: Trained,
        clean: Clean,
        data: NoisyDataset,
        run: Run,
        rows: list[Tensor],  # by net, those to judge
        coming: int,  # the epoch that will read it
        *,
        remember: bool = True,  # whether the losses join the history
    ) -> None:
        """Losses of both nets in evaluation mode without augmentation, and what the cleaners make of them."""
        normaliser, k = run.normaliser(data.inputs), len(data.classes)
        for i, net in enumerate(trained.nets):
            here, labels = rows[i], data.labels[rows[i]]
            seen = run.predict(net, data.inputs, here, normaliser=normaliser, output=logits_and_projection)
            clean.logits[i, here] = seen[:, :k]
            losses = F.cross_entropy(seen[:, :k], labels, reduction="none")
            past = clean.losses[i]
            posterior = self.posterior(losses, labels, past, here, remember and coming >= self.warmup)
            clean.mixture[i, here] = posterior.float()
            clean.mixture[i, data.trusted] = 1.0
            clean.score[i, here] = clean.mixture[i, here]
            if self.has_prototypes and coming >= self.warmup + self.cpc_warmup:
                self.compare(seen[:, k:], trained.prototypes[i], clean.score[i], here, data)
        for i in (0, 1) if self.has_prototypes and self.cpc_alpha else ():  # net i learns from the other one's split
            here = rows[1 - i]
            if not torch.equal(rows[0], rows[1]):  # it has not seen that sample
                clean.logits[i, here] = run.predict(trained.nets[i], data.inputs, here, normaliser=normaliser)
            is_clean = clean.mixture[1 - i, here] > self.p_threshold
            clean.pulled[i, here] = pulled_classes(clean.logits[i, here].softmax(1), data.labels[here], is_clean)

    def posterior(
        self, losses: Tensor, labels: Tensor, history: Tensor, rows: Tensor, remember: bool
    ) -> Tensor:  # (m,) float64
        """The mixture's posterior of losses (m,), averaged with those of the last epochs where that is asked for."""
        by_class = self.cleaner.endswith("awr")
        scaled = normalised(losses)
        if by_class and self.loss_scale == "class":
            for c in labels.unique():
                scaled[labels == c] = normalised(losses[labels == c])
        if self.loss_history > 1:
            if remember:
                history[:, rows] = torch.cat([scaled[None].float(), history[:-1, rows]])
            mean = history[:, rows].nanmean(0).double()
            scaled = torch.where(mean.isnan(), scaled, mean)
        return clean_posterior_by_class(scaled, labels) if by_class else clean_posterior(scaled)

    def compare(
        self, projected: Tensor, prototypes: nn.Linear, score: Tensor, rows: Tensor, data: NoisyDataset
    ) -> None:
        """Put the prototypes' score of the rows in its place in score (n,); trusted rows are clean."""
        score[rows] = prototype_score(projected, prototypes.weight.detach().cpu(), data.labels[rows])
        score[data.trusted] = 1.0

    def learn_cleaner(
        self, trained: Trained, clean: Clean, data: NoisyDataset, run: Run, rows: list[Tensor], epoch: int
    ) -> Tensor:  # (2, n), by net that judges
        """Clean probabilities for the epoch: the mixture's, or the prototypes' when these have trained for a while."""
        if not self.has_prototypes:
            return clean.mixture
        before = clean.score.clone()
        for i in (0, 1):
            self.train_prototypes(i, trained, clean, data, run, rows[1 - i], epoch)
        if epoch < self.warmup + self.cpc_warmup:
            return clean.mixture
        if self.score_order == "before":
            return before
        normaliser = run.normaliser(data.inputs)
        for i, net in enumerate(trained.nets):
            seen = run.predict(net, data.inputs, rows[i], normaliser=normaliser, output=logits_and_projection)
            self.compare(seen[:, len(data.classes) :], trained.prototypes[i], clean.score[i], rows[i], data)
        return clean.score

    def train_prototypes(
        self, i: int, trained: Trained, clean: Clean, data: NoisyDataset, run: Run, rows: Tensor, epoch: int
    ) -> None:
        """One pass of net i's projector and prototypes over the rows (equation 5); the net itself stays as it is."""
        net, projector, prototypes = trained.nets[i], trained.projectors[i], trained.prototypes[i]
        normaliser, generator = run.normaliser(data.inputs), run.generator(f"prototype views{i}", epoch)
        labels, pulled = data.labels.to(run.device), clean.pulled[i].to(run.device)
        is_clean = (clean.mixture[1 - i] > self.p_threshold).to(run.device)
        net.eval()

        def step(x: Tensor, batch: Tensor) -> None:
            with torch.no_grad(), run.autocast():
                features = net(run.views.weak(x, normaliser, generator)).features
            scores = prototypes(projector(features))
            loss = prototype_loss(scores, labels[batch], is_clean[batch], pulled[batch], self.cpc_alpha)
            run.backward(loss, 0)
            run.step(trained.prototype_optimizers[i])

        step = run.recorded(step, generator)
        for batch in run.batches(rows, self.warmup_batch, epoch, f"prototypes{i}"):
            step(data.inputs.batch(batch), batch)

    # Training

    def warm_up(self, i: int, trained: Trained, data: NoisyDataset, run: Run, rows: Tensor, epoch: int) -> None:
        """An epoch of cross-entropy with the given labels."""
        model, optimizer = trained.models[i], trained.optimizers[i]
        normaliser, generator = run.normaliser(data.inputs), run.generator(f"views{i}", epoch)
        labels = data.labels.to(run.device)
        trained.nets[i].train()

        def step(x: Tensor, batch: Tensor) -> None:
            with run.autocast():
                logits = model(run.views.weak(x, normaliser, generator)).logits
            loss = F.cross_entropy(logits, labels[batch])
            if self.confidence_penalty:
                loss = loss + negative_entropy(logits)
            run.backward(loss, len(batch))
            run.step(optimizer)

        step = run.recorded(step, generator)
        for batch in run.batches(rows, self.warmup_batch, epoch, f"warmup{i}"):
            step(data.inputs.batch(batch), batch)

    def train(
        self,
        i: int,
        trained: Trained,
        split: Tensor,  # (n,) clean probabilities, from the other net
        data: NoisyDataset,
        run: Run,
        rows: Tensor,
        epoch: int,
    ) -> None:
        """An epoch of MixMatch for net i; the other one only helps to guess."""
        is_clean = split[rows] > self.p_threshold
        labelled, unlabelled = rows[is_clean], rows[~is_clean]
        if len(labelled) < 2 * run.world:  # nothing tells right from wrong
            return self.warm_up(i, trained, data, run, rows, epoch)
        batches = run.batches(labelled, self.batch_size, epoch, f"labelled{i}", drop_last=run.compile)
        others = self.as_many(unlabelled, len(batches), i, run, epoch)
        data.inputs.expect(others)
        weights = run.beta(self.alpha, len(batches), f"mixup{i}", epoch)
        weights = weights.maximum(1 - weights)
        passed = [epoch + step / (len(labelled) // self.batch_size + 1) - self.warmup for step in range(len(batches))]
        lambdas = torch.tensor([ramp(self.lambda_u, p, self.lambda_u_ramp) for p in passed], device=run.device)
        normaliser, generator = run.normaliser(data.inputs), run.generator(f"views{i}", epoch)
        labels, split, k = data.labels.to(run.device), split.to(run.device), len(data.classes)
        net, model, peer = trained.nets[i], trained.models[i], trained.models[1 - i]
        trained.nets[1 - i].eval()

        def step(x: Tensor, batch: Tensor, y: Tensor, weight: Tensor, lambda_u: Tensor) -> None:
            seen, inputs = self.views(x, normaliser, generator, run)
            targets: list[Tensor] = []
            net.train(self.targets_in == "training")
            with torch.no_grad(), run.autocast():
                if len(y):
                    looked, shown = self.views(y, normaliser, generator, run)
                    guesses = [either(z).logits for z in looked for either in (model, peer)]
                    inputs, targets = [*inputs, *shown], [co_guess(guesses, self.temperature)] * 2
                goal = F.one_hot(labels[batch], k).float()
                refined = co_refine([model(z).logits for z in seen], goal, split[batch], self.temperature)
                targets = [refined, refined, *targets]
            both, target = torch.cat(inputs), torch.cat(targets)
            partner = torch.randperm(len(both), generator=generator, device=run.device)
            both, target = mixup(both, target, weight, partner)
            count = 2 * len(batch)  # of rows that come from labelled ones
            if not self.mix_unlabelled:
                both, target = both[:count], target[:count]
            net.train()
            with run.autocast():
                logits = model(both).logits
            run.backward(mixmatch_loss(logits, target, count, lambda_u, self.prior_penalty), len(both))
            run.step(trained.optimizers[i])

        step = run.recorded(step, generator)
        for batch, other, weight, lambda_u in zip(batches, others, weights, lambdas, strict=True):
            y = data.inputs.batch(other) if len(other) else other
            step(data.inputs.batch(batch), batch, y, weight, lambda_u)

    def as_many(self, rows: Tensor, count: int, i: int, run: Run, epoch: int) -> list[Tensor]:
        """So many batches of the rows, shuffled anew whenever they are used up; empty ones below two rows a process."""
        if len(rows) < 2 * run.world:
            return [rows[:0].to(run.device)] * count
        batches: list[Tensor] = []
        while len(batches) < count:
            name = f"unlabelled{i}/{len(batches)}"
            batches += run.batches(rows, self.batch_size, epoch, name, drop_last=run.compile, expect=False)
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
        padding = x.shape[-1] // 8
        cropped = [crop_flip(x, generator, padding=padding, flip=run.views.flip) for _ in range(2)]
        return seen, [normaliser(strengthen(crop, self.strong, generator, fill=128)) for crop in cropped]

    # The result

    def result(self, clean: Clean, data: NoisyDataset) -> Evidence:
        """Evidence of the ensemble: softmax of the mean logits; the score is the mean of the cleaners' of both nets."""
        probs, score = clean.logits.mean(0).softmax(1), clean.score.mean(0)
        selected = score > self.p_threshold if self.selected_rule == "posterior" else None
        return evidence(probs, data, clean_score=score, selected=selected)


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
    """What splits clean from noisy; the paper's choice is cpc_agn for asymmetric noise and Clothing1M, else cpc_awr."""
    augment: Literal["weak", "augdmix"] = "augdmix"
    """Views that train: weak ones as in DivideMix, or strong ones with targets from weak ones as in AugDMix."""
    cpc_warmup: Annotated[Epochs, AtLeast(0)] = 22
    """Epochs after warm-up in which prototypes train but the mixture still splits (5 %; CIFAR-100, 80 %: 45)."""

    small_net: ClassVar[dict[str, Any]] = {
        "epochs": 90, "warmup": 10, "lr_drop": 60, "cpc_warmup": 5, "batch_size": 64, "lambda_u": 0.0,
    }  # fmt: skip


def logits_and_projection(out: Output) -> Tensor:  # (b, k + d)
    """Both in one pass; a net without a projector gives its logits."""
    return out.logits if out.projected is None else torch.cat([out.logits, out.projected], 1)


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
    prior_penalty: Annotated[float, AtLeast(0)] = 1.0,
) -> Tensor:  # 0-d
    """L_X + lambda_u L_U + L_reg: cross-entropy, squared error (mean over rows and classes), penalty on collapse."""
    log_p = logits.float().log_softmax(1)
    loss = -(targets * log_p)[:labelled].sum(1).mean()
    if labelled < len(logits):
        loss = loss + lambda_u * ((log_p.exp() - targets) ** 2)[labelled:].mean()
    return loss + prior_penalty * prior_divergence(log_mean_prediction(log_p))
