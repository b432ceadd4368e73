"""What each part of ProMix is worth on digits: the rows of the paper's ablation (its Table 5), two seeds.

As in the paper, every row below the second is also without LGA. The last row is about the engine: selected rows are
repeated to fill the batch, which changes BatchNorm's statistics.

    python -m bench.ablation      # appends the missing rows to bench/RESULTS.md
"""

from __future__ import annotations

import statistics

from bench.runs import Cores, finished_run
from bench.table import Table, processor, today

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
SEEDS = (1, 2)  # of the noise and of the nets
DIGITS = "--dataset digits --label-noise sym:0.5 --method.filter-rate 0.5"


def main() -> None:
    """Run the rows that are not there yet, one run on every core."""
    columns = ["noisy F1", "label accuracy after", "training s of one run on one core", "date", "machine", "flags"]
    table = Table("Ablation of ProMix on digits, sym:0.5", columns)
    missing = {name: f"{DIGITS} {flags}" for name, flags in ROWS.items() if name not in table}
    cores = Cores()
    runs = {
        name: [cores.submit(finished_run, f"ablation {name} {seed}", f"{flags} --seed {seed}") for seed in SEEDS]
        for name, flags in missing.items()
    }
    for name, futures in runs.items():
        found = [future.result() for future in futures]
        f1, after = ([facts["metrics"][key] for facts in found] for key in ("noisy_f1", "label_accuracy_after"))
        table.append(name, [
            spread(f1), spread(after), f"{statistics.mean(facts['seconds'] for facts in found):.0f}", today(),
            processor(), f"`{' '.join(missing[name].split())} --seed 1, 2`",
        ])  # fmt: skip


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
