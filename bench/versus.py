"""Two checkouts of this project against each other: seconds, processor seconds and results of the same commands.

    git worktree add --detach ../before c601132
    python -m bench.versus ../before .                       # every cell of CELLS, three seeds, A B A B ...
    python -m bench.versus ../before . --only promix help    # some of them
    python -m bench.versus ../before . --rows 6400 --core 0  # smaller features; everything on one core
    python -m bench.versus ../before . --only promix --cifar10n    # on features of photos, with labels by people

Each cell is run by turns in both checkouts, so that what else the machine does meets both; figures are medians over the
seeds, and ratios are those of A over B. Processor seconds count where the machine is shared. Training cells are runs on
made features (classes around centres, 30 % of the labels drawn anew), with each checkout's own recipe, or with
--cifar10n on the 50,000 of bench/arena.py and the set of labels worst; their seconds are those of the training alone
(curation.json), the share of right labels is by the truth. What is printed is also appended to bench/RESULTS.md with
--record.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.runs import environment, run_folder
from bench.table import Table, processor, today

if TYPE_CHECKING:
    import numpy as np

WIDTH, CLASSES, WRONG = 1280, 10, 0.3
HEADING = "Two checkouts by turns"
METHODS = ("posterior", "promix", "cpc", "dividemix", "bootstrap")
STARTS = {
    "help": ["--help"], "clean help": ["clean", "--help"], "publish help": ["publish", "--help"],
    "diff": ["diff", "{run}", "{run}"], "publish": ["publish", "{run}", "{run}-new", "--dry-run"],
}  # fmt: skip
CELLS = (*METHODS, *STARTS)
# Their entry point, wherever it was in their day.
PROGRAM = """
import sys, tomllib
module, _, name = tomllib.load(open("pyproject.toml", "rb"))["project"]["scripts"]["label-curator"].partition(":")
sys.exit(getattr(__import__(module, fromlist=[name]), name)())
"""


COLUMNS = [
    "seconds of the command", "processor seconds", "seconds of the training", "right labels by seed", "date", "machine",
]  # fmt: skip


class Measured(NamedTuple):
    """One run of a cell."""

    seconds: float  # of the whole command
    processor: float  # seconds of it and its children
    training: float | None  # seconds
    right: float | None  # share of right labels afterwards


def features(folder: Path, rows: int) -> Path:
    """A dataset of made features, with given and true labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, rows)
    given = np.where(rng.random(rows) < WRONG, rng.integers(0, CLASSES, rows), truth)
    centres = rng.normal(0, 0.15, (CLASSES, WIDTH))
    return written(folder, (centres[truth] + rng.normal(0, 1, (rows, WIDTH))).astype(np.float32), given, truth)


def cifar10n(folder: Path) -> Path:
    """The same of CIFAR-10N: EfficientNet-Lite0's features of its photos, and the labels worst."""
    from bench.arena import extract
    from bench.peers import of_run
    from curator.engine.source import Features

    extract()
    data, truth = of_run(run_folder("arena features"))
    assert isinstance(data.inputs, Features)
    return written(folder, data.inputs.features.numpy(), data.labels.numpy(), truth)


