"""Training as the caller sees it: what is planned, progress, early stop, time limit and the moment of checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from curator.config.picked import settle
from curator.config.resolve import hyperparameters
from curator.engine.estimate import can_estimate, estimate
from curator.engine.guard import guarded
from curator.engine.hardware import device_name, peak_memory, process_state
from curator.engine.mirror import Mirrored, mirrored_class
from curator.engine.processes import of_main
from curator.engine.progress import progress
from curator.engine.run import Run
from curator.engine.threads import threads_of
from curator.engine.views import Views
from curator.errors import CuratorError, RunFailed
from curator.evidence import Evidence, NoisyDataset, collapse_warning, collapsed_into
from curator.library.plan import Plan
from curator.methods import AUTO
from curator.methods.auto import pick
from curator.methods.confident import own_probs, read_probs
from curator.methods.posterior import Posterior
from curator.methods.pudistill import PUDistill
from curator.methods.timing import expected_seconds
from curator.result.accuracy import Accuracy, figures
from curator.result.metrics import precision_recall_f1
from curator.signals.contradicted import contradicted
from curator.sources.read import Reading, precision
from curator.system import is_main, threads_per_process
from curator.text import Log, duration, span

if TYPE_CHECKING:
    from curator.config.resolve import Resolved
    from curator.sources.table import Table

FEW_STEPS = 10  # an epoch; fewer learn little in the usual number of epochs
LEAST_BATCH = 16  # rows; smaller ones make batch normalisation guess
BY_HEART = Posterior.many  # rows of features below which nets may learn wrong labels by heart
LONG = 2 * 3600  # seconds; a longer run gets a warning before it starts


def picked(
    resolved: Resolved, table: Table, reading: Reading, before: dict[str, Any] | None, say: Log = lambda line: None
) -> Resolved:
    """The settings with the method that --method auto picks for the rows; the same ones where a method was named.

    The rows are read as for the method that it would be by default; `before` is what was picked when the run was
    interrupted.
    """
    s = resolved.settings
    if s.method != AUTO:
        return resolved
    if before is None:
        data = reading.data
        estimated = reading.digest is not None  # a dry run's features are those of a few rows over and over
        run = Run(seed=s.seed, net=str(s.net), mixed_precision=precision(s), views=s.views())
        found = pick(data, reading.present.inside(torch.from_numpy(table.labels)), run, estimated=estimated)
        before = run.processes.of_main(found.facts())
    settled = settle(resolved, before)
    settled.method.require(reading.data.labels, reading.data.trusted, reading.data.classes)
    say(f"auto      {before['method']}: {before['why']}")
    return settled


def start(resolved: Resolved, reading: Reading, output: Path | None = None, say: Log = lambda line: None) -> Run:
    """The run of the settings on what was read; with a folder, its checkpoints and what a tracker writes are there."""
    s = resolved.settings
    _require_room(s.crop, reading.data)
    _fit_batch(resolved, len(reading.data))
    views, mirrored = _views(resolved, reading.data)
    run = Run(
        seed=s.seed,
        net=str(s.net),
        pretrained=s.pretrained,
        mixed_precision=precision(s),
        compile=s.compile,
        threads=_threads(resolved, reading.data),
        views=views,
        checkpoints=None if output is None or s.dry_run else output / "checkpoints",
        track=s.track,
        track_dir=output / "tracker" if output is not None and s.track else None,
        content=None if s.dry_run else reading.content,
        say=say,
    )
    if resolved.picked is not None:
        run.add_findings(auto=resolved.picked)
    if mirrored is not None:
        name, like = reading.data.named(mirrored.label, mirrored.like)
        run.say(
            f"flip      off: flipped images of {name} look like {like} ({mirrored.own:.0%} of them are told right as "
            f"they are, flipped {mirrored.mirrored:.0%}); --flip turns it on"
        )
        label, like = reading.present.numbers[[mirrored.label, mirrored.like]].tolist()
        told = mirrored._replace(label=label, like=like)._asdict()
        run.add_findings(flip={"on": False, "class": reading.data.classes[mirrored.label], **told})
    return run


def _views(resolved: Resolved, data: NoisyDataset) -> tuple[Views, Mirrored | None]:
    """How rows look in training; images are not flipped where nobody says so and that would make them another class."""
    s = resolved.settings
    nets = resolved.method.total_epochs(len(data.classes), len(data)) > 0 and not resolved.method.fits
    if resolved.says_flip or data.inputs.kind != "images" or not nets:
        return s.views(), None
    generator = torch.Generator().manual_seed(s.seed % 2**63)
    mirrored = of_main(mirrored_class(data, generator) if is_main() else None, process_state().num_processes)
    return replace(s.views(), flip=mirrored is None), mirrored


def _threads(resolved: Resolved, data: NoisyDataset) -> int | None:
    """Threads that training on the CPU pays for; None, all of this process, for what is no net's training in steps."""
    s, method, processes = resolved.settings, resolved.method, process_state()
    if processes.device.type != "cpu" or method.fits or not method.rows_at_once():
        return None
    rows = min(method.rows_at_once(), len(data))
    apart = method.two_nets and not s.compile and processes.num_processes == 1
    shape, k = s.views().shape(data.inputs.shape), len(data.classes)
    return threads_of(str(s.net), shape, k, rows, of=len(data), apart=apart)


