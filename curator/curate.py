"""A dataset in, four columns out: load, train, judge, write.

The command line and Python users both come through here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curator.errors import CuratorError, RunFailed
from curator.system import (
    free_memory,
    is_path,
    local_processes,
    memory_is_full,
    rank,
    threads_per_process,
    user_path,
    write_text,
)
from curator.text import Log, say

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from datasets import Dataset, DatasetDict
    from torch import Tensor

    from curator.config.resolve import Resolved
    from curator.engine.checkpoint import Checkpoints
    from curator.methods import Method
    from curator.result.write import CurationResult
    from curator.sources.inputs import Inputs, Reader
    from curator.sources.table import Table


# What a run reads, by its name in the identity of an interrupted one.
CONTENT = {
    "source": "the dataset",
    "fingerprint": "the weights or the code of --backbone",
    "verified_rows": "the rows of --verified",
}

# What a run replaces or removes in its output folder, but for what no dataset is.
RUNS_OWN = {
    "data", "report", "checkpoints", "features.npy", "trusted.parquet", "quarantine.parquet", "duplicates.parquet",
}  # fmt: skip


def curate(
    dataset: str | Dataset | DatasetDict = "digits", method: str | Method | None = None, **settings: Any
) -> Dataset:
    """Find wrong labels and return the dataset with the columns of the verdict.

    Args:
        dataset: a named dataset, a Hub id, a folder, or a Dataset / DatasetDict. Files that rows of the latter name are
            read where they lie beside its Arrow files, in the caches of datasets, or in `data_dir`.
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
    from curator.config.resolve import resolve

    given = {**settings, "dataset": dataset if isinstance(dataset, str) else "dataset"}
    if isinstance(method, str):
        given["method"] = method
    resolved = resolve(given, None if isinstance(method, str) else method)
    done = execute(resolved, None if isinstance(dataset, str) else dataset, noise_given="label_noise" in settings)
    if done is None:
        raise CuratorError("dry_run: nothing was curated; leave it out")
    return done.dataset if done.dataset is not None else done.read()


def execute(
    resolved: Resolved,
    dataset: Dataset | DatasetDict | None = None,  # instead of loading settings.dataset
    *,
    noise_given: bool = False,  # whether the folder's name carries the noise
    say: Log = say,
) -> CurationResult | None:
    """Load, run, write and report; None after a dry run.

    Raises:
        CuratorError: nothing is left half-written; an interrupted run continues with the same settings.
    """
    import torch

    from curator.config.names import output_folder
    from curator.result.layout import PENDING, lock, no_space

    s = resolved.settings
    output = output_folder(s, noise_given)
    if dataset is None:
        _require_apart(s.dataset, s.data_dir, output)
    threads = torch.get_num_threads()
    leads = rank() == 0
    if s.push_to_hub is not None and leads and not s.dry_run:
        from curator.publish.hub import publish_hub, require_hub

        require_hub(s.push_to_hub)  # before hours of training, not after
    try:
        with lock(output) if leads and not s.dry_run else nullcontext():
            done = _execute(resolved, dataset, output, say if leads else lambda line: None)
            if leads and done is not None:
                if s.push_to_hub is not None:
                    try:
                        publish_hub(output, s.push_to_hub, "annotate", public=s.public, say=say)
                    except CuratorError as e:
                        words = ["label-curator", "publish", str(output), s.push_to_hub, "--policy", "annotate"]
                        again = shlex.join([*words, *["--public"] * s.public])
                        raise CuratorError(
                            f"the run is finished in {output}, but not published: {e}; then the same command, which "
                            f"trains nothing, or: {again}"
                        ) from e
                (output / PENDING).unlink(missing_ok=True)
        return done
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(output) from e
        if e.errno in (errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE):
            raise RunFailed(
                f"{e.filename or output}: {e.strerror}; repair the disk or its permissions, then the same command "
                "continues from the last checkpoint"
            ) from e
        if memory_is_full(e):
            raise _no_memory() from e
        raise
    except (MemoryError, RuntimeError) as e:
        if memory_is_full(e):
            raise _no_memory() from e
        raise
    finally:
        torch.set_num_threads(threads)


