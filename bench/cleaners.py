"""The four cleaners side by side: how well each tells clean from noisy rows, epoch by epoch (CPC, figure 3).

    CURATOR_DATA=... python -m bench.cleaners          # two cells at a time, one a core; resumes cell by cell
    CURATOR_DATA=... python -m bench.cleaners plot     # the picture again

A cell is one training with one cleaner: on the digits from scratch, and on frozen features of all 50,000 rows of
CIFAR-10 (those of bench/arena.py), under symmetric noise of 80 % and asymmetric noise of 40 %. The figure of an epoch
is the AUC, for clean rows against noisy ones, of the cleaner's score: the mean over both nets of the mixture's
posterior, or of the prototypes' score. Settings are those of the recipes digits-cpc and features-cpc for all four, so
that only the cleaner differs; they were chosen on other noise, and not changed after this was seen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.arena import FEATURES, cell
from bench.runs import Cores, finished_run, has_data, measured_alone, run_folder
from bench.table import Table, processor, today

CLEANERS = ("gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr")
NOISES = ("sym:0.8", "asym:0.4")
SEED = 1
COLUMNS = ["AUC after warm-up", "half-way", "last epoch", "label accuracy before → after", "seconds", "date", "machine"]
HEADING = "Cleaners: AUC of clean against noisy rows"
PLOT = Path(__file__).with_name("cleaners.png")


def main() -> None:
    """Fill the cells that have no row yet, then draw the picture."""
    table, cores = Table(HEADING, COLUMNS), Cores()
    datasets = ["digits", *(["CIFAR-10 features"] if has_data("cleaners on CIFAR-10", FEATURES) else [])]
    if len(datasets) > 1:
        finished_run(*cell("worst", "ce", 1))  # its features are read
    jobs = {
        (data, noise, cleaner): cores.submit(one, data, noise, cleaner)
        for data in datasets
        for noise in NOISES
        for cleaner in CLEANERS
    }
    for (data, noise, cleaner), job in jobs.items():
        found, name = job.result(), f"{data} {noise} {cleaner}"
        if name not in table:
            auc = found["auc"]
            places = [found["warmup"] - 1, (found["warmup"] + len(auc)) // 2, len(auc) - 1]
            accuracy = f"{found['before']:.3f} → {found['after']:.3f}"
            shown = [f"{auc[i]:.3f}" for i in places]
            table.append(name, [*shown, accuracy, f"{found['seconds']:.0f}", today(), processor()])
    if len(datasets) > 1:  # the picture is of both
        plot(datasets)


def kept(data: str, noise: str, cleaner: str) -> Path:
    """Where the figures of a cell lie."""
    folder = run_folder(f"cleaners {data} {noise} {cleaner}")
    return folder.with_name(f"{folder.name}.json")  # the noise has a dot


def one(data: str, noise: str, cleaner: str, core: int) -> dict[str, Any]:
    """The figures of a cell, measured now in a process of its own, or before."""
    return measured_alone(__file__, ["cell", data, noise, cleaner], kept(data, noise, cleaner), core)


def measure(data: str, noise: str, cleaner: str) -> None:
    """Train with a cleaner in this process and keep the AUC of every epoch."""
    import time

    import torch
    from sklearn.metrics import roc_auc_score

    from curator.config.resolve import resolve
    from curator.engine.run import Run
    from curator.methods.dividemix import DivideMix

    torch.set_num_threads(1)
    recipe = "digits-cpc" if data == "digits" else "features-cpc"
    frozen = {} if data == "digits" else {"features_column": "features"}
    resolved = resolve({"recipe": recipe, "method.cleaner": cleaner, "method.p_threshold": 0.5, **frozen})
    rows, truth = of_digits(noise) if data == "digits" else of_features(noise)
    clean = rows.labels.numpy() == truth
    run = Run(seed=SEED, net=str(resolved.settings.net), views=resolved.settings.views())
    method, auc, started = resolved.method, [], time.perf_counter()
    assert isinstance(method, DivideMix)
    for found in method(rows, run):
        run.close_epoch()
        auc.append(float(roc_auc_score(clean, found.clean_score.numpy())))
    figures = {
        "auc": auc[: method.epochs], "warmup": method.warmup, "before": float(clean.mean()),
        "after": float((found.corrected.numpy() == truth).mean()), "seconds": time.perf_counter() - started,
    }  # fmt: skip
    path = kept(data, noise, cleaner)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures))


def of_digits(noise: str, seed: int = SEED):
    """The digits as the command reads them, with other noise, and their truth."""
    from curator.config.resolve import resolve
    from curator.sources.load import load
    from curator.sources.read import read

    resolved = resolve({"label_noise": noise, "seed": seed})
    table = load(resolved.settings)
    return read(resolved, table).data, table.truth


def of_features(noise: str, seed: int = SEED):
    """The features of a run of the arena with other noise, and their truth."""
    import torch

    from bench.peers import of_run
    from curator.evidence import NoisyDataset
    from curator.sources.noise import inject, parse_noise

    data, truth = of_run(run_folder(cell("worst", "ce", 1)[0]))
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    parsed = parse_noise(noise)
    assert parsed is not None, noise
    labels = torch.from_numpy(inject(truth, names, *parsed, seed, None))
    return NoisyDataset(data.inputs, labels, names, data.trusted, data.rows), truth


def plot(datasets: list[str]) -> None:
    """AUC over the epochs, a panel a dataset and noise."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8 * len(datasets)), layout="constrained")
    panels = figure.subplots(len(datasets), len(NOISES), squeeze=False)
    for row, data in zip(panels, datasets, strict=True):
        for axes, noise in zip(row, NOISES, strict=True):
            for cleaner, colour in zip(CLEANERS, ("tab:gray", "tab:orange", "tab:blue", "tab:red"), strict=True):
                found = json.loads(kept(data, noise, cleaner).read_text())
                auc, start = found["auc"], found["warmup"] - 1
                axes.plot(range(start, len(auc)), auc[start:], color=colour, label=cleaner)
            axes.set(title=f"{data}, {noise}", xlabel="epoch", ylabel="AUC of clean against noisy")
            axes.grid(alpha=0.3)
            axes.legend()
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    if sys.argv[1:2] == ["plot"]:
        plot(["digits", "CIFAR-10 features"])
    elif sys.argv[1:2] == ["cell"]:
        measure(*sys.argv[2:5])
    else:
        main()
