"""A dataset in, four columns out: load, train, judge, write. The command line and Python users both come through here."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.evidence import CuratorError, Evidence, NoisyDataset, RunFailed

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from curator.curation.columns import Columns
    from curator.engine.run import Run
    from curator.methods import Method
    from curator.settings import Resolved
    from curator.sources.table import Table

Say = Callable[[str], None]
LONG = 2 * 3600  # seconds; a longer run gets a warning before it starts


def curate(
    dataset: str | Dataset | DatasetDict = "digits", method: str | Method | None = None, **settings: Any
) -> Dataset:
    """Find wrong labels and return the dataset with the columns of the verdict.

    Args:
        dataset: a named dataset, a Hub id, a folder, or a Dataset / DatasetDict.
        method: a name, or a method object with its hyperparameters set.
        **settings: the flags of the command with underscores; a hyperparameter as `**{"method.lr": 0.05}`.

    Returns:
        The curated split, as it was also written to the output folder (`output`, default runs/DATASET-METHOD), with the
        columns clean_score, selected, corrected_label, teacher_soft_label and row.

    Raises:
        CuratorError: in one line, for settings or data that do not fit.

    Example:
        curated = curate("folder/of/images", method="confident", epochs=30)
    """
    from curator.settings import resolve

    given = {**settings, "dataset": dataset if isinstance(dataset, str) else "dataset"}
    if isinstance(method, str):
        given["method"] = method
    resolved = resolve(given, None if isinstance(method, str) else method)
    done = execute(resolved, None if isinstance(dataset, str) else dataset, noise_given="label_noise" in settings)
    if done is None:
        raise CuratorError("dry_run: nothing was curated; leave it out")
    return done.dataset


@dataclass
class Done:
    """A finished run."""

    output: Path
    dataset: Dataset
    facts: dict[str, Any]


def execute(
    resolved: Resolved,
    dataset: Dataset | DatasetDict | None = None,  # instead of loading settings.dataset
    *,
    noise_given: bool = False,  # whether the folder's name carries the noise
    say: Say = lambda line: print(line, file=sys.stderr, flush=True),
) -> Done | None:
    """Load, run, write and report; None after a dry run.

    Raises:
        CuratorError: nothing is left half-written; an interrupted run continues with the same settings.
    """
    import torch

    from curator.curation.output import lock, no_space
    from curator.settings import output_folder

    output = output_folder(resolved.settings, noise_given)
    threads = torch.get_num_threads()
    leads = _rank() == 0
    try:
        with lock(output) if leads and not resolved.settings.dry_run else nullcontext():
            return _execute(resolved, dataset, output, say if leads else lambda line: None)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(output) from e
        raise
    finally:
        torch.set_num_threads(threads)


def _rank() -> int:
    """This process's rank as the launcher set it, before Accelerate is imported."""
    return int(os.environ.get("RANK", 0))


def _execute(resolved: Resolved, source: Dataset | DatasetDict | None, output: Path, say: Say) -> Done | None:
    from curator.curation.output import require_space
    from curator.engine.run import Run, process_state
    from curator.engine.source import Resident
    from curator.sources.images import choose_size, decode_images
    from curator.sources.load import load_table

    s = resolved.settings
    checkpoints = output / "checkpoints"
    interrupted = (checkpoints / "latest").exists() and not (checkpoints / "finished").exists()
    if not s.dry_run:
        _refuse_finished(output, interrupted, s.overwrite)
        if interrupted and s.resume:
            _same_settings(checkpoints, resolved.identity(), output)
    budget = s.memory_budget * 2**30 if s.memory_budget is not None else _free_memory(process_state().device) / 2
    loads = ("data_dir", "config_name", "revision", "split", "image_column", "label_column", "reference_column", "label_noise",
             "imbalance", "limit_rows", "seed", "overwrite_columns", "column_prefix")  # fmt: skip
    table = load_table(
        source if source is not None else s.dataset, budget=budget, **{name: getattr(s, name) for name in loads}
    )
    size = choose_size(table.dataset, table.image_column, table.rows, s.image_size, str(s.net))
    decoded = decode_images(table.dataset, table.image_column, table.rows, size, budget)
    table.digest = _digest(table, decoded.digest)
    require_space(table.dataset, output)
    fresh = not (interrupted and s.resume)
    lead = _rank() == 0
    identity = {**resolved.identity(), "source": table.digest, "processes": process_state().num_processes}
    if not s.dry_run and lead:
        if fresh:
            shutil.rmtree(checkpoints, ignore_errors=True)
        else:
            _same_settings(checkpoints, identity, output)
    process_state().wait_for_everyone()  # or another process would read the checkpoint that this one removes
    run = Run(
        seed=s.seed,
        net=str(s.net),
        mixed_precision=s.mixed_precision,
        compile=s.compile,
        checkpoints=None if s.dry_run else checkpoints,
        track=s.track,
        track_dir=output / "tracker" if s.track else None,
    )
    data = NoisyDataset(Resident(decoded.images, run.device), *torch_labels(table))
    _describe(table, resolved, run, data, output, say)
    if s.dry_run:
        return None
    if lead and fresh:
        checkpoints.mkdir()
        (checkpoints / "settings.json").write_text(json.dumps(identity, indent=2))
    if not fresh and run.progress:
        say(f"continuing from {', '.join(f'{stage} epoch {epoch}' for stage, epoch in run.progress.items())}")
    try:
        found, history = _train(resolved, table, data, run, say)
        done = _write(resolved, table, data, run, found, history, output, tuple(decoded.images.shape[2:]), budget)
    except CuratorError:
        if lead and not (checkpoints / "latest").exists():
            shutil.rmtree(checkpoints)  # nothing to continue from
        raise
    finally:
        run.close()
    if lead:
        if s.keep_checkpoints:
            (checkpoints / "finished").touch()
        else:
            shutil.rmtree(checkpoints)
    return done