def _no_memory() -> RunFailed:
    return RunFailed(
        "this machine has not enough free memory: close other programs, or give fewer GiB to the images with "
        "--memory-budget, then the same command continues from the last checkpoint; or start anew with --no-resume and "
        "a smaller --method.batch-size, --image-size or --net"
    )


def _execute(resolved: Resolved, source: Dataset | DatasetDict | None, output: Path, say: Log) -> CurationResult | None:
    import torch
    from accelerate.utils import gather_object

    from curator.engine.checkpoint import SETTINGS, Checkpoints
    from curator.engine.hardware import best_precision, process_state
    from curator.engine.run import Run
    from curator.evidence import NoisyDataset
    from curator.result.layout import PENDING, settle
    from curator.result.parquet import require_space
    from curator.result.write import write_result
    from curator.sources.inputs import Reader
    from curator.train import describe, train

    s, lead, state = resolved.settings, rank() == 0, process_state()
    checkpoints = Checkpoints(output / "checkpoints")
    writes = lead and not s.dry_run
    if writes:
        settle(output)
    if _agreed(writes and not s.overwrite and _finished(output, resolved.identity()), state):
        return _complete(output, checkpoints, lead, s.keep_checkpoints, say)
    resumes = checkpoints.interrupted() and s.resume
    if writes:
        _refuse_folder(output, checkpoints, s.overwrite)
        if resumes:
            _same_settings(checkpoints.folder / SETTINGS, resolved.identity(), output)
    budget = s.memory_budget * 2**30 if s.memory_budget is not None else _free_memory(state.device) / 2
    if state.num_processes > 1:
        budget = min(gather_object([budget]))  # or an image would be too large in one process and not in another
    precision = s.mixed_precision or best_precision(state.device)
    table = _load(resolved, source, budget)
    torch.set_num_threads(threads_per_process())
    labels, classes, trusted, _ = _torch(table)
    resolved.method.require(labels, trusted, classes)  # before features that take hours
    require_space([table.dataset, *table.others.values()], output, table.access)
    reader = Reader(s, table, precision, state, say)
    digest = None
    if s.dry_run and reader.backbone:  # its features can take longer than the training
        inputs, others = reader.sample(), {}
    else:
        inputs = reader(table.data, table.rows, budget)
        digest = inputs.digest
        table.set_aside(inputs.broken)
        table.require_few_aside(s.allow_quarantine)
        table.digest = _digest(table, str(digest))
        others = _read_others(table, resolved.method, reader, inputs.shape, budget - inputs.nbytes)
    fingerprint = reader.fingerprint or None
    del reader  # its backbone has done its work
    machine = {"mixed_precision": precision, "device": state.device.type, "processes": state.num_processes}
    content = {"fingerprint": fingerprint, "source": table.digest, "verified_rows": table.verified_digest()}
    identity = {**resolved.identity(), **machine, **content}
    if _agreed(writes and s.resume and _finished(output, identity), state):
        return _complete(output, checkpoints, lead, s.keep_checkpoints, say)
    if writes and resumes:
        _same_settings(checkpoints.folder / SETTINGS, identity, output)
    elif writes:
        checkpoints.remove()
    state.wait_for_everyone()  # or another process would read the checkpoint that this one removes
    run = Run(
        seed=s.seed,
        net=str(s.net),
        pretrained=s.pretrained,
        mixed_precision=precision,
        compile=s.compile,
        views=s.views(),
        checkpoints=None if s.dry_run else checkpoints.folder,
        track=s.track,
        track_dir=output / "tracker" if s.track else None,
        content=None if s.dry_run or digest is None else f"{digest}/{fingerprint}",
        say=say,
    )
    data, hashes = NoisyDataset(inputs.source(run.device), *_torch(table)), inputs.hashes
    del inputs  # on a GPU they are there now
    describe(table, resolved, run, data, output, say)
    if s.dry_run:
        return None
    if resumes and run.progress:
        say(f"continuing from {', '.join(f'{stage} epoch {epoch}' for stage, epoch in run.progress.items())}")
    elif lead:
        (output / PENDING).unlink(missing_ok=True)  # of the run whose results this one replaces
        checkpoints.folder.mkdir(exist_ok=True)
        write_text(checkpoints.folder / SETTINGS, json.dumps(identity, indent=2))
    try:
        found, history = train(resolved, table, data, run, say)
        done = write_result(resolved, table, data, run, found, history, output, others, hashes, identity)
    except CuratorError:
        if lead and checkpoints.latest() is None:
            checkpoints.remove()  # nothing to continue from
        raise
    finally:
        run.close()
    if lead:
        _clean_up(checkpoints, s.keep_checkpoints)
    return done


