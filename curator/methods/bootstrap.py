"""Bootstrapping with a mixture on the losses: Arazo et al. (ICML 2019) and Huang and Tang's reproduction (2024).

One net. After a warm-up with mixup every epoch fits a mixture to the losses of all rows, whose posterior w says how
likely a label is wrong. A row's target is then (1 - w) times its label and w times what the net predicts for it (hard:
the class, soft: the probabilities), and two mixed rows share theirs as they share the input (equation 8: M-DYR-H,
M-DYR-S). With `mix: dynamic` the share follows from w, the surer label having the larger one (equation 9), and soft
targets harden over the epochs (MD-DYR-SH, where nearly all labels are wrong). A penalty keeps the mean prediction of a
batch near uniform, against collapse into one class.

The reproduction's draws of that share are `weights`: Beta(p, 1 - p) as its text says, Beta(e^p, e^(1 - p)) as its code
did, and a ratio of two binomial draws, which is equation 9 but for a deviation of .004.

There are three readings. By default (`reading: recommended`) w and predictions are of one pass over all rows, as they
are, at the end of an epoch; losses are stretched between their 5th and 95th percentile before the mixture is fitted
(paper: divided by the largest); the penalty is of the batch (paper: of a running mean, for the data set); and a label
counts as wrong at most as surely as the net doubts it: a mixture always finds a second component, and of clean labels
it holds a sixth to be wrong (paper: no such guard). `reading: paper` is the same but for the brackets. What the code
does otherwise, all of which is `reading: released`:
- w is the mixture of the last epoch at the current loss of the current view, and the prediction is made in training
  mode: two forward passes a step on top of training and tracking. w is looked up after the prediction's pass, and of
  hard targets after that of the mixed rows, too: both move the statistics of batch normalisation.
- The pass at the end of an epoch sees cropped and mirrored images.
- The posterior comes from a table of 100 entries, and the second component is the noisy one; there is no guard.
- In the epochs of dynamic mixing before bootstrapping labels are mixed by a draw of their own, then half and half; the
  papers do not say how.
- The learning rate falls an epoch early.
Not followed: the released penalty counts 10 classes always in the soft case, its warm-up mixes with Beta(32, 32)
whatever is asked for, it keeps the epoch of the best test accuracy, and with no mixup, or with mixup alone, it does not
bootstrap, or not train at all, after the warm-up. The Gaussian mixture is the reproduction's: never a table, its
components always by their means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.losses import log_mean_prediction, prior_divergence
from curator.engine.nets import Net
from curator.engine.optim import dropped, set_rate, sgd
from curator.engine.run import Run
from curator.engine.subset import REFRESH, refreshed
from curator.engine.views import mixed
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import Above, AtLeast, Epochs
from curator.methods.method import Method
from curator.signals.bmm import LossMixture

BINOMIAL = 10_000  # trials of a draw
RUNNING = 0.1  # how far a batch moves the running mean prediction
TEMPERATURE_END = 1e-3  # at which annealed targets stay
PENALTY = 1.0  # eta, weight of the penalty while bootstrapping: 1 in every experiment of both papers
CONSTANT = {"hard": 0.2}  # w where there is no mixture, by target; 0.05 for the others (Reed et al. 2015)

Weights = Literal["ratio", "beta", "beta_exp", "binomial"]


class State(NamedTuple):
    """What trains and what is known; all of it is registered."""

    net: Net
    model: Net  # the net as it is called in training
    optimizer: torch.optim.Optimizer
    mixture: LossMixture
    logits: Tensor  # (n, k), as the net last saw the rows
    noise: Tensor  # (n,), w: posterior of a wrong label
    mean: Tensor  # (k,), running mean prediction, on the device


@dataclass
class Bootstrap(Method):
    """Dynamic bootstrapping of one net by a mixture on its losses."""

    epochs: Annotated[Epochs, AtLeast(1)] = 300
    """Epochs of training, warm-up included (>= 1)."""
    warmup: Annotated[Epochs, AtLeast(1)] = 105
    """Epochs with the given labels, mixed by mixup, before bootstrapping."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Rows per step (>= 2)."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """SGD with momentum, or Adam (TinyImageNet on frozen features)."""
    lr: Annotated[float, Above(0)] = 0.1
    """Initial learning rate (> 0); it falls to a tenth at each drop."""
    first_drop: Annotated[Epochs, AtLeast(0)] = 100
    """Epoch of the first drop."""
    second_drop: Annotated[Epochs, AtLeast(0)] = 250
    """Epoch of the second drop."""
    third_drop: Annotated[Epochs, AtLeast(0)] = 0
    """Epoch of a third drop (0: none)."""
    weight_decay: Annotated[float, AtLeast(0)] = 1e-4
    """Weight decay on all parameters (>= 0)."""
    target: Literal["hard", "soft", "annealed", "given"] = "hard"
    """What a label is corrected with: the predicted class, the prediction, one that hardens over the epochs (dynamic
    mixing), or nothing."""
    mix: Literal["static", "dynamic", "none"] = "static"
    """How two rows are mixed: by a draw of Beta(mixup_alpha, mixup_alpha), by their w after warm-up, or not at all."""
    mixup_alpha: Annotated[float, AtLeast(0)] = 32.0
    """Parameter of mixup's Beta distribution (> 0)."""
    weights: Weights = "ratio"
    """Dynamic mixing: the share p of equation 9 itself, or a draw with its mean; beta_exp's mean lies nearer 1/2."""
    label_weight: Literal["half", "input"] = "half"
    """Dynamic mixing: labels are shared half and half, or as the inputs."""
    dynamic_warmup: Annotated[Epochs, AtLeast(0)] = 5
    """Epochs of dynamic mixing with the given labels before bootstrapping."""
    anneal: Annotated[Epochs, AtLeast(1)] = 89
    """Epochs in which the temperature of annealed targets falls from 1."""
    mixture: Literal["beta", "gaussian", "none"] = "beta"
    """What turns losses into w; none: w is constant (Reed et al. 2015, there without the penalty)."""
    selected_rule: Literal["agreement", "posterior"] = "agreement"
    """What the result keeps: rows whose given label is predicted, or rows of which w <= 0.5."""
    reading: Literal["released", "paper", "recommended"] = "recommended"
    """Of what papers and code leave open or do differently: the released code's, the paper's, or what does best."""

    small_net: ClassVar[dict[str, Any]] = {
        "epochs": 60, "warmup": 21, "first_drop": 20, "second_drop": 50, "dynamic_warmup": 1, "anneal": 18,
    }  # fmt: skip

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows, for the ETA."""
        main = max(0, self.epochs - self.warmup) if self.uses_noise else 0
        return self.epochs + main * (3 if self.released else 1) / 3 + (self.epochs - main) / REFRESH / 3

    @property
    def released(self) -> bool:
        """Whether all is done as in the released code."""
        return self.reading == "released"

    @property
    def uses_noise(self) -> bool:
        """Whether w decides anything in training."""
        return self.target != "given" or self.mix == "dynamic"

    @property
    def constant_noise(self) -> float:
        """The w of every row where there is no mixture."""
        return CONSTANT.get(self.target, 0.05)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train one net and yield after every epoch."""
        state = self.build(data, run)
        for epoch in run.epochs(self.epochs):
            set_rate(state.optimizer, self.rate(epoch))
            self.train(state, data, run, epoch)
            self.track(state, data, run, epoch)
            yield self.result(state, data)
        state.logits.copy_(run.predict(state.net, data.inputs))  # the rows as they are, by the last net
        self.judge(state, data)
        if self.mixture != "none":
            run.add_findings(**state.mixture.summary())
        yield self.result(state, data)

    # What is there

    def build(self, data: NoisyDataset, run: Run) -> State:
        """Net, optimizer, mixture, and nothing known yet."""
        n, k = len(data), len(data.classes)
        net = run.build_net("net0", data)
        run.register("nets", nn.ModuleList([net]), scores=True)
        return State(
            net,
            run.prepare(net),
            run.register("optimizer", self.make_optimizer(net)),
            run.register("mixture", self.make_mixture()),
            run.register("logits", torch.zeros(n, k)),
            run.register("noise", torch.full((n,), 0.5 if self.mixture != "none" else self.constant_noise)),
            run.register("mean_prediction", torch.full((k,), 1 / k, device=run.device)),
        )

    def make_optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """SGD or Adam."""
        if self.optimizer == "adam":
            return torch.optim.Adam(
                net.parameters(), self.lr, weight_decay=self.weight_decay, fused=True,
                capturable=next(net.parameters()).is_cuda,
            )  # fmt: skip
        return sgd(net.parameters(), self.lr, self.weight_decay)

    def make_mixture(self) -> LossMixture:
        """The mixture on the losses; unused where w is constant."""
        return LossMixture(
            "gaussian" if self.mixture == "gaussian" else "beta",
            scale="max" if self.reading == "paper" else "percentile",
            ordering="index" if self.released else "mean",
            posterior="table" if self.released else "exact",
            guard=self.reading == "recommended",
        )

    # Schedules

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch."""
        return dropped(self.lr, epoch + self.released, self.first_drop, self.second_drop, self.third_drop)

    def bootstraps(self, epoch: int) -> bool:
        """Whether labels are corrected in the epoch."""
        first = self.warmup + (self.dynamic_warmup if self.mix == "dynamic" else 0)
        return self.target != "given" and epoch >= first

    def temperature(self, epoch: int) -> float:
        """Temperature of annealed targets: so many values from 1 down to the last, which stays."""
        passed = epoch - self.warmup - (self.dynamic_warmup if self.mix == "dynamic" else 0)
        share = min(1.0, max(0, passed) / max(1, self.anneal - 1))
        return 1 + (TEMPERATURE_END - 1) * share

    # Training

    def train(self, state: State, data: NoisyDataset, run: Run, epoch: int) -> None:
        """One epoch."""
        (n, k), net, model = state.logits.shape, state.net, state.model
        normaliser, generator, draws = (
            run.normaliser(data.inputs),
            run.generator("views", epoch),
            run.generator("shares", epoch),
        )
        labels, trusted = data.labels.to(run.device), data.trusted.to(run.device)
        logits, noise = state.logits.to(run.device), state.noise.to(run.device)
        corrects, dynamic = self.bootstraps(epoch), self.mix == "dynamic" and epoch >= self.warmup
        looks = self.released and epoch >= self.warmup and self.uses_noise
        last = looks and corrects and self.target == "hard" and not dynamic  # when w is looked up: after all passes
        batches = run.batches(data.inputs, torch.arange(n), self.batch_size, epoch)
        shares = run.beta(self.mixup_alpha, len(batches), "mixup", epoch)

        def look(x: Tensor, rows: Tensor, w: Tensor) -> Tensor:
            with torch.no_grad(), run.autocast():
                net.eval()
                w = self.current_noise(state.mixture, model(x).logits.float(), labels[rows], trusted[rows], w)
                net.train()
            return w

        def step(x: Tensor, rows: Tensor, drawn: Tensor) -> None:
            x = run.views.training(x, normaliser, generator)
            target, w, z = F.one_hot(labels[rows], k).float(), noise[rows], logits[rows]
            net.train()
            if corrects and self.released:
                with torch.no_grad(), run.autocast():
                    z = model(x).logits
            if looks and not last:  # the pass above has moved the batch statistics that w is read with
                w = look(x, rows, w)
            partner = torch.randperm(len(x), generator=generator, device=run.device)
            share = draw_shares(mixing_share(w, w[partner]), self.weights, draws) if dynamic else drawn
            with run.autocast():
                begun = model.begin(x)
                out = model(mixed(begun, share, partner) if dynamic or self.mix != "none" else begun, True).logits
            if last:
                w = look(x, rows, w)
            if corrects:
                target = torch.lerp(target, self.predicted(z, epoch), w[:, None])
            if dynamic:
                target = mixed(target, self.label_share(share, drawn, corrects), partner)
            elif self.mix != "none":
                target = mixed(target, drawn, partner)
            loss = F.cross_entropy(out, target)
            if corrects:
                loss = loss + PENALTY * self.mean_penalty(out, state.mean, run)
            run.backward(loss, len(rows))
            run.step(state.optimizer)

        step = run.recorded(step, generator, draws)
        for rows, drawn in zip(batches, shares, strict=True):
            step(data.inputs.batch(rows), rows, drawn)

    def current_noise(self, mixture: LossMixture, logits: Tensor, labels: Tensor, trusted: Tensor, w: Tensor) -> Tensor:
        """The w (b,) of a batch by the mixture of the last epoch."""
        if self.mixture != "none":
            w = mixture(F.cross_entropy(logits, labels, reduction="none"))
        return torch.where(trusted, 0.0, w)

    def predicted(self, logits: Tensor, epoch: int) -> Tensor:
        """What labels are corrected with, (b, k)."""
        if self.target == "hard":
            return F.one_hot(logits.argmax(1), logits.shape[1]).float()
        return (logits.float() / (self.temperature(epoch) if self.target == "annealed" else 1.0)).softmax(1)

    def label_share(self, share: Tensor, drawn: Tensor, corrects: bool) -> Tensor:
        """The share of a row's own target in dynamic mixing, where inputs are mixed by `share` (b,)."""
        if self.label_weight == "input":
            return share
        return drawn if self.released and not corrects else torch.full_like(drawn, 0.5)

    def mean_penalty(self, logits: Tensor, mean: Tensor, run: Run) -> Tensor:
        """R: how far the mean prediction is from uniform, over the batch of all processes or a running mean of it."""
        here = log_mean_prediction(logits.float().log_softmax(1))
        if self.reading != "paper" and run.world == 1:
            return prior_divergence(here)
        whole = run.summed(here.exp().detach()) / run.world
        if self.reading == "paper":
            mean.lerp_(whole, RUNNING)
            whole = mean.clone()
        # Its value is that of the whole mean, and so is its gradient, which flows through this part of it.
        whole = whole.clamp_min(1e-12)
        pull = here.exp() / whole
        return prior_divergence(whole.log()) - (pull - pull.detach()).mean()

    # The mixture

    def track(self, state: State, data: NoisyDataset, run: Run, epoch: int) -> None:
        """Logits at the end of the epoch, and what the mixture makes of their losses."""
        rows, normaliser = torch.arange(len(data)), run.normaliser(data.inputs)
        if not (self.uses_noise and epoch + 1 >= self.warmup):  # nothing in training waits for it
            rows = refreshed(rows, epoch)
        generator = run.generator("tracking", epoch)

        def look(x: Tensor) -> Tensor:
            return run.views.weak(x, normaliser, generator) if self.released else normaliser(x)

        state.logits[rows] = run.predict(state.net, data.inputs, rows, normaliser=look)
        self.judge(state, data)

    def judge(self, state: State, data: NoisyDataset) -> None:
        """Fit the mixture to the losses of the rows that are not trusted, and put down the w of all rows."""
        if self.mixture != "none":
            losses = F.cross_entropy(state.logits, data.labels, reduction="none")
            state.mixture.fit(losses[~data.trusted])
            state.noise.copy_(state.mixture(losses))
        state.noise[data.trusted] = 0.0

    def result(self, state: State, data: NoisyDataset) -> Evidence:
        """Evidence of the net; the score is 1 - w, or without a mixture the probability of the given label."""
        losses, score = F.cross_entropy(state.logits, data.labels, reduction="none"), None
        if self.mixture != "none":  # losses at the ends of the mixture's scale share one w: their order is the losses'
            score = torch.lerp(1 - state.noise, 1 / (1 + losses), 1e-3)
        selected = state.noise <= 0.5 if self.selected_rule == "posterior" else None
        return evidence(state.logits.softmax(1), data, clean_score=score, selected=selected)


def mixing_share(own: Tensor, partner: Tensor) -> Tensor:
    """Share (b,) of a row's own input in dynamic mixing, by its w and its partner's (equation 9)."""
    return (1 - own) / ((1 - own) + (1 - partner))


def draw_shares(share: Tensor, weights: Weights, generator: torch.Generator) -> Tensor:
    """The reproduction's draws (b,) around shares (b,); `ratio` is the share itself."""
    if weights == "ratio":
        return share
    p = share.double().clamp(1e-6, 1 - 1e-6)
    if weights == "binomial":
        trials = torch.full_like(p, BINOMIAL)
        one, other = (torch.binomial(trials, q, generator=generator) for q in (p, 1 - p))
    else:
        own = (p, 1 - p) if weights == "beta" else (p.exp(), (1 - p).exp())
        one, other = (torch._standard_gamma(q, generator=generator) for q in own)
    tiny = torch.finfo(p.dtype).tiny  # both may be 0
    return ((one + tiny) / (one + other + 2 * tiny)).to(share.dtype)
