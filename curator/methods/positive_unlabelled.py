"""Stage 1 of PUDistill: verified rows of every class find others like them, and no noisy label is read.

For every class an ensemble of binary nets learns it from its verified rows against a mix of verified rows of other
classes and of unverified ones (positive-unlabelled learning). Rows that enough of its members are sure of join the
positives of the next round (Xu, Quek and Chong, arXiv 2105.13892, section on tiered augmentation). A round of a class
is one epoch of progress here: what a run that is killed can lose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curator.engine.members import Members, best_way
from curator.engine.optim import dropped, set_rate, sgd
from curator.engine.run import Run
from curator.evidence import NoisyDataset

if TYPE_CHECKING:
    from curator.methods.pudistill import PUDistill

SETTLED = 0.01  # a class's last round is one that changes less than this share of what it adds; ours


class Claims(NamedTuple):
    """What stage 1 has found, as Augmentation keeps it."""

    claimed: Tensor  # (rounds, n, k) bool
    score: Tensor  # (n, k)


class Augmentation:
    """What stage 1 has found; registered, on the CPU."""

    def __init__(self, method: PUDistill, data: NoisyDataset, run: Run):
        self.method, self.data, self.run = method, data, run
        n, k = len(data), len(data.classes)
        # Rows (rounds, n, k) bool that a round of a class adds to it.
        self.claimed = run.register("claimed", torch.zeros(method.rounds, n, k, dtype=torch.bool))
        # Mean probability (n, k) by the members of each class's ensemble, of its last round.
        self.score = run.register("score", torch.zeros(n, k))
        self.settled = run.register("settled", torch.zeros(k, dtype=torch.bool))  # classes whose last round was made

    def __call__(self) -> Iterator[None]:
        """Make the rounds of class after class, and give back after each; one class's nets are there at a time."""
        method, data, run, key = self.method, self.data, self.run, self.key()
        found_before = run.kept.load("pudistill", key, {"claimed": self.claimed, "score": self.score})
        if found_before is not None:  # by a run with other noise: no noisy label was read
            self.claimed.copy_(found_before["claimed"])
            self.score.copy_(found_before["score"])
            return
        members = run.register("members", ensemble("pu", method.classifiers, data, run, classes=1))
        for c in range(len(data.classes)):
            for round in run.epochs(method.rounds, stage=f"class {c}"):
                if self.settled[c]:
                    break
                if round == 0:
                    members.restart([run.build_net(f"pu{c}{i}", data, classes=1) for i in range(members.count)])
                before = self.claimed[round - 1, :, c] if round else torch.zeros(len(data), dtype=torch.bool)
                self.train(members, before, c, round)
                found = self.claim(members, c)
                self.claimed[round:, :, c] = found
                if method.reading == "recommended":  # else all rounds are made
                    changed, added = int((found != before).sum()), int(found.sum())
                    self.settled[c] = round > 0 and changed < SETTLED * max(1, added)
                yield
        if not run.stopping:
            run.kept.save("pudistill", key, {"claimed": self.claimed, "score": self.score})
            run.forget("members")  # later checkpoints need them no more

    def key(self) -> dict[str, Any]:
        """All that stage 1 depends on besides the inputs."""
        own = (
            "reading", "pu_epochs", "rounds", "classifiers", "alpha", "votes", "pu_batch", "pu_lr", "pu_drop",
            "pu_second_drop", "weight_decay",
        )  # fmt: skip
        settings, data = vars(self.method), self.data
        verified = data.trusted.nonzero()[:, 0]
        rows = hashlib.blake2b(torch.stack([verified, data.labels[verified]]).numpy().tobytes()).hexdigest()
        inputs = {"verified": rows, "classes": len(data.classes), "row": data.inputs.shape, **vars(self.run.views)}
        return {name: settings[name] for name in own} | inputs

    def train(self, members: Members, before: Tensor, c: int, round: int) -> None:
        """Every member learns a bootstrap sample of its own, with the last round's rows `before` (n,) bool."""
        method, data, run = self.method, self.data, self.run
        draw, views = run.generator(f"pu{c}", round, shared=True), run.generator(f"pu views{c}", round)
        samples = [bootstrap(before, c, data, draw) for _ in range(members.count)]
        rows, positive = (torch.stack(part).to(run.device) for part in zip(*samples, strict=True))  # (members, m)
        optimizer = sgd(members.parameters(), method.pu_lr, method.weight_decay)
        members.train()
        for epoch in range(method.pu_epochs):
            set_rate(optimizer, dropped(method.pu_lr, epoch, method.pu_drop, method.pu_second_drop))
            order = torch.stack([torch.randperm(rows.shape[1], generator=draw) for _ in samples]).to(run.device)
            parts = batches_of(order, method.pu_batch, run)
            data.inputs.expect([rows.gather(1, part).flatten() for part in parts])
            batches = (
                (viewed(rows.gather(1, part), data, run, views), positive.gather(1, part), part.numel())
                for part in parts
            )
            fit(members, optimizer, batches, binary_loss, run)

    def claim(self, members: Members, c: int) -> Tensor:
        """Rows (n,) bool of which enough members are sure that they are of class c (equation 3); keeps their mean."""
        released = self.method.reading == "released"
        rows = torch.arange(len(self.data))
        rows = rows if released else rows[~self.data.trusted]
        scores = scored(members, rows, lambda logits: logits[..., 0].float().sigmoid().T, self.data, self.run)
        self.score[rows, c] = scores.mean(1)
        found = torch.zeros(len(self.data), dtype=torch.bool)
        found[rows] = vote(scores, self.method.alpha, self.method.votes, inclusive=not released)
        return found