def torch_labels(table: Table):
    """labels, classes, trusted and rows of a NoisyDataset."""
    import torch

    rows = torch.from_numpy(table.rows)
    return torch.from_numpy(table.labels), table.classes, torch.zeros(len(rows), dtype=torch.bool), rows


def _refuse_finished(output: Path, interrupted: bool, overwrite: bool) -> None:
    from curator.curation.output import FINISHED

    if (output / FINISHED).exists() and not interrupted and not overwrite:
        raise CuratorError(
            f"--output {output}: it holds a finished run; add --overwrite to replace its results, or name another folder"
        )
    if not interrupted and not (output / FINISHED).exists():
        foreign = [name for name in ("README.md", "data", "report", "issues.csv") if (output / name).exists()]
        if foreign:
            raise CuratorError(
                f"--output {output}: it holds {', '.join(foreign)} that no run of Curator wrote; name another folder"
            )


def _same_settings(checkpoints: Path, identity: dict[str, Any], output: Path) -> None:
    """Refuse to continue a run under other settings, naming the first that differs."""
    try:
        before = json.loads((checkpoints / "settings.json").read_text())
    except (OSError, ValueError) as e:
        raise CuratorError(f"{checkpoints}/settings.json cannot be read ({e}); start anew with --no-resume") from e
    for name, value in json.loads(json.dumps(identity)).items():
        if name in before and before[name] == value:
            continue
        if name == "source":
            raise CuratorError(
                f"--output {output}: the dataset changed since this run was interrupted; start anew with --no-resume"
            )
        raise CuratorError(
            f"--output {output}: it holds an interrupted run with --{name.replace('_', '-')} {before.get(name)!r}, now it is {value!r}: "
            "give the same settings to continue it, --no-resume to start anew, or another --output"
        )


def _digest(table: Table, images: str) -> str:
    digest = hashlib.blake2b(images.encode(), digest_size=16)
    for part in (repr(table.dataset.features), repr(table.classes)):
        digest.update(part.encode())
    for array in (table.labels, table.rows):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _free_memory(device) -> float:
    """Free bytes of the device that holds the images."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return 8.0 * 2**30


def _describe(table: Table, resolved: Resolved, run: Run, data: NoisyDataset, output: Path, say: Say) -> None:
    """Print columns, class counts, recipe, schedule, ETA and memory."""
    import numpy as np

    s, method = resolved.settings, resolved.method
    counts = np.bincount(table.labels, minlength=len(table.classes))
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    shown = order if len(order) <= 12 else [*order[:5], *order[-3:]]
    say(f"dataset   {table.name}, split {table.split}: {len(data):,} rows, {len(table.classes)} classes; image column "
        f"{table.image_column!r}, label column {table.label_column!r}, reference {table.reference_column or 'none'}")  # fmt: skip
    say(
        "classes   "
        + ", ".join(f"{table.classes[c][:30]!r} {counts[c]:,}" for c in shown)
        + (" (first and last)" if shown != order else "")
    )
    say(f"recipe    {resolved.recipe or 'none for this dataset and method: defaults'}")
    if resolved.scaled:
        say("epochs    " + ", ".join(f"method.{k} {a} -> {b}" for k, (a, b) in resolved.scaled.items()))
    say(f"method    {s.method}, net {s.net}, {', '.join(f'{k} {v}' for k, v in vars(method).items() if v is not None)}")
    say(f"machine   {run.device}, {run.world} process(es) of {run.threads} thread(s), precision {run.precision}")
    passes = float(getattr(method, "total_epochs", method.epochs))
    speed = run.measure_speed(data, getattr(method, "batch_size", 128)) if passes else 0.0
    seconds = passes * len(data) / speed if passes else 0.0
    images = len(data) * int(np.prod(data.inputs.shape))
    say(f"memory    {images / 2**30:.2f} GiB of images on {run.device}, {run.memory() / 2**30:.2f} GiB in use")
    say(
        f"schedule  {passes:g} passes over the rows, about {duration(seconds)} at {speed:,.0f} images/s; output {output}"
    )
    if seconds > LONG:
        say(f"warning   this takes about {duration(seconds)}: --epochs, --limit-rows or --net small shorten it")


def duration(seconds: float) -> str:
    """90 -> '1 min 30 s'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


