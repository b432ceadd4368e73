"""PUDistill (Xu, Quek and Chong, arXiv 2105.13892): a small verified set, robust to any noise.

Stage 1 (methods/positive_unlabelled.py) uses no noisy label: verified rows of every class find others like them, which
augment the class. Stage 2: teachers learn the classes so augmented, on balanced samples; where their mean prediction is
sure it joins the label (soft, hard bootstrapping), or replaces it (hard), and a student learns from all rows. Both mix
rows by mixup and are paid for sure predictions (entropy).

Where the released code differs from the paper and changes what is learned, `reading: released` follows it: the filter
of stage 1 sees verified rows, too, and excludes alpha itself; teacher i reads the sets of round i + 1, the student
those of round 1; mixup's parameter is 1 (paper: 2); verified rows get pseudo-labels; teachers see all verified rows and
a balanced sample of the added ones; no round ends early. Neither gives the number of rounds, eta, lambda and the
entropy's weight together: 10, .7, .5 and .8 are the README's and the figures'.
Not followed: its choice of checkpoints by test accuracy; scoring on augmented rows, and of teachers in training mode;
that a class that claims a verified row changes its label, and that of several classes that claim a row the last one
wins: here the surest one does, and none where two are close. Its batches of 64 in stage 1 are `pu_batch`, its decay one
epoch early is `pu_drop` 19, its teachers' own learning rate `teacher_lr` .03.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.losses import negative_entropy
from curator.engine.optim import dropped, set_rate, sgd
from curator.engine.run import Run
from curator.engine.subset import refreshed
from curator.engine.views import mixup
from curator.errors import CuratorError
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import SHARE, Above, AtLeast, Epochs
from curator.methods.method import Method
from curator.methods.positive_unlabelled import Augmentation, Claims, batches_of, drawn, ensemble, fit, scored, viewed

LEAST = 2  # verified rows of a class without which nothing works
ADVISED = 50  # from which its binary nets learn enough; and rows of a class in every epoch of a teacher
UNEVEN = 10  # times the verified rows of another class, from which the poorer one holds the others back
CONFIDENCES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.0)  # of table II
MARGIN = 0.05  # a row that several classes claim is of the surest one; closer than this in probability, of none


@dataclass
class PUDistill(Method):
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
    pu_batch: Annotated[int, AtLeast(2)] = 128
    """Rows per step of a binary net (>= 2; released code: 64)."""
    pu_lr: Annotated[float, Above(0)] = 0.01
    """Learning rate of the binary nets (> 0)."""
    pu_drop: Annotated[Epochs, AtLeast(0)] = 20
    """Epoch of a round from which the rate is a tenth (0: never)."""
    pu_second_drop: Annotated[Epochs, AtLeast(0)] = 0
    """Epoch of a round from which the rate is a hundredth (0: never)."""
    teachers: Annotated[int, AtLeast(1)] = 5
    """Number of teachers (>= 1)."""
    balanced: bool = True
    """A teacher's epoch is a new sample of equally many rows of every class; off: all rows that are of a class."""
    teacher_lr: Annotated[float, Above(0)] | None = None
    """Initial learning rate of the teachers (> 0). None: lr."""
    teacher_mixup: Annotated[float, AtLeast(0)] | None = None
    """Parameter of the teachers' mixup (>= 0; 0: no mixup). None: that of mixup_alpha."""
    teacher_entropy: Annotated[float, AtLeast(0)] | None = None
    """Weight of the entropy of the teachers' predictions (>= 0). None: entropy."""
    teacher_rows: Annotated[int, AtLeast(0)] | None = None
    """Rows of every class that a balanced epoch of a teacher has at least, some of them twice where fewer are known
    (>= 0). None: 50; as released 0."""
    batch_size: Annotated[int, AtLeast(2)] = 128
    """Rows per step of a teacher and of the student (>= 2)."""
    lr: Annotated[float, Above(0)] = 0.05
    """Initial learning rate of the student, and of teachers without their own (> 0); a tenth after each drop."""
    first_drop: Annotated[Epochs, AtLeast(0)] = 30
    """Epoch of the student's first drop (0: none); teachers have theirs after the same share of their epochs."""
    second_drop: Annotated[Epochs, AtLeast(0)] = 50
    """Epoch of the second drop."""
    third_drop: Annotated[Epochs, AtLeast(0)] = 80
    """Epoch of the third drop."""
    weight_decay: Annotated[float, AtLeast(0)] = 1e-4
    """Weight decay on all parameters (>= 0)."""
    mixup_alpha: Annotated[float, AtLeast(0)] | None = None
    """Parameter mu of mixup's Beta distribution, for the student, and for teachers without their own (>= 0; 0: no
    mixup). None: 2; as released 1."""
    entropy: Annotated[float, AtLeast(0)] = 0.8
    """Weight of the mean entropy of predictions, for a confident student, and teachers without their own (>= 0)."""
    eta: Annotated[float, SHARE] = 0.7
    """Probability from which the teachers' mean prediction counts as confident, in [0, 1]."""
    trust_teachers: Annotated[float, SHARE] = 0.5
    """Lambda: the teachers' share of a bootstrapped label, in [0, 1]."""
    pseudo_label: Literal["soft_bootstrap", "hard_bootstrap", "hard"] = "soft_bootstrap"
    """What the student learns where the teachers are sure: the label and their prediction, its class, or that alone."""

    reading: Literal["released", "paper", "recommended"] = "recommended"
    """The paper's, the released code's, or the paper's with rounds that end early where hardly any row changes."""

    out_of_sample: ClassVar[bool] = True
    early_stops: ClassVar[bool] = False  # corrected labels do not change while the student trains
    small_net: ClassVar[dict[str, Any]] = {
        "epochs": 60, "first_drop": 20, "second_drop": 35, "third_drop": 50, "teacher_epochs": 60,
        "rounds": 3, "classifiers": 5, "votes": 5,
    }  # fmt: skip

    def __post_init__(self):
        if self.votes > self.classifiers:
            raise CuratorError(f"--method.votes: expected 1 to {self.classifiers}, found {self.votes}")

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows, for the ETA: a tenth of them taken to be verified, and as many added."""
        return self.augmenting(classes) + self.teachers * self.teacher_epochs * 0.2 + self.epochs

    def augmenting(self, classes: int) -> float:
        """Those of the first stage."""
        return self.classifiers * self.rounds * (0.3 * self.pu_epochs + classes / 3)

    def passes_done(self, progress: Mapping[str, int], classes: int, rows: int = 0) -> float:
        """Those of the classes, the teachers and the student; a class whose rounds ended early is done."""
        begun = [progress[f"class {c}"] for c in range(classes) if f"class {c}" in progress]
        share = (len(begun[:-1]) + begun[-1] / self.rounds) / classes if begun else 0.0
        later = "teachers" in progress or "student" in progress
        teachers = 0.2 * self.teachers * progress.get("teachers", 0)
        return self.augmenting(classes) * (1.0 if later else share) + teachers + progress.get("student", 0)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Augment class after class, then teachers, then the student; yield after a round and after an epoch."""
        self.require(data.labels, data.trusted, data.classes)
        for warning in thin(data):
            run.warn(warning)
        known = Augmentation(self, data, run)
        taught = run.register("teacher", torch.zeros(len(data), len(data.classes)))  # mean softmax of the teachers
        for _ in known():
            yield self.result(known, taught, data)
        for _ in self.teach(known, taught, data, run):
            yield self.result(known, taught, data)
        if not run.stopping:  # a student that learned nothing would score the other splits
            for _ in self.distill(known, taught, data, run):
                yield self.result(known, taught, data)
        yield self.result(known, taught, data)

    def require(self, labels: Tensor, trusted: Tensor, classes: Sequence[str]) -> None:
        """Refuse data without enough verified rows of every class, naming the first that has too few."""
        counts = torch.bincount(labels[trusted], minlength=len(classes)).tolist()
        few = [(name, count) for name, count in zip(classes, counts, strict=True) if count < LEAST]
        if few:
            name, found = few[0]
            more = f" and too few of {len(few) - 1} more" * (len(few) > 1)
            raise CuratorError(
                f"--method pudistill learns from verified rows: expected at least {LEAST} of every class, found "
                f"{found} of {name[:60]!r}{more}; verify rows on the page and give its journal, or a file or column, "
                "with --verified"
            )

    # Stage 2: teachers and the student

    def augmented(self, known: Augmentation | Claims, data: NoisyDataset, round: int = -1) -> Tensor:
        """Class (n,) int64 of every verified row and of every row that a class claims; -1 for the others."""
        claimed, score = known.claimed[round], known.score.masked_fill(~known.claimed[round], -1)
        best = score.topk(2, dim=1)
        sure = claimed.any(1) & (best.values[:, 0] - best.values[:, 1] >= MARGIN)
        found = torch.where(sure, best.indices[:, 0], -1)
        return torch.where(data.trusted, data.labels, found)

    def teach(self, known: Augmentation, taught: Tensor, data: NoisyDataset, run: Run) -> Iterator[None]:
        """Teachers on balanced samples, drawn anew for every epoch and teacher; taught (n, k) is what they say."""
        k = len(data.classes)
        teachers = run.register("teachers", ensemble("teacher", self.teachers, data, run, k))
        optimizer = run.register("teachers' optimizer", sgd(teachers.parameters(), self.lr, self.weight_decay))
        rounds = range(self.teachers) if self.reading == "released" else [-1] * self.teachers
        classes = [self.augmented(known, data, min(i, self.rounds - 1)) for i in rounds]
        if taught.any() or not run.stopping:  # else stage 1 was cut short
            warn_of_nothing_added(classes, data, run)
        least, rows = self.least(classes, data), torch.arange(len(data))
        for epoch in run.epochs(self.teacher_epochs, "teachers"):
            share = (self.teacher_lr or self.lr) / self.lr
            set_rate(optimizer, share * self.rate(epoch * self.epochs / self.teacher_epochs))
            draw, views = run.generator("teacher samples", epoch, shared=True), run.generator("teacher views", epoch)
            samples = torch.stack([self.sample(found, data, draw, least) for found in classes]).to(run.device)
            targets = torch.stack(classes).to(run.device).gather(1, samples)
            teachers.train()
            parts = batches_of(torch.arange(samples.shape[1]).expand_as(samples).to(run.device), self.batch_size, run)
            data.inputs.expect([samples.gather(1, part).flatten() for part in parts])
            mu = self.mu() if self.teacher_mixup is None else self.teacher_mixup
            shares = run.beta(mu, len(parts) * self.teachers, "teacher mixup", epoch)
            batches = (
                mix_each(
                    viewed(samples.gather(1, part), data, run, views),
                    F.one_hot(targets.gather(1, part), k).float(), share, views,
                )
                for part, share in zip(parts, shares.view(len(parts), self.teachers), strict=True)
            )  # fmt: skip
            fit(teachers, optimizer, batches, self.losses, run)
            last = epoch + 1 == self.teacher_epochs
            seen = rows if last else refreshed(rows, epoch)
            taught[seen] = scored(teachers, seen, lambda z: z.float().softmax(2).mean(0), data, run)
            yield

    def pools(self, classes: Tensor, data: NoisyDataset) -> list[Tensor]:
        """Rows by class from which a teacher's sample is drawn, of classes (n,), -1 for none."""
        pool = torch.where(data.trusted, -1, classes) if self.reading == "released" else classes
        return [(pool == c).nonzero()[:, 0] for c in range(len(data.classes))]

    def least(self, classes: list[Tensor], data: NoisyDataset) -> int:
        """Rows of every class in an epoch of a teacher: as many as the smallest pool has, but not next to none.

        Unbalanced: rows of all classes together, of the teacher that has the most.
        """
        if not self.balanced:
            return max(int((found >= 0).sum()) for found in classes)
        floor = self.teacher_rows
        if floor is None:
            floor = 0 if self.reading == "released" else ADVISED
        return max(floor, min(len(rows) for found in classes for rows in self.pools(found, data)))

    def sample(self, classes: Tensor, data: NoisyDataset, generator: torch.Generator, least: int) -> Tensor:
        """Rows of an epoch of a teacher, shuffled: so many of every class; as released besides all verified rows.

        Unbalanced: all that are of a class; a teacher that has fewer than the others has some of them twice.
        """
        if not self.balanced:
            return drawn((classes >= 0).nonzero()[:, 0], least, generator)
        parts = [drawn(rows, least, generator) for rows in self.pools(classes, data)]
        if self.reading == "released":
            parts.append(data.trusted.nonzero()[:, 0])
        rows = torch.cat(parts)
        return rows[torch.randperm(len(rows), generator=generator)]

    def distill(self, known: Augmentation | Claims, taught: Tensor, data: NoisyDataset, run: Run) -> Iterator[None]:
        """The student, on all rows with pseudo-labels."""
        nets = run.register("nets", nn.ModuleList([run.build_net("student0", data)]), scores=True)
        optimizer = run.register("student's optimizer", sgd(nets.parameters(), self.lr, self.weight_decay))
        model, rows = run.prepare(nets[0]), torch.arange(len(data))
        targets, normaliser = self.targets(known, taught, data).to(run.device), run.normaliser(data.inputs)
        for epoch in run.epochs(self.epochs, "student"):
            set_rate(optimizer, self.rate(epoch))
            views = run.generator("student views", epoch)

            def step(x: Tensor, part: Tensor, share: Tensor, views: torch.Generator = views) -> None:
                mixed = mix(run.views.training(x, normaliser, views), targets[part], share, views)
                fit(model, optimizer, [(*mixed, len(part))], lambda out, goal: self.loss(out.logits, goal), run)

            nets.train()
            parts = run.batches(data.inputs, rows, self.batch_size, epoch)
            shares = run.beta(self.mu(), len(parts), "mixup", epoch)
            recorded = run.recorded(step, views)
            for part, share in zip(parts, shares, strict=True):
                recorded(data.inputs.batch(part), part, share)
            yield

    def targets(self, known: Augmentation | Claims, taught: Tensor, data: NoisyDataset) -> Tensor:
        """What the student learns, (n, k) (equations 4 to 6)."""
        released = self.reading == "released"
        found = self.augmented(known, data, 0 if released else -1)
        labels = torch.where(found >= 0, found, data.labels)
        goal = pseudo_labels(taught, labels, self.eta, self.trust_teachers, self.pseudo_label)
        given = F.one_hot(data.labels, len(data.classes)).float()
        return goal if released else torch.where(data.trusted[:, None], given, goal)

    def loss(self, logits: Tensor, targets: Tensor, entropy: float | None = None) -> Tensor:
        """Cross-entropy with soft targets (b, k), and the mean entropy of the predictions (equation 2)."""
        weight = self.entropy if entropy is None else entropy
        return F.cross_entropy(logits, targets) - weight * negative_entropy(logits.float())

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of the losses of all teachers, (members, b, k)."""
        return torch.stack(
            [self.loss(z, t, self.teacher_entropy) for z, t in zip(logits.float(), targets, strict=True)]
        ).sum()

    def rate(self, epoch: float) -> float:
        """Learning rate of an epoch of the student, or of the one that stands for it in the teachers' training."""
        return dropped(self.lr, epoch, self.first_drop, self.second_drop, self.third_drop)

    def mu(self) -> float:
        """Parameter of mixup."""
        if self.mixup_alpha is not None:
            return self.mixup_alpha
        return 1.0 if self.reading == "released" else 2.0

    # The result

    def result(self, known: Augmentation, taught: Tensor, data: NoisyDataset) -> Evidence:
        """Section 2.7: the augmented sets decide, then sure teachers, then the given label stays, not selected.

        A row that a class claims is judged by that alone: sure teachers who take the given label's side change nothing.
        """
        seen = taught.sum(1) > 0  # else the run was cut short
        probs = torch.where(seen[:, None], taught, torch.full_like(taught, 1 / taught.shape[1]))
        found, sure = self.augmented(known, data), seen & (probs.amax(1) >= self.eta)
        corrected = torch.where(found >= 0, found, torch.where(sure, probs.argmax(1), data.labels))
        selected = (corrected == data.labels) & ((found >= 0) | sure)
        return evidence(probs, data, selected=selected, corrected=corrected)

    def stages(self, data: NoisyDataset, run: Run, truth: Tensor) -> dict[str, Any]:
        """Tables I and II, on the rows that are not verified.

        What each class added and how much of it is right; how often the teachers are right where they are sure.
        """
        known, taught = Claims(run.registered["claimed"], run.registered["score"]), run.registered["teacher"]
        found, free = self.augmented(known, data), ~data.trusted
        added = [(found == c) & free for c in range(len(data.classes))]
        return {
            "augmented": {
                name: {"rows": int(rows.sum()), "right": share(truth[rows] == c)}
                for c, (name, rows) in enumerate(zip(data.classes, added, strict=True))
            },
            "teachers": {
                str(eta): {"rows": int(rows.sum()), "right": share((taught.argmax(1) == truth)[rows])}
                for eta in CONFIDENCES
                for rows in [(taught.amax(1) >= eta) & free & (taught.sum(1) > 0)]
            },
        }


