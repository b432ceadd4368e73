"""PUDistill: is it flat over noise, and what do its ensembles cost?

    CURATOR_DATA=... python -m bench.pudistill          # two cells at a time, one a core; resumes cell by cell
    CURATOR_DATA=... python -m bench.pudistill plot     # the picture again
    python -m bench.pudistill speed                     # one pass or a loop, alone: what a GPU machine can measure

Flat over noise: on the digits (every fifth row held out as test set) and on frozen features of all of CIFAR-10 (those
of bench/arena.py; its test set), a tenth of the rows verified, asymmetric and symmetric noise of 30 to 90 % on the
others. Beside it stands `ce`, `ce` on the verified rows alone, and at 90 % asymmetric noise every method that uses no
verified rows. Settings are those of the recipes, the same at all noise. Stage 1 reads no noisy label, so it is made
once a dataset and kept.

Cost: forward passes of rows (training counts three) against those of the released procedure of the same size, which
scores all rows in every round and tests every net after each of its epochs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.arena import FEATURES
from bench.runs import Cores, has_data, measured_alone, run_folder
from bench.table import Table, processor, today

RATES = (0.3, 0.5, 0.7, 0.9)
NOISES = tuple(f"{kind}:{rate}" for kind in ("asym", "sym") for rate in RATES)
HARDEST = "asym:0.9"
WITHOUT = ("promix", "dividemix", "cpc", "bootstrap", "confident", "mixup")  # at the hardest noise, besides ce
SEED = 1
COLUMNS = ["test accuracy", "label accuracy before → after", "noisy F1", "seconds", "date", "machine"]
FLAT = "PUDistill: flat over noise, a tenth of the rows verified, one seed"
COST_COLUMNS = ["forward passes, millions", "of the released procedure's", "seconds", "date", "machine"]
COST = "PUDistill: what stage 1 costs"
SPEED_COLUMNS = ["one pass, seconds a step", "a loop", "ratio", "largest difference of logits", "date", "machine"]
SPEED = "PUDistill: members in one pass or one after another, batches of 128"
PLOT = Path(__file__).with_name("pudistill.png")


def main() -> None:
    """Fill the cells that have no row yet, then draw the picture."""
    speed()
    flat()
    cost()


def flat() -> None:
    """The table of accuracies over noise, and its picture."""
    table, cores = Table(FLAT, COLUMNS), Cores()
    datasets = [*(["CIFAR-10 features"] if has_data("PUDistill on CIFAR-10", FEATURES) else []), "digits"]
    cells = [
        (data, noise, method)
        for data in datasets
        for noise in NOISES
        for method in ("pudistill", "ce", *(("verified rows alone", *WITHOUT) if noise == HARDEST else ()))
    ]
    jobs = {c: cores.submit(one, *c) for c in cells if " ".join(c) not in table}
    for (data, noise, method), job in jobs.items():
        found = job.result()
        labels = f"{found['before']:.3f} → {found['after']:.3f}"
        table.append(f"{data} {noise} {method}", [
            f"{found['test']:.4f}", labels, f"{found['f1']:.3f}", f"{found['seconds']:.0f}", today(), processor(),
        ])  # fmt: skip
    if len(datasets) > 1:  # the picture is of both
        plot(table)


def one(data: str, noise: str, method: str, core: int) -> dict[str, Any]:
    """The figures of a cell, measured now in a process of its own, or before."""
    folder = run_folder(f"pudistill {data} {noise} {method}")
    path = folder.with_name(f"{folder.name}.json")
    return measured_alone(__file__, ["cell", data, noise, method, str(path)], path, core)


def measure(data: str, noise: str, method: str, path: Path) -> None:
    """Train in this process and keep the figures."""
    import torch

    from curator.config.resolve import resolve
    from curator.engine.run import Run
    from curator.result.metrics import precision_recall_f1
    from curator.system import write_text

    torch.set_num_threads(1)
    rows, given, truth, test, test_labels, content = (of_digits if data == "digits" else of_features)(noise)
    name = "ce" if method == "verified rows alone" else method
    frozen = {} if data == "digits" else {"features_column": "features"}
    resolved = resolve({"recipe": f"{'digits' if data == 'digits' else 'features'}-{name}", **frozen})
    run = Run(seed=SEED, net=str(resolved.settings.net), content=content, views=resolved.settings.views())
    learned = rows
    if method == "verified rows alone":
        learned = subset(rows, rows.trusted)
    elif method != "pudistill":
        learned = replace(rows, trusted=torch.zeros_like(rows.trusted), labels=given)  # no verified label
    started = time.perf_counter()
    for found in resolved.method(learned, run):  # noqa: B007 (the last one is the result)
        run.close_epoch()
    seconds = time.perf_counter() - started
    normaliser = run.normaliser(learned.inputs)
    nets = run.registered["nets"]
    right = run.predict(nets, test, normaliser=normaliser).argmax(1) == test_labels
    rest = (~rows.trusted).numpy()
    if method == "verified rows alone":
        corrected = run.predict(nets, rows.inputs, normaliser=normaliser).argmax(1).numpy()
        flagged = corrected != rows.labels.numpy()
    else:
        corrected, flagged = found.corrected.numpy(), ~found.selected.numpy()
    wrong = rows.labels.numpy() != truth
    figures = {
        "test": float(right.float().mean()),
        "before": float(1 - wrong[rest].mean()),
        "after": float((corrected == truth)[rest].mean()),
        "f1": float(precision_recall_f1(flagged[rest], wrong[rest])[2]),
        "seconds": seconds,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(figures))


def verified(labels, truth, share: float = 0.1):
    """Labels of which a share of every class's rows has the truth, and which these are."""
    import torch

    from curator.sources.noise import stratified_sample

    trusted = torch.zeros(len(truth), dtype=torch.bool)
    trusted[torch.from_numpy(stratified_sample(truth, round(share * len(truth)), SEED))] = True
    return torch.where(trusted, torch.from_numpy(truth), torch.from_numpy(labels)), trusted


