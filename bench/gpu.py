"""What a GPU machine should answer: the speed of steps and methods, and training on all of CIFAR-10N worst.

`python -m bench.gpu_slice` runs all of it in two sittings; these are its parts, and what travels:

    python -m bench.gpu pack $CURATOR_DATA .data/packed    # where pyarrow is: folders 0, 1, ... of 36 MiB of images
    python -m bench.gpu step                               # the table of bench/step.py
    python -m bench.gpu methods                            # an epoch of every method
    python -m bench.gpu train published --minutes 8        # ProMix, CIFAR-10N worst, published schedule
    python -m bench.gpu train short --fit-minutes 20       # a schedule that fits 20 minutes, run to its end
    python -m bench.gpu train fast --fit-minutes 8         # larger steps, for the same

The machine needs torch, torchvision, accelerate and Pillow. `train` goes on where its last slice stopped, and prints
one JSON line an evaluation. Rows are appended to bench/RESULTS.md (--results). A checkpoint travels in parts:

    python -m bench.gpu split .data/gpu/published $OUT --first 0 --count 4     # four parts of 15 MiB
    python -m bench.gpu join PARTS .data/gpu/published                         # all parts back into a checkpoint
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.step import ON_GPU, OURS, PADDED, cell_name, machine, measure, ours, timed
from bench.step import table as step_table
from bench.table import PENDING, RESULTS, Table, today
from bench.travel import LABELS, join, pack, split, unpack
from curator.engine.run import Run
from curator.engine.source import Resident
from curator.engine.throughput import mfu
from curator.evidence import Evidence, NoisyDataset
from curator.methods import METHODS, scale_epochs
from curator.methods.positive_unlabelled import Claims
from curator.methods.promix import ProMix
from curator.methods.pudistill import PUDistill
from curator.result.metrics import precision_recall_f1
from curator.sources.cifar_n import LABEL_SETS, read_labels
from curator.system import write_text

ROOT = Path(__file__).resolve().parent.parent

SCHEDULES = ("published", "short", "fast")
PUBLISHED = "the paper's final 96.34 % and 97.44"
COLUMNS = [
    "epoch",
    "test accuracy",
    "clean P / R / F1",
    "noisy F1",
    "minutes",
    "passes/s",
    "MFU",
    "date",
    "machine",
    "versions",
]


METHOD_HEADING = "An epoch of a method, planted images of 32 px, 36 % wrong labels"
METHOD_COLUMNS = [
    "seconds",
    "passes that train",
    "these per second",
    "MFU of three epochs",
    "date",
    "machine",
    "versions",
]
METHOD_CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "ce": ("ce", {}),
    "mixup": ("mixup", {}),
    "pudistill's student": ("student", {}),
    "promix": ("promix", {}),
    "dividemix": ("dividemix", {}),
    "augdmix": ("dividemix", {"augment": "augdmix", "batch_size": 128}),
    "cpc": ("cpc", {"cpc_warmup": 0}),
    "bootstrap": ("bootstrap", {}),
    "bootstrap, dynamic": ("bootstrap", {"target": "annealed", "mix": "dynamic", "dynamic_warmup": 0}),
    "elr": ("elr", {}),
    "elr+": ("elr", {"plus": True}),
    "sop": ("sop", {}),
    "sop+": ("sop", {"consistency": 0.9, "balance": 0.1}),
}
RECORDED = ("ce", "mixup", "pudistill's student")  # measured as they are and with every kernel started by Python
UNRECORDED = ", not recorded"

# The schedule `fast`. Steps are four times as large, so kernels fill the card; all are of one size, so one recording
# and one compilation serve an epoch, warm-up included; the learning rate rises in two epochs, and momentum is
# Nesterov's; priors move as much a row; one pass of mixed views serves both heads, a third less work; and nets that
# train so shortly count as sure from .95. The rate is not scaled: a loss is the sum of several terms, and on 1,500 rows
# of CIFAR-10 a small net got .40 of the labels right with 8 x larger steps, .26 with their rate times 2.8 and .18 times
# 8; with 4 x larger ones .44 and .42, at 0.7 and 1.4 of the rate. By the H200's step times of 2026-11-26 (.063 s for
# 256 rows with 12 passes a row, .051 compiled), 8 passes a row make 8.2 s an epoch, 9.7 with the scoring of all rows,
# and 6.6 and 7.8 compiled: 49 epochs in 8 minutes, or 53 in 7 of them after a minute of compiling.
LARGER = 4
FAST: dict[str, Any] = {"nesterov": True, "mix_per_head": False, "tau": 0.95}
FAST_RAMP, FAST_WARMUP = 2, 15  # epochs of the ramp; one epoch of so many is warm-up
OVERHEAD = 1.125 * 1.05  # scoring all rows costs an eighth of the steps more, evaluation 5 %


# Speed


class Student(PUDistill):
    """PUDistill's student alone, of rows without pseudo-labels."""

    def __call__(self, data, run):
        """Train it."""
        n, k = len(data), len(data.classes)
        nothing, taught = Claims(torch.zeros(1, n, k).bool(), torch.zeros(n, k)), torch.zeros(n, k)
        for _ in self.distill(nothing, taught, data, run):
            yield Evidence(taught, torch.zeros(n), torch.zeros(n).bool(), data.labels)