def share(hits: Tensor) -> float | None:
    """Share of a mask (n,) bool that is true; None of an empty one."""
    return round(float(hits.float().mean()), 4) if len(hits) else None


def thin(data: NoisyDataset) -> list[str]:
    """Warnings where the verified rows are enough to start and too few, or too unequal, to end well."""
    counts = torch.bincount(data.labels[data.trusted], minlength=len(data.classes))
    least, most = int(counts.min()), int(counts.max())
    poorest, richest = (repr(data.classes[int(c)][:60]) for c in (counts.argmin(), counts.argmax()))
    few, found = int((counts < ADVISED).sum()), []
    if few:
        found.append(
            f"{few} of {len(counts)} classes have few verified rows, {poorest} the fewest with {least}: about "
            f"{ADVISED} of every class are advised; verify more rows for --verified"
        )
    if most > UNEVEN * least:
        found.append(
            f"the verified rows are uneven: {most:,} of {richest}, {least:,} of {poorest}, which is learned worse and "
            "holds the others back; verify more rows of the poor classes for --verified"
        )
    return found


def warn_of_nothing_added(classes: list[Tensor], data: NoisyDataset, run: Run) -> None:
    """Warn of classes that stage 1 gave no row besides the verified ones, by what the teachers learn, each (n,)."""
    free = ~data.trusted
    added = torch.stack([found[free] for found in classes])
    bare = [name for c, name in enumerate(data.classes) if not (added == c).any(1).all()]  # to any teacher's sample
    if bare and free.any():
        run.warn(
            f"no row was found to add to {len(bare)} of {len(data.classes)} classes, such as {bare[0][:60]!r}: their "
            "teachers learn from the verified rows only, and from as few of other classes; verify more rows, or "
            "lower --method.alpha or --method.votes"
        )


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


def mix_each(
    x: Tensor,  # (members, b, ...)
    targets: Tensor,  # (members, b, k)
    shares: Tensor,  # (members,)
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, int]:
    """Mixup within every member's batch, and the rows of all of them."""
    mixes = [mix(*batch, generator) for batch in zip(x, targets, shares, strict=True)]
    mixed, goals = (torch.stack(half) for half in zip(*mixes, strict=True))
    return mixed, goals, targets.shape[0] * targets.shape[1]