class History:
    """What every yield reported; it goes into the checkpoints."""

    def __init__(self) -> None:
        self.entries: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """The entries."""
        return {"entries": self.entries}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the entries."""
        self.entries = state["entries"]


def _train(
    resolved: Resolved, table: Table, data: NoisyDataset, run: Run, say: Say
) -> tuple[Evidence, list[dict[str, float]]]:
    """Run the method to its end: progress, trackers, early stop, time limit and checkpoints are here."""
    import torch

    s, method = resolved.settings, resolved.method
    history = run.register("history", History())
    recent = run.register("recent", torch.full((s.early_stop, len(data)), -1)) if s.early_stop else None
    run.start_tracking(resolved.describe())
    passes = float(getattr(method, "total_epochs", method.epochs))
    started, found = time.monotonic(), None
    with _progress(int(passes * len(data)), history, run.main, say) as advance:
        for found in method(data, run):
            found.check(data)
            entry = run.close_epoch()
            if not entry["images"]:
                continue
            entry |= {"selected": float(found.selected.float().mean())}
            if table.truth is not None:
                truth = torch.from_numpy(table.truth)
                wrong = ~found.selected
                hits = int((wrong & (data.labels != truth)).sum())
                entry["noisy_f1"] = 2 * hits / max(1, int(wrong.sum() + (data.labels != truth).sum()))
                entry["label_accuracy_after"] = float((found.corrected == truth).float().mean())
            history.entries.append(entry)
            advance(entry)
            run.track(entry, len(history.entries))
            if recent is not None:
                if (recent[0] >= 0).all() and (recent[0] != found.corrected).float().mean() < 0.001:
                    run.stopping = True
                recent.copy_(torch.cat([recent[1:], found.corrected[None]]))
            if s.max_minutes is not None and run.agree(time.monotonic() - started > 60 * s.max_minutes):
                run.stopping = True
            run.checkpoint()
    if found is None:
        raise RunFailed(f"--method {s.method} gave no evidence")
    return found, history.entries


@contextmanager
def _progress(total: int, history: History, shown: bool, say: Say) -> Iterator[Callable[[dict[str, float]], None]]:
    """A bar on a terminal; elsewhere a line a minute."""
    from tqdm import tqdm

    done = sum(int(entry["images"]) for entry in history.entries)
    last = time.monotonic()
    with tqdm(
        total=total, initial=done, unit="img", unit_scale=True, disable=None if shown else True, leave=False
    ) as bar:

        def advance(entry: dict[str, float]) -> None:
            nonlocal last, done
            done += int(entry["images"])
            bar.update(entry["images"])
            bar.set_postfix(loss=f"{entry['loss']:.3f}", kept=f"{entry['selected']:.3f}")
            if bar.disable and shown and time.monotonic() - last > 60:
                last = time.monotonic()
                say(
                    f"{done / max(total, 1):4.0%}  loss {entry['loss']:.3f}  kept {entry['selected']:.3f}  {entry['images_per_second']:,.0f} images/s"
                )

        yield advance


def _write(
    resolved: Resolved,
    table: Table,
    data: NoisyDataset,
    run: Run,
    found: Evidence,
    history: list[dict[str, float]],
    output: Path,
    size: tuple[int, ...],
    budget: float,
) -> Done | None:
    """Columns, dataset, report and card; None in the processes that do not write."""
    from curator.curation import output as out
    from curator.curation.card import dataset_card
    from curator.curation.columns import add_columns, columns_of, flag_worst
    from curator.curation.report import write_report

    s = resolved.settings
    trusted = data.trusted.numpy()
    others, test_accuracy = _other_splits(table, data, run, size, budget)
    if not run.main:
        return None
    columns = columns_of(found, table.labels, trusted, table.rows)
    if s.flag_worst is not None:
        columns = flag_worst(columns, table.labels, trusted, s.flag_worst)
    facts = _facts(resolved, table, data, run, columns, history, test_accuracy)
    curated = {table.split: (table.dataset, columns), **others}
    splits = {name: add_columns(part, cols, table.classes, s.column_prefix) for name, (part, cols) in curated.items()}
    with out.staged(output) as folder:
        for name, split in splits.items():
            out.write_parquet(split, folder, name)
        out.write_issues(folder / "issues.csv", table.dataset, table.image_column, columns, table.labels, table.classes)
        write_report(
            folder, facts, columns, table.labels, table.truth, table.classes, history, table.dataset, table.image_column
        )
        card = dataset_card(table, facts, columns, list(splits), s.column_prefix, out.content_hash(folder))
        (folder / "README.md").write_text(card, encoding="utf-8")
        out.write_json(folder / out.FINISHED, facts)
    return Done(output, splits[table.split], facts)


def _other_splits(
    table: Table, data: NoisyDataset, run: Run, size: tuple[int, ...], budget: float
) -> tuple[dict[str, tuple[Dataset, Columns]], float | None]:
    """The other splits with their columns, by the run's nets where there are any, and the accuracy on the test split."""
    import numpy as np

    from curator.curation.columns import columns_of_other, no_columns
    from curator.engine.source import Resident
    from curator.sources.images import decode_images
    from curator.sources.load import other_labels

    nets, accuracy, out = run.registered.get("nets"), None, {}
    for name, other in table.others.items():
        labels = other_labels(table, name)
        if nets is None or not (labels >= 0).any():
            out[name] = other, no_columns(len(other), len(table.classes))
            continue
        decoded = decode_images(other, table.image_column, np.arange(len(other)), size, budget)
        logits = run.predict(nets, Resident(decoded.images, run.device), normaliser=run.normaliser(data.inputs))
        columns = columns_of_other(logits.softmax(1).numpy(), labels)
        out[name] = other, columns
        if name == "test":
            accuracy = float((columns.corrected == labels)[labels >= 0].mean())
    return out, accuracy