def methods(
    results: Path, net: str, n: int = 25_600, names: tuple[str, ...] = (*METHOD_CELLS,), until: float = math.inf
) -> None:
    """Seconds and passes of an epoch after warm-up of methods of METHOD_CELLS, on images that tell their class."""
    table = Table(METHOD_HEADING, METHOD_COLUMNS, results)
    rng = np.random.default_rng(0)
    truth, patterns = rng.integers(0, 10, n), rng.integers(0, 128, (10, 3, 32, 32), dtype=np.uint8)
    images = torch.from_numpy(patterns[truth] + rng.integers(0, 128, (n, 3, 32, 32), dtype=np.uint8))
    wrong = rng.random(n) < 0.4  # so that there is something to split
    labels, nobody = torch.from_numpy(np.where(wrong, rng.integers(0, 10, n), truth)), torch.zeros(n).bool()
    for cell in (c + way for c in names for way in ("", UNRECORDED)[: 1 + (c in RECORDED)]):
        if time.monotonic() > until:
            return
        if f"{net}, {n:,} rows: {cell}" in table:
            continue
        name, settings = METHOD_CELLS[cell.removesuffix(UNRECORDED)]
        run = Run(seed=0, net=net)
        if cell.endswith(UNRECORDED):
            run.recorded = lambda step, *generators: step
        data = NoisyDataset(Resident(images, run.device), labels, tuple("abcdefghij"), nobody, torch.arange(n))
        kind: Any = Student if name == "student" else METHODS[name]
        warmup = {"warmup": 1} if hasattr(kind, "warmup") else {}
        method, stats = kind(epochs=3, **warmup, **settings), []
        for _ in method(data, run):
            stats.append(run.close_epoch())
        last, used = stats[2], mfu(run, data.inputs.shape)
        figures = [f"{last['seconds']:.1f}", f"{last['images']:,.0f}", f"{last['images_per_second']:,.0f}"]
        share = f"{used:.1%}" if used is not None else PENDING
        table.append(f"{net}, {n:,} rows: {cell}", [*figures, share, today(), machine(), f"torch {torch.__version__}"])


# Training


