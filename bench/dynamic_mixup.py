"""What random weights do in dynamic mixing: the question that the reproduction of M-DYR-SH leaves open.

    CURATOR_DATA=... python -m bench.dynamic_mixup          # two cells at a time, one a core; resumes seed by seed
    CURATOR_DATA=... python -m bench.dynamic_mixup plot     # the picture again

MD-DYR-SH mixes two rows by weights that follow from how likely their labels are wrong: by equation 9 itself (ratio),
by a draw of Beta(p, 1 - p), or by a ratio of two binomial draws. The reproduction reports one run each, and 73 against
57 % at 90 % noise, though the binomial draw differs from the ratio by a deviation of .004. Here: five seeds each, under
symmetric noise of 80 and 90 % (redrawn over all classes: 72 and 81 % wrong), on the digits from scratch and on frozen
features of all 50,000 rows of CIFAR-10 (those of bench/arena.py). Labels are mixed half and half as published; the last
weights mix labels as inputs. Settings are those of the recipes digits-bootstrap and features-bootstrap for all.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.arena import FEATURES, cell
from bench.cleaners import of_digits, of_features
from bench.runs import Cores, finished_run, has_data, measured_alone, run_folder
from bench.table import Table, processor, today

WEIGHTS = {
    "ratio": {"weights": "ratio"},
    "beta": {"weights": "beta"},
    "binomial": {"weights": "binomial"},
    "ratio, labels as inputs": {"weights": "ratio", "label_weight": "input"},
}
NOISES = ("sym:0.8", "sym:0.9")
SEEDS = (1, 2, 3, 4, 5)
COLUMNS = [
    "label accuracy: mean", "±", "least", "most", "accuracy of the net: mean", "net ±", "AUROC", "date", "machine",
]  # fmt: skip
HEADING = "Dynamic mixing: what draws around equation 9 do, five seeds"
PLOT = Path(__file__).with_name("dynamic_mixup.png")


def main() -> None:
    """Fill the cells that have no row yet, then draw the picture."""
    table, cores = Table(HEADING, COLUMNS), Cores()
    datasets = ["digits", *(["CIFAR-10 features"] if has_data("dynamic mixing on CIFAR-10", FEATURES) else [])]
    if len(datasets) > 1:
        finished_run(*cell("worst", "ce", 1))  # its features are read
    jobs = {
        (data, noise, name): [cores.submit(one, data, noise, name, seed) for seed in SEEDS]
        for data in datasets
        for noise in NOISES
        for name in WEIGHTS
    }
    for (data, noise, name), runs in jobs.items():
        found = [run.result() for run in runs]
        if f"{data} {noise} {name}" not in table:
            after, net, auroc = ([run[key] for run in found] for key in ("after", "net", "auroc"))
            table.append(f"{data} {noise} {name}", [
                f"{statistics.mean(after):.3f}", f"{statistics.stdev(after):.3f}", f"{min(after):.3f}",
                f"{max(after):.3f}", f"{statistics.mean(net):.3f}", f"{statistics.stdev(net):.3f}",
                f"{statistics.mean(auroc):.3f}", today(), processor(),
            ])  # fmt: skip
    if len(datasets) > 1:  # the picture is of both
        plot(datasets)


def kept(data: str, noise: str, name: str, seed: int) -> Path:
    """Where the figures of a run lie."""
    folder = run_folder(f"dynamic {data} {noise} {name} {seed}")
    return folder.with_name(f"{folder.name}.json")


def one(data: str, noise: str, name: str, seed: int, core: int) -> dict[str, Any]:
    """The figures of a run, measured now in a process of its own, or before."""
    return measured_alone(__file__, ["cell", data, noise, name, str(seed)], kept(data, noise, name, seed), core)


def measure(data: str, noise: str, name: str, seed: int) -> None:
    """Train with the weights in this process and keep its figures."""
    import torch
    from sklearn.metrics import roc_auc_score

    from curator.config.resolve import resolve
    from curator.engine.run import Run
    from curator.system import write_text

    torch.set_num_threads(1)
    given: dict[str, Any] = {"recipe": "digits-bootstrap" if data == "digits" else "features-bootstrap"}
    given |= {} if data == "digits" else {"features_column": "features"}
    given |= {"method.target": "annealed", "method.mix": "dynamic"}
    resolved = resolve({**given, **{f"method.{key}": value for key, value in WEIGHTS[name].items()}})
    rows, truth = of_digits(noise, seed) if data == "digits" else of_features(noise, seed)
    run = Run(seed=seed, net=str(resolved.settings.net), views=resolved.settings.views())
    for found in resolved.method(rows, run):  # noqa: B007 (the last one is the result)
        run.close_epoch()
    wrong = rows.labels.numpy() != truth
    figures = {
        "after": float((found.corrected.numpy() == truth).mean()),
        "net": float((found.probs.argmax(1).numpy() == truth).mean()),
        "auroc": float(roc_auc_score(~wrong, found.clean_score.numpy())),
    }
    path = kept(data, noise, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(figures))


def plot(datasets: list[str]) -> None:
    """Label accuracy of every seed, a panel a dataset and noise."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.6 * len(datasets)), layout="constrained")
    panels = figure.subplots(len(datasets), len(NOISES), squeeze=False, sharey=True)
    for row, data in zip(panels, datasets, strict=True):
        for axes, noise in zip(row, NOISES, strict=True):
            for place, name in enumerate(WEIGHTS):
                found = [json.loads(kept(data, noise, name, seed).read_text())["after"] for seed in SEEDS]
                axes.plot(found, [place] * len(found), "o", alpha=0.6)
                axes.plot(statistics.mean(found), place, "k|", markersize=18)
            axes.set(title=f"{data}, {noise}", xlabel="label accuracy after, one point a seed")
            axes.set_yticks(range(len(WEIGHTS)), list(WEIGHTS))
            axes.margins(y=0.2)
            axes.grid(alpha=0.3)
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    if sys.argv[1:2] == ["plot"]:
        plot(["digits", "CIFAR-10 features"])
    elif sys.argv[1:2] == ["cell"]:
        measure(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        main()
