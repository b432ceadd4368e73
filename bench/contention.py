"""A run beside other programs: digits, `ce`, alone and beside a busy loop on every core, threads waiting or spinning.

    python -m bench.contention              # on idle cores; each cell is measured three times, the median counts
    python -m bench.contention smoke        # one short measurement of each, nothing written

Threads of OpenMP that wait for each other spin for a third of a millisecond before they sleep: curator sets
GOMP_SPINCOUNT before torch is loaded, unless OMP_WAIT_POLICY is set. The other rows: sleeping at once (passive), never
sleeping (active). The gate is at most 4 times the time alone, beside as many busy loops as there are cores. A run that
takes longer than two minutes is ended and counts as so long: its figures are shown with ≥.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.runs import environment
from bench.table import Table, processor, today

ROOT = Path(__file__).resolve().parent.parent
HEADING = "Beside other programs: seconds of a run on the digits"
COLUMNS = ["alone", "beside busy loops", "times as long", "runs", "date", "machine"]
POLICIES = {"a moment (default)": None, "passive": "passive", "active": "active"}
GATE = 4.0
EPOCHS, RUNS = 15, 3
LIMIT = 120.0  # seconds of a run
LOOP = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"  # it ends with who started it, even by a kill


def seconds(policy: str | None, epochs: int, limit: float = LIMIT) -> float:
    """How long the command takes, start and report included; the limit where it takes longer."""
    given = {} if policy is None else {"OMP_WAIT_POLICY": policy}
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            sys.executable,
            "curator/clean.py",
            "--method",
            "ce",
            "--epochs",
            str(epochs),
            "--output",
            f"{folder}/out",
        ]
        started = time.perf_counter()
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(argv, cwd=ROOT, check=True, env=environment(**given), capture_output=True, timeout=limit)
        return min(limit, time.perf_counter() - started)


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """So many processes that do nothing but work."""
    loops = [subprocess.Popen([sys.executable, "-c", LOOP, str(os.getpid())]) for _ in range(cores)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(policy: str | None, epochs: int, runs: int) -> tuple[float, float]:
    """Median seconds alone, and beside a busy loop on every core."""
    alone, beside = [], []
    for _ in range(runs):
        alone.append(seconds(policy, epochs))
        with busy(len(os.sched_getaffinity(0))):
            beside.append(seconds(policy, epochs))
    return statistics.median(alone), statistics.median(beside)


def main(words: list[str]) -> None:
    """Fill the rows that are missing; with "smoke", only try."""
    smoke = words == ["smoke"]
    table = Table(HEADING, COLUMNS)
    for name, policy in POLICIES.items():
        if name in table and not smoke:
            continue
        alone, beside = measure(policy, 1 if smoke else EPOCHS, 1 if smoke else RUNS)
        least = "≥ " * (beside >= LIMIT)
        shown = [f"{'≥ ' * (alone >= LIMIT)}{alone:.1f}", f"{least}{beside:.1f}", f"{least}{beside / alone:.1f}"]
        print(f"{name}: {shown[0]} s alone, {shown[1]} s beside: {shown[2]} times as long (gate {GATE:g})")
        if not smoke:
            shown.append(str(RUNS))
            table.append(name, [*shown, today(), processor()])


if __name__ == "__main__":
    main(sys.argv[1:])
