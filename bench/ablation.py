"""What each part of ProMix is worth on digits: the rows of the paper's ablation (its Table 5), three seeds.

As in the paper, every row below the second is also without LGA. The last row is about the engine: selected rows are
repeated to fill the batch, which changes BatchNorm's statistics.

    python bench/ablation.py      # appends the missing rows to bench/RESULTS.md
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.runs import finished_run  # noqa: E402
from bench.table import Table, processor, today  # noqa: E402

NO_LGA = "--method.lga-epochs 0"
ROWS = {
    "full": "",
    "without LGA": NO_LGA,
    "without MHCS": f"{NO_LGA} --method.no-mhcs",
    "without base selection": f"{NO_LGA} --method.base-selection none",
    "without CBR (pseudo head)": f"{NO_LGA} --method.no-auxiliary-head",
    "without DBR (debiasing)": f"{NO_LGA} --method.alpha 0",
    "only clean rows": f"{NO_LGA} --method.lambda-u 0",
    "full, subset: pad": "--method.subset pad",
}
NOISES = ("sym:0.3", "sym:0.6")
SEEDS = (1, 2, 3)


def main() -> None:
    """Run the rows that are not there yet."""
    columns = ["noisy F1", "label accuracy after", "training s of one", "date", "machine", "flags"]
    table = Table("Ablation of ProMix on digits", columns)
    for noise in NOISES:
        for name, flags in ROWS.items():
            cell = f"{noise} {name}"
            if cell in table:
                continue
            rate = "" if noise == "sym:0.3" else "--method.filter-rate 0.4"  # R follows the share of right labels
            full = f"--dataset digits --label-noise {noise} {rate} {flags}"
            runs = [finished_run(f"ablation {cell} {seed}", f"{full} --seed {seed}") for seed in SEEDS]
            found = [run for run in runs if run is not None]
            f1, after = ([run["metrics"][key] for run in found] for key in ("noisy_f1", "label_accuracy_after"))
            table.append(cell, [
                spread(f1), spread(after), f"{statistics.mean(run['seconds'] for run in found):.0f}", today(),
                processor(), f"`{' '.join(full.split())} --seed 1, 2, 3`",
            ])  # fmt: skip


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