def written(folder: Path, values: np.ndarray, given: np.ndarray, truth: np.ndarray) -> Path:
    """Features (n, d) and labels (n,) as one parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    folder.mkdir()
    table = pa.table({"features": column, "label": pa.array(given), "true_label": pa.array(truth)})
    pq.write_table(table, folder / "train.parquet", row_group_size=1000)
    return folder


def command(checkout: Path, argv: list[str], core: int | None) -> tuple[float, float]:
    """Seconds and processor seconds of label-curator with these words, in a checkout.

    Raises:
        SystemExit: with what it said, where it fails.
    """
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*pinned, sys.executable, "-c", PROGRAM, *argv], cwd=checkout, env=environment(PYTHONPATH=str(checkout)),
        capture_output=True, text=True,
    )  # fmt: skip
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{checkout}: {' '.join(argv)}: {done.stderr.strip()[-500:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(checkout: Path, cell: str, seed: int, data: Path, run: Path, core: int | None) -> Measured:
    """One run of a cell in a checkout; `run`: a finished one of the same checkout."""
    if cell in STARTS:
        return Measured(*command(checkout, [word.format(run=run) for word in STARTS[cell]], core), None, None)
    with tempfile.TemporaryDirectory() as folder:
        seconds, processor = command(checkout, training(cell, seed, data, Path(folder) / "out"), core)
        facts = json.loads((Path(folder) / "out" / "curation.json").read_text())
    return Measured(seconds, processor, facts["seconds"], facts["metrics"]["label_accuracy_after"])


def training(method: str, seed: int, data: Path, out: Path, *more: str) -> list[str]:
    """The words of a command that trains on features."""
    return [
        "clean", "--dataset", str(data), "--features-column", "features", "--label-column", "label",
        "--reference-column", "true_label", "--method", method, "--seed", str(seed), "--output", str(out), *more,
    ]  # fmt: skip


def compare(a: list[Measured], b: list[Measured]) -> list[str]:
    """By column, medians of both and their ratio."""

    def told(one: list[float], two: list[float]) -> str:
        x, y = statistics.median(one), statistics.median(two)
        return f"{x:.2f} → {y:.2f}" + (f" ({x / y:.2f} times as fast)" if y else "")

    parts = [told([m.seconds for m in a], [m.seconds for m in b])]
    parts.append(told([m.processor for m in a], [m.processor for m in b]))
    if a[0].training is None:
        return [*parts, "–", "–"]
    parts.append(told([m.training or 0 for m in a], [m.training or 0 for m in b]))
    return [*parts, " → ".join(" ".join(f"{m.right:.4f}" for m in part) for part in (a, b))]


def commit(checkout: Path) -> str:
    """The commit of a checkout, in short; with a + where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", checkout, *words], capture_output=True, text=True, check=True).stdout

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short=7", "HEAD").strip() + "+" * bool(changed)


def main(words: list[str] | None = None) -> None:
    """Measure and print, a line a cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=lambda text: Path(text).resolve(), help="a checkout")
    parser.add_argument("b", type=lambda text: Path(text).resolve(), help="another")
    parser.add_argument("--only", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--cifar10n", action="store_true", help="features of CIFAR-10N instead of made ones")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--core", type=int, help="run everything on this one core; default: all of them")
    parser.add_argument("--record", action="store_true", help="append the rows to bench/RESULTS.md")
    flags = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        small, data = Path(folder) / "small", Path(folder) / "data"
        features(small, 200)
        if any(cell in METHODS for cell in flags.only):
            cifar10n(data) if flags.cifar10n else features(data, flags.rows)
        versions = f"{commit(flags.a)} → {commit(flags.b)}" if flags.record else ""
        runs = {c: Path(folder) / f"run{i}" for i, c in enumerate((flags.a, flags.b))}
        if any("{run}" in word for cell in flags.only for word in STARTS.get(cell, [])):
            for checkout, run in runs.items():
                command(checkout, training("ce", 1, small, run, "--epochs", "1"), flags.core)
        for cell in flags.only:
            found: dict[Path, list[Measured]] = {flags.a: [], flags.b: []}
            for seed in range(1, flags.seeds + 1):
                for checkout, there in found.items():
                    there.append(measured(checkout, cell, seed, data, runs[checkout], flags.core))
            row = compare(found[flags.a], found[flags.b])
            print(
                f"{cell}: " + "; ".join(f"{what} {told}" for what, told in zip(COLUMNS, row, strict=False)), flush=True
            )
            if flags.record:
                rows = "CIFAR-10N worst, 50,000 rows" if flags.cifar10n else f"{flags.rows:,} rows"
                what = f"{cell}, {rows}" if cell in METHODS else cell
                name = f"{what}: {versions}" + " on one core" * (flags.core is not None)
                Table(HEADING, COLUMNS).append(name, [*row, today(), processor()])


if __name__ == "__main__":
    main()