def train(flags: argparse.Namespace) -> None:
    """Train for --minutes, from the last checkpoint; a row for the table when the slice or the schedule ends."""
    images, truth = unpack(flags.data, "train")
    test_images, test_labels = unpack(flags.data, "test")
    noisy = read_labels(next(flags.data.rglob(LABELS)))[LABEL_SETS["cifar10n"]["worst"]]
    n = len(truth)
    if len(noisy) != n:  # a packed sample, for trying this out
        noisy = noisy[:n]
    state = flags.state / flags.schedule
    begun = time.monotonic()
    method = schedule(flags, state, n)
    run = Run(
        seed=123, net=flags.net, compile=flags.compile, streams=flags.streams, checkpoints=state / "checkpoints",
    )  # fmt: skip
    data = NoisyDataset(
        Resident(images, run.device),
        torch.from_numpy(noisy),
        tuple(map(str, range(10))),
        torch.zeros(n).bool(),
        torch.arange(n),
    )
    test = Resident(test_images, run.device)
    normaliser = run.normaliser(data.inputs)
    clock = run.register("minutes", torch.zeros(1, dtype=torch.float64))
    started, saved = begun, time.monotonic()  # the fit of a schedule is of its minutes
    before, entry, epoch = float(clock), {}, 0
    run.open_epoch()
    for found in method(data, run):
        stats = run.close_epoch()
        epoch = run.progress["train"]
        if not stats["images"]:
            continue
        now = time.monotonic()
        clock.fill_(before + (now - started) / 60)
        ends = now - started > 60 * flags.minutes
        last = ends or epoch == method.epochs
        if last or epoch % flags.every == 0:
            logits = run.predict(run.registered["nets"], test, normaliser=normaliser)
            kept, right = found.selected.numpy(), noisy == truth
            entry = {
                "epoch": epoch, "of": method.epochs, "minutes": round(float(clock), 2),
                "test_accuracy": float((logits.argmax(1).numpy() == test_labels).mean()),
                "clean": [round(v, 4) for v in precision_recall_f1(kept, right)],
                "noisy_f1": round(precision_recall_f1(~kept, ~right)[2], 4),
                "images_per_second": round(stats["images_per_second"]), "mfu": mfu(run, data.inputs.shape),
                "loss": stats.get("loss"),
            }  # fmt: skip
            print(json.dumps(entry), flush=True)
        if last or now - saved > 60 * flags.save_minutes:
            run.checkpoint()
            saved = time.monotonic()
        if ends:  # after the checkpoint: the next slice goes on
            run.stop()
    if entry:
        report(flags, entry)


