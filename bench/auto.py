"""What --method auto picks on the sets that were measured, in how many seconds, and what that gives.

    CURATOR_DATA=... python -m bench.auto            # one thread, minutes; resumes cell by cell
    CURATOR_DATA=... python -m bench.auto render     # the section of RESULTS.md again

Nothing is trained: auto's figures are those that the picked method has in the tables of bench/everyday.py,
bench/arena.py, bench/baselines.py and bench/pudistill.py; the seconds of picking (of the processor, since other work
runs beside it) come on top. The arena needs the features of its runs (runs/bench/arena-worst-posterior-1, say).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch

from bench import arena, everyday
from bench.runs import run_folder
from bench.table import RESULTS, Table, processor, put_section, today

LINES = RESULTS.parent / "results" / "auto.jsonl"
HEADING = "Auto: what is picked, and what it gives"
BESIDE = ("promix", "posterior")
FIGURES = ("auroc", "noisy_f1", "label_accuracy_after")
VERIFIED = ("digits asym:0.3", "digits asym:0.5", "digits asym:0.7", "digits asym:0.9", "digits sym:0.7")
COLUMNS = [
    "noise", "cells", "wrong: as it is / estimated", "told as pairs of classes", "picked", "processor seconds to pick",
    "auto", *BESIDE,
]  # fmt: skip


class Key(NamedTuple):
    """A set, what its rows are read as, its noise and a seed."""

    set: str
    read: str
    noise: str
    seed: int


def keys() -> Iterator[Key]:
    """All of them, the first seed of the everyday sets first."""
    for name in arena.SETS:
        yield Key("arena", "lite0", name, 1)
    for name in VERIFIED:
        yield Key("digits, 10 % verified", "images", name.split()[1], 123)
    yield Key("digits", "images", "sym:0.3", 123)
    yield Key("CIFAR-10N, 10,000 rows", "images", "worst", 123)
    for cell in everyday.cells():
        yield Key(*cell)


def picked(key: Key) -> dict[str, Any]:
    """What is picked, and the seconds of it; nothing where the rows are not at hand."""
    from curator.engine.run import Run
    from curator.engine.source import Features
    from curator.evidence import NoisyDataset
    from curator.methods.auto import pick

    if key.read == "images":
        data, given, truth = images(key)
    else:
        if key.set == "arena":
            from bench.peers import of_run

            folder = run_folder(f"arena {key.noise} posterior 1")
            if not folder.exists():
                return {}
            kept, truth = of_run(folder)
            assert isinstance(kept.inputs, Features)
            x, given = kept.inputs.features, kept.labels
        else:
            x, truth = everyday.features(key.set, key.read)
            given = torch.from_numpy(everyday.noisy_labels(key.set, key.noise, key.seed))
        n, classes = len(given), tuple(map(str, range(int(truth.max()) + 1)))
        data = NoisyDataset(Features(x), given, classes, torch.zeros(n, dtype=torch.bool), torch.arange(n))
    run = Run(seed=key.seed, net="mlp" if data.inputs.kind == "features" else "small", threads=1)
    started = time.process_time()
    found = pick(data, given, run)
    seconds = time.process_time() - started
    wrong = float((given.numpy() != truth).mean())
    return {**found.facts(), "seconds": round(seconds, 2), "wrong": round(wrong, 4), "classes": len(data.classes)}


def images(key: Key):
    """The rows of the command's own reading: data, given labels (n,), and the truth."""
    from curator.config.resolve import resolve
    from curator.sources.load import load
    from curator.sources.read import read

    given = {"dataset": "digits", "method": "auto", "label_noise": key.noise, "seed": key.seed, "net": "small"}
    if key.set.startswith("digits, "):
        given["verified"] = 0.1
    if key.set.startswith("CIFAR"):
        given |= {"dataset": "cifar10n", "data_dir": os.environ["CURATOR_DATA"], "limit_rows": 10_000}
    resolved = resolve(given)
    table = load(resolved.settings)
    return read(resolved, table).data, torch.from_numpy(table.labels), table.truth


def finished() -> dict[Key, dict[str, Any]]:
    """The lines that are there, in the order of keys()."""
    rows = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    there = {Key(*(row[name] for name in Key._fields)): row for row in rows}
    return {key: there[key] for key in keys() if key in there}


def main(words: list[str]) -> None:
    """Pick where no line is, then render."""
    torch.set_num_threads(1)
    there = finished()
    for key in keys() if words[:1] != ["render"] else ():
        if key not in there and (row := picked(key)):
            LINES.parent.mkdir(exist_ok=True)
            with LINES.open("a") as file:
                file.write(json.dumps({**key._asdict(), **row, "date": today(), "machine": processor()}) + "\n")
    render()


def render() -> None:
    """Put the section into RESULTS.md, in the place of the one that is there."""
    there = finished()
    lines = [*of_everyday(there), *of_arena(there), *of_images(there), *of_verified(there)]
    missing = sum(key not in there for key in keys())
    machines = " and ".join(sorted({row["machine"] for row in there.values()}))
    about = (
        f"`bench/auto.py`, {machines}, one thread beside much other work, {today()}. Nothing was trained for it: "
        "auto has the figures of the method that it picks, from the tables of the sections above. AUROC / F1 / label "
        "accuracy; of ordinary datasets means over sets, features and seeds (no noise: labels changed). *Told as "
        "pairs*: cells in which the wrong labels of a class are said to go mostly to one other class (so it is with "
        f"`alike` and `asym`; of two classes nothing is said). Not picked: {missing} cells. {gate(there)}"
    )
    put_section(RESULTS, HEADING, about, everyday.grid(COLUMNS, lines))