def _clean_up(checkpoints: Checkpoints, keep: bool) -> None:
    from curator.engine.checkpoint import FINISHED

    if not keep:
        checkpoints.remove()
    elif checkpoints.folder.is_dir():
        (checkpoints.folder / FINISHED).touch()


def _agreed(value: bool, state: PartialState) -> bool:
    """What the main process says, in all of them."""
    if state.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def _finished(output: Path, identity: dict[str, Any]) -> bool:
    """Whether a run of this identity is finished in the folder, and its command was stopped before it could end."""
    from curator.result.layout import FINISHED, PENDING

    try:
        before = dict(json.loads((output / PENDING).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False
    return (output / FINISHED).exists() and _first_difference(before, identity) is None


def _complete(output: Path, checkpoints: Checkpoints, lead: bool, keep: bool, say: Log) -> CurationResult:
    """Do the rest of a run that is finished in the folder."""
    from curator.result.layout import FINISHED
    from curator.result.write import CurationResult

    facts = json.loads((output / FINISHED).read_text(encoding="utf-8"))
    say(f"finished  {output} holds the results of this run since it was stopped: nothing is trained")
    if lead:
        _clean_up(checkpoints, keep)
    return CurationResult(output, None, facts)


def _read_others(
    table: Table, method: Method, reader: Reader, shape: tuple[int, ...], budget: float
) -> dict[str, Inputs]:
    """Rows of the other splits that will be scored: what is wrong with them is said before the training."""
    from curator.sources.load import other_labels

    inputs: dict[str, Inputs] = {}
    for name, other in table.others.items():
        if method.total_epochs(len(table.classes), len(table.rows)) and (other_labels(table, name) >= 0).any():
            try:
                inputs[name] = reader(other, np.arange(len(other)), budget)
            except CuratorError as e:
                raise CuratorError(f"split {name!r}: {e}") from e
            if inputs[name].shape != shape:
                raise CuratorError(
                    f"split {name!r}: expected rows of shape {shape}, as in split {table.split!r}, "
                    f"found {inputs[name].shape}"
                )
            budget -= inputs[name].nbytes
    return inputs


def _load(resolved: Resolved, source: Dataset | DatasetDict | None, budget: float) -> Table:
    from curator.sources.load import load_table

    s = resolved.settings
    return load_table(
        s.dataset if source is None else source,
        data_dir=s.data_dir,
        config_name=s.config_name,
        revision=s.revision,
        split=s.split,
        image_column=s.image_column,
        label_column=s.label_column,
        reference_column=s.reference_column,
        label_noise=s.label_noise,
        imbalance=s.imbalance,
        limit_rows=s.limit_rows,
        trusted=s.verified,
        seed=s.seed,
        overwrite_columns=s.overwrite_columns,
        column_prefix=s.column_prefix,
        image_size=s.image_size,
        net=str(s.net),
        features_only=s.features_column is not None,
        allow_quarantine=s.allow_quarantine,
        budget=budget,
    )


def _torch(table: Table) -> tuple[Tensor, tuple[str, ...], Tensor, Tensor]:
    """labels, classes, trusted and rows of a NoisyDataset."""
    import torch

    rows, trusted = torch.from_numpy(table.rows), torch.from_numpy(table.trusted)
    labels = torch.from_numpy(table.labels)
    if table.verified is not None:
        labels = torch.where(trusted, torch.from_numpy(table.verified), labels)
    return labels, table.classes, trusted, rows


def _require_apart(dataset: str, data_dir: Path | None, output: Path) -> None:
    """Refuse to write among the rows that are read, and to read what the run would replace."""
    from curator.sources.opening import NAMED

    if dataset in NAMED and data_dir is not None:
        below = data_dir / NAMED[dataset][1]
        source, flag = below if below.is_dir() else data_dir, "--data-dir"
    elif dataset not in NAMED and is_path(dataset):
        source, flag = user_path(dataset), "--dataset"
    else:
        return
    source, there = source.resolve(), output.resolve()
    if source.is_dir() and any(p.exists() and p.samefile(source) for p in (there, *there.parents)):
        raise CuratorError(
            f"--output {output}: it is in the folder of {flag}, {source}, whose files would be mixed with the "
            "result's; name a folder outside"
        )
    if source.is_relative_to(there) and {*source.relative_to(there).parts[:1]} & RUNS_OWN:
        raise CuratorError(
            f"--output {output}: {flag} {source} is among the files that the run would replace; name another folder"
        )


def _refuse_folder(output: Path, checkpoints: Checkpoints, overwrite: bool) -> None:
    """Refuse a finished run without --overwrite, and a folder with files of somebody else."""
    from curator.result.layout import FEATURES, FINISHED, STAGING

    finished, interrupted = (output / FINISHED).exists(), checkpoints.interrupted()
    if finished and not interrupted and not overwrite:
        raise CuratorError(
            f"--output {output}: it holds a finished run; add --overwrite to replace its results, "
            "or name another folder"
        )
    foreign = [f"checkpoints/{name}" for name in checkpoints.foreign()]
    if not (finished or interrupted or (output / STAGING).exists()):
        foreign += [
            name for name in ("README.md", "data", "report", "issues.csv", FEATURES) if (output / name).exists()
        ]
    if foreign:
        raise CuratorError(
            f"--output {output}: it holds {', '.join(foreign[:5])} that no run of Curator wrote; name another folder"
        )


def _same_settings(file: Path, identity: dict[str, Any], output: Path) -> None:
    """Refuse to continue a run under other settings, naming the first that differs."""
    from curator.result.facts import read_json

    try:
        before = read_json(file)
    except (OSError, ValueError) as e:
        raise CuratorError(f"{file} cannot be read ({e}); start anew with --no-resume") from e
    name = _first_difference(before, identity)
    if name is None:
        return
    was, value = before.get(name), identity[name]
    if name in CONTENT:
        what = f"{CONTENT[name]} changed since its run was interrupted"
    elif name in ("device", "processes"):
        what = f"it holds an interrupted run with {name} {was!r}, here it is {value!r}"
    else:
        what = f"it holds an interrupted run with --{name.replace('_', '-')} {was!r}, now it is {value!r}"
    raise CuratorError(
        f"--output {output}: {what}: give the same to continue it, --no-resume to start anew, or another --output"
    )


def _first_difference(before: dict[str, Any], identity: dict[str, Any]) -> str | None:
    """The first setting that is another than in a file that was written before."""
    now = json.loads(json.dumps(identity))
    if now.get("mixed_precision") is None:  # not resolved yet
        now.pop("mixed_precision", None)
    return next((name for name, value in now.items() if before.get(name) != value), None)


def _digest(table: Table, inputs: str) -> str:
    digest = hashlib.blake2b(inputs.encode(), digest_size=16)
    for part in (repr(table.dataset.features), repr(table.classes)):
        digest.update(part.encode())
    for array in (table.labels, table.rows):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _free_memory(device: torch.device) -> float:
    """Bytes that images may take: they are decoded on the host, then held by the device; processes share both."""
    import torch

    free = free_memory()
    if device.type == "cuda":
        free = min(free, float(torch.cuda.mem_get_info(device)[0]) * local_processes())
    return free / local_processes()