def _require_room(crop: int | None, data: NoisyDataset) -> None:
    """Refuse a window that is larger than the images."""
    if crop is not None and data.inputs.kind == "images" and crop > min(data.inputs.shape[1:]):
        h, w = data.inputs.shape[1:]
        raise CuratorError(
            f"--crop {crop}: expected at most the side of the images, found {w} x {h} px; give a smaller one, "
            "or a larger --image-size"
        )


def _fit_batch(resolved: Resolved, rows: int) -> None:
    """Take smaller batches where an epoch would be few steps, unless the user or a dataset's recipe set their size.

    It follows from the settings and the number of rows alone, so an interrupted run finds it again.
    """
    smaller = max(LEAST_BATCH, 2 ** int(math.log2(max(2, rows / FEW_STEPS))))
    for method in resolved.fits_batch:
        if smaller < method.batch_size:
            resolved.batch_was, method.batch_size = method.batch_size, smaller


def introduce(table: Table, features_column: object, say: Log) -> None:
    """Print columns and class counts, before the rows are read."""
    counts = np.bincount(table.labels, minlength=len(table.classes))
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda c: -counts[c])
    shown = order if len(order) <= 12 else [*order[:5], *order[-3:]]
    empty = len(counts) - len(np.union1d(table.labels, table.learned))
    columns = {
        "image": table.image_column, "text": table.text_column, "features": features_column,
        "label": table.label_column,
    }  # fmt: skip
    found = ", ".join(f"{kind} column {name!r}" for kind, name in columns.items() if name)
    say(
        f"dataset   {table.name}, split {table.split}: {counts.sum():,} rows, {len(table.classes)} classes"
        f"{f', {empty:,} of them without rows' if empty else ''}; {found}, "
        f"reference {table.reference_column or 'none'}"
    )
    say(
        "classes   "
        + ", ".join(f"{table.classes[c][:30]!r} {counts[c]:,}" for c in shown)
        + (" (first and last)" if shown != order else "")
    )