def gate(there: dict[Key, dict[str, Any]]) -> str:
    """Whether auto is ahead of promix on every set of the arena, which it must be to become the default."""
    table = Table(arena.HEADING, arena.COLUMNS)

    def figures(noise: str, name: str) -> tuple[float, ...]:
        row = table.row(f"{noise} {name}")
        f1, after = row["noisy P / R / F1"].split(" / ")[2], row["label accuracy before → after"][-5:]
        return float(row["AUROC"]), float(f1), float(after)

    behind = [
        f"{what} on {key.noise} ({own} against {theirs})"
        for key, row in there.items()
        if key.set == "arena"
        for what, own, theirs in zip(
            ("AUROC", "F1", "label accuracy"),
            figures(key.noise, row["method"]),
            figures(key.noise, "promix"),
            strict=True,
        )
        if own < theirs
    ]
    return (
        f"On the arena it is behind `promix` in {', '.join(behind) or 'nothing'}"
        + "; it is not the default." * bool(behind)
    )


def of_everyday(there: dict[Key, dict[str, Any]]) -> list[list[str]]:
    """A line for each kind of noise, and one for all of them."""
    measured = everyday.finished()
    kinds: dict[str, list[Key]] = {}
    for key in there:
        if key.read != "images" and key.set != "arena":
            kinds.setdefault(key.noise, []).append(key)

    def mean(keys: list[Key], name: str | None) -> str:
        rows = [measured[everyday.Cell(*key), name or there[key]["method"]] for key in keys]
        return everyday.figures_of(everyday.average(rows))

    return [
        [f"ordinary datasets, {kind}", *picking([there[key] for key in keys]), mean(keys, None)]
        + [mean(keys, name) for name in BESIDE]
        for kind, keys in kinds.items()
    ]


def picking(rows: list[dict[str, Any]]) -> list[str]:
    """How many, what was told of the noise, what was picked, and in how many seconds."""
    from curator.methods.auto import PAIRS

    told = sum(row["together"] is not None and row["together"] >= PAIRS for row in rows)
    wrong, rate = (np.mean([row[name] for row in rows]) for name in ("wrong", "noise_rate"))
    names = ", ".join(sorted({row["method"] for row in rows}))
    seconds = [row["seconds"] for row in rows]
    of = f"{np.mean(seconds):.1f}" + (f" (at most {max(seconds):.1f})" if len(rows) > 1 else "")
    return [str(len(rows)), f"{wrong:.1%} / {rate:.1%}", f"{told} of {len(rows)}", names, of]


def of_arena(there: dict[Key, dict[str, Any]]) -> list[list[str]]:
    """A line for each label set of the arena."""
    table = Table(arena.HEADING, arena.COLUMNS)

    def figures(noise: str, name: str) -> str:
        row = table.row(f"{noise} {name}")
        values = (row["AUROC"], row["noisy P / R / F1"].split(" / ")[2], row["label accuracy before → after"][-5:])
        return " ".join(value.lstrip("0") for value in values) + f", {row['seconds']} s"

    return [
        [f"arena, {key.noise}", *picking([row]), *(figures(key.noise, name) for name in (row["method"], *BESIDE))]
        for key, row in there.items()
        if key.set == "arena"
    ]


def of_images(there: dict[Key, dict[str, Any]]) -> list[list[str]]:
    """A line for each set that nets learn from scratch."""
    from bench import baselines

    cells = {"digits": "digits", "CIFAR-10N, 10,000 rows": "cifar10n worst 10k"}
    table = Table("Methods on 2 cores", baselines.COLUMNS)

    def figures(key: Key, name: str) -> str:
        row = table.row(f"{cells[key.set]} {name}")
        if not row:
            return "not measured"
        values = (row["AUROC"], row["noisy P / R / F1"].split(" / ")[2], row["label accuracy before → after"][-5:])
        return " ".join(value.lstrip("0") for value in values) + f", {row['training s']} s"

    return [
        [f"from scratch: {key.set}, {key.noise}", *picking([row])]
        + [figures(key, name) for name in (row["method"], *BESIDE)]
        for key, row in there.items()
        if key.set in cells and key.read == "images"
    ]


def of_verified(there: dict[Key, dict[str, Any]]) -> list[list[str]]:
    """A line for each noise of the digits of which a tenth is verified; `promix` there sees no verified row."""
    from bench import pudistill

    table = Table(pudistill.FLAT, pudistill.COLUMNS)

    def figures(noise: str, name: str) -> str:
        row = table.row(f"digits {noise} {name}")
        if not row:
            return "not measured"
        values = (row["noisy F1"], row["label accuracy before → after"][-5:])
        return "– " + " ".join(value.lstrip("0") for value in values) + f", {row['seconds']} s"

    return [
        [f"from scratch: {key.set}, {key.noise}", *picking([row])]
        + [figures(key.noise, name) for name in (row["method"], *BESIDE)]
        for key, row in there.items()
        if key.set.startswith("digits, ")
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