def _facts(
    resolved: Resolved,
    table: Table,
    data: NoisyDataset,
    run: Run,
    columns: Columns,
    history: list[dict[str, float]],
    test_accuracy: float | None,
) -> dict[str, Any]:
    """What curation.json holds."""
    from curator.curation.metrics import metrics

    trusted = data.trusted.numpy()
    seconds = sum(entry["seconds"] for entry in history)
    facts: dict[str, Any] = {
        "method": resolved.settings.method,
        "recipe": resolved.recipe,
        "dataset": resolved.settings.dataset,
        "split": table.split,
        "image_column": table.image_column,
        "label_column": table.label_column,
        "n": len(data),
        "classes": len(table.classes),
        "settings": resolved.describe(),
        "seed": resolved.settings.seed,
        "trusted": {
            "count": int(trusted.sum()),
            "hash": hashlib.blake2b(table.rows[trusted].tobytes(), digest_size=16).hexdigest(),
        },
        "estimated_noise_rate": float((~columns.selected).mean()),
        "selected": int(columns.selected.sum()),
        "changed": int((columns.corrected != table.labels).sum()),
        "seconds": round(seconds, 1),
        "epochs": len(history),
        "images_per_second": round(sum(entry["images"] for entry in history) / seconds, 1) if seconds else None,
        "mfu": run.mfu(),
        "device": run.device_name(),
        "threads": run.threads,
        "versions": versions(),
        "source_fingerprint": table.digest,
    }
    if table.truth is not None:
        facts["metrics"] = metrics(columns, table.labels, table.truth, trusted)
    if test_accuracy is not None:
        facts.setdefault("metrics", {})["test_accuracy"] = test_accuracy
    return facts


def versions() -> dict[str, str]:
    """Versions of what decides the result."""
    from importlib.metadata import PackageNotFoundError, version

    import curator

    found = {"label-curator": curator.__version__, "python": sys.version.split()[0]}
    for name in ("torch", "torchvision", "datasets", "accelerate", "numpy", "scikit-learn", "cleanlab"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