def subset(rows, mask):
    """The rows of a mask as a dataset."""
    import torch

    from curator.engine.source import held
    from curator.evidence import NoisyDataset

    chosen = mask.nonzero()[:, 0]
    return NoisyDataset(
        held(rows.inputs.batch(chosen)), rows.labels[chosen], rows.classes, torch.zeros(len(chosen)).bool(),
        rows.rows[chosen],
    )  # fmt: skip


def of_digits(noise: str):
    """Digits with noise and verified rows, labels without these, the truth, every fifth row as test set, its labels."""
    import torch

    from bench.cleaners import of_digits as whole
    from curator.evidence import NoisyDataset

    data, truth = whole(noise, SEED)
    test = torch.arange(len(truth)) % 5 == 0
    learned, rest = subset(data, ~test), subset(data, test)
    own = truth[~test.numpy()]
    labels, trusted = verified(learned.labels.numpy(), own)
    rows = NoisyDataset(learned.inputs, labels, data.classes, trusted, learned.rows)
    held_out = torch.from_numpy(truth[test.numpy()])
    return rows, learned.labels, own, rest.inputs, held_out, "digits, every fifth row held out"


def of_features(noise: str):
    """The same of frozen features of CIFAR-10 and its own test set."""
    import torch

    from curator.config.resolve import resolve
    from curator.sources.load import load, other_labels
    from curator.sources.read import read

    resolved = resolve({
        "dataset": "cifar10", "data_dir": os.environ["CURATOR_DATA"], "label_noise": noise, "seed": SEED,
        "backbone": "bench.backbones:efficientnet_lite0", "method": "ce", "mixed_precision": "bf16", "memory_budget": 8,
    })  # fmt: skip
    table = load(resolved.settings)
    reading = read(resolved, table, say=print)
    labels, trusted = verified(table.labels, table.truth)
    rows = replace(reading.data, labels=labels, trusted=trusted)
    test, test_labels = reading.others["test"], torch.from_numpy(other_labels(table, "test"))
    device = torch.device("cpu")
    return rows, torch.from_numpy(table.labels), table.truth, test.source(device), test_labels, reading.content


def speed() -> None:
    """Seconds of a training step of an ensemble, both ways, all cores (or the GPU)."""
    import torch

    from bench.mixtures import best
    from curator.engine.members import Members
    from curator.engine.nets import build_net

    table = Table(SPEED, SPEED_COLUMNS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = torch.cuda.get_device_name() if device == "cuda" else processor()
    ensembles = [("mlp", (1280,), 5), ("mlp", (1280,), 20), ("small", (3, 32, 32), 5)]
    if device == "cuda":
        ensembles += [("small", (3, 32, 32), 20), ("preact18", (3, 32, 32), 5), ("preact18", (3, 32, 32), 20)]
    for net, shape, count in ensembles:
        name = f"{device} {net} {count} members"
        if name in table:
            continue
        nets = [build_net(net, shape, 1).to(device) for _ in range(count)]
        x = torch.randn(count, 128, *shape, device=device)
        seconds, logits = {}, {}
        for how in ("vmap", "loop"):
            members = Members(nets, how).to(device).train()
            optimizer = torch.optim.SGD(members.parameters(), 0.01, momentum=0.9, fused=True)

            def step(members=members, optimizer=optimizer, x=x) -> torch.Tensor:
                with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):  # as runs do there
                    out = members(x)
                out.square().mean((1, 2)).sum().backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if device == "cuda":
                    torch.cuda.synchronize()
                return out.detach()

            for _ in range(3):
                logits[how] = step()
            seconds[how] = best(step, 10)
        difference = float((logits["vmap"] - logits["loop"]).abs().max())
        one_pass, loop = seconds["vmap"], seconds["loop"]
        row = [f"{one_pass:.4f}", f"{loop:.4f}", f"{loop / one_pass:.2f} x", f"{difference:.1e}"]
        table.append(name, [*row, today(), machine])


