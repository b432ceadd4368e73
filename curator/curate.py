"""A dataset in, four columns out, in four steps that a notebook can take as well.

    load     sources/load.py    settings -> Table
    read     sources/read.py    Table -> NoisyDataset, with what else was read of it
    train    train.py           NoisyDataset -> Evidence, in a run that start() makes
    write    result/write.py    Evidence -> the output folder

The command line and Python users both come through here.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import CuratorError, RunFailed
from curator.system import is_main, memory_is_full
from curator.text import Log, say

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from curator.config.resolve import Resolved
    from curator.engine.run import Run
    from curator.methods import Method
    from curator.result.folder import RunFolder
    from curator.result.write import CurationResult
    from curator.sources.read import Reading
    from curator.sources.table import Table


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
    from curator.config.names import output_folder
    from curator.result.folder import RunFolder, require_apart

    s = resolved.settings
    folder = RunFolder(output_folder(s, noise_given), s)
    if dataset is None:
        require_apart(s, folder.path)
    if s.push_to_hub is not None and folder.writes:
        from curator.publish.hub import require_hub

        require_hub(s.push_to_hub)  # before hours of training, not after
    with _full_machine(folder.path), folder.held():
        done = _steps(resolved, dataset, folder, say if is_main() else lambda line: None)
        if s.push_to_hub is not None and folder.writes:
            _push(folder.path, s.push_to_hub, s.public, say)
        folder.close()
    return done


def _steps(
    resolved: Resolved, source: Dataset | DatasetDict | None, folder: RunFolder, say: Log
) -> CurationResult | None:
    from curator.engine.hardware import process_state
    from curator.engine.processes import of_main
    from curator.result.parquet import require_space
    from curator.result.write import write
    from curator.sources.load import load, memory_budget
    from curator.sources.read import read
    from curator.train import describe, start, train

    s, state, identity = resolved.settings, process_state(), resolved.identity()
    if of_main(not s.overwrite and folder.finished(identity), state.num_processes):
        return _finished_before(folder, say)
    folder.require_ours(identity)
    budget = memory_budget(s)
    table = load(s, source, budget)
    require_space([table.dataset, *table.others.values()], folder.path, table.access)
    reading = read(resolved, table, budget, say)
    identity |= _identity(resolved, table, reading)
    if of_main(s.resume and folder.finished(identity), state.num_processes):
        return _finished_before(folder, say)
    folder.prepare(identity)
    state.wait_for_everyone()  # or another process would read the checkpoint that this one removes
    run = start(resolved, reading, folder.path, say)
    describe(table, resolved, run, reading.data, folder.path, say)
    if s.dry_run:
        return None
    _begin(folder, run, identity, say)
    try:
        found, history = train(resolved, table, reading.data, run, say)
        done = write(resolved, table, reading, run, found, history, folder.path, identity)
    except CuratorError:
        folder.failed()
        raise
    finally:
        run.close()
    folder.done()
    return done


def _begin(folder: RunFolder, run: Run, identity: dict[str, Any], say: Log) -> None:
    if folder.resumes and run.progress:
        say(f"continuing from {', '.join(f'{stage} epoch {epoch}' for stage, epoch in run.progress.items())}")
    else:
        folder.begin(identity)


def _identity(resolved: Resolved, table: Table, reading: Reading) -> dict[str, Any]:
    """What decides the result besides the settings."""
    from curator.engine.hardware import process_state
    from curator.sources.read import precision

    state = process_state()
    machine = {"device": state.device.type, "processes": state.num_processes}
    content = {"fingerprint": reading.fingerprint, "source": table.digest, "verified_rows": table.verified_digest()}
    return {"mixed_precision": precision(resolved.settings), **machine, **content}


def _finished_before(folder: RunFolder, say: Log) -> CurationResult:
    """Do the rest of a run that is finished in the folder."""
    from curator.result.write import CurationResult

    result = CurationResult.of(folder.path)
    say(f"finished  {folder.path} holds the results of this run since it was stopped: nothing is trained")
    folder.done()
    return result


def _push(output: Path, repo: str, public: bool, say: Log) -> None:
    from curator.publish.hub import publish_hub

    try:
        publish_hub(output, repo, "annotate", public=public, say=say)
    except CuratorError as e:
        words = ["label-curator", "publish", str(output), repo, "--policy", "annotate", *["--public"] * public]
        raise CuratorError(
            f"the run is finished in {output}, but not published: {e}; then the same command, which "
            f"trains nothing, or: {shlex.join(words)}"
        ) from e


@contextmanager
def _full_machine(output: Path) -> Iterator[None]:
    """Say in one line what to do about a disk or a memory that is full; torch has the threads it had before."""
    import torch

    from curator.result.layout import no_space

    threads = torch.get_num_threads()
    try:
        yield
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
