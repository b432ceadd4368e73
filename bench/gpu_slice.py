"""All that a GPU machine should answer in fifteen minutes; what has a row is not measured again.

Two sittings, since what the first one shows decides how the second one trains, and what it compiled serves there:

1.  python -m bench.gpu_slice --minutes 5.5 --parts tests step profile methods hours features --results $OUT/RESULTS.md;
    du -sh .data/inductor; tar cz .data/inductor | split -b 15M - $OUT/inductor.tgz.
2.  Here: cp FILES_AT/results/*.jsonl bench/results/; python -m bench.gpu_slice --pending
    cat FILES_AT/inductor.tgz.* > .data/inductor.tgz
3.  Images travel as packed parts (`bench.gpu pack`), since a call carries 64 MiB: `true` with .data/packed/0 in the
    call's `carry`, at once, while the machine is warm, `true` with the next part, and so on. With the last one and
    .data/inductor.tgz

    tar xzf .data/inductor.tgz; python -m bench.gpu_slice --minutes 7 --parts train --results $OUT/RESULTS.md
4.  Here as in 2. A later `train` goes on where this one stopped, if .data/gpu is there (it travels by `bench.gpu split`
    and `join`).

`--pending` shows the tables anew and marks what is not measured. The parts:

    tests     tests/test_gpu.py; beside them what later parts compile is compiled
    step      a step of the schedule `fast`; what a step of ProMix gains by streams, casts and compiled blocks
    profile   kernels.txt beside the results: where the time of a step of `fast` goes
    methods   ce, mixup and PUDistill's student, recorded and not
    hours     what the published schedule would take, by the steps above
    features  ViT-S/14 at 224 px with random weights: images/s, and with the decoding of JPEGs of 500 x 375
    train     the schedule `fast`, as long as it fits the minutes that are left, by the quickest step measured above

`python -m bench.gpu_slice --cpu-smoke` tries all of them out in tiny sizes, with rows in a temporary file.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import gpu
from bench.data import jpeg
from bench.step import ON_GPU, cell_name, machine, measure, ours
from bench.step import table as step_table
from bench.table import RESULTS, Table, today
from bench.travel import make_up
from curator.engine.encoders import Backbone
from curator.engine.hardware import best_precision
from curator.engine.pretrained import Encoder, Look
from curator.engine.source import PIECE
from curator.methods.promix import ProMix
from curator.sources.faults import measured
from curator.sources.pace import ahead
from curator.sources.pictures import Decoder
from curator.system import cores

CACHE = gpu.ROOT / ".data" / "inductor"  # of what was compiled
HEADING = "A slice of a GPU machine: tests, features, hours"
TESTS = "tests/test_gpu.py"
COLUMNS = ["found", "goal", "date", "machine", "versions"]
# To begin cells in; `train` has the rest.
SECONDS = {"tests": 120, "step": 110, "profile": 30, "methods": 30, "hours": 5, "features": 30}
CHUNK = 2048  # images that are decoded while others go through the encoder
COMPILING, COMPILED = 70, 15  # seconds that compiling takes of a training, and taking what was compiled before; guesses
WAYS: dict[str, dict[str, bool]] = {
    "recorded": {},
    "recorded, two streams": {"streams": True},
    "recorded, compiled": {"compile": True},
    "recorded, two streams, compiled": {"streams": True, "compile": True},
}
RECORDED = "bf16, channels last, padded, recorded"


@dataclass
class Slice:
    """What is measured, and how long.

    Attributes:
        results: the page of the rows.
        net, batch, rows: of steps, and of what trains.
        data, state: folders of packed images and of checkpoints.
        images: that go through the encoder; a quarter of them is decoded.
        encoder: its name in timm.
        ends: of time.monotonic().
        smoke: tiny, on a CPU.
    """

    results: Path
    ends: float
    data: Path = gpu.ROOT / ".data" / "packed"
    state: Path = gpu.ROOT / ".data" / "gpu"
    net: str = "resnet18"
    batch: int = 256
    rows: int = 50_000
    images: int = 8192
    encoder: str = "vit_small_patch14_dinov2"
    smoke: bool = False

    def report(self, cell: str, found: str, goal: str = "") -> None:
        """A row of the slice's own table."""
        print(f"{cell}: {found}", flush=True)
        self.table.append(cell, [found, goal or "none", today(), machine(), f"torch {torch.__version__}"])

    @property
    def table(self) -> Table:
        """The slice's own table."""
        return Table(HEADING, COLUMNS, self.results)

    @property
    def fast_batch(self) -> int:
        """Rows of a step of the schedule `fast`."""
        return gpu.fast_settings(self.batch, self.rows)["batch_size"]

    @property
    def cells(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Rows and settings of the steps that are measured."""
        found = {f"fast, {name}": (self.fast_batch, gpu.way(True, **way)) for name, way in self.ways.items()}
        found |= {name: (self.batch, settings) for name, settings in ON_GPU.items()}
        return found

    def compiled(self) -> list[str]:
        """Steps that compile something for a row that is not there, or for training; each graph once."""
        there = step_table(self.results)
        found: dict[tuple[int, bool], str] = {}
        for name, (batch, way) in self.cells.items():
            wanted = name.startswith("fast") or cell_name(self.net, batch, torch.cuda.is_available(), name) not in there
            if wanted and (way.get("compile") or way.get("blocks")):
                found.setdefault((batch, bool(way.get("blocks"))), name)
        return list(found.values())

    @property
    def ways(self) -> dict[str, dict[str, bool]]:
        """How the schedule's step may run: nothing is compiled to try it out."""
        return {name: way for name, way in WAYS.items() if not (self.smoke and "compile" in way)}


def step(s: Slice, until: float) -> None:
    """Steps of ProMix, first those by which `train` chooses."""
    table = step_table(s.results)
    warm, count = (1, 1) if s.smoke else (3, 10)
    cells = {name: settings for name, (_, settings) in s.cells.items() if name.startswith("fast")}
    measure(s.net, s.fast_batch, warm, count, table.append, table, cells, until)
    tiny = {"reference": None, "bf16, weights cast in every pass": {"mixed_precision": "bf16", "cast_once": False}}
    measure(s.net, s.batch, warm, count, table.append, table, tiny if s.smoke else None, until)


def profile(s: Slice, until: float) -> None:
    """Kernels of a step of `fast`, by their time."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    lines, count = [], 1 if s.smoke else 5
    for name, (batch, settings) in s.cells.items():
        if not name.startswith("fast") or "streams" in name or time.monotonic() > until:
            continue
        steps = ours(s.net, batch, **settings)
        for _ in range(3):
            next(steps)
        with profiled(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * torch.cuda.is_available()]) as found:
            for _ in range(count):
                next(steps)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        kernels = [e for e in found.key_averages() if s.smoke or (e.device_type == DeviceType.CUDA)]
        kernels.sort(key=lambda e: -e.self_device_time_total)
        total = sum(e.self_device_time_total for e in kernels) / count / 1000
        lines += [f"{name}: {total:.2f} ms in {sum(e.count for e in kernels) / count:.0f} kernels of a step"]
        for e in kernels[:80]:
            lines.append(f"{e.self_device_time_total / count / 1000:9.3f} {e.count / count:7.1f} {e.key}")
    if lines:
        (s.results.parent / "kernels.txt").write_text("\n".join(lines))
    print("\n".join(line[:120] for line in lines if not line.startswith(" ")), flush=True)


def methods(s: Slice, until: float) -> None:
    """An epoch of the methods of one net."""
    gpu.methods(s.results, s.net, 128 if s.smoke else 25_600, gpu.RECORDED, until)


def features(s: Slice, until: float) -> None:
    """Images/s of an encoder, of images that lie decoded in memory and of JPEGs."""
    import timm

    name, goal = f"{s.encoder}, 224 px, images/s", "2,000"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    body = timm.create_model(s.encoder, pretrained=False, num_classes=0, img_size=224)
    encoder = Encoder(body, Look(224, 224), lambda net, x: net(x).flatten(1))
    backbone = Backbone(s.encoder, device, best_precision(device), encoder)
    images = torch.randint(256, (s.images, 3, 224, 224), dtype=torch.uint8)
    backbone(images[: 2 * backbone.batch])
    if f"{name}, decoded before" not in s.table:
        started = time.perf_counter()
        backbone(images)
        s.report(f"{name}, decoded before", f"{s.images / (time.perf_counter() - started):,.0f}", goal)
    rng, decoder, n = np.random.default_rng(0), Decoder(), s.images // 4
    with ThreadPoolExecutor(cores()) as pool:
        files = list(pool.map(jpeg, rng.integers(2**31, size=min(n, 1024))))

    def read(rows: range) -> np.ndarray:
        found = [decoder.array(files[i % len(files)], (224, 224)) for i in rows]
        images = np.stack([image for image, _ in found])
        measured(images, np.array([own for _, own in found]))
        return images

    def opened(pool: ThreadPoolExecutor, start: int) -> torch.Tensor:
        end = min(start + CHUNK, n)
        pieces = [range(first, min(first + PIECE, end)) for first in range(start, end, PIECE)]
        return torch.from_numpy(np.concatenate(list(pool.map(read, pieces)))).permute(0, 3, 1, 2)

    starts = range(0, n, CHUNK)
    for threads in dict.fromkeys(min(cores(), several) for several in (cores(), 4, 8)):  # they wait for one lock
        alone = f"decoding alone, {threads} threads of {cores()} cores, images/s"
        if alone in s.table or time.monotonic() > until:
            continue
        with ThreadPoolExecutor(threads) as pool:
            started = time.perf_counter()
            for start in starts:
                opened(pool, start)
            s.report(alone, f"{n / (time.perf_counter() - started):,.0f}", goal)
    if f"{name}, decoding" in s.table or time.monotonic() > until:
        return
    with ThreadPoolExecutor(cores()) as pool:
        started = time.perf_counter()
        for _, part in ahead(starts, lambda start: opened(pool, start)):
            backbone(part)
        s.report(f"{name}, decoding", f"{n / (time.perf_counter() - started):,.0f}", goal)


def tests(s: Slice, until: float) -> None:
    """tests/test_gpu.py; the row tells of a part where its time ended. Beside it other parts' steps are compiled."""
    if TESTS in s.table and "ended" not in s.table.row(TESTS)["found"]:
        return
    compiling = [begun("-m", "bench.gpu_slice", "--compile", name) for name in ([] if s.smoke else s.compiled())]
    several = ["-n", "8"] if cores() >= 8 else []  # most of their time is compiling
    without = ["-p", "no:cacheprovider", "-p", "no:benchmark"]  # a plugin there that warns of -n, and so refuses it
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as cache:
        # A cache of its own: what it compiles serves nobody, and would have to travel.
        own = {"CURATOR_NO_SKIP": "", "PYTHONUNBUFFERED": "1", "TORCHINDUCTOR_CACHE_DIR": cache}
        process = begun("-m", "pytest", "-vv", "-rN", *without, *several, TESTS, stdout=log, stderr=log, env=own)
        end = "" if ended(process, until) else ", ended by its time"
        seconds = time.monotonic() - started
        log.seek(0)
        text = log.read()
    print(text[-6000:])
    for other in compiling:
        if not ended(other, until) or other.returncode:
            print(f"compiling failed, or took too long: {other.args!r}")
    counts = {word: len(re.findall(rf" {word}\b", text)) for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    if sum(counts.values()):
        found = ", ".join(f"{count} {word.lower()}" for word, count in counts.items())
        s.report(TESTS, f"{found}, {seconds:.0f} s{end}", "all passed")


def begun(*words: str, env: dict[str, str] | None = None, **files: Any) -> subprocess.Popen:
    """Python with these words, in a session of its own, so that what it starts can be ended with it."""
    return subprocess.Popen(
        [sys.executable, *words], cwd=gpu.ROOT, env={**os.environ, **(env or {})}, start_new_session=True, **files
    )


def ended(process: subprocess.Popen, until: float) -> bool:
    """Whether the process ends by a time; if not it is killed with all that it started."""
    try:
        process.wait(max(1, until - time.monotonic()))
        return True
    except BaseException as e:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(e, subprocess.TimeoutExpired):
            return False
        raise


def hours(s: Slice, until: float) -> None:
    """The published schedule by the measured steps, with what scoring and evaluation cost besides."""
    plain, prefix, found = ProMix(), cell_name(s.net, s.batch, torch.cuda.is_available(), ""), []
    for name, row in step_table(s.results).rows().items():
        if row.get("machine") == machine() and name.startswith(prefix) and (RECORDED in name or s.smoke):
            took = float(row["seconds per step"]) * (s.rows // s.batch) * plain.epochs * gpu.OVERHEAD / 3600
            found.append((took, name.removeprefix(prefix)))
    if found:
        s.report("published schedule, hours", ", ".join(f"{took:.2f} ({name})" for took, name in sorted(found)), "0.92")


def train(s: Slice, until: float) -> None:
    """The schedule `fast`, by the quickest way to make its steps."""
    minutes = (s.ends - time.monotonic()) / 60
    chosen = quickest(s, minutes)
    print(f"fast: {minutes:.1f} minutes, {chosen}", flush=True)
    flags = [f"--{name}" for name in WAYS[chosen]]
    size = ["--epochs", "4"] if s.smoke else ["--fit-minutes", f"{minutes - 0.5:.2f}"]
    gpu.main([
        "--results", str(s.results), "--net", s.net, "--batch", str(s.batch), "train", "fast", *flags, *size,
        "--data", str(s.data), "--state", str(s.state), "--minutes", f"{minutes - 0.2:.2f}", "--every", "4",
    ])  # fmt: skip


def quickest(s: Slice, minutes: float) -> str:
    """The way that makes most steps in the minutes; what has no row on this machine is not chosen."""
    table, steps = step_table(s.results), {"recorded": 1.0}
    compiling = COMPILED if CACHE.exists() else COMPILING
    for name, way in s.ways.items():
        row = table.row(cell_name(s.net, s.fast_batch, torch.cuda.is_available(), f"fast, {name}"))
        if row.get("machine") == machine():
            left = 60 * minutes - (compiling if "compile" in way else 0)
            steps[name] = left / float(row["seconds per step"])
    return max(steps, key=steps.__getitem__)


PARTS: dict[str, Callable[[Slice, float], None]] = {
    "tests": tests, "step": step, "profile": profile, "methods": methods, "hours": hours, "features": features,
    "train": train,
}  # fmt: skip


def run(s: Slice, parts: list[str]) -> Iterator[str]:
    """The parts, each within its seconds; what breaks in one is told, and the next is made."""
    for name in parts:
        now = time.monotonic()
        if now > s.ends:
            yield f"{name}: no time is left"
            continue
        try:
            PARTS[name](s, min(s.ends, now + SECONDS.get(name, math.inf)))
            yield f"{name}: {time.monotonic() - now:.0f} s"
        except Exception as e:  # whatever a GPU does not like: the other figures count
            yield f"{name}: BROKE after {time.monotonic() - now:.0f} s: {type(e).__name__}: {e}"


def pending(results: Path) -> None:
    """Mark what no GPU has measured yet."""
    gpu.pending(results)
    s = Slice(results, 0.0)
    for name in s.ways:
        step_table(results).pending(cell_name(s.net, s.fast_batch, True, f"fast, {name}"))
    encoded = f"{s.encoder}, 224 px, images/s"
    for cell in (TESTS, f"{encoded}, decoded before", f"{encoded}, decoding", "published schedule, hours"):
        s.table.pending(cell)


def seed(results: Path) -> None:
    """Rows that are there, beside a page that lies elsewhere, so that they are not measured again."""
    for table in (step_table(results), Table(HEADING, COLUMNS, results), gpu.table_of_runs(results),
                  Table(gpu.METHOD_HEADING, gpu.METHOD_COLUMNS, results)):  # fmt: skip
        ours = RESULTS.parent / "results" / table.file.name
        if ours.exists() and not table.file.exists():
            table.file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ours, table.file)


def main(argv: list[str] | None = None) -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cpu-smoke", action="store_true")
    parser.add_argument("--compile", metavar="STEP", help="make this step once, so that what it compiles is kept")
    parser.add_argument("--pending", action="store_true", help="mark the rows that no GPU has measured, and no more")
    flags = parser.parse_args(argv)
    if flags.pending:
        return pending(flags.results)
    if not flags.cpu_smoke:  # it travels with the repository
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(CACHE)
    if flags.compile:
        batch, settings = Slice(flags.results, 0.0).cells[flags.compile]
        next(ours("resnet18", batch, **settings))
        return None
    ends = time.monotonic() + 60 * flags.minutes
    if not flags.cpu_smoke:
        seed(flags.results)
        told = [print(line, flush=True) or line for line in run(Slice(flags.results, ends), flags.parts)]
    else:
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder)
            make_up(at / "packed", 128)
            tiny: dict[str, Any] = {"net": "small", "batch": 8, "rows": 128, "images": 64, "smoke": True}
            s = Slice(at / "R.md", ends, at / "packed", at / "state", encoder="vit_tiny_patch16_224", **tiny)
            told = [print(line, flush=True) or line for line in run(s, flags.parts)]
            print((at / "R.md").read_text())
    if any("BROKE" in line for line in told):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