def schedule(flags: argparse.Namespace, state: Path, n: int) -> ProMix:
    """The method of a schedule; a shortened one is fitted once, and kept beside its checkpoints."""
    fast = flags.schedule == "fast"
    method = ProMix(**(fast_settings(flags.batch, n) if fast else {"batch_size": flags.batch}))
    chosen = state / "epochs.json"
    if flags.schedule == "published" and flags.epochs is None:
        return method
    if not chosen.exists():
        epochs = flags.epochs or fitted_epochs(flags, n, method)
        chosen.parent.mkdir(parents=True, exist_ok=True)
        write_text(chosen, json.dumps(epochs))
    scale_epochs(method, json.loads(chosen.read_text()))
    if fast:
        method.lr_ramp, method.warmup = FAST_RAMP, max(FAST_RAMP, method.epochs // FAST_WARMUP)
    print(f"schedule {flags.schedule}: {dataclasses.asdict(method)}", flush=True)
    return method


def fast_settings(batch: int, n: int) -> dict[str, Any]:
    """Of the schedule `fast`, made of steps of a batch: CIFAR-10's 50,000 rows are 50 steps of 1,000."""
    least = -(-n // (LARGER * batch))
    size = n // next((steps for steps in range(least, 2 * least) if n % steps == 0), least)
    return {**FAST, "batch_size": size, "prior_momentum": ProMix().prior_momentum ** (size / batch)}


def way(fast: bool, **ways: bool) -> dict[str, Any]:
    """A step that trains, as settings of `ours`: of the schedule `fast` or another, run in some ways."""
    return {**PADDED, "record": True, "method": FAST if fast else {}, **ways}


def fitted_epochs(flags: argparse.Namespace, n: int, method: ProMix) -> int:
    """Epochs that take what is left of --fit-minutes by the time of a step, which it measures."""
    started = time.monotonic()
    step = way(flags.schedule == "fast", compile=flags.compile, streams=flags.streams)
    seconds = timed(ours(flags.net, method.batch_size, **step), 3, 5)
    left = 60 * flags.fit_minutes - (time.monotonic() - started)
    return max(2, int(left / (seconds * (n // method.batch_size) * OVERHEAD)))


def report(flags: argparse.Namespace, entry: dict[str, Any]) -> None:
    """Put down the row of the last evaluation."""
    p, r, f1 = entry["clean"]
    table_of_runs(flags.results).append(f"{flags.schedule} schedule, {flags.net}", [
        f"{entry['epoch']} of {entry['of']}", f"{entry['test_accuracy']:.4f}", f"{p:.4f} / {r:.4f} / {f1:.4f}",
        f"{entry['noisy_f1']:.4f}", f"{entry['minutes']:.1f}", f"{entry['images_per_second']:,}",
        f"{entry['mfu']:.1%}" if entry["mfu"] else PENDING, today(),
        machine(), f"torch {torch.__version__}",
    ])  # fmt: skip


def table_of_runs(results: Path) -> Table:
    """Where the rows of `train` go: one a schedule, of its last evaluation."""
    return Table(f"ProMix on CIFAR-10N worst, all rows ({PUBLISHED})", COLUMNS, results)


def pending(results: Path) -> None:
    """Mark what no GPU has measured yet."""
    for name in ("reference", *OURS, *ON_GPU):
        step_table(results).pending(cell_name("resnet18", 256, True, name))
    for name in SCHEDULES:
        table_of_runs(results).pending(f"{name} schedule, resnet18")
    for name in (*METHOD_CELLS, *(name + UNRECORDED for name in RECORDED)):
        Table(METHOD_HEADING, METHOD_COLUMNS, results).pending(f"resnet18, 25,600 rows: {name}")


def main(argv: list[str] | None = None) -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--net", default="resnet18")
    parser.add_argument("--batch", type=int, default=256, help="of the schedule `fast` a quarter of a step")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("source", type=Path)
    packing.add_argument("out", type=Path)
    commands.add_parser("step")
    measuring = commands.add_parser("methods")
    measuring.add_argument("--rows", type=int, default=25_600)
    training = commands.add_parser("train")
    training.add_argument("schedule", choices=SCHEDULES)
    training.add_argument("--data", type=Path, default=ROOT / ".data" / "packed")
    training.add_argument("--state", type=Path, default=ROOT / ".data" / "gpu")
    training.add_argument("--minutes", type=float, default=8.0, help="of this slice")
    training.add_argument("--fit-minutes", type=float, default=20.0, help="of the whole short schedule")
    training.add_argument("--epochs", type=int, help="scale the schedule to this instead")
    training.add_argument("--every", type=int, default=5, help="epochs between two evaluations")
    training.add_argument("--save-minutes", type=float, default=2.0)
    training.add_argument("--compile", action="store_true")
    training.add_argument("--streams", action="store_true", help="the second net on a stream of its own")
    splitting = commands.add_parser("split")
    splitting.add_argument("state", type=Path)
    splitting.add_argument("out", type=Path)
    splitting.add_argument("--first", type=int, default=0)
    splitting.add_argument("--count", type=int, default=4)
    joining = commands.add_parser("join")
    joining.add_argument("parts", type=Path)
    joining.add_argument("state", type=Path)
    flags = parser.parse_args(argv)
    if flags.command == "pack":
        pack(flags.source, flags.out)
    elif flags.command == "step":
        found = step_table(flags.results)
        measure(flags.net, flags.batch, 3, 10, found.append, there=found)
    elif flags.command == "methods":
        methods(flags.results, flags.net, flags.rows)
    elif flags.command == "train":
        train(flags)
    elif flags.command == "split":
        split(flags.state, flags.out, flags.first, flags.count)
    else:
        join(flags.parts, flags.state)


if __name__ == "__main__":
    main()
