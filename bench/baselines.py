"""The plain methods with the `small` net: how well they find wrong labels, and how fast.

They run on digits and on 10,000 rows of CIFAR-10N worst:

    CURATOR_DATA=... python bench/baselines.py      # appends the missing rows to bench/RESULTS.md

A cell is one run of the command, which itself resumes from its checkpoints.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.table import Table, processor, today  # noqa: E402

COLUMNS = [
    "noisy P / R / F1",
    "clean F1",
    "AUROC",
    "label accuracy before → after",
    "training s",
    "images/s",
    "date",
    "machine",
    "command",
]
DATA = os.environ.get("CURATOR_DATA")
CELLS = {f"digits {m}": f"--method {m}" for m in ("ce", "mixup", "confident")}
CIFAR = "--dataset cifar10n --data-dir $CURATOR_DATA --label-noise worst --limit-rows 10000 --net small --method"
CELLS |= {f"cifar10n worst 10k {m}": f"{CIFAR} {m}" for m in ("confident", "ce", "mixup")}


def main() -> None:
    """Run the cells that have no row yet."""
    table = Table("Plain methods on 2 cores", COLUMNS)
    for cell, flags in CELLS.items():
        if cell in table:
            continue
        if "$CURATOR_DATA" in flags and not DATA:
            print(f"skipped: {cell} (CURATOR_DATA is not set)")
            continue
        output = ROOT / "runs" / "bench" / cell.replace(" ", "-")
        if not (output / "curation.json").exists():
            words = shlex.split(os.path.expandvars(flags))
            subprocess.run([sys.executable, "curator/clean.py", *words, "--output", str(output)], cwd=ROOT, check=True)
        facts = json.loads((output / "curation.json").read_text())
        m = facts["metrics"]
        table.append(cell, [
            f"{m['noisy_precision']:.3f} / {m['noisy_recall']:.3f} / {m['noisy_f1']:.3f}",
            f"{m['clean_f1']:.3f}", f"{m['auroc']:.3f}",
            f"{m['label_accuracy_before']:.3f} → {m['label_accuracy_after']:.3f}", f"{facts['seconds']:.0f}",
            f"{facts['images_per_second']:,.0f}", today(), processor(), f"`clean.py {flags}`",
        ])  # fmt: skip


if __name__ == "__main__":
    main()