def describe(table: Table, resolved: Resolved, run: Run, data: NoisyDataset, output: Path, say: Log) -> Plan:
    """Print notes, recipe, schedule, ETA and memory."""
    s, method = resolved.settings, resolved.method
    if table.aside:
        first = next(iter(table.aside))
        say(f"note      {len(table.aside):,} rows are set aside, as row {table.ids[first]}: {table.aside[first]}")
    for note in table.notes:
        say(f"note      {note}")
    say(f"recipe    {resolved.recipe or 'none for this dataset and method: defaults'}")
    if resolved.batch_was is not None:
        say(
            f"batch     {resolved.fits_batch[0].batch_size} rows a step instead of {resolved.batch_was}, with which an "
            f"epoch had few steps ({max(1, len(data) // resolved.batch_was)}); method.batch_size sets it"
        )
    if resolved.scaled:
        say("epochs    " + ", ".join(f"method.{k} {a} -> {b}" for k, (a, b) in resolved.scaled.items()))
    hyper = ", ".join(f"{k} {v}" for k, v in hyperparameters(method).items() if v is not None)
    say(f"method    {s.method}, net {s.net}, {hyper}")
    say(f"machine   {run.device}, {run.world} process(es) of {run.threads} thread(s), precision {run.precision}")
    total = method.total_epochs(len(data.classes), len(data))
    if (probs := own_probs(method)) is not None:
        read_probs(probs, data)  # a plan is of what the run will take
    with enough_memory(resolved, run):
        seconds = expected_seconds(method, data, run)
    speed = total * len(data) / seconds if seconds else 0.0
    held = len(data) * int(np.prod(data.inputs.shape)) * (1 if data.inputs.kind == "images" else 4)
    used = peak_memory(run.device)
    say(f"memory    {held / 2**30:.2f} GiB of {data.inputs.kind} on {run.device}, {used / 2**30:.2f} GiB in use")
    say(f"schedule  {total:g} passes over the rows, about {span(seconds)} at {speed:,.0f} rows/s; output {output}")
    if data.inputs.kind == "features" and len(data) < BY_HEART and not method.out_of_sample:
        say(
            f"note      nets memorise the labels of {len(data):,} rows, so their scores say little about them: "
            "posterior, the default on features, judges every label by models that were not trained on it"
        )
    if seconds > LONG:
        say(f"warning   this takes about {duration(seconds)}: --epochs, --limit-rows or --net small shorten it")
    return Plan(
        rows=len(data), classes=len(table.classes), method=s.method, recipe=resolved.recipe, net=str(s.net),
        backbone=s.backbone, epochs=method.epochs, images_per_second=speed, seconds=seconds, memory=held,
    )  # fmt: skip