def bootstrap(
    before: Tensor,  # (n,) bool, rows that the last round added to the class
    c: int,
    data: NoisyDataset,
    generator: torch.Generator,
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


def binary_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy of members' logits (members, b, 1), a mean a member: their gradients do not meet."""
    losses = F.binary_cross_entropy_with_logits(logits[..., 0].float(), positive, reduction="none")
    return losses.mean(1).sum()


# Shared with stage 2


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor, int]],  # views, what they are to become, rows; made when they are needed
    loss: Callable[[Any, Tensor], Tensor],  # of what the model gives and what it should
    run: Run,
) -> None:
    """A step for every batch."""
    for x, target, rows in batches:
        with run.autocast():
            out = model(x)
        run.backward(loss(out, target), rows)
        run.step(optimizer)


def ensemble(name: str, count: int, data: NoisyDataset, run: Run, classes: int) -> Members:
    """Freshly initialised nets that train at once."""
    nets = [run.build_net(f"{name}{i}", data, classes=classes) for i in range(count)]
    return Members(nets, best_way(run.device))


def scored(members: Members, rows: Tensor, output: Callable[[Tensor], Tensor], data: NoisyDataset, run: Run) -> Tensor:
    """What an ensemble says of the rows; all members hold their share of a batch of images at once."""
    batch = 1024 if data.inputs.kind == "features" else max(1, 1024 // members.count)
    return run.predict(members, data.inputs, rows, batch=batch, output=output)


def viewed(rows: Tensor, data: NoisyDataset, run: Run, generator: torch.Generator) -> Tensor:
    """Views of rows (b,), or of a batch a member (members, b): every row with its own draw."""
    x = run.views.training(data.inputs.batch(rows.flatten()), run.normaliser(data.inputs), generator)
    return x.view(*rows.shape, *x.shape[1:])


def batches_of(order: Tensor, size: int, run: Run) -> list[Tensor]:
    """This process's part of nearly equal batches of a shuffled sample a member, (members, m) -> (members, b) each."""
    m = order.shape[1]
    parts = order.tensor_split(max(1, min(-(-m // size), m // 2)), dim=1)
    return [part[:, run.rank :: run.world] for part in parts]
