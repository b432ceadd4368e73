"""How long a method will take: measured on its own first steps, in a run that is thrown away."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from curator.engine.linear import libraries
from curator.engine.run import Run
from curator.engine.source import held
from curator.errors import CuratorError, RunFailed
from curator.evidence import NoisyDataset
from curator.methods.ensemble import Ensemble
from curator.methods.method import Method
from curator.methods.posterior import Posterior

WARM = 4  # steps that are not measured, where they are quick: first ones of a shape load and compile what they need
STEPS = 50  # that are measured at most
SAMPLE = 512  # rows that models are fitted to at most, which are then taken to need time in proportion
Point = tuple[float, float]  # seconds, and passes over the rows that were done by then


class Enough(Exception):
    """The trial has seen what it needs."""


def expected_seconds(method: Method, data: NoisyDataset, run: Run, limit: float = 1.0) -> float:
    """Seconds that the training will take; 0 where nothing trains. The run itself, and what it draws, stay as they are.

    Args:
        method: trains on the data, as the run will, for about `limit` seconds (three steps at least).
        data: its n rows.
        run: whose net, precision, seed and processes it is.
        limit: seconds.
    """
    k, n = len(data.classes), len(data)
    if not method.total_epochs(k, n):
        return 0.0
    with run.seeds.seeded("trial"):  # what draws without a generator, as layers do that are filled later
        return _measured(method, data, run, limit)


def _measured(method: Method, data: NoisyDataset, run: Run, limit: float) -> float:
    if isinstance(method, Ensemble):
        return sum(expected_seconds(member, data, run, limit) for member in method.members.values())
    if not method.fits:
        return _by_steps(method, data, run, limit)
    nets = method.nets() if isinstance(method, Posterior) and method.has_nets(data) else None
    return _by_fits(method, data, run) + (expected_seconds(nets, data, run, limit) if nets is not None else 0.0)


def trial_of(run: Run) -> Run:
    """A run like this one, but of no folder and no other run's work; not compiled, which takes longer than it tells."""
    return Run(
        seed=run.seeds.seed, net=run.net, pretrained=run.pretrained, mixed_precision=run.precision,
        threads=run.threads, views=run.views,
    )  # fmt: skip


@dataclass
class Clock:
    """Counts steps once some have warmed up what only the first ones need, and ends the trial."""

    run: Run
    limit: float
    steps: int = 0
    begun: float = 0.0
    started: float | None = None
    rows: int = 0

    def __post_init__(self):
        self.begun = self.now()

    def __call__(self) -> None:
        """A step was made.

        Raises:
            Enough: when the time is up, in all processes at the same step.
        """
        self.steps += 1
        if self.started is None:
            if self.steps >= WARM or time.perf_counter() - self.begun > 2 * self.limit:
                self.started, self.rows, self.steps = self.now(), self.run.steps.rows_so_far(), 0
            up = False
        else:
            up = self.steps >= 3 and (time.perf_counter() - self.started > self.limit or self.steps >= STEPS)
        if self.run.processes.agree(up) if self.run.world > 1 else up:
            raise Enough

    def now(self) -> float:
        """Seconds, when the device has done all that it was given."""
        if self.run.device.type == "cuda":
            torch.cuda.synchronize(self.run.device)
        return time.perf_counter()


def _by_steps(method: Method, data: NoisyDataset, run: Run, limit: float) -> float:
    trial, k, n = trial_of(run), len(data.classes), len(data)
    trial.steps.watch = clock = Clock(trial, limit)
    points: list[Point] = []  # at the ends of epochs that began after the clock did
    try:
        for _ in method(data, trial):
            if clock.started is not None:
                points.append((clock.now(), method.passes_done(trial.progress, k, n)))
    except (Enough, RunFailed):  # what fails here fails in the run, which says more of it
        pass
    total = method.total_epochs(k, n)
    if len(points) > 1 and points[-1][1] > points[0][1]:  # whole epochs, with the predictions at their end
        return total * _pace(points[0], points[-1])
    ended, rows = clock.now(), trial.steps.rows_so_far() - clock.rows
    if clock.started is not None and rows > 0:
        return total * n * (ended - clock.started) / rows
    return total * (ended - clock.begun) / max(1.0, method.passes_done(trial.progress, k, n))


def _by_fits(method: Method, data: NoisyDataset, run: Run) -> float:
    """Of the models that are fitted whole; the first turn may choose settings and take longer than others."""
    n, k = len(data), len(data.classes)
    m = n if n <= SAMPLE // 4 else max(SAMPLE // 4, min(SAMPLE, n // 4))
    rows = data.labels.argsort(stable=True)[torch.linspace(0, n - 1, m).long()]  # of every class its share
    inputs = held(data.inputs.batch(rows).cpu(), run.device)
    libraries()  # to load them takes longer than some fits, and no longer for more rows
    sample = NoisyDataset(inputs, data.labels[rows], data.classes, data.trusted[rows], data.rows[rows])
    trial, total, points = trial_of(run), method.total_epochs(k, m), [(time.perf_counter(), 0.0)]
    try:
        for _ in method(sample, trial):
            points.append((time.perf_counter(), method.passes_done(trial.progress, k, m)))
            if len(points) == 3:
                break
    except CuratorError:  # too few rows of a class, say
        pass
    first = points[min(1, len(points) - 1)]
    pace = _pace(points[-2], points[-1]) if len(points) == 3 and points[-1][1] > first[1] else 0.0
    seconds = first[0] - points[0][0] + max(0.0, total - first[1]) * pace
    return seconds * n / m


def _pace(a: Point, b: Point) -> float:
    """Seconds a pass between two points."""
    return (b[0] - a[0]) / (b[1] - a[1])
