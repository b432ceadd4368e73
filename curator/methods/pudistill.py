"""PUDistill (Xu, Quek and Chong, arXiv 2105.13892): a small verified set, robust to any noise.

Stage 1 uses no noisy label. For every class an ensemble of binary nets learns it from its verified rows against a mix
of verified rows of other classes and of unverified ones (positive-unlabelled learning). Rows that enough of its members
are sure of join the positives of the next round. Stage 2: teachers learn the classes so augmented, on balanced samples;
where their mean prediction is sure it joins the label (soft, hard bootstrapping), or replaces it (hard), and a student
learns from all rows. Both mix rows by mixup and are paid for sure predictions (entropy).

Where the released code differs from the paper and changes what is learned, an option has it, and `preset: parity` sets
all of them: the filter sees verified rows, too (`filter_domain`), and excludes alpha itself (`inclusive`); teacher i
reads the sets of round i + 1, the student those of round 1 (`round_used`); mixup's parameter is 1 (paper: 2); verified
rows get pseudo-labels (`relabel`); teachers see all verified rows and a balanced sample of the added ones
(`teacher_sample`); no round ends early (`settled`). Neither gives the number of rounds, eta, lambda and the entropy's
weight together: 10, .7, .5 and .8 are the README's and the figures'.
Not followed: its choice of checkpoints by test accuracy; scoring on augmented rows, and of teachers in training mode;
that a class that claims a verified row changes its label, and that of several classes that claim a row the last one
wins: here the surest one does, and none where two are close. Its batches of 64 in stage 1 are `pu_batch`, its decay one
epoch early is `pu_drop` 19; its teachers' own learning rate (.03) has no option.

A round of a class is one epoch of progress here: what a run that is killed can lose.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.losses import negative_entropy
from curator.engine.members import Members, best_way
from curator.engine.nets import Net
from curator.engine.optim import dropped, set_rate, sgd
from curator.engine.run import Run
from curator.engine.subset import refreshed
from curator.engine.views import mixup
from curator.errors import CuratorError
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import SHARE, Above, AtLeast, Epochs

LEAST = 2  # verified rows of a class without which nothing works
ADVISED = 50  # from which its binary nets learn enough; and rows of a class in every epoch of a teacher
UNEVEN = 10  # times the verified rows of another class, from which the poorer one holds the others back

PRESETS: dict[str, dict[str, Any]] = {
    "parity": {
        "filter_domain": "all", "inclusive": False, "round_used": "released", "mixup_alpha": 1.0, "relabel": True,
        "teacher_sample": "released", "settled": 0.0,
    },
    "paper": {
        "filter_domain": "unverified", "inclusive": True, "round_used": "last", "mixup_alpha": 2.0, "relabel": False,
        "teacher_sample": "balanced", "settled": 0.0,
    },
}  # fmt: skip


class Known(NamedTuple):
    """What stages 1 and 2 have found; registered, on the CPU."""

    claimed: Tensor  # (rounds, n, k) bool, rows that a round of a class adds to it
    score: Tensor  # (n, k), mean probability by the members of each class's ensemble, of its last round
    settled: Tensor  # (k,) bool, classes whose last round was made
    teacher: Tensor  # (n, k), mean softmax of the teachers


@dataclass
class PUDistill:
    """Tiered positive-unlabelled augmentation of verified rows, teachers on it, and a student."""

    epochs: Annotated[Epochs, AtLeast(1)] = 100
    """Epochs of the student (>= 1)."""
    teacher_epochs: Annotated[Epochs, AtLeast(1)] = 100
    """Epochs of the teachers, of a balanced sample each (>= 1)."""
    pu_epochs: Annotated[Epochs, AtLeast(1)] = 30
    """Epochs of the binary nets in every round, of their own sample each (>= 1)."""
    rounds: Annotated[int, AtLeast(1)] = 10
    """K: rounds of augmentation of a class at most (>= 1)."""
    classifiers: Annotated[int, AtLeast(1)] = 20
    """N: binary nets of a class (>= 1)."""
    alpha: Annotated[float, SHARE] = 0.9
    """Probability from which a binary net votes for a row, in [0, 1]."""
    votes: Annotated[int, AtLeast(1)] = 19
    """Theta: votes from which a row joins the class (1 to `classifiers`)."""
    inclusive: bool = True
    """Whether alpha itself is a vote (paper, Clothing1M's script), or only more (CIFAR-10's)."""
    filter_domain: Literal["unverified", "all"] = "unverified"
    """Rows that may join a class: those that nobody verified, or all (released code)."""
    settled: Annotated[float, AtLeast(0)] = 0.01
    """A round is a class's last when the rows that it adds changed by less than this share (>= 0; 0: all rounds)."""
    margin: Annotated[float, SHARE] = 0.05
    """A row that several classes claim is of the surest one, by its mean probability; closer than this, of none."""
    round_used: Literal["last", "released"] = "last"
    """The added rows that stage 2 reads: of the last round, or of round i + 1 for teacher i and round 1 for labels."""
    pu_batch: Annotated[int, AtLeast(2)] = 128
    """Rows per step of a binary net (>= 2; released code: 64)."""
    pu_lr: Annotated[float, Above(0)] = 0.01
    """Learning rate of the binary nets (> 0)."""
    pu_drop: Annotated[Epochs, AtLeast(0)] = 20
    """Epoch of a round from which it is a tenth (0: never)."""
    pu_second_drop: Annotated[Epochs, AtLeast(0)] = 0
    """Epoch of a round from which it is a hundredth (0: never)."""
    teachers: Annotated[int, AtLeast(1)] = 5
    """Teachers (>= 1)."""
    teacher_sample: Literal["balanced", "released"] = "balanced"
    """An epoch of a teacher: equally many rows of every class, or all verified rows and equally many added ones."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Rows per step of a teacher and of the student (>= 2)."""
    lr: Annotated[float, Above(0)] = 0.05
    """Initial learning rate of teachers and student (> 0); it falls to a tenth at each drop."""
    first_drop: Annotated[Epochs, AtLeast(0)] = 30
    """Epoch of the student's first drop (0: none); teachers have theirs after the same share of their epochs."""
    second_drop: Annotated[Epochs, AtLeast(0)] = 50
    """Epoch of the second drop."""
    third_drop: Annotated[Epochs, AtLeast(0)] = 80
    """Epoch of the third drop."""
    weight_decay: Annotated[float, AtLeast(0)] = 1e-4
    """Weight decay on all parameters (>= 0)."""
    mixup_alpha: Annotated[float, AtLeast(0)] = 2.0
    """Parameter mu of mixup's Beta distribution, for teachers and student (>= 0; 0: no mixup)."""
    entropy: Annotated[float, AtLeast(0)] = 0.8
    """Weight of the mean entropy of predictions, which makes teachers and student sure (>= 0)."""
    eta: Annotated[float, SHARE] = 0.7
    """Probability from which the teachers' mean prediction is sure, in [0, 1]."""
    trust_teachers: Annotated[float, SHARE] = 0.5
    """Lambda: the teachers' share of a bootstrapped label, in [0, 1]."""
    pseudo_label: Literal["soft_bootstrap", "hard_bootstrap", "hard"] = "soft_bootstrap"
    """What the student learns where the teachers are sure: the label and their prediction, its class, or that alone."""
    relabel: bool = False
    """Verified rows get pseudo-labels, too (released code)."""
    members: Literal["vmap", "loop"] | None = None
    """How nets of an ensemble train: in one batched pass, or one after another; none: one pass on accelerators."""
    preset: Literal["parity", "paper"] | None = None
    """All options that have two readings at once: the released code's, or the paper's."""

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    early_stops: ClassVar[bool] = False  # corrected labels do not change while the student trains
    small_net: ClassVar[dict[str, Any]] = {
        "epochs": 60, "first_drop": 20, "second_drop": 35, "third_drop": 50, "teacher_epochs": 60,
        "rounds": 3, "classifiers": 5, "votes": 5,
    }  # fmt: skip

    def __post_init__(self):
        for name, value in PRESETS.get(self.preset or "", {}).items():
            setattr(self, name, value)
        if self.votes > self.classifiers:
            raise CuratorError(f"--method.votes: expected 1 to {self.classifiers}, found {self.votes}")

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows, for the ETA: a tenth of them taken to be verified, and as many added."""
        stage1 = self.classifiers * self.rounds * (0.3 * self.pu_epochs + classes / 3)
        return stage1 + self.teachers * self.teacher_epochs * 0.2 + self.epochs

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Augment class after class, then teachers, then the student; yield after a round and after an epoch."""
        self.require(data.labels, data.trusted, data.classes)
        for warning in thin(data):
            run.warn(warning)
        known = self.knowledge(data, run)
        yield from self.augment(known, data, run)
        yield from self.teach(known, data, run)
        if not run.stopping:  # a student that learned nothing would score the other splits
            yield from self.distill(known, data, run)
        yield self.result(known, data)

    @staticmethod
    def require(labels: Tensor, trusted: Tensor, classes: Sequence[str]) -> None:
        """Refuse data without enough verified rows of every class, naming the first that has too few."""
        counts = torch.bincount(labels[trusted], minlength=len(classes)).tolist()
        few = [(name, count) for name, count in zip(classes, counts, strict=True) if count < LEAST]
        if few:
            name, found = few[0]
            more = f" and too few of {len(few) - 1} more" * (len(few) > 1)
            raise CuratorError(
                f"--method pudistill learns from verified rows: expected at least {LEAST} of every class, found "
                f"{found} of {name[:60]!r}{more}; verify rows on the page and give its journal, or a file or column, "
                "with --trusted"
            )

    def knowledge(self, data: NoisyDataset, run: Run) -> Known:
        """Nothing yet."""
        n, k = len(data), len(data.classes)
        return Known(
            run.register("claimed", torch.zeros(self.rounds, n, k, dtype=torch.bool)),
            run.register("score", torch.zeros(n, k)),
            run.register("settled", torch.zeros(k, dtype=torch.bool)),
            run.register("teacher", torch.zeros(n, k)),
        )

    # Stage 1: tiered augmentation

    def augment(self, known: Known, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """The rounds of class after class: only one class's binary nets are there at a time."""
        key = self.stage_1(data, run) | {"row": data.inputs.shape}
        found_before = run.kept("pudistill", key)
        if found_before is not None:  # by a run with other noise: no noisy label was read
            known.claimed.copy_(found_before["claimed"])
            known.score.copy_(found_before["score"])
            return
        members = run.register("members", self.ensemble("pu", self.classifiers, data, run, classes=1))
        for c in range(len(data.classes)):
            for round in run.epochs(self.rounds, stage=f"class {c}"):
                if known.settled[c]:
                    break
                if round == 0:
                    members.restart(self.nets(f"pu{c}", self.classifiers, data, run, classes=1))
                before = known.claimed[round - 1, :, c] if round else torch.zeros(len(data), dtype=torch.bool)
                self.train_round(members, before, c, round, data, run)
                found = self.claim(members, c, known, data, run)
                known.claimed[round:, :, c] = found
                changed = int((found != before).sum())
                known.settled[c] = round > 0 and changed < self.settled * max(1, int(found.sum()))
                yield self.result(known, data)

        if not run.stopping:
            run.keep("pudistill", key, {"claimed": known.claimed, "score": known.score})
            run.forget("members")  # later checkpoints need them no more

    def stage_1(self, data: NoisyDataset, run: Run) -> dict[str, Any]:
        """All that stage 1 depends on besides the inputs."""
        own = (
            "pu_epochs", "rounds", "classifiers", "alpha", "votes", "inclusive", "filter_domain", "settled", "pu_batch",
            "pu_lr", "pu_drop", "pu_second_drop", "weight_decay", "members",
        )  # fmt: skip
        verified = data.trusted.nonzero()[:, 0]
        rows = hashlib.blake2b(torch.stack([verified, data.labels[verified]]).numpy().tobytes()).hexdigest()
        return {name: getattr(self, name) for name in own} | {
            "verified": rows, "classes": len(data.classes), **vars(run.views),
        }  # fmt: skip

    def train_round(self, members: Members, before: Tensor, c: int, round: int, data: NoisyDataset, run: Run) -> None:
        """Every member learns a bootstrap sample of its own, with the last round's rows `before` (n,) bool."""
        draw, views = run.generator(f"pu{c}", round, shared=True), run.generator(f"pu views{c}", round)
        samples = [self.bootstrap(before, c, data, draw) for _ in range(members.count)]
        rows, positive = (torch.stack(part).to(run.device) for part in zip(*samples, strict=True))  # (members, m)
        optimizer = self.sgd(members, self.pu_lr)
        normaliser = run.normaliser(data.inputs)
        members.train()
        for epoch in range(self.pu_epochs):
            set_rate(optimizer, dropped(self.pu_lr, epoch, self.pu_drop, self.pu_second_drop))
            order = torch.stack([torch.randperm(rows.shape[1], generator=draw) for _ in samples]).to(run.device)
            parts = batches_of(order, self.pu_batch, run)
            data.inputs.expect([rows.gather(1, part).flatten() for part in parts])
            for part in parts:
                chosen, target = rows.gather(1, part), positive.gather(1, part)
                with run.autocast():
                    logits = members(self.views(chosen, data, normaliser, views, run))[..., 0]
                losses = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
                run.backward(losses.mean(1).sum(), chosen.numel())  # the members' gradients do not meet
                run.step(optimizer)

    def bootstrap(
        self, before: Tensor, c: int, data: NoisyDataset, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Rows (m,) of a member's sample, and (m,) float: 1 for those that count as of class c (section 2.2)."""
        own = (data.trusted & (data.labels == c)).nonzero()[:, 0]
        others = (data.trusted & (data.labels != c)).nonzero()[:, 0]
        added, rest = before.nonzero()[:, 0], (~data.trusted & ~before).nonzero()[:, 0]
        verified, unverified = bootstrap_sizes(len(own), len(added))[1:]
        added = drawn(added, min(len(own), len(added)), generator)
        rest = rest if len(rest) else others  # everything is verified or added
        negatives = torch.cat([drawn(others, verified, generator), drawn(rest, unverified, generator)])
        positives = torch.cat([own, added])
        return torch.cat([positives, negatives]), torch.cat([torch.ones(len(positives)), torch.zeros(len(negatives))])

    def claim(self, members: Members, c: int, known: Known, data: NoisyDataset, run: Run) -> Tensor:
        """Rows (n,) bool of which enough members are sure that they are of class c (equation 3); keeps their mean."""
        rows = torch.arange(len(data))
        rows = rows[~data.trusted] if self.filter_domain == "unverified" else rows
        scores = self.predict(members, rows, lambda logits: logits[..., 0].float().sigmoid().T, data, run)
        known.score[rows, c] = scores.mean(1)
        found = torch.zeros(len(data), dtype=torch.bool)
        found[rows] = vote(scores, self.alpha, self.votes, inclusive=self.inclusive)
        return found

    # Stage 2: teachers and the student

    def augmented(self, known: Known, data: NoisyDataset, round: int = -1) -> Tensor:
        """Class (n,) int64 of every verified row and of every row that a class claims; -1 for the others."""
        claimed, score = known.claimed[round], known.score.masked_fill(~known.claimed[round], -1)
        best = score.topk(2, dim=1)
        sure = claimed.any(1) & (best.values[:, 0] - best.values[:, 1] >= self.margin)
        found = torch.where(sure, best.indices[:, 0], -1)
        return torch.where(data.trusted, data.labels, found)

    def teach(self, known: Known, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Teachers on balanced samples, drawn anew for every epoch and teacher."""
        teachers = run.register("teachers", self.ensemble("teacher", self.teachers, data, run, len(data.classes)))
        optimizer = run.register("teachers' optimizer", self.sgd(teachers, self.lr))
        rounds = range(self.teachers) if self.round_used == "released" else [-1] * self.teachers
        classes = [self.augmented(known, data, min(i, self.rounds - 1)) for i in rounds]
        if known.teacher.any() or not run.stopping:  # else stage 1 was cut short
            warn_of_nothing_added(classes, data, run)
        least = self.least(classes, data)
        rows, normaliser = torch.arange(len(data)), run.normaliser(data.inputs)
        for epoch in run.epochs(self.teacher_epochs, "teachers"):
            self.set_rate(optimizer, epoch * self.epochs / self.teacher_epochs)
            draw, views = run.generator("teacher samples", epoch, shared=True), run.generator("teacher views", epoch)
            samples = torch.stack([self.balanced(found, data, draw, least) for found in classes]).to(run.device)
            targets = torch.stack(classes).to(run.device).gather(1, samples)
            teachers.train()
            parts = batches_of(torch.arange(samples.shape[1]).expand_as(samples).to(run.device), self.batch_size, run)
            data.inputs.expect([samples.gather(1, part).flatten() for part in parts])
            shares = self.shares(run, (len(parts), self.teachers), "teacher mixup", epoch)
            for part, share in zip(parts, shares, strict=True):
                x = self.views(samples.gather(1, part), data, normaliser, views, run)
                goal = F.one_hot(targets.gather(1, part), len(data.classes)).float()
                mixes = [mix(a, b, s, views) for a, b, s in zip(x, goal, share, strict=True)]
                x, goal = (torch.stack(half) for half in zip(*mixes, strict=True))
                with run.autocast():
                    logits = teachers(x).float()
                losses = torch.stack([self.loss(z, t) for z, t in zip(logits, goal, strict=True)])
                run.backward(losses.sum(), part.numel())
                run.step(optimizer)
            last = epoch + 1 == self.teacher_epochs
            seen = rows if last else refreshed(rows, epoch)
            known.teacher[seen] = self.predict(teachers, seen, lambda z: z.float().softmax(2).mean(0), data, run)
            yield self.result(known, data)

    def pools(self, classes: Tensor, data: NoisyDataset) -> list[Tensor]:
        """Rows by class from which a teacher's sample is drawn, of classes (n,), -1 for none."""
        pool = torch.where(data.trusted, -1, classes) if self.teacher_sample == "released" else classes
        return [(pool == c).nonzero()[:, 0] for c in range(len(data.classes))]

    def least(self, classes: list[Tensor], data: NoisyDataset) -> int:
        """Rows of every class in an epoch of a teacher: as many as the smallest pool has, but not next to none."""
        least = min(len(rows) for found in classes for rows in self.pools(found, data))
        return least if self.teacher_sample == "released" else max(least, ADVISED)

    def balanced(self, classes: Tensor, data: NoisyDataset, generator: torch.Generator, least: int) -> Tensor:
        """Rows of an epoch of a teacher, shuffled: so many of every class; as released besides all verified rows."""
        parts = [drawn(rows, least, generator) for rows in self.pools(classes, data)]
        if self.teacher_sample == "released":
            parts.append(data.trusted.nonzero()[:, 0])
        rows = torch.cat(parts)
        return rows[torch.randperm(len(rows), generator=generator)]

    def distill(self, known: Known, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """The student, on all rows with pseudo-labels."""
        nets = run.register("nets", nn.ModuleList(self.nets("student", 1, data, run, len(data.classes))))
        optimizer = run.register("student's optimizer", self.sgd(nets, self.lr))
        model, normaliser = run.prepare(nets[0]), run.normaliser(data.inputs)
        targets = self.targets(known, data).to(run.device)
        rows = torch.arange(len(data))
        for epoch in run.epochs(self.epochs, "student"):
            self.set_rate(optimizer, epoch)
            views = run.generator("student views", epoch)
            nets.train()
            parts = run.batches(rows, self.batch_size, epoch)
            for part, share in zip(parts, self.shares(run, (len(parts),), "mixup", epoch), strict=True):
                x, goal = mix(self.views(part, data, normaliser, views, run), targets[part], share, views)
                with run.autocast():
                    logits = model(x).logits
                run.backward(self.loss(logits, goal), len(part))
                run.step(optimizer)
            yield self.result(known, data)

    def targets(self, known: Known, data: NoisyDataset) -> Tensor:
        """What the student learns, (n, k) (equations 4 to 6)."""
        found = self.augmented(known, data, 0 if self.round_used == "released" else -1)
        labels = torch.where(found >= 0, found, data.labels)
        goal = pseudo_labels(known.teacher, labels, self.eta, self.trust_teachers, self.pseudo_label)
        given = F.one_hot(data.labels, len(data.classes)).float()
        return goal if self.relabel else torch.where(data.trusted[:, None], given, goal)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy with soft targets (b, k), and the mean entropy of the predictions (equation 2)."""
        return F.cross_entropy(logits, targets) - self.entropy * negative_entropy(logits.float())

    # The result

    def result(self, known: Known, data: NoisyDataset) -> Evidence:
        """Section 2.7: the augmented sets decide, then sure teachers, then the given label stays, not selected.

        A row that a class claims is judged by that alone: sure teachers who take the given label's side change nothing.
        """
        seen = known.teacher.sum(1) > 0  # else the run was cut short
        probs = torch.where(seen[:, None], known.teacher, uniform(known.teacher))
        found, sure = self.augmented(known, data), seen & (probs.amax(1) >= self.eta)
        corrected = torch.where(found >= 0, found, torch.where(sure, probs.argmax(1), data.labels))
        selected = (corrected == data.labels) & ((found >= 0) | sure)
        return evidence(probs, data, selected=selected, corrected=corrected)

    # Shared

    def nets(self, name: str, count: int, data: NoisyDataset, run: Run, classes: int) -> list[Net]:
        """Freshly initialised nets."""
        return [run.build_net(f"{name}{i}", data, classes=classes) for i in range(count)]

    def ensemble(self, name: str, count: int, data: NoisyDataset, run: Run, classes: int) -> Members:
        """Nets that train at once."""
        way = self.members or best_way(run.device)
        return Members(self.nets(name, count, data, run, classes), way)

    def sgd(self, nets: nn.Module, lr: float) -> torch.optim.Optimizer:
        """SGD over the nets."""
        return sgd(nets.parameters(), lr, self.weight_decay)

    def set_rate(self, optimizer: torch.optim.Optimizer, epoch: float) -> None:
        """The learning rate of an epoch of the student, or of the one that stands for it in the teachers' training."""
        set_rate(optimizer, dropped(self.lr, epoch, self.first_drop, self.second_drop, self.third_drop))

    def shares(self, run: Run, shape: tuple[int, ...], purpose: str, epoch: int) -> Tensor:
        """Mixup's share of a row itself, one a batch (and member); ones without mixup."""
        return run.beta(self.mixup_alpha, math.prod(shape), purpose, epoch).view(shape)

    def predict(
        self, members: Members, rows: Tensor, output: Callable[[Tensor], Tensor], data: NoisyDataset, run: Run
    ) -> Tensor:
        """What an ensemble says of the rows; all members hold their share of a batch of images at once."""
        batch = 1024 if data.inputs.kind == "features" else max(1, 1024 // members.count)
        return run.predict(members, data.inputs, rows, batch=batch, output=output)

    def views(self, rows: Tensor, data: NoisyDataset, normaliser, generator: torch.Generator, run: Run) -> Tensor:
        """Weak views of rows (b,), or of a batch a member (members, b): every row with its own draw."""
        x = run.views.training(data.inputs.batch(rows.flatten()), normaliser, generator)
        return x.view(*rows.shape, *x.shape[1:])


def thin(data: NoisyDataset) -> list[str]:
    """Warnings where the verified rows are enough to start and too few, or too unequal, to end well."""
    counts = torch.bincount(data.labels[data.trusted], minlength=len(data.classes))
    least, most = int(counts.min()), int(counts.max())
    poorest, richest = (repr(data.classes[int(c)][:60]) for c in (counts.argmin(), counts.argmax()))
    few, found = int((counts < ADVISED).sum()), []
    if few:
        found.append(
            f"{few} of {len(counts)} classes have few verified rows, {poorest} the fewest with {least}: about "
            f"{ADVISED} of every class are advised; verify more rows for --trusted"
        )
    if most > UNEVEN * least:
        found.append(
            f"the verified rows are uneven: {most:,} of {richest}, {least:,} of {poorest}, which is learned worse and "
            "holds the others back; verify more rows of the poor classes for --trusted"
        )
    return found


def warn_of_nothing_added(classes: list[Tensor], data: NoisyDataset, run: Run) -> None:
    """Warn of classes that stage 1 gave no row besides the verified ones, by what the teachers learn, each (n,)."""
    free = ~data.trusted
    added = torch.stack([found[free] for found in classes])
    bare = [name for c, name in enumerate(data.classes) if not (added == c).any(1).all()]  # to any teacher's sample
    if bare and free.any():
        run.warn(
            f"no row was found to add to {len(bare)} of {len(data.classes)} classes, as {bare[0][:60]!r}: of these the "
            "teachers learn the verified rows only, and of the others as few; verify more rows for --trusted, or lower "
            "--method.alpha or --method.votes"
        )


def bootstrap_sizes(own: int, added: int) -> tuple[int, int, int]:
    """Positives, and negatives from verified and from unverified rows, of a member's sample (section 2.2)."""
    positives = own + min(own, added)
    return positives, positives // 2, positives - positives // 2


def drawn(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """So many of the rows (m,), without repetition as long as there are enough."""
    if not len(rows) or not count:
        return rows[:0]
    rounds = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(-(-count // len(rows)))]
    return torch.cat(rounds)[:count]


def vote(scores: Tensor, alpha: float, votes: int, *, inclusive: bool = True) -> Tensor:
    """Rows (m,) bool for which at least so many of the members' probabilities (m, members) reach alpha (equation 3)."""
    alpha_ = torch.tensor(alpha, dtype=scores.dtype)  # in the scores' precision: .9 is not the same number in float32
    return ((scores >= alpha_) if inclusive else (scores > alpha_)).sum(1) >= votes


def pseudo_labels(
    teacher: Tensor,  # (n, k), the teachers' mean prediction
    labels: Tensor,  # (n,) int64, given or augmented
    eta: float,
    share: float,  # lambda, of the teacher
    kind: str,
) -> Tensor:  # (n, k)
    """Labels with the teachers' say where they are sure (equations 4 to 6)."""
    k = teacher.shape[1]
    given = F.one_hot(labels, k).to(teacher.dtype)
    says = teacher if kind == "soft_bootstrap" else F.one_hot(teacher.argmax(1), k).to(teacher.dtype)
    joined = says if kind == "hard" else share * says + (1 - share) * given
    return torch.where((teacher.amax(1) >= eta)[:, None], joined, given)


def mix(x: Tensor, targets: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup with a random partner."""
    partner = torch.randperm(len(x), generator=generator, device=x.device)
    return mixup(x, targets, share, partner)


def batches_of(order: Tensor, size: int, run: Run) -> list[Tensor]:
    """This process's part of nearly equal batches of a shuffled sample a member, (members, m) -> (members, b) each."""
    m = order.shape[1]
    parts = order.tensor_split(max(1, min(-(-m // size), m // 2)), dim=1)
    return [part[:, run.rank :: run.world] for part in parts]


def uniform(probs: Tensor) -> Tensor:
    """Equal probabilities in the shape of these."""
    return torch.full_like(probs, 1 / probs.shape[1])
