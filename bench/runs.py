"""Cells of a table that are runs of the command: one resumes from its checkpoints, a finished one is read again."""

from __future__ import annotations

import json
import os
import queue
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """This process's and more, without what says how threads work: importing curator sets some of it for its own."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))} | more


def has_data(name: str, flags: str) -> bool:
    """Whether the data that the flags need is there; if not, it is said aloud."""
    there = "$CURATOR_DATA" not in flags or bool(os.environ.get("CURATOR_DATA"))
    if not there:
        print(f"skipped: {name} (CURATOR_DATA is not set)")
    return there


class Cores:
    """A pool that runs one job on every core; a job is a function whose last argument is its core."""

    def __init__(self) -> None:
        self.free: queue.Queue[int] = queue.Queue()
        for core in sorted(os.sched_getaffinity(0)):
            self.free.put(core)
        self.pool = ThreadPoolExecutor(self.free.qsize())

    def submit(self, work: Callable[..., dict[str, Any]], *args) -> Future[dict[str, Any]]:
        """Run work(*args, core) when a core is free."""

        def job() -> dict[str, Any]:
            core = self.free.get()
            try:
                return work(*args, core)
            finally:
                self.free.put(core)

        return self.pool.submit(job)


def finished_run(name: str, flags: str, core: int | None = None) -> dict[str, Any]:
    """The curation.json of `clean.py flags`, run now on one core or all of them, or run before."""
    output = run_folder(name)
    if not (output / "curation.json").exists():
        words = shlex.split(os.path.expandvars(flags))
        argv = [sys.executable, "curator/clean.py", *words, "--output", str(output)]
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        subprocess.run([*pinned, *argv], cwd=ROOT, check=True)
    return json.loads((output / "curation.json").read_text())


def run_folder(name: str) -> Path:
    """Where the run of a cell lies."""
    return ROOT / "runs" / "bench" / name.replace(" ", "-").replace(":", "")


def on_every_core(module: str, *words: str) -> None:
    """Run `python -m MODULE part I N WORDS` for every I of N cores, each on its own, until all have ended."""
    cores = sorted(os.sched_getaffinity(0))
    argv = [sys.executable, "-m", module, "part"]
    parts = [
        subprocess.Popen(["taskset", "-c", str(core), *argv, str(i), str(len(cores)), *words], cwd=ROOT)
        for i, core in enumerate(cores)
    ]
    if any([part.wait() for part in parts]):
        raise SystemExit("a part failed")


def measured_alone(script: str, words: list[str], path: Path, core: int) -> dict[str, Any]:
    """What the script, called with the words, leaves as JSON in the file; run now on one core, or run before."""
    if not path.exists():
        argv = ["taskset", "-c", str(core), sys.executable, "-m", f"bench.{Path(script).stem}", *words]
        subprocess.run(argv, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return json.loads(path.read_text())
