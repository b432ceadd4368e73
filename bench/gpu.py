"""Everything a GPU machine should answer, in slices of under ten minutes that resume.

The machine needs torch, torchvision, accelerate and Pillow. Images travel as packed parts:

    python -m bench.gpu pack $CURATOR_DATA .data/packed    # where pyarrow is: folders 0, 1, ... of 45 MiB at most

    python -m bench.gpu step                               # the table of bench/step.py
    python -m bench.gpu methods                            # an epoch of every method
    python -m bench.gpu train published --minutes 8        # ProMix, CIFAR-10N worst, published schedule
    python -m bench.gpu train short --fit-minutes 20       # a schedule that fits 20 minutes, run to its end

`train` goes on where its last slice stopped, and prints one JSON line an evaluation. Rows are appended to
bench/RESULTS.md (--results). A checkpoint travels in parts:

    python -m bench.gpu split .data/gpu/published $OUT --first 0 --count 4     # four parts of 15 MiB
    python -m bench.gpu join PARTS .data/gpu/published                         # all parts back into a checkpoint
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.step import ON_GPU, OURS, cell_name, measure, ours, timed
from bench.step import table as step_table
from bench.table import PENDING, RESULTS, Table, processor, today
from curator.engine.checkpoint import Checkpoints
from curator.engine.run import Run
from curator.engine.source import Resident
from curator.engine.throughput import mfu
from curator.evidence import NoisyDataset
from curator.methods import METHODS, scale_epochs
from curator.methods.promix import ProMix
from curator.result.metrics import precision_recall_f1
from curator.sources.cifar_n import FILES, LABEL_SETS, read_labels
from curator.system import write_text

ROOT = Path(__file__).resolve().parent.parent

PART = 15 * 2**20  # bytes of a part of a checkpoint
PACK = 45 * 2**20  # bytes of images in a packed part
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


# Images


def pack(data: Path, out: Path) -> None:
    """Write the images of data/cifar10 (parquet, encoded as they are) and the label file into folders of out."""
    import pyarrow.parquet as pq

    name, _ = FILES["cifar10n"]
    part, size, rows = 0, 0, []

    def flush() -> None:
        nonlocal part, size, rows
        folder = out / str(part)
        folder.mkdir(parents=True, exist_ok=True)
        for split in {s for s, _, _ in rows}:
            blobs = [blob for s, blob, _ in rows if s == split]
            np.savez(
                folder / f"{split}.npz",
                blob=np.frombuffer(b"".join(blobs), np.uint8),
                offsets=np.cumsum([0, *map(len, blobs)]),
                labels=np.array([label for s, _, label in rows if s == split]),
            )
        print(folder, f"{size / 2**20:.1f} MiB of images")
        part, size, rows = part + 1, 0, []

    for split in ("train", "test"):
        for file in sorted((data / "cifar10").rglob(f"{split}-*.parquet")):
            table = pq.read_table(file, columns=["image", "label"])
            for image, label in zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True):
                if size + len(image["bytes"]) > PACK:
                    flush()
                rows.append((split, image["bytes"], label))
                size += len(image["bytes"])
    flush()
    shutil.copy(next(data.rglob(name)), out / "0" / name)


def unpack(folder: Path, split: str) -> tuple[torch.Tensor, np.ndarray]:
    """Images (n, 3, h, w) uint8 and labels (n,) of all parts."""
    from PIL import Image

    images, labels = [], []
    for path in sorted(folder.glob(f"*/{split}.npz"), key=lambda p: int(p.parent.name)):
        with np.load(path) as part:
            blob, offsets = part["blob"].tobytes(), part["offsets"]
            labels.append(part["labels"])
        pieces = [blob[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        with ThreadPoolExecutor() as pool:
            images += pool.map(lambda piece: np.asarray(Image.open(io.BytesIO(piece)).convert("RGB")), pieces)
    if not images:
        raise SystemExit(f"{folder}: expected packed parts */{split}.npz, found none; make them with 'gpu.py pack'")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), np.concatenate(labels)


# Speed


def methods(results: Path, net: str, n: int = 25_600) -> None:
    """Seconds and passes of an epoch after warm-up of every method of METHOD_CELLS, on images that tell their class."""
    table = Table(METHOD_HEADING, METHOD_COLUMNS, results)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    rng = np.random.default_rng(0)
    truth, patterns = rng.integers(0, 10, n), rng.integers(0, 128, (10, 3, 32, 32), dtype=np.uint8)
    images = torch.from_numpy(patterns[truth] + rng.integers(0, 128, (n, 3, 32, 32), dtype=np.uint8))
    wrong = rng.random(n) < 0.4  # so that there is something to split
    labels, nobody = torch.from_numpy(np.where(wrong, rng.integers(0, 10, n), truth)), torch.zeros(n).bool()
    for cell, (name, settings) in METHOD_CELLS.items():
        if f"{net}, {n:,} rows: {cell}" in table:
            continue
        run = Run(seed=0, net=net)
        data = NoisyDataset(Resident(images, run.device), labels, tuple("abcdefghij"), nobody, torch.arange(n))
        warmup = {"warmup": 1} if hasattr(METHODS[name], "warmup") else {}
        made: Any = METHODS[name]
        method, stats = made(epochs=3, **warmup, **settings), []
        for _ in method(data, run):
            stats.append(run.close_epoch())
        last, used = stats[2], mfu(run, data.inputs.shape)
        figures = [f"{last['seconds']:.1f}", f"{last['images']:,.0f}", f"{last['images_per_second']:,.0f}"]
        share = f"{used:.1%}" if used is not None else PENDING
        table.append(f"{net}, {n:,} rows: {cell}", [*figures, share, today(), machine, f"torch {torch.__version__}"])


# Training


def train(flags: argparse.Namespace) -> None:
    """Train for --minutes, from the last checkpoint; a row for the table when the slice or the schedule ends."""
    images, truth = unpack(flags.data, "train")
    test_images, test_labels = unpack(flags.data, "test")
    noisy = read_labels(next(flags.data.rglob(FILES["cifar10n"][0])))[LABEL_SETS["cifar10n"]["worst"]]
    n = len(truth)
    if len(noisy) != n:  # a packed sample, for trying this out
        noisy = noisy[:n]
    state = flags.state / flags.schedule
    method = schedule(flags, state, n)
    run = Run(seed=123, net=flags.net, compile=flags.compile, checkpoints=state / "checkpoints")
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
    started = saved = time.monotonic()
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
    method = ProMix(batch_size=flags.batch)
    chosen = state / "epochs.json"
    if flags.schedule == "published" and flags.epochs is None:
        return method
    if not chosen.exists():
        epochs = flags.epochs or fitted_epochs(flags, n)
        chosen.parent.mkdir(parents=True, exist_ok=True)
        write_text(chosen, json.dumps(epochs))
    scale_epochs(method, json.loads(chosen.read_text()))
    print(f"schedule {flags.schedule}: {dataclasses.asdict(method)}", flush=True)
    return method


def fitted_epochs(flags: argparse.Namespace, n: int) -> int:
    """Epochs that take --fit-minutes by the time of a step; scoring all rows costs an eighth more, evaluation 5 %."""
    seconds = timed(ours(flags.net, flags.batch, subset="pad", record=True, compile=flags.compile), 3, 5)
    return max(2, int(60 * flags.fit_minutes / (seconds * (n // flags.batch) * 1.125 * 1.05)))


def report(flags: argparse.Namespace, entry: dict[str, Any]) -> None:
    """Put down the row of the last evaluation."""
    p, r, f1 = entry["clean"]
    table_of_runs(flags.results).append(f"{flags.schedule} schedule, {flags.net}", [
        f"{entry['epoch']} of {entry['of']}", f"{entry['test_accuracy']:.4f}", f"{p:.4f} / {r:.4f} / {f1:.4f}",
        f"{entry['noisy_f1']:.4f}", f"{entry['minutes']:.1f}", f"{entry['images_per_second']:,}",
        f"{entry['mfu']:.1%}" if entry["mfu"] else PENDING, today(),
        torch.cuda.get_device_name() if torch.cuda.is_available() else processor(), f"torch {torch.__version__}",
    ])  # fmt: skip


def table_of_runs(results: Path) -> Table:
    """Where the rows of `train` go: one a schedule, of its last evaluation."""
    return Table(f"ProMix on CIFAR-10N worst, all rows ({PUBLISHED})", COLUMNS, results)


def pending(results: Path) -> None:
    """Mark what no GPU has measured yet."""
    for name in ("reference", *OURS, *ON_GPU):
        step_table(results).pending(cell_name("resnet18", 256, True, name))
    for name in ("published", "short"):
        table_of_runs(results).pending(f"{name} schedule, resnet18")
    for name in METHOD_CELLS:
        Table(METHOD_HEADING, METHOD_COLUMNS, results).pending(f"resnet18, 25,600 rows: {name}")


# Checkpoints in parts


def split(state: Path, out: Path, first: int, count: int) -> None:
    """Write parts [first, first + count) of the state's checkpoint, each with what is needed to join them."""
    latest = Checkpoints(state / "checkpoints").latest()
    if latest is None:
        raise SystemExit(f"{state}: expected a checkpoint, found none")
    content = (latest / "state.pt").read_bytes()
    chosen = state / "epochs.json"
    head = {
        "parts": -(-len(content) // PART),
        "digest": hashlib.sha256(content).hexdigest(),
        "epochs": json.loads(chosen.read_text()) if chosen.exists() else None,
    }
    out.mkdir(parents=True, exist_ok=True)
    for i in range(first, min(first + count, head["parts"])):
        np.savez(
            out / f"part-{i:03d}.npz",
            data=np.frombuffer(content[i * PART : (i + 1) * PART], np.uint8),
            head=np.frombuffer(json.dumps(head | {"part": i}).encode(), np.uint8),
        )
    print(f"parts {first} to {min(first + count, head['parts']) - 1} of {head['parts']}")


def join(folder: Path, state: Path) -> None:
    """Put the parts below a folder together into a checkpoint of the state."""
    parts: dict[int, bytes] = {}
    head: dict[str, Any] = {}
    for path in sorted(folder.rglob("part-*.npz")):
        with np.load(path) as part:
            head = json.loads(part["head"].tobytes())
            parts[head["part"]] = part["data"].tobytes()
    missing = sorted(set(range(head.get("parts", 1))) - set(parts))
    if missing:
        raise SystemExit(f"{folder}: parts {missing} are missing")
    content = b"".join(parts[i] for i in sorted(parts))
    if hashlib.sha256(content).hexdigest() != head["digest"]:
        raise SystemExit(f"{folder}: the parts are of different checkpoints")
    target = state / "checkpoints" / "000000"
    target.mkdir(parents=True, exist_ok=True)
    (target / "state.pt").write_bytes(content)
    if head["epochs"] is not None:
        write_text(state / "epochs.json", json.dumps(head["epochs"]))
    write_text(state / "checkpoints" / "latest", target.name)
    print(f"{len(parts)} parts joined in {target}")


def main(argv: list[str] | None = None) -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--net", default="resnet18")
    parser.add_argument("--batch", type=int, default=256)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("source", type=Path)
    packing.add_argument("out", type=Path)
    commands.add_parser("step")
    measuring = commands.add_parser("methods")
    measuring.add_argument("--rows", type=int, default=25_600)
    commands.add_parser("pending", help="mark the rows that no GPU has measured")
    training = commands.add_parser("train")
    training.add_argument("schedule", choices=["published", "short"])
    training.add_argument("--data", type=Path, default=ROOT / ".data" / "packed")
    training.add_argument("--state", type=Path, default=ROOT / ".data" / "gpu")
    training.add_argument("--minutes", type=float, default=8.0, help="of this slice")
    training.add_argument("--fit-minutes", type=float, default=20.0, help="of the whole short schedule")
    training.add_argument("--epochs", type=int, help="scale the schedule to this instead")
    training.add_argument("--every", type=int, default=5, help="epochs between two evaluations")
    training.add_argument("--save-minutes", type=float, default=2.0)
    training.add_argument("--compile", action="store_true")
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
    elif flags.command == "pending":
        pending(flags.results)
    elif flags.command == "train":
        train(flags)
    elif flags.command == "split":
        split(flags.state, flags.out, flags.first, flags.count)
    else:
        join(flags.parts, flags.state)


if __name__ == "__main__":
    main()
