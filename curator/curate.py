"""A dataset in, four columns out: load, train, judge, write.

The command line and Python users both come through here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curator.errors import CuratorError, RunFailed
from curator.system import free_memory, local_processes, rank, threads_per_process

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from torch import Tensor

    from curator.curation.write import Done
    from curator.engine.checkpoint import Checkpoints
    from curator.methods import Method
    from curator.settings import Resolved
    from curator.sources.inputs import Inputs, Reader
    from curator.sources.table import Table
    from curator.train import Say


# What a run reads, by its name in the identity of an interrupted one.
CONTENT = {
    "source": "the dataset",
    "fingerprint": "the weights or the code of --backbone",
    "verified": "the rows of --trusted",
}


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

    s = resolved.settings
    output = output_folder(s, noise_given)
    threads = torch.get_num_threads()
    leads = rank() == 0
    if s.push_to_hub is not None and leads and not s.dry_run:
        from curator.curation.publish import publish_hub, require_hub

        require_hub(s.push_to_hub)  # before hours of training, not after
    try:
        with lock(output) if leads and not s.dry_run else nullcontext():
            done = _execute(resolved, dataset, output, say if leads else lambda line: None)
        if s.push_to_hub is not None and leads and done is not None:
            try:
                publish_hub(output, s.push_to_hub, "annotate", public=s.public, say=say)
            except CuratorError as e:
                words = ["label-curator", "publish", str(output), s.push_to_hub, "--policy", "annotate"]
                again = shlex.join([*words, *["--public"] * s.public])
                raise CuratorError(f"the run is finished in {output}, but not published: {e}; then: {again}") from e
        return done
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(output) from e
        if e.errno in (errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE):
            raise RunFailed(
                f"{e.filename or output}: {e.strerror}; mend the disk or its permissions, then the same command goes "
                "on from the last checkpoint"
            ) from e
        raise
    finally:
        torch.set_num_threads(threads)


def _execute(resolved: Resolved, source: Dataset | DatasetDict | None, output: Path, say: Say) -> Done | None:
    import torch

    from curator.curation.output import require_space
    from curator.curation.write import write_result
    from curator.engine.checkpoint import FINISHED, SETTINGS, Checkpoints
    from curator.engine.hardware import best_precision, process_state
    from curator.engine.run import Run
    from curator.evidence import NoisyDataset
    from curator.sources.inputs import Reader
    from curator.train import describe, train

    s, lead, state = resolved.settings, rank() == 0, process_state()
    checkpoints = Checkpoints(output / "checkpoints")
    resumes = checkpoints.interrupted() and s.resume
    if lead and not s.dry_run:
        _refuse_folder(output, checkpoints, s.overwrite)
        if resumes:
            _same_settings(checkpoints.folder / SETTINGS, resolved.identity(), output)
    budget = s.memory_budget * 2**30 if s.memory_budget is not None else _free_memory(state.device) / 2
    precision = s.mixed_precision or best_precision(state.device)
    table = _load(resolved, source, budget)
    torch.set_num_threads(threads_per_process())
    labels, classes, trusted, _ = _torch(table)
    resolved.method.require(labels, trusted, classes)  # before features that take hours
    require_space([table.dataset, *table.others.values()], output)
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
    content = {"fingerprint": fingerprint, "source": table.digest, "verified": table.verified_digest()}
    identity = {**resolved.identity(), **machine, **content}
    if lead and resumes and not s.dry_run:
        _same_settings(checkpoints.folder / SETTINGS, identity, output)
    elif lead and not s.dry_run:
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
    )
    data, hashes = NoisyDataset(inputs.source(run.device), *_torch(table)), inputs.hashes
    del inputs  # on a GPU they are there now
    describe(table, resolved, run, data, output, say)
    if s.dry_run:
        return None
    if resumes and run.progress:
        say(f"continuing from {', '.join(f'{stage} epoch {epoch}' for stage, epoch in run.progress.items())}")
    elif lead:
        checkpoints.folder.mkdir(exist_ok=True)
        (checkpoints.folder / SETTINGS).write_text(json.dumps(identity, indent=2))
    try:
        found, history = train(resolved, table, data, run, say)
        done = write_result(resolved, table, data, run, found, history, output, others, hashes)
    except CuratorError:
        if lead and checkpoints.latest() is None:
            checkpoints.remove()  # nothing to continue from
        raise
    finally:
        run.close()
    if lead and s.keep_checkpoints:
        (checkpoints.folder / FINISHED).touch()
    elif lead:
        checkpoints.remove()
    return done


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
        trusted=s.trusted,
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


def _refuse_folder(output: Path, checkpoints: Checkpoints, overwrite: bool) -> None:
    """Refuse a finished run without --overwrite, and a folder with files of somebody else."""
    from curator.curation.output import FEATURES, FINISHED, STAGING

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
    try:
        before = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as e:
        raise CuratorError(f"{file} cannot be read ({e}); start anew with --no-resume") from e
    for name, value in json.loads(json.dumps(identity)).items():
        if before.get(name) == value or (name == "mixed_precision" and value is None):  # not resolved yet
            continue
        if name in CONTENT:
            changed = CONTENT[name]
            what = f"{changed} changed since its run was interrupted"
        elif name in ("device", "processes"):
            what = f"it holds an interrupted run with {name} {before.get(name)!r}, here it is {value!r}"
        else:
            flag = name.replace("_", "-")
            what = f"it holds an interrupted run with --{flag} {before.get(name)!r}, now it is {value!r}"
        raise CuratorError(
            f"--output {output}: {what}: give the same to continue it, --no-resume to start anew, or another --output"
        )


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