def cost() -> None:
    """Forward passes of stage 1 on the digits' pixels, as counted, against the released procedure's.

    Members are linear, so that the paper's 2,000 trainings take minutes; what is counted does not depend on the net.
    """
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    from curator.engine.members import Members
    from curator.engine.run import Run
    from curator.engine.source import held
    from curator.evidence import NoisyDataset
    from curator.methods.positive_unlabelled import Augmentation
    from curator.methods.pudistill import PUDistill

    table = Table(COST, COST_COLUMNS)
    pixels, truth = load_digits(return_X_y=True)
    n, k, tested = len(truth), 10, len(truth) // 5  # the released code tests on a set a fifth as large
    labels, trusted = verified(np.random.default_rng(0).integers(0, k, n), truth.astype(np.int64))
    classes = tuple(map(str, range(k)))
    inputs = held(torch.from_numpy(pixels).float())
    published: dict[str, Any] = {"classifiers": 20, "votes": 19, "rounds": 10, "pu_batch": 16}
    for name, settings in {
        "digits' pixels, N = 20, K = 10, all rounds": {**published, "reading": "paper"},
        "digits' pixels, N = 20, K = 10, rounds end early": published,
        "digits' pixels, small (N = 5, K = 3)": {**published, "classifiers": 5, "votes": 5, "rounds": 3},
    }.items():
        if name in table:
            continue
        data = NoisyDataset(inputs, labels, classes, trusted, torch.arange(n))
        method, run, passes = PUDistill(teacher_epochs=1, epochs=1, **settings), Run(seed=SEED, net="linear"), [0]
        started, forward = time.perf_counter(), Members.forward

        def counted(self, x, forward=forward, passes=passes):
            passes[0] += 3 * x.shape[0] * x.shape[1] if self.training else self.count * len(x)
            return forward(self, x)

        known = Augmentation(method, data, run)
        Members.forward = counted  # type: ignore[method-assign]
        for _ in known():
            run.close_epoch()
        Members.forward = forward  # type: ignore[method-assign]
        seconds = time.perf_counter() - started
        released = released_passes(known.claimed, trusted, labels, tested)
        row = [f"{passes[0] / 1e6:.2f}", f"{passes[0] / released:.3f}", f"{seconds:.0f}"]
        table.append(name, [*row, today(), processor()])


def released_passes(
    claimed, trusted, labels, tested: int, members: int = 20, rounds: int = 10, epochs: int = 30
) -> int:
    """Forward passes of the released stage 1 at N = 20 and K = 10, its sets taken to be as large as those found here.

    A round trains for 30 epochs (3 a row), tests after each, and scores all rows.
    """
    from curator.methods.positive_unlabelled import bootstrap_sizes

    total = 0
    for c in range(claimed.shape[2]):
        own = int((trusted & (labels == c)).sum())
        for round in range(rounds):
            added = int(claimed[min(round, len(claimed)) - 1, :, c].sum()) if round else 0
            size = 2 * bootstrap_sizes(own, added)[0]
            total += members * (epochs * (3 * size + tested) + len(trusted))
    return total


def plot(table: Table) -> None:
    """Test accuracy over noise, a panel a dataset and kind of noise, from the rows of the table."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharey="row")
    for row, data in zip(panels, ("CIFAR-10 features", "digits"), strict=True):
        alone = table.row(f"{data} {HARDEST} verified rows alone")
        for axes, kind in zip(row, ("asym", "sym"), strict=True):
            for method, colour in (("pudistill", "tab:blue"), ("ce", "tab:orange")):
                there = [(r, table.row(f"{data} {kind}:{r} {method}")) for r in RATES]
                points = [(r, float(cells["test accuracy"])) for r, cells in there if cells]
                axes.plot([r for r, _ in points], [a for _, a in points], "o-", color=colour, label=method)
            if alone:
                axes.axhline(
                    float(alone["test accuracy"]), color="tab:gray", linestyle=":", label="verified rows alone"
                )
            axes.set(title=f"{data}, {kind}", xlabel="noise", ylabel="test accuracy")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    if sys.argv[1:2] == ["plot"]:
        plot(Table(FLAT, COLUMNS))
    elif sys.argv[1:2] == ["speed"]:
        speed()
    elif sys.argv[1:2] == ["cell"]:
        measure(sys.argv[2], sys.argv[3], sys.argv[4], Path(sys.argv[5]))
    else:
        main()
