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


def finished_run(name: str, flags: str) -> dict[str, Any] | None:
    """The curation.json of `clean.py flags`; None, said aloud, when the data it needs is not there."""
    if "$CURATOR_DATA" in flags and not os.environ.get("CURATOR_DATA"):
        print(f"skipped: {name} (CURATOR_DATA is not set)")
        return None
    output = run_folder(name)
    if not (output / "curation.json").exists():
        words = shlex.split(os.path.expandvars(flags))
        subprocess.run([sys.executable, "curator/clean.py", *words, "--output", str(output)], cwd=ROOT, check=True)
    return json.loads((output / "curation.json").read_text())


def run_folder(name: str) -> Path:
    """Where the run of a cell lies."""
    return ROOT / "runs" / "bench" / name.replace(" ", "-").replace(":", "-")
