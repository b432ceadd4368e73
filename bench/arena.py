"""The arena: every method and its peers side by side, on the same frozen features of all rows of CIFAR-10N.

    pip install 'label-curator[bench]'
    CURATOR_DATA=... python -m bench.arena          # two cells at a time, one a core; resumes cell by cell
    CURATOR_DATA=... python -m bench.arena only posterior ce    # the rows of these methods only
    CURATOR_DATA=... python -m bench.arena plot     # the picture again
    CURATOR_DATA=... python -m bench.arena lite2    # the set worst on EfficientNet-Lite2; also `lite2 only ...`

Features: EfficientNet-Lite0 (or Lite2) at 128 px, pooled to 1,280 numbers. Every cell is three seeds; for
DivideMix, its cleaners and bootstrapping on rand1 and aggre one. Ours are runs of the command with the recipes
features-METHOD.yaml (dividemix is the cleaner gmm_agn, cpc is cpc_awr, bootstrap M-DYR-H with a Beta mixture); an
ensemble is the mean of its members' runs of one seed (which is what `--ensemble` gives) in the sum of their times.
The peers read features.npy of such a run. With verified rows (a share of all, drawn by class) stand PUDistill and
ProMix; figures are of the other rows.

Hyperparameters, the peers' regularisation among them, were chosen on the label sets rand2 and rand3 and on the worse of
the two labels of each row, never on the sets of the table, and are the same for all sets; those of `posterior` on the
ordinary datasets of bench/everyday.py, with a look at worst and aggre. (The images are the same, and worst and aggre
were made from the labels of rand1, rand2 and rand3.) Seconds: ours are the training, without the last scoring of all
rows (up to 3 s); the peers' are from features to verdict.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.runs import Cores, finished_run, has_data, measured_alone, run_folder
from bench.table import Table, processor, today
from curator.methods import METHODS

SETS = ("worst", "rand1", "aggre")
LITE2 = "lite2 worst"  # the label set worst on the features of the larger net, in a table of its own
SEEDS = (1, 2, 3)
ENSEMBLES = ("promix+confident",)
PEERS = ("cleanlab", "k-NN vote")
VARIANTS = {f"cpc {name}": f"--method cpc --method.cleaner {name}" for name in ("gmm_awr", "cpc_agn")}
VARIANTS |= {
    "bootstrap soft": "--method bootstrap --method.target soft",
    "bootstrap gaussian": "--method bootstrap --method.mixture gaussian",
    "bootstrap soft gaussian": "--method bootstrap --method.target soft --method.mixture gaussian",
}
VARIANTS |= {f"{name}+": f"--recipe features-{name}:plus" for name in ("elr", "sop")}
VERIFIED = {  # a share of the rows verified; promix is the best of the methods that need none
    f"{name}, {share:.0%} verified": f"--method {name} --verified {share}"
    for share in (0.01, 0.1)
    for name in ("pudistill", "promix")
}
VARIANTS |= VERIFIED
OURS = (*(name for name in METHODS if name != "pudistill"), *VARIANTS)  # without verified rows it refuses
ONE_SEED = ("dividemix", "cpc", "bootstrap", "linear", *VARIANTS)  # on the sets where less is wrong
FEATURES = "--dataset cifar10n --data-dir $CURATOR_DATA --backbone bench.backbones:efficientnet_lite0"
COLUMNS = [
    "noisy P / R / F1", "F1 ±", "clean P / R / F1", "AUROC", "average precision", "label accuracy before → after",
    "accuracy ±", "seconds", "date", "machine",
]  # fmt: skip
HEADING = "Arena: CIFAR-10N, 50,000 rows, frozen features of EfficientNet-Lite0, one core a run, three seeds"
HEADING_LITE2 = "Arena: the same on EfficientNet-Lite2, worst labels"
PLOT = Path(__file__).with_name("arena.png")


def main(only: Iterable[str] = (), lite2: bool = False) -> None:
    """Fill the cells that have no row yet (of these methods, if any are named), then draw the picture."""
    if not has_data("arena", FEATURES):
        return
    table = Table(HEADING_LITE2 if lite2 else HEADING, COLUMNS)
    cores = Cores()
    if lite2:  # once; on one core, as all runs: whether the net is compiled, and so what is kept, hangs on their number
        finished_run("arena lite2 features", f"{cell(LITE2, 'ce', 1)[1]} --method.epochs 1", core=0)
    else:
        extract()
    for labels in (LITE2,) if lite2 else SETS:

        def missing(names: Iterable[str], labels: str = labels) -> list[str]:
            return [name for name in names if f"{labels} {name}" not in table and (not only or name in only)]

        for work, names in ((our_run, OURS), (peer_run, PEERS)):  # peers read what ours have written
            jobs = {
                name: [cores.submit(work, labels, name, seed) for seed in seeds(labels, name)]
                for name in missing(names)
            }
            for name, futures in jobs.items():
                add(table, labels, name, [future.result() for future in futures])
        for name in missing(ENSEMBLES):
            add(table, labels, name, [ensemble_of(labels, name.split("+"), seed) for seed in SEEDS])
    if not lite2:
        plot(table)


def seeds(labels: str, name: str) -> tuple[int, ...]:
    """Three on worst; one of some methods on the others, and of the default on Lite0 so far."""
    if name == "posterior" and labels != LITE2:
        return SEEDS[:1]
    return SEEDS if labels in ("worst", LITE2) or name not in ONE_SEED else SEEDS[:1]


def extract() -> None:
    """Compute the features once, on all cores: every later run finds them kept, but where it pays to compile the net.

    Timed only where none was kept before; remove the folder to measure it again.
    """
    from curator.system import cache_folder

    cold = not any(cache_folder("features").glob("*/*.npy"))
    table = Table("Frozen features", ["images", "seconds, the whole command", "images/s", "date", "machine"])
    name = "EfficientNet-Lite0, 128 px"
    if name in table and not cold:
        return
    started = time.perf_counter()
    finished_run("arena features", f"{FEATURES} --label-noise worst --method ce --method.epochs 1")
    seconds = time.perf_counter() - started
    if cold and name not in table:
        table.append(name, ["60,000", f"{seconds:.0f}", f"{60_000 / seconds:.0f}", today(), processor()])


def cell(labels: str, method: str, seed: int) -> tuple[str, str]:
    """Name and flags of one run of ours."""
    features = FEATURES.replace("lite0", "lite2") if labels == LITE2 else FEATURES
    noise = labels.removeprefix("lite2 ")
    chosen = VARIANTS.get(method, f"--method {method}")
    flags = f"{features} --no-guard --label-noise {noise} --seed {seed} {chosen}"  # what the methods find themselves
    return f"arena {labels} {method} {seed}", flags


def our_run(labels: str, method: str, seed: int, core: int) -> dict[str, Any]:
    """Metrics and seconds of a run of the command."""
    facts = finished_run(*cell(labels, method, seed), core)
    return {**facts["metrics"], "seconds": facts["seconds"]}


def peer_run(labels: str, peer: str, seed: int, core: int) -> dict[str, Any]:
    """Metrics and seconds of a peer on the features of one of our runs; kept, so that a cut-off bench goes on."""
    kept = run_folder(f"arena {labels} {peer} {seed}.json")
    return measured_alone(__file__, ["peer", labels, peer, str(seed), str(kept)], kept, core)


def measure_peer(labels: str, peer: str, seed: int, kept: Path) -> None:
    """Run a peer in this process and keep its figures; its seconds are from features to verdict."""
    import torch

    from bench.peers import cleanlab_probe, knn_vote, of_run
    from curator.system import write_text

    torch.set_num_threads(1)
    data, truth = of_run(run_folder(f"arena {labels} ce {seed}"))
    started = time.perf_counter()
    found = cleanlab_probe(data, seed) if peer == "cleanlab" else knn_vote(data)
    seconds = time.perf_counter() - started
    write_text(kept, json.dumps({**measured(found, data, truth), "seconds": seconds}))


def ensemble_of(labels: str, names: list[str], seed: int) -> dict[str, Any]:
    """Metrics of the mean of the members' finished runs, in the sum of their seconds."""
    import numpy as np
    import torch
    from datasets import load_dataset

    from bench.peers import of_run
    from curator.evidence import evidence
    from curator.methods.ensemble import mean_evidence

    folders = [run_folder(cell(labels, name, seed)[0]) for name in names]
    data, truth = of_run(folders[0])
    found = []
    for folder in folders:
        rows = load_dataset(str(folder), split="train").with_format("numpy", ["teacher_soft_label", "clean_score"])
        probs, score = (torch.from_numpy(np.stack(rows[:][name])) for name in ("teacher_soft_label", "clean_score"))
        found.append(evidence(probs, data, clean_score=score))
    seconds = sum(our_run(labels, name, seed, 0)["seconds"] for name in names)
    return {**measured(mean_evidence(found, data), data, truth), "seconds": seconds}


