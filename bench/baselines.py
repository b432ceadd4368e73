"""The methods with the `small` net: how well they find wrong labels, and how fast.

They run on digits and on 10,000 rows of CIFAR-10N worst:

    CURATOR_DATA=... python -m bench.baselines      # appends the missing rows to bench/RESULTS.md
"""

from bench.runs import finished_run, has_data
from bench.table import Table, processor, today

COLUMNS = [
    "noisy P / R / F1", "clean F1", "AUROC", "label accuracy before → after", "training s", "images/s", "date",
    "machine", "command",
]  # fmt: skip
CIFAR = "--dataset cifar10n --data-dir $CURATOR_DATA --label-noise worst --limit-rows 10000 --net small --method"
METHODS = ("ce", "mixup", "confident", "promix")
CELLS = {f"digits {m}": f"--method {m}" for m in (*METHODS, "dividemix", "cpc", "bootstrap")}
CELLS |= {f"cifar10n worst 10k {m}": f"{CIFAR} {m}" for m in METHODS}


def main() -> None:
    """Run the cells that have no row yet."""
    table = Table("Methods on 2 cores", COLUMNS)
    for cell, flags in CELLS.items():
        if cell in table or not has_data(cell, flags):
            continue
        facts = finished_run(cell, flags)
        m = facts["metrics"]
        table.append(cell, [
            f"{m['noisy_precision']:.3f} / {m['noisy_recall']:.3f} / {m['noisy_f1']:.3f}",
            f"{m['clean_f1']:.3f}", f"{m['auroc']:.3f}",
            f"{m['label_accuracy_before']:.3f} → {m['label_accuracy_after']:.3f}", f"{facts['seconds']:.0f}",
            f"{facts['images_per_second']:,.0f}", today(), processor(), f"`clean.py {flags}`",
        ])  # fmt: skip


if __name__ == "__main__":
    main()
