"""Posterior: every label judged by models that did not train on it, and by how labels are seen to be confused.

The default on features. A net that trains on a few thousand rows learns their wrong labels by heart, and is then sure
of them; what such a net selects as clean, or gives a score, says little. So

1. logistic regression in stratified folds, on the rows and on the rows scaled to one length, and the vote of the
   nearest other rows say how likely each class is; votes are also clustered, a cluster a class;
2. a matrix of how labels are confused, fitted to that (signals/posterior.py), turns it into the probability of every
   true class: this tells hard rows, whose labels are right, from rows whose labels are wrong;
3. the folds train anew on the labels that are then the likeliest, each row weighted by how likely, and step 2 is done
   again with both: twice, and more often (`rounds` at most) while labels still move, as they do where a third of the
   rows of a class have the label of one other; once where nets follow;
4. with `many` rows or more, two nets of ProMix (methods/promix.py) train on all of them, and theirs and the posterior
   count the same: nets see more than a linear model does, and so many labels they cannot learn by heart.

One thing cannot be read off labels: whether a row that looks like another class has a wrong label or is a hard one. The
matrix takes hard rows to be labelled as well as easy ones; people label them worse. So the probabilities are mixed with
a share (`doubt`) of the models' own, as if the label of a row said nothing.

The clean score is the probability of the given label. The flagged rows are those that give the highest
expected F1 by these probabilities; a label is changed only for one that is clearly likelier (`clearly`), so a row may
be flagged and keep its label.

Ours, from known parts: out-of-sample probabilities as in confident learning (Northcutt et al. 2021), transition
matrices (Patrini et al. 2017), latent class models of annotators (Dawid and Skene 1979), votes of neighbours (Zhu et
al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from curator.engine.linear import LinearNet, Rows, best_strength, fit_all, out_of_fold
from curator.engine.run import Run
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.fields import SHARE, Above, AtLeast, Epochs
from curator.methods.method import Method, scale_epochs
from curator.methods.promix import ProMix
from curator.signals.neighbours import classes_of_votes, neighbour_vote
from curator.signals.posterior import Judged, keep_by_expected_f1, label_posterior

# The nets of step 4 and the gaps in what they see, as recipes/features-promix.yaml has them.
NETS: dict[str, Any] = {
    "epochs": 20, "warmup": 3, "gamma_ramp": 5, "lambda_u_ramp": 5, "lga_epochs": 7, "batch_size": 256, "tau": 0.5,
}  # fmt: skip
DROP = 0.5
GAIN = 3.0  # by how much C grows for the rounds, whose labels are mostly right
VOTERS = 50_000  # rows that vote at most: the work grows with their number
FEWEST = 5  # neighbours to which small classes reduce the vote at most
TOLD_APART = 0.7  # share of the rows whose class the models know; below it new labels are wrong about as often as given
TWICE = 2  # rounds that are always made; the first ones change the most
SETTLED = 0.02  # share of the likeliest labels that a round changes, below which it is the last
LEFT = 0.3  # share of a class's labels, unless it is a small class, below which the models may not see the class
SMOOTHING = 0.02  # of a share of votes, before its logarithm


def clustered(rows: int, classes: int) -> bool:
    """Whether votes are clustered: of two classes the larger share says it, and a few rows a class are no cluster."""
    return classes > 2 and rows // (2 * classes) >= FEWEST


@dataclass
class Posterior(Method):
    """Out-of-fold models, and a matrix of how labels are confused."""

    epochs: Annotated[Epochs, AtLeast(1)] = 20
    """Epochs of the nets, where there are rows enough for them (>= 1)."""
    folds: Annotated[int, AtLeast(2)] = 5
    """Stratified folds (>= 2); each fold's rows are scored by models trained on the others."""
    rounds: Annotated[int, AtLeast(0)] = 6
    """How often the folds train again at most (>= 0), on the most likely labels so far; after the second time only
    while more than a fiftieth of these labels change."""
    strength: Annotated[float, Above(0)] | None = None
    """Inverse strength C of the linear models' penalty (> 0). None: chosen by held-out likelihood."""
    neighbours: Annotated[int, AtLeast(0)] = 20
    """Nearest rows that vote at most (>= 0; 0: none); fewer where classes are small."""
    doubt: Annotated[float, SHARE] = 0.2
    """Share of the models' own probabilities in the result, in [0, 1]."""
    clearly: Annotated[float, AtLeast(1)] = 1.5
    """How many times as likely as the given label another one must be to take its place (>= 1); 1 where nets train."""
    many: Annotated[int, AtLeast(0)] = 10_000
    """Number of rows from which nets are trained as well (>= 0)."""
    batch_size: Annotated[int, AtLeast(2)] = 256
    """Rows per step of the nets (>= 2)."""

    out_of_sample: ClassVar[bool] = True
    estimates: ClassVar[bool] = True
    fits: ClassVar[bool] = True
    large_net: ClassVar[dict[str, Any]] = {"epochs": 60}

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows, for the ETA; a linear fit is worth about ten of a small net's."""
        return self.linear_passes() + (self.nets().total_epochs(classes) if rows >= self.many else 0)

    def linear_passes(self) -> float:
        """Those that the linear fits are worth."""
        return 20.0 * (self.folds - 1) * (1 + min(self.rounds, TWICE))

    def passes_done(self, progress: Mapping[str, int], classes: int, rows: int = 0) -> float:
        """Those of the folds and of the nets."""
        turns = 1 + min(self.rounds, 1 if rows >= self.many else TWICE)
        nets = self.nets().passes_done({"train": progress.get("promix/train", 0)}, classes, rows)
        return self.linear_passes() * min(1.0, progress.get("folds", 0) / turns) + nets

    def nets(self) -> ProMix:
        """ProMix as it is set for step 4."""
        nets = ProMix(**{**ProMix.small_net, **NETS, "batch_size": self.batch_size})
        scale_epochs(nets, self.epochs)
        return nets

    def has_nets(self, data: NoisyDataset) -> bool:
        """Whether nets train, too: on features of rows enough."""
        return data.inputs.kind == "features" and len(data) >= self.many

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Yield after every round of the folds, and then after every epoch of the nets."""
        n, k = len(data), len(data.classes)
        first = run.register("first", torch.zeros(2, n, k))  # logits of both models trained on the given labels
        again = run.register("again", torch.zeros(2, n, k))  # of those trained on the likeliest ones
        vote = run.register("vote", torch.full((2 if clustered(n, k) else 1, n, k), 1 / k))
        strength = run.register("strength", torch.zeros(2, dtype=torch.double))
        linear = [LinearNet(run.views.shape(data.inputs.shape), k) for _ in (0, 1)]
        run.register("nets", nn.ModuleList(linear), scores=True)
        # Rows as they are, and scaled to one length: each tells more than the other on some features.
        views = [Rows(data, run), Rows(data, run, alike_long=True)]
        rounds = min(self.rounds, 1) if self.has_nets(data) else self.rounds
        settled = run.register("settled", torch.zeros((), dtype=torch.bool))
        found: Judged | None = None
        for turn in run.epochs(1 + rounds, stage="folds"):
            if settled:
                break
            if turn == 0:
                labels, weights = data.labels, None
                for i, x in enumerate(views):
                    strength[i] = self.strength or best_strength(x, data, run, self.folds)
                if self.neighbours:
                    vote.copy_(self.votes(views[0], data, run))
            else:
                weights, labels = (found or self.judge(first, again, vote, data)).probs.max(1)
            for i, x in enumerate(views):
                c = float(strength[i]) * (GAIN if turn else 1)
                again[i] = out_of_fold(x, labels, data, run, self.folds, c, turn, weights, first[i] if turn else None)
            if turn == 0:
                first.copy_(again)
            run.count(2 * (self.folds - 1) * n)
            found = self.judge(first, again, vote, data)
            weights, likeliest = found.probs.max(1)
            moved = float((likeliest != labels).float().mean())
            settled.fill_(run.processes.agree(turn == rounds or (turn >= TWICE and moved < SETTLED)))
            if settled:
                for i, x in enumerate(views):  # what rows of other splits are scored with
                    c = float(strength[i]) * GAIN
                    linear[i].load(*fit_all(x, likeliest, k, c, run, weights), x.alike_long)
            yield self.result(self.mixed(found), data)
        found = found or self.judge(first, again, vote, data)
        probs = self.mixed(found)
        self.tell(found, data, strength.tolist(), run)
        # A run that was stopped in the folds has no nets worth asking.
        if self.has_nets(data) and (not run.stopping or run.begun("promix/train")):
            for nets in run.within("promix", self.nets()(data, run), replace(run.views, drop=DROP)):
                yield self.result((probs + nets.probs) / 2, data, clearly=1.0)
        else:
            yield self.result(probs, data)

    def votes(self, x: Rows, data: NoisyDataset, run: Run) -> Tensor:
        """The neighbours' vote and, where votes are clustered, what class that makes likely: (2, n, k), or (1, n, k).

        Of very many rows a sample votes; where classes are small, half as many neighbours as a class has rows.
        """
        voters = torch.arange(x.n)
        if x.n > VOTERS:
            voters = torch.randperm(x.n, generator=run.generator("voters", shared=True))[:VOTERS].sort().values
        k, count = len(data.classes), self.voting(len(voters), data.labels)
        vote = neighbour_vote(x.tensor, x.n, data.labels, voters, k, count)
        return torch.stack([vote, classes_of_votes(vote, count / 2)]) if clustered(x.n, k) else vote[None]

    def voting(self, rows: int, labels: Tensor) -> int:
        """How many neighbours vote, of so many rows with these labels."""
        return min(self.neighbours, max(FEWEST, rows // (2 * len(labels.unique()))))

    def judge(self, first: Tensor, again: Tensor, vote: Tensor, data: NoisyDataset) -> Judged:
        """The probabilities of all classes by models and labels together."""
        # Before and after count the same: `again` learned labels that `first` had seen, and looks better than it is.
        linear = (first.log_softmax(2) + again.log_softmax(2)) / 2
        votes = torch.cat([linear, (vote + SMOOTHING).log()]) if self.neighbours else linear
        # Where features are poor, clusters of votes are not the classes, so fits may do without them.
        guesses = 1 if self.neighbours and len(vote) == 2 else 0
        return label_posterior(votes, data.labels, data.trusted, guesses)

    def mixed(self, found: Judged) -> Tensor:
        """Probabilities (n, k), a share of them as if the labels said nothing."""
        return (1 - self.doubt) * found.probs + self.doubt * found.alone

    def result(self, probs: Tensor, data: NoisyDataset, clearly: float | None = None) -> Evidence:
        """Evidence of probabilities (n, k) of the true class."""
        clearly = self.clearly if clearly is None else clearly
        best, guess = probs.max(1)
        given = probs.gather(1, data.labels[:, None]).squeeze(1)
        changed = (guess != data.labels) & (best > clearly * given)
        selected = data.trusted.clone()
        selected[~data.trusted] = keep_by_expected_f1(given[~data.trusted])
        return evidence(probs, data, selected=selected, corrected=torch.where(changed, guess, data.labels))

    def tell(self, found: Judged, data: NoisyDataset, strength: list[float], run: Run) -> None:
        """Say what was seen of the data and what follows from it; curation.json holds the same."""
        sizes = torch.bincount(data.labels, minlength=len(data.classes))
        rate = 1 - float(found.clean.mean())
        nets, known = self.has_nets(data), float(found.alone.amax(1).mean())
        run.add_findings(
            posterior={
                "noise_rate": round(rate, 4),
                "told_apart": round(known, 4),
                "strength": strength,
                "weights": [round(w, 3) for w in found.weights.tolist()],
                "nets": nets,
            }
        )
        run.say(
            f"seen      {len(data):,} rows, {len(data.classes)} classes of {int(sizes.min()):,} to "
            f"{int(sizes.max()):,} rows, about {rate:.0%} of the labels wrong: linear models of strength "
            f"{strength[0]:g} and {strength[1]:g}, {self.voting(min(len(data), VOTERS), data.labels)} neighbours"
            + (", and two nets" if nets else f"; no nets, which memorise the labels of fewer than {self.many:,} rows")
        )
        if known < TOLD_APART:
            run.warn(
                f"these features tell the classes of only about {known:.0%} of the rows, so many flagged labels may be "
                "right and new ones wrong: review them, or take better features (another --backbone)"
            )
        large = torch.where(sizes * 2 * len(sizes) >= len(data))[0].tolist()
        lost = [repr(data.classes[at]) for at in large if found.clean[data.labels == at].mean() < LEFT]
        if lost:
            run.warn(
                f"less than {LEFT:.0%} of the labels {', '.join(lost[:5])}{' ...' * (len(lost) > 5)} are held to be "
                "right; if that is a surprise, these features do not tell that class from others: review such rows, or "
                "take better features (another --backbone)"
            )
