"""Cells of a table that are runs of the command: one resumes from its checkpoints, a finished one is read again."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def has_data(name: str, flags: str) -> bool:
    """Whether the data that the flags need is there; if not, it is said aloud."""
    there = "$CURATOR_DATA" not in flags or bool(os.environ.get("CURATOR_DATA"))
    if not there:
        print(f"skipped: {name} (CURATOR_DATA is not set)")
    return there


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