class History:
    """What every yield reported; it goes into the checkpoints."""

    def __init__(self) -> None:
        self.entries: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """The entries."""
        return {"entries": self.entries}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the entries.

        Raises:
            ValueError: for what are none.
        """
        for entry in state["entries"]:
            if not {"images", "seconds", "selected"} <= entry.keys() or not all(
                isinstance(value, int | float) and math.isfinite(value) for value in entry.values()
            ):
                raise ValueError(f"expected an epoch's figures, found {entry}")
        self.entries = state["entries"]


def train(
    resolved: Resolved, table: Table, reading: Reading, run: Run, say: Log = lambda line: None
) -> tuple[Evidence, list[dict[str, float]]]:
    """Run the method to its end: progress, trackers, early stop, time limit and checkpoints are here.

    The evidence is in the numbers of the classes that are present.
    """
    s, method, data = resolved.settings, resolved.method, reading.data
    accuracy = Accuracy(table, reading, run) if s.eval_every else None
    history = run.register("history", History())
    recent = run.register("recent", torch.full((s.early_stop, len(data)), -1)) if s.early_stop else None
    run.start_tracking(resolved.describe())
    n, k, rest = len(data), len(data.classes), ~data.trusted.numpy()
    total = method.total_epochs(k, n)
    truth = None if table.truth is None else reading.present.inside(torch.from_numpy(table.truth)).numpy()
    given = reading.present.inside(torch.from_numpy(table.labels))

    def done() -> float:
        return method.passes_done(run.progress, k, n)

    started, found, learned = time.monotonic(), None, False
    run.open_epoch()  # the plan's measurements are not training
    with enough_memory(resolved, run), progress(run, total, n, done, say) as bar:
        for found in method(data, run):
            found.check(data)
            entry = run.close_epoch()
            if not entry["images"]:
                continue
            entry |= {"selected": float(found.selected.float().mean())}
            if truth is not None and rest.any():
                wrong = (data.labels.numpy() != truth)[rest]
                kept = found.selected.numpy()[rest]
                right = (found.corrected.numpy() == truth)[rest]
                for kind, flags, actual in (("clean", kept, ~wrong), ("noisy", ~kept, wrong)):
                    rates = zip(("precision", "recall", "f1"), precision_recall_f1(flags, actual), strict=True)
                    entry |= {f"{kind}_{name}": float(value) for name, value in rates}  # no numpy is saved
                entry["label_accuracy_after"] = float(right.mean())
            collapsed = collapsed_into(found, data)
            if learned and collapsed is not None:  # before, it only had not learned anything yet
                say(f"warning   {collapse_warning(data.classes[collapsed])}")
            learned = collapsed is None
            if accuracy is not None and s.eval_every and (len(history.entries) + 1) % s.eval_every == 0:
                entry |= accuracy()
                run.open_epoch()  # its seconds are not the next epoch's
            history.entries.append(entry)
            bar.advance(entry)
            run.track(entry, len(history.entries))
            if recent is not None:
                if (recent[0] >= 0).all() and (recent[0] != found.corrected).float().mean() < 0.001:
                    run.stop()
                recent.copy_(torch.cat([recent[1:], found.corrected[None]]))
            if s.max_minutes is not None and run.processes.agree(time.monotonic() - started > 60 * s.max_minutes):
                run.stop()
            run.checkpoint()
    if found is None:
        raise RunFailed(f"--method {s.method} gave no evidence")
    if accuracy is not None and history.entries and not figures(history.entries[-1:]):  # the last epoch always counts
        history.entries[-1] |= accuracy()
    return _guarded(found, resolved, data, given, run).check(data), history.entries


def _guarded(found: Evidence, resolved: Resolved, data: NoisyDataset, given: Tensor, run: Run) -> Evidence:
    """The evidence as the guard leaves it, by models that did not learn the row; given: labels (n,) of the dataset."""
    if not can_estimate(data):
        run.warn("so many rows and classes are not guarded: new labels are the method's own")
        return found
    held_out = [found.probs] if resolved.method.held_out else []
    torch.set_num_threads(threads_per_process())  # training in small steps may take fewer
    try:
        judged = estimate(data, run, held_out, probe=own_probs(resolved.method) is None)
    finally:
        torch.set_num_threads(run.threads)
    return guarded(found, data, run, judged, guard=_has_guard(resolved, data, given, judged.alone, run))


def _has_guard(resolved: Resolved, data: NoisyDataset, given: Tensor, alone: Tensor, run: Run) -> bool:
    """Whether new labels may be held back: not where verified rows contradict the labels (n,), which it believes.

    So do all methods but the one that reads verified rows alone, and that is said. alone: probabilities (n, k) by
    models that did not learn the row.
    """
    known, has_guard = data.trusted, resolved.settings.guard and not resolved.method.estimates
    pair = contradicted(data.labels[known], given[known], len(data.classes), alone[known])
    if pair is None:
        return has_guard
    of, like = data.named(*pair)
    cause = f"more verified rows of {of} were labelled {like} than {of}, and look like {like} to models of all labels"
    if not isinstance(resolved.method, PUDistill):
        run.warn(f"{cause}, so labels mislead and the guard is off; --method pudistill reads verified rows alone")
    elif has_guard:
        run.say(f"guard     off: {cause}, and it believes labels")
    return False


@contextmanager
def enough_memory(resolved: Resolved, run: Run) -> Iterator[None]:
    """Say in one line what to do about a GPU whose memory is full.

    Raises:
        CuratorError: with half of the batch size.
    """
    try:
        yield
    except torch.OutOfMemoryError as e:
        batch, ensemble = resolved.method.batch_size, resolved.settings.ensemble
        smaller = (
            f"--method.batch-size {batch // 2}" if batch >= 4 and not ensemble else "a smaller --net or --image-size"
        )
        anew = " with --no-resume" if sum(run.progress.values()) > 1 else ""  # a checkpoint has the larger one
        raise CuratorError(f"{device_name(run.device)} has not enough free memory: try {smaller}{anew}") from e
