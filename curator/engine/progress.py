"""How far a run is, and how long the rest will take: a bar on a terminal, elsewhere a line a minute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curator.system import is_main
from curator.text import Log, duration

if TYPE_CHECKING:
    from curator.engine.run import Run

FIRST, EVERY = 10.0, 60.0  # seconds until the first line, and between lines
REDRAWN = 5.0  # seconds between two looks at an epoch that is not over
RECENT = 6  # points that the pace is taken of: epochs of a warm-up tell little about those after it


class Pace:
    """How long what is left will take, by how long the last shares of the whole took."""

    def __init__(self, done: float = 0.0):
        self.points: deque[tuple[float, float]] = deque([(time.monotonic(), done)], maxlen=RECENT)

    def left(self, done: float) -> float | None:
        """Seconds, from the share in [0, 1] that is done now; None: nothing was done yet."""
        now, (then, before) = time.monotonic(), self.points[0]
        return (1 - done) * (now - then) / (done - before) if done > before else None

    def mark(self, done: float) -> None:
        """Remember the share that is done now."""
        if done > self.points[-1][1]:
            self.points.append((time.monotonic(), done))


def time_left(seconds: float | None) -> str:
    """', 2 min left', of a time that is not known to the second; empty where it is not known at all."""
    if seconds is None:
        return ""
    minutes = f"{seconds / 60:.0f} min" if 60 <= seconds < 3600 else duration(seconds)
    return f", {minutes} left"


class Progress:
    """Shows how far a run is."""

    def __init__(self, run: Run, total: float, rows: int, done: Callable[[], float], bar, say: Log):
        self.run, self.total, self.rows, self.done, self.bar, self.say = run, max(total, 1e-9), rows, done, bar, say
        self.share = min(1.0, done() / self.total)  # at the end of the last epoch
        self.pace, self.shown = Pace(self.share), False
        self.looked = time.monotonic()
        self.due = self.looked + FIRST

    def step(self) -> None:
        """A step was made: in a long epoch the line moves, too."""
        now = time.monotonic()
        if now - self.looked >= REDRAWN:
            self.looked = now
            within = self.run.steps.rows_so_far() / self.rows / self.total
            self.show(min(0.99, self.share + within), "")

    def advance(self, entry: dict[str, float]) -> None:
        """An epoch's figures; the share comes from the stages' epochs."""
        share = min(1.0, self.done() / self.total)
        loss = f"{entry['loss']:.3f}" if "loss" in entry else "none"
        said = f"loss {loss}  kept {entry['selected']:.3f}"
        self.show(share, f"{said}  {entry['images_per_second']:,.0f} images/s" if self.bar.disable else said)
        self.share = share
        self.pace.mark(share)

    def show(self, share: float, said: str) -> None:
        """Draw the bar, or print a line where one is due."""
        where = position(self.run) + time_left(self.pace.left(share))
        if not self.bar.disable:
            self.bar.set_description_str(where, refresh=False)
            if said:
                self.bar.set_postfix_str(said, refresh=False)
            self.bar.update(max(0.0, 100 * share - self.bar.n))
            self.bar.refresh()
        elif is_main() and time.monotonic() >= self.due:
            self.due = time.monotonic() + EVERY
            self.say(f"{share:4.0%}  {where}" + (f"  {said}" if said else ""))


def position(run: Run) -> str:
    """'epoch 3 / 20', after the stage's name where it has one of its own."""
    if not run.progress:
        return "epoch 0"
    stage, epoch = list(run.progress.items())[-1]
    total = f" / {run.stages.lengths[stage]}" if stage in run.stages.lengths else ""
    return f"{'' if stage == 'train' else stage + ' '}epoch {epoch}{total}"


@contextmanager
def progress(run: Run, total: float, rows: int, done: Callable[[], float], say: Log) -> Iterator[Progress]:
    """The progress of a run that makes so many passes over its rows.

    Args:
        run: the run.
        total: passes in all.
        rows: of the dataset.
        done: gives the passes of the epochs that ended.
        say: prints a line, where there is no terminal.
    """
    from curator.bars import tqdm

    form = "{desc}  {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    shown = is_main()
    with tqdm(total=100, bar_format=form, disable=None if shown else True, leave=False) as bar:
        found = Progress(run, total, rows, done, bar, say)
        run.steps.watch = found.step
        try:
            yield found
        finally:
            run.steps.watch = None
