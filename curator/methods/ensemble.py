"""Several methods in one run: the means of their probabilities and of their clean scores.

They train in turn, an epoch each, so that a run cut short has trained all of them. Each draws what it would draw alone.
A row is kept where the mean probabilities predict its given label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from curator.engine.run import Run
from curator.evidence import Evidence, NoisyDataset, evidence
from curator.methods.method import Method


class Ensemble(Method):
    """Methods by name."""

    def __init__(self, members: dict[str, Method]):
        self.members = members
        self.epochs = max(member.epochs for member in members.values())
        self.batch_size = max(member.batch_size for member in members.values())
        self.fits = any(member.fits for member in members.values())  # type: ignore[misc]
        self.two_nets = all(member.two_nets for member in members.values())  # type: ignore[misc]
        self.out_of_sample = any(member.out_of_sample for member in members.values())  # type: ignore[misc]

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows, for the ETA."""
        return sum(member.total_epochs(classes, rows) for member in self.members.values())

    def passes_done(self, progress: Mapping[str, int], classes: int, rows: int = 0) -> float:
        """Those of the members."""
        done = 0.0
        for name, member in self.members.items():
            own = {k.removeprefix(f"{name}/"): v for k, v in progress.items() if k.startswith(f"{name}/")}
            done += member.passes_done(own, classes, rows)
        return done

    def rows_at_once(self) -> int:
        """Those of the member with the most."""
        return max(member.rows_at_once() for member in self.members.values())

    def require(self, labels: Tensor, trusted: Tensor, classes: Sequence[str]) -> None:
        """Refuse rows that a member cannot learn from."""
        for member in self.members.values():
            member.require(labels, trusted, classes)

    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train all members and yield after an epoch of each."""
        latest: list[Evidence | None] = [None] * len(self.members)
        for found in zip_longest(*(run.within(name, m(data, run)) for name, m in self.members.items())):
            latest = [new or old for new, old in zip(found, latest, strict=True)]
            yield mean_evidence([e for e in latest if e is not None], data)


def mean_evidence(found: list[Evidence], data: NoisyDataset) -> Evidence:
    """One verdict of several on the same rows."""
    probs = torch.stack([e.probs for e in found]).mean(0)
    return evidence(probs, data, clean_score=torch.stack([e.clean_score for e in found]).mean(0))
