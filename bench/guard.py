"""What the guard holds back: labels of every method with and without it, beside the given ones and the estimate.

    CURATOR_DATA=... python -m bench.guard              # one thread; resumes cell by cell and method by method
    CURATOR_DATA=... python -m bench.guard digits       # digits from scratch, without noise, by the command's defaults
    CURATOR_DATA=... python -m bench.guard render       # the tables of RESULTS.md again

Cells are some of bench/everyday.py: frozen features, two seeds. Of every method stand the label accuracy before, after
without the guard and after with it, the share of changed labels, the gain (share of changed labels that are right less
that of the given ones) as estimated and as it is, and how many of the wrongly and of the rightly changed rows are
ambiguous. Digits from scratch have no features: there the guard looks at patches of the images.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch

from bench.everyday import Cell, by_method, grid
from bench.everyday_sets import features, noisy_labels
from bench.runs import run_folder
from bench.table import RESULTS, processor, put_section, today

LINES = RESULTS.parent / "results" / "guard.jsonl"
MOST = 0.01  # of the labels may be changed where none is wrong
HEADING = "The guard: labels of every method without and with it"
METHODS = ("promix", "confident", "dividemix", "cpc", "bootstrap", "ce", "elr", "linear", "posterior")
SCRATCH = ("ce", "mixup", "bootstrap", "confident", "promix", "dividemix", "cpc", "elr", "sop")
SETS = (
    ("CIFAR", "lite0", "none"), ("digits", "lite0", "none"), ("CIFAR", "lite0", "human aggre"),
    ("CIFAR", "lite0", "human worst"), ("digits", "lite0", "alike 15 %"), ("Fashion", "lite0", "none"),
    ("tumours", "numbers", "sym 5 %"),
)  # fmt: skip
COLUMNS = [
    "set, features, noise", "method", "given", "without", "with the guard", "changed without", "changed with",
    "gain: estimated", "gain: as it is", "ambiguous of wrongly / rightly changed",
]  # fmt: skip


def cells() -> list[Cell]:
    """The first seed first."""
    return [Cell(*name, seed) for seed in (1, 2) for name in SETS]


def evidence_of(cell: Cell, name: str, data):
    """What a method says of a cell, made once and kept."""
    from curator.evidence import Evidence

    kept = run_folder("guard") / f"{'_'.join(map(str, cell))} {name}.pt".replace(" ", "")
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        found = by_method(name, data, cell.seed)
        torch.save([found.probs, found.clean_score, found.selected, found.corrected], kept)
    return Evidence(*torch.load(kept))


def measure(cell: Cell, name: str) -> dict[str, Any]:
    """Figures of a method on a cell."""
    from curator.engine.estimate import estimate
    from curator.engine.guard import guarded
    from curator.engine.run import Run
    from curator.engine.source import Features
    from curator.evidence import NoisyDataset
    from curator.methods import METHODS as ALL

    x, truth = features(cell.set, cell.encoder)
    given, n = torch.from_numpy(noisy_labels(cell.set, cell.noise, cell.seed)), len(truth)
    classes = tuple(map(str, range(int(truth.max()) + 1)))
    data = NoisyDataset(Features(x), given, classes, torch.zeros(n, dtype=torch.bool), torch.arange(n))
    found, true = evidence_of(cell, name, data), torch.from_numpy(truth)
    run = Run(seed=cell.seed, net="mlp", threads=1)
    held_out = [found.probs] if ALL[name].held_out else []
    kept = guarded(found, data, run, estimate(data, run, held_out), guard=not ALL[name].estimates)
    changed, before, without = found.corrected != given, given == true, found.corrected == true
    ambiguous, everything = kept.ambiguous, torch.ones(n, dtype=torch.bool)
    assert ambiguous is not None  # a guarded result says so of every row

    def share(of: torch.Tensor, among: torch.Tensor) -> float | None:
        return round(float(of[among].float().mean()), 4) if among.any() else None

    return {
        "before": share(before, everything), "without": share(without, everything),
        "with": share(kept.corrected == true, everything), "changed_without": share(changed, everything),
        "changed_with": share(kept.corrected != given, everything), "estimated": run.findings["guard"]["gain"],
        "gain": share(without.float() - before.float(), changed),
        "noise_rate": run.findings["guard"]["estimated_noise_rate"],
        "ambiguous_wrong": share(ambiguous, changed & before), "ambiguous_right": share(ambiguous, changed & without),
        "ambiguous": share(ambiguous, everything),
    }  # fmt: skip


def from_scratch(name: str) -> dict[str, Any]:
    """Figures of a method on digits whose labels are all right, as the command sets it."""
    import curator

    folder = run_folder(f"guard digits {name}")
    curator.curate("digits", name, label_noise="sym:0", output=folder, overwrite=True)
    facts = json.loads((folder / "curation.json").read_text())
    guard, n = facts["findings"]["guard"], facts["n"]
    return {
        "before": 1.0, "changed_without": round(guard["changed"] / n, 4),
        "changed_with": round(facts["changed"] / n, 4),
        "without": round(1 - guard["changed"] / n, 4), "with": round(facts["metrics"]["label_accuracy_after"], 4),
        "estimated": guard["gain"], "gain": -1.0 if guard["changed"] else None, "ambiguous_wrong": None,
        "ambiguous_right": None, "noise_rate": guard["estimated_noise_rate"],
    }  # fmt: skip


def finished() -> dict[tuple[Cell, str], dict[str, Any]]:
    """The lines that are there."""
    rows = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    return {(Cell(row["set"], row["encoder"], row["noise"], row["seed"]), row["method"]): row for row in rows}


def main(words: list[str]) -> None:
    """Measure what is missing, then render."""
    torch.set_num_threads(1)
    scratch = words[:1] == ["digits"]
    todo = (
        [(Cell("digits from scratch", "patches", "none", 123), name) for name in SCRATCH]
        if scratch
        else [(cell, name) for cell in cells() for name in METHODS]
    )
    for cell, name in todo if words[:1] != ["render"] else ():
        if (cell, name) not in finished():
            row = from_scratch(name) if scratch else measure(cell, name)
            LINES.parent.mkdir(exist_ok=True)
            with LINES.open("a") as file:
                file.write(json.dumps({**cell._asdict(), "method": name, **row, "date": today()}) + "\n")
    render()


def render() -> None:
    """Put the section into RESULTS.md, in the place of the one that is there."""
    rows = finished()
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (cell, name), row in rows.items():
        lines.setdefault((", ".join(cell[:3]), name), []).append(row)
    worse = sum(row["with"] < row["before"] - 1e-9 for row in rows.values() if row["before"] < 1)
    unguarded = sum(row["without"] < row["before"] - 1e-9 for row in rows.values() if row["before"] < 1)
    noisy = sum(row["before"] < 1 for row in rows.values())
    clean = [row["changed_with"] for row in rows.values() if row["before"] == 1]
    much = {key for key, row in rows.items() if row["before"] == 1 and row["changed_with"] > MOST}
    above = list(dict.fromkeys((cell.set, name) for cell, name in rows if (cell, name) in much))
    sets = "; ".join(f"{of} ({', '.join(name for at, name in above if at == of)})" for of in dict(above))
    left: dict[tuple[Any, ...], list[str]] = {}
    for cell in cells():
        if without := [name for name in METHODS if (cell, name) not in rows]:
            left.setdefault(
                (cell.seed, "all methods" if len(without) == len(METHODS) else " ".join(without)), []
            ).append(f"{cell.set} {cell.noise}")
    more = [name for name in SCRATCH if (Cell("digits from scratch", "patches", "none", 123), name) not in rows]
    parts = [f"seed {seed}, {names}, on {', '.join(sets)}" for (seed, names), sets in left.items()]
    parts += [f"digits from scratch, {' '.join(more)}"] * bool(more)
    missing = f" Not measured: {'; '.join(parts)}." if parts else ""
    about = (
        f"`bench/guard.py`, {processor()}, one thread beside much other work, {today()}: means of the seeds that "
        f"are there.{missing} Corrected labels are worse than the given ones in {worse} of "
        f"{noisy} runs with wrong labels ({unguarded} without the guard); where no label is wrong, at most "
        f"{max(clean):.2%} are changed, more than {MOST:.0%} of {sets or 'none'}. `posterior` makes the estimate "
        "itself and is not guarded."
    )
    table = grid(COLUMNS, [[*key, *_figures(found)] for key, found in sorted(lines.items())])
    put_section(RESULTS, HEADING, about, table)


def _figures(rows: list[dict[str, Any]]) -> list[str]:
    def mean(name: str, form: str) -> str:
        values = [row[name] for row in rows if row[name] is not None]
        return form.format(np.mean(values)) if values else "–"

    return [
        *(mean(name, "{:.3f}") for name in ("before", "without", "with")),
        *(mean(name, "{:.1%}") for name in ("changed_without", "changed_with")),
        *(mean(name, "{:+.2f}") for name in ("estimated", "gain")),
        f"{mean('ambiguous_wrong', '{:.0%}')} / {mean('ambiguous_right', '{:.0%}')}",
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
