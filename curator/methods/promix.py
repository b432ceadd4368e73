"""ProMix: progressive selection and debiased semi-supervised training (Wang et al., IJCAI 2023).

Two nets see the same batches. Each selects clean rows for itself: class-wise small loss at the start of an epoch (CSS,
section 3.1), confident agreement with the given label in every batch (MHCS, equation 3) and, in the last epochs, rows
on whose label both nets agree (LGA, equation 8). Selected rows train both heads of a net with the debiased margin loss
(equation 5), on weak, strong, mixup and FMix views; the others reach only the auxiliary pseudo head, with debiased
pseudo-labels (equation 6). The result is the mean of the two primary heads' logits.

Where the released code differs from the paper it is followed, because it gave the published numbers (what stands in
brackets is `reading: paper`):
- lambda_u falls to 0 when its ramp ends (it stays). With alpha = 0 the released code also sets lambda_u to 1 for good;
  this is not followed.
- MHCS is decided in every batch from weak views in training mode, with > tau (>= tau).
- A row that LGA adds gets the net's own debiased argmax as its label (the label agreed on).
- mixup's weight is max(w, 1 - w) (as drawn: the paper does not say).
- Selected rows are forwarded as they are (by default they fill the batch where fixed shapes save time, see `subset`).
- It runs one epoch more (601 passes), and a batch without unselected rows makes its loss NaN; both are not followed.
  LGA acts after epoch 350 as there, so in K - 1 of our 600 epochs.
- With several processes each selects within its part of the batch and takes means over its own selected rows; gradients
  and priors are averaged.

On features there is no picture to crop or mask: the weak view is the row, the strong view adds noise and drops
features, and FMix is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.losses import negative_entropy
from curator.engine.nets import Net, Output
from curator.engine.optim import cosine, ramp, set_rate, sgd
from curator.engine.pair import TOGETHER, Pair
from curator.engine.run import Run
from curator.engine.subset import first_selected, masked_mean, partners
from curator.engine.views import Normaliser, Strong, fmix_masks, mixup, taken
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.debias import Looked, debiased_loss, debiased_pseudo_labels, move_priors
from curator.methods.fields import SHARE, Above, AtLeast, Between, Epochs
from curator.methods.method import Method
from curator.signals.agreement import guess_by_agreement, match_confident
from curator.signals.gmm import clean_posterior_by_class, normalised
from curator.signals.small_loss import Quota, quotas, smallest_of_class

TEMPERATURE = 0.5  # T, which sharpens pseudo-labels; only the code has it
RHO = 0.9  # share of a batch up to which LGA may add rows; it does not limit the other selections


class Batch(NamedTuple):
    """What both nets see of b rows in one step."""

    weak: Tensor  # float (b, ...)
    strong: Tensor  # float (b, ...)
    labels: Tensor  # (b,) int64
    base: Tensor  # (2, b) bool, each net's base selection
    weights: Tensor  # (2 nets, 2 heads, 2), the share of a row itself in mixup and in FMix


class Epoch(NamedTuple):
    """What the steps of an epoch share."""

    models: list[Net]
    optimizer: torch.optim.Optimizer
    priors: Tensor  # (2, 2, k), moved in place
    labels: Tensor  # (n,) int64
    flags: Tensor  # (2, n) bool, each net's base selection
    normaliser: Normaliser
    generator: torch.Generator
    epoch: int
    pair: Pair = TOGETHER


@dataclass
class ProMix(Method):
    """Progressive selection, then debiased semi-supervised training of two nets."""

    epochs: Annotated[Epochs, AtLeast(1)] = 600
    """Epochs of training, warm-up included (>= 1)."""
    warmup: Annotated[Epochs, AtLeast(1)] = 10
    """Epochs of plain cross-entropy on all rows before the first selection (CIFAR-100: 30)."""
    batch_size: Annotated[int, AtLeast(2)] = 256
    """Rows per step (>= 2)."""
    lr: Annotated[float, Above(0)] = 0.05
    """Initial learning rate of SGD with momentum (> 0); epoch by epoch it falls to a thousandth along a cosine."""
    weight_decay: Annotated[float, AtLeast(0)] = 5e-4
    """Weight decay on all parameters (>= 0)."""
    nesterov: bool = False
    """Nesterov's momentum (not as published), for short schedules of large batches."""
    lr_ramp: Annotated[Epochs, AtLeast(0)] = 0
    """Epochs in which the learning rate rises to that of the cosine (0 as published)."""
    strong: Strong = "random_augment"
    """Operations of the strong view: ProMix's own with cutout, RandAugment, or a policy of AutoAugment."""
    base_selection: Literal["small_loss", "gaussian_mixture", "none"] = "small_loss"
    """What selects at the start of an epoch: class-wise small loss, a Gaussian mixture per class, or nothing."""
    filter_rate: Annotated[float, Between(1e-6, 1)] = 0.5
    """R: share of the rows that small loss selects, in (0, 1]."""
    quota: Quota = "auto"
    """Rows that small loss selects: as many of every class (as published), or a share of each class (for long tails).
    auto: a share where the largest class has more than twice the rows of the smallest."""
    regroup: Annotated[Epochs, AtLeast(0)] = 0
    """Epoch from which small loss ranks rows within their predicted class (instance-dependent noise: 50; 0: never)."""
    mhcs: bool = True
    """Matched high-confidence selection: a row also counts as clean where the net is sure of its given label."""
    tau: Annotated[float, SHARE] = 0.99
    """Confidence for MHCS and LGA, in [0, 1] (CIFAR-100: 0.95)."""
    lga_epochs: Annotated[Epochs, AtLeast(0)] = 250
    """K: label guessing by agreement acts in the last K epochs (0: never)."""
    auxiliary_head: bool = True
    """Unselected rows train a pseudo head that is discarded, not the primary head (against confirmation bias)."""
    alpha: Annotated[float, AtLeast(0)] = 0.8
    """Strength of debiasing in losses, and in pseudo-labels where it has no own (>= 0; CIFAR-100: 0.5; 0: none)."""
    pseudo_alpha: Annotated[float, AtLeast(0)] | None = None
    """Strength of debiasing in pseudo-labels and in the labels that LGA gives (>= 0; 0: none). None: alpha."""
    prior_momentum: Annotated[float, SHARE] = 0.9999
    """Momentum m of the moving class priors, per step, in [0, 1]."""
    lambda_u: Annotated[float, AtLeast(0)] = 0.1
    """Weight of the loss on unselected rows when its ramp ends (>= 0; 0: only clean rows train)."""
    lambda_u_ramp: Annotated[Epochs, AtLeast(0)] = 100
    """Epochs in which lambda_u rises from 0."""
    gamma_ramp: Annotated[Epochs, AtLeast(0)] = 50
    """Epochs in which the weight gamma of strong and mixed views rises from 0 to 1."""
    mixup_alpha: Annotated[float, AtLeast(0)] = 4.0
    """Parameter of mixup's Beta distribution (> 0)."""
    mix_per_head: bool = True
    """Mixed views are drawn for each head; off: one forward serves both heads, a third less work (not as published)."""
    confidence_penalty: Literal["off", "log_softmax", "released"] = "off"
    """Penalty on confident predictions in warm-up, for asymmetric noise; the released code clamps logits at 0 first."""
    subset: Literal["exact", "pad"] | None = None
    """Selected rows are forwarded as they are, or repeated to fill the batch, which fixes all shapes: a GPU need not
    wait for Python. None: pad on a GPU and when compiled; as released exact."""
    selected_rule: Literal["agreement", "small_loss"] = "agreement"
    """What the result keeps: rows whose given label is predicted, or rows that both nets select."""
    reading: Literal["released", "paper", "recommended"] = "recommended"
    """What code and paper do differently: as the released code, which gave the published numbers, as printed, or as
    the released code with selected rows that fill the batch where that saves time."""

    two_nets: ClassVar[bool] = True
    # A net of 0.2 M parameters is seldom sure of .99 on mixed views, and its steps count more than its epochs.
    small_net: ClassVar[dict[str, Any]] = {
        "epochs": 90, "warmup": 10, "lga_epochs": 30, "gamma_ramp": 20, "lambda_u_ramp": 20, "batch_size": 128,
        "prior_momentum": 0.999, "tau": 0.8, "mix_per_head": False,
    }  # fmt: skip

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows through one net, for the ETA; three quarters of them are taken to be selected."""
        mixed = 0.75 * 2 * (2 if self.mix_per_head and self.auxiliary_head else 1)
        return 2 * (min(self.warmup, self.epochs) + max(0, self.epochs - self.warmup) * (2 + mixed) + self.epochs / 3)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train both nets and yield after every epoch."""
        n, k = len(data), len(data.classes)
        nets = [run.build_net(f"net{i}", data, auxiliary=self.auxiliary_head) for i in (0, 1)]
        both = run.register("nets", nn.ModuleList(nets), scores=True)
        # Fused SGD cannot hold, in one group, parameters that were stepped and pseudo heads that were not (in warm-up).
        pseudo = [p for net in nets if net.auxiliary is not None for p in net.auxiliary.parameters()]
        others = [p for p in both.parameters() if all(p is not q for q in pseudo)]
        groups = [{"params": group} for group in (others, pseudo) if group]
        optimizer = run.register("optimizer", sgd(groups, self.lr, self.weight_decay, self.nesterov))
        priors = run.register("priors", torch.full((2, 2, k), 1 / k, device=run.device))  # net, (selected, rest), class
        base = run.register("base", torch.zeros(2, n, dtype=torch.bool))  # net, row: selection for the coming epoch
        models = [run.prepare(net) for net in nets]
        normaliser = run.normaliser(data.inputs)
        all_rows, labels = torch.arange(n), data.labels.to(run.device)

        pair = run.pair(data.inputs)

        def score() -> Tensor:  # (2, n, k)
            return torch.stack([run.predict(net, data.inputs, normaliser=normaliser) for net in nets])

        logits = None
        for epoch in run.epochs(self.epochs):
            rate = cosine(self.lr, epoch, self.epochs, self.lr * 1e-3)
            set_rate(optimizer, ramp(rate, epoch + 1, self.lr_ramp + 1))
            both.train()
            generator = run.generator("views", epoch)
            warm = epoch < self.warmup
            batches = run.batches(data.inputs, all_rows, self.batch_size, epoch, drop_last=not warm)
            weights, flags = self.draw_weights(run, len(batches), epoch), base.to(run.device)
            here = Epoch(models, optimizer, priors, labels, flags, normaliser, generator, epoch, pair)
            train = partial(self.warm_up if warm else self.train, here, run)
            step = run.recorded(train, generator) if warm or self.pads(run) else train
            for rows, drawn in zip(batches, weights, strict=True):
                step(data.inputs.batch(rows), rows, drawn)
            logits = score()
            base.copy_(self.select_base(logits, data, epoch + 1))
            yield self.result(logits, base, data)
        yield self.result(score() if logits is None else logits, base, data)

    # Steps

    def warm_up(self, here: Epoch, run: Run, x: Tensor, rows: Tensor, weights: Tensor) -> None:
        """A step of plain training on inputs x of rows."""
        weak = run.views.weak(x, here.normaliser, here.generator)

        def work(i: int) -> Tensor:
            loss = self.warmup_loss(here.models[i], weak, here.labels[rows], run)
            run.descend(loss)
            return loss.detach()

        run.note(torch.stack(here.pair(work)).sum(), 2 * len(rows))
        run.step(here.optimizer)

    def train(self, here: Epoch, run: Run, x: Tensor, rows: Tensor, weights: Tensor) -> None:
        """A step of selection and debiased training on inputs x of rows."""
        weak = run.views.weak(x, here.normaliser, here.generator)
        if x.ndim == 2:
            strong = run.views.jittered(weak, here.generator)
        else:
            strong = run.views.strong(x, self.strong, here.normaliser, here.generator)
        batch = Batch(weak, strong, here.labels[rows], here.flags[:, rows], weights)
        with run.casting_once():
            self.descend(here, batch, run)
        run.step(here.optimizer)

    def descend(self, here: Epoch, batch: Batch, run: Run) -> None:
        """Gradients of both nets: of images term by term, so that each term's activations are freed before the next.

        On features of a net's terms together: they share its first layer, and what is kept is small.
        """
        found = self.look(here.models, batch, here.priors, here.epoch, here.generator, run, here.pair)

        def work(i: int) -> list[tuple[Tensor, int | Tensor]]:
            terms = self.terms(i, found, run)
            made = []
            for loss, passes in [together(terms)] if batch.weak.ndim == 2 else terms:
                run.descend(loss)
                made.append((loss.detach(), passes))
            return made

        for loss, passes in itertools.chain(*here.pair(work)):
            run.note(loss, passes)
        move_priors(here.priors, found.probs, found.selected, self.prior_momentum, run)

    # Views and draws

    def draw_weights(self, run: Run, steps: int, epoch: int) -> Tensor:
        """Weights (steps, 2 nets, 2 heads, 2) of mixup and of FMix: the share of the row itself."""
        mix = run.beta(self.mixup_alpha, 4 * steps, "mixup", epoch)
        if self.reading != "paper":
            mix = mix.maximum(1 - mix)
        return torch.stack([mix, run.beta(1.0, 4 * steps, "fmix", epoch)], 1).view(steps, 2, 2, 2)

    def ramps(self, epoch: int) -> tuple[float, float]:
        """Weights gamma of strong and mixed views, and lambda_u of unselected rows, in the epoch."""
        gamma = min(1.0, epoch / max(self.gamma_ramp, 1))
        if epoch >= self.lambda_u_ramp:
            return gamma, self.lambda_u if self.reading == "paper" else 0.0
        return gamma, self.lambda_u * epoch / self.lambda_u_ramp

    # Selection

    def select_base(
        self,
        logits: Tensor,  # (2, n, k), each net in evaluation mode without augmentation
        data: NoisyDataset,
        epoch: int,  # the one to come
    ) -> Tensor:  # (2, n) bool
        """Base selection (section 3.1) of each net by its own losses: the nets do not exchange theirs."""
        selected = data.trusted.expand(2, -1).clone()
        for i, net_logits in enumerate(logits):
            losses = F.cross_entropy(net_logits, data.labels, reduction="none")
            groups = net_logits.argmax(1) if self.regroup and epoch >= self.regroup else data.labels
            if self.base_selection == "small_loss":
                sizes = torch.bincount(groups, minlength=len(data.classes))
                selected[i] |= smallest_of_class(losses, groups, quotas(sizes, self.filter_rate, self.quota))
            elif self.base_selection == "gaussian_mixture":
                selected[i] |= clean_posterior_by_class(normalised(losses), groups) > 0.5
        return selected

    def sure(self, probs: Tensor, labels: Tensor) -> Tensor:
        """MHCS (equation 3): rows (2, b) whose given label (b,) a net is sure of, by probs (2, b, k)."""
        return match_confident(probs, labels, self.tau, inclusive=self.reading == "paper")

    def result(self, logits: Tensor, base: Tensor, data: NoisyDataset) -> Evidence:
        """Evidence of the ensemble: softmax of the mean logits, kept where it predicts the given label."""
        probs = logits.mean(0).softmax(1)
        if self.selected_rule == "agreement":
            return evidence(probs, data)
        selected = base
        if self.mhcs:
            selected = selected | self.sure(logits.softmax(2), data.labels)
        return evidence(probs, data, selected=selected.all(0))

    # Losses

    def warmup_loss(self, model: Net, x: Tensor, labels: Tensor, run: Run) -> Tensor:
        """Cross-entropy of the primary head with the given labels."""
        with run.autocast():
            logits = model(x).logits
        loss = F.cross_entropy(logits, labels)
        if self.confidence_penalty == "off":
            return loss
        return loss + negative_entropy(logits, released=self.confidence_penalty == "released")

    def look(
        self,
        nets: list[Net],
        batch: Batch,
        priors: Tensor,
        epoch: int,
        draws: torch.Generator,
        run: Run,
        pair: Pair,
    ) -> Looked:
        """Both views through both nets, and what is selected by what the weak one shows."""
        weak, strong, labels, base, weights = batch

        def forward(i: int) -> list[tuple[Tensor, Output]]:
            with run.autocast():  # of images the nets themselves are called, which may be compiled
                return [(x, nets[i](x)) for x in (weak, strong)] if weak.ndim == 4 else nets[i].each([weak, strong])

        passes = pair(forward)
        begun = [first for (first, _), _ in passes]  # of weak views
        views = [(seen, shown) for (_, seen), (_, shown) in passes]
        with torch.no_grad():
            logits = torch.stack([seen.logits for seen, _ in views])
            probs = logits.softmax(2)
            log_prior = priors.clamp_min(1e-8).log()  # (2, 2, k)
            log_priors = self.alpha * log_prior
            of_labels = log_priors if self.pseudo_alpha is None else self.pseudo_alpha * log_prior
            selected, targets = base, labels.expand(2, -1)
            if self.mhcs:
                selected = selected | self.sure(probs, labels)
            if epoch > self.epochs - self.lga_epochs:
                added = guess_by_agreement(probs, selected, self.tau, RHO)
                own = (logits - of_labels[:, 0, None]).argmax(2) if self.reading != "paper" else logits.argmax(2)
                selected, targets = selected | added, torch.where(added, own, targets)
            goals = F.one_hot(targets, priors.shape[2]).float()
            ramps = self.ramps(epoch)
            pseudo = [debiased_pseudo_labels(logits[i], of_labels[i, 1], TEMPERATURE) for i in (0, 1) if ramps[1]]

        def mixed(i: int) -> Iterator[tuple[Tensor, Tensor, list[int], Tensor]]:
            rows, inside = first_selected(selected[i], pad=self.pads(run))
            for view in self.mixed_views(taken(begun[i], rows), goals[i, rows], inside, weights[i], draws):
                yield *view, inside

        mixes = [mixed(i) if weak.ndim == 4 else list(mixed(i)) for i in (0, 1)]  # of features all is drawn here
        return Looked(nets, views, mixes, probs, selected, goals, pseudo, log_priors, ramps)

    def terms(self, i: int, found: Looked, run: Run) -> Iterator[tuple[Tensor, int | Tensor]]:
        """The terms of the loss of net i, with the rows forwarded for each."""
        goal, log_priors, (gamma, lambda_u) = found.goals[i], found.log_priors[i], found.ramps
        clean = found.selected[i].float()
        seen = torch.stack([torch.stack(self.heads(view)) for view in found.views[i]])  # (2, heads, b, k)
        losses = masked_mean(debiased_loss(seen, goal, log_priors[0]), clean).sum(1)  # of the weak and the strong view
        if lambda_u:  # unselected rows reach no head but the pseudo head, the last one, unless the net has none
            pseudo = debiased_loss(seen[:, -1], found.pseudo[i], log_priors[1])
            losses = losses + lambda_u * masked_mean(pseudo, 1 - clean)
        yield losses[0] + gamma * losses[1], 2 * len(goal)
        for inputs, goals, heads, inside in found.mixes[i]:
            with run.autocast():
                out = self.heads(found.models[i](inputs, True))
            mixed = debiased_loss(torch.stack([out[head] for head in heads]), goals, log_priors[0])
            yield gamma * masked_mean(mixed, inside).sum(), inside.sum().long()

    def heads(self, out: Output) -> list[Tensor]:
        """Logits of the heads that train, the primary one first."""
        return [out.logits] if out.auxiliary is None else [out.logits, out.auxiliary]

    def pads(self, run: Run) -> bool:
        """Whether selected rows are repeated to fill the batch."""
        if self.subset is not None:
            return self.subset == "pad"
        return self.reading != "released" and (run.compile or run.device.type == "cuda")

    def mixed_views(
        self,
        x: Tensor,  # float (m, ...), weak views of a net's selected rows, begun by it
        goal: Tensor,  # (m, k)
        inside: Tensor,  # (m,) float, 0 for rows that only fill the batch
        weights: Tensor,  # (2 heads, 2): mixup's and FMix's
        generator: torch.Generator,
    ) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
        """Mixup and FMix of the selected rows (equation 10), their targets, and the heads that they train."""
        heads = 2 if self.auxiliary_head else 1
        together = [[0], [1]][:heads] if self.mix_per_head else [list(range(heads))]
        for served in together:
            mix, share = weights[served[0]]
            yield *mixup(x, goal, mix, partners(inside, generator)), served
            if x.ndim == 4:
                partner = partners(inside, generator)
                mask = fmix_masks(share[None], (x.shape[2], x.shape[3]), generator)
                yield torch.where(mask, x, x[partner]), share * goal + (1 - share) * goal[partner], served


def together(terms: Iterable[tuple[Tensor, int | Tensor]]) -> tuple[Tensor, int | Tensor]:
    """The terms of a loss as one, and the rows forwarded for all of them."""
    losses, passes = zip(*terms, strict=True)
    return torch.stack(losses).sum(), sum(passes)