def measured(found, data, truth) -> dict[str, Any]:
    """The metrics of curation.json."""
    import numpy as np

    from curator.result.columns import columns_of
    from curator.result.metrics import metrics

    given, trusted = data.labels.numpy(), data.trusted.numpy()
    return metrics(columns_of(found, given, trusted, np.arange(len(given))), given, truth, trusted)


def add(table: Table, labels: str, name: str, runs: list[dict[str, Any]]) -> None:
    """Append the row of a method's runs, unless it is there; a deviation needs two."""
    if f"{labels} {name}" in table:
        return

    def spread(values: list[float]) -> str:
        return f"{statistics.stdev(values):.4f}" if len(values) > 1 else "–"

    def mean(key: str) -> float:
        return statistics.mean(run[key] for run in runs)

    def three(kind: str) -> str:
        return " / ".join(f"{mean(f'{kind}_{key}'):.3f}" for key in ("precision", "recall", "f1"))

    f1, after = ([run[key] for run in runs] for key in ("noisy_f1", "label_accuracy_after"))
    table.append(f"{labels} {name}", [
        three("noisy"), spread(f1), three("clean"), f"{mean('auroc'):.3f}",
        f"{mean('average_precision'):.3f}", f"{mean('label_accuracy_before'):.3f} → {statistics.mean(after):.3f}",
        spread(after), f"{mean('seconds'):.0f}", today(), processor(),
    ])  # fmt: skip


