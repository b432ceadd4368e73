"""Any size: how time, memory and output grow with the number of rows, held in memory and decoded as they are asked for.

    python -m bench.scale            # appends the missing rows to bench/RESULTS.md, then draws the picture
    python -m bench.scale plot       # the picture again

Every cell is the command in a process of its own: random RGB images of 8 x 8 px in parquet files, ten classes, `ce`,
one epoch, the net `small`, all cores. Rows/s are of the whole command, its start included; the training alone stands
beside. Streamed: `--memory-budget 0.000001`, so that nothing fits.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from bench.runs import ROOT, run_folder
from bench.table import Table, processor, today

SIZES = (10_000, 100_000, 1_000_000)
WAYS = {"resident": [], "streamed": ["--memory-budget", "0.000001"]}
SIDE, CLASSES, SHARD = 8, 10, 100_000
COLUMNS = [
    "rows/s", "seconds", "of it training", "peak memory, MiB", "bytes of peak a row", "output, MiB", "date", "machine",
]  # fmt: skip
HEADING = "Scale: images of 8 x 8 px, ce, one epoch"
PLOT = Path(__file__).with_name("scale.png")


def main() -> None:
    """Measure the sizes that have no row yet."""
    table = Table(HEADING, COLUMNS)
    for n in SIZES:
        for way, flags in WAYS.items():
            name = f"{n:,} rows, {way}"
            if name in table:
                continue
            found = measured(made_up_rows(n), flags)
            per_row = found["peak"] / n
            table.append(name, [
                f"{n / found['seconds']:,.0f}", f"{found['seconds']:.1f}", f"{found['training']:.1f}",
                f"{found['peak'] / 2**20:,.0f}", f"{per_row:,.0f}", f"{found['output'] / 2**20:,.0f}",
                today(), processor(),
            ])  # fmt: skip
    plot(table)


def made_up_rows(n: int) -> Path:
    """A folder with n rows as parquet files; made once."""
    import io

    import numpy as np
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Pil

    folder = run_folder(f"scale rows {n}")
    if folder.exists():
        return folder
    whole = folder.with_suffix(".new")
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    features = Features({"image": Image(), "label": ClassLabel(num_classes=CLASSES)})
    patterns = np.random.default_rng(0).integers(0, 128, (CLASSES, SIDE, SIDE, 3))
    for start in range(0, n, SHARD):
        rng = np.random.default_rng(start + 1)
        count = min(SHARD, n - start)
        truth = rng.integers(0, CLASSES, count)
        given = np.where(rng.random(count) < 0.2, rng.integers(0, CLASSES, count), truth)
        pixels = (patterns[truth] + rng.integers(0, 128, (count, SIDE, SIDE, 3))).astype(np.uint8)
        blobs = []
        for image in pixels:
            file = io.BytesIO()
            Pil.fromarray(image).save(file, "PNG", compress_level=1)
            blobs.append({"bytes": file.getvalue(), "path": None})
        rows = Dataset.from_dict({"image": blobs, "label": given.tolist()}, features=features)
        rows.to_parquet(whole / f"train-{start // SHARD:05d}.parquet")
    whole.rename(folder)
    return folder


def measured(rows: Path, flags: list[str]) -> dict[str, Any]:
    """Seconds, peak bytes and bytes of output of the command on the rows."""
    output = rows.with_name(f"{rows.name} result")
    shutil.rmtree(output, ignore_errors=True)
    argv = [sys.executable, "curator/clean.py", "--dataset", str(rows), "--method", "ce", "--method.epochs", "1"]
    argv += ["--net", "small", "--output", str(output), *flags]
    started = time.perf_counter()
    pid = os.posix_spawn(sys.executable, argv, {**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(argv)}: exit code {os.waitstatus_to_exitcode(status)}")
    facts = json.loads((output / "curation.json").read_text())
    size = sum(p.stat().st_size for p in output.rglob("*") if p.is_file())
    shutil.rmtree(output)
    return {"seconds": seconds, "training": facts["seconds"], "peak": usage.ru_maxrss * 1024, "output": size}


def plot(table: Table) -> None:
    """Seconds and peak memory over the number of rows, from the rows of the table."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for way, colour in zip(WAYS, ("tab:blue", "tab:orange"), strict=True):
        cells = [(n, row) for n in SIZES if (row := table.row(f"{n:,} rows, {way}"))]
        for axes, column in zip(panels, ("seconds", "peak memory, MiB"), strict=True):
            values = [float(row[column].replace(",", "")) for _, row in cells]
            axes.loglog([n for n, _ in cells], values, "o-", color=colour, label=way)
            axes.set(title=column, xlabel="rows")
    for axes in panels:
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    if sys.argv[1:2] == ["plot"]:
        plot(Table(HEADING, COLUMNS))
    else:
        main()