def plot(table: Table) -> None:
    """F1 for wrong labels of every method, a panel a label set, from the rows of the table; seconds stand beside."""
    from matplotlib.figure import Figure

    def f1(labels: str, name: str) -> float:
        return float(table.row(f"{labels} {name}")["noisy P / R / F1"].split(" / ")[2])

    measured = [name for name in (*OURS, *ENSEMBLES, *PEERS) if table.row(f"{SETS[0]} {name}")]
    order = sorted(measured, key=lambda name: f1(SETS[0], name))
    figure = Figure(figsize=(12, 0.8 + 0.32 * len(order)), layout="constrained")
    for axes, labels in zip(figure.subplots(1, len(SETS), sharey=True), SETS, strict=True):
        for place, name in enumerate(order):
            row = table.row(f"{labels} {name}")
            if not row:
                continue
            spread = float(row["F1 ±"].replace("–", "0"))
            colour = "tab:gray" if name in PEERS else "tab:green" if name in VERIFIED else "tab:blue"
            axes.errorbar(f1(labels, name), place, xerr=spread, fmt="s" if name in PEERS else "o", color=colour)
            axes.text(1.01, place, f"{row['seconds']} s", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        axes.set(title=f"CIFAR-10N {labels}", xlabel="F1 for wrong labels")
        axes.set_yticks(range(len(order)), order)
        axes.margins(x=0.1)
        axes.grid(alpha=0.3)
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    if sys.argv[1:2] == ["plot"]:
        plot(Table(HEADING, COLUMNS))
    elif sys.argv[1:2] == ["peer"]:
        measure_peer(sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
    else:
        lite2, words = sys.argv[1:2] == ["lite2"], [word for word in sys.argv[1:] if word != "lite2"]
        main(words[1:] if words[:1] == ["only"] else (), lite2)
