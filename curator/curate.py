"""A dataset in, four columns out, in four steps that a notebook can take as well.

    load     sources/load.py    settings -> Table
    read     sources/read.py    Table -> NoisyDataset, with what else was read of it
    train    train.py           NoisyDataset -> Evidence, in a run that start() makes
    write    result/write.py    Evidence -> the output folder

The command line and Python users both come through here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from curator.errors import CuratorError, RunFailed
from curator.library.keywords import Keywords, with_signature
from curator.system import is_main, is_path, memory_is_full
from curator.text import Log, command_line, say

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from curator.config.resolve import Resolved
    from curator.engine.run import Run
    from curator.library.curated import Curated
    from curator.library.keywords import Rows
    from curator.library.plan import Plan
    from curator.methods import Method
    from curator.result.folder import RunFolder
    from curator.result.write import CurationResult
    from curator.sources.read import Reading
    from curator.sources.table import Table


@overload
def curate(
    dataset: Rows = None, method: str | Method | None = None, *, dry_run: Literal[True], **settings: Unpack[Keywords]
) -> Plan: ...


@overload
def curate(
    dataset: Rows = None,
    method: str | Method | None = None,
    *,
    dry_run: Literal[False] = False,
    **settings: Unpack[Keywords],
) -> Curated: ...


@with_signature
def curate(
    dataset: Rows = None, method: str | Method | None = None, *, dry_run: bool = False, **settings: Any
) -> Curated | Plan:
    """Find wrong labels and return the dataset with the columns of the verdict.

    Args:
        dataset: a named dataset, a Hub id, a folder (a Path always is one), a Dataset or DatasetDict, a DataFrame
            (pandas, polars, any table with Arrow's interface) with a column of images, or a list of image files.
            Files that rows name are read where they lie beside the Arrow files of a Dataset, in the caches of datasets,
            or in `data_dir`, which for a DataFrame is the working folder by default.
        method: a name, "auto" (picked by the rows), or a method object with its hyperparameters set, as
            `curator.methods.METHODS["ce"](lr=0.05)`.
        dry_run: return the plan (rows, classes, time, memory, warnings); nothing is trained or written.
        **settings: the flags of the command with underscores; a hyperparameter as `**{"method.lr": 0.05}`.
            labels: of a list of files, or of features without a dataset, one each: texts or whole numbers.
            features: array (n, d) of features of the rows to train on; they become the column `features`.
            data_dir: folder with the files of a named dataset, or with those that rows name.
            config_name: configuration of the dataset.
            class_level: of a folder of images, the level of folders that are the classes.
            split: the one to curate; default: the only one, or train.
            revision: branch, tag or commit on the Hub.
            image_column, label_column: guessed where there is one candidate.
            text_column: of rows of text; guessed where there is one candidate and no image.
            reference_column: true labels, if known; used by the report only.
            verified: rows with verified labels: a boolean column, a file with row,label, a journal, or a fraction.
            label_noise: noise to inject, as "sym:0.4"; of CIFAR-N the human labels.
            imbalance: rows of the largest class over those of the smallest, made first.
            limit_rows: curate a sample of so many rows.
            image_size: pixels a side that images are resized to.
            allow_quarantine: go on with more than 5 % of the rows unusable.
            ensemble: several methods, as "promix,confident".
            recipe: a YAML file or the name of a recipe.
            net: small, resnet18, preact18, resnet50 or vgg19_bn; on features mlp or linear.
            pretrained: start from ImageNet weights.
            backbone: what makes features of images: a name, or a function or nn.Module that maps uint8 (b, 3, h, w) on
                the device to floats (b, d), of texts a list of str. Of a lambda nothing is kept for another run.
            features_column: a column of embeddings to train on.
            pred_probs: your own out-of-sample probabilities, an array (n, classes) or an .npy file; nothing is trained.
            guard: hold new labels back where an estimate says that they would harm (default True).
            epochs: of training; all settings that count epochs are scaled.
            eval_every: score the other splits after every so many epochs.
            early_stop: stop when labels no longer change over so many epochs.
            max_minutes: stop training after so many minutes and write the result so far.
            crop: pixels a side of the window that nets see of images.
            crop_area: least share of an image that such a window, scaled, has in training.
            flip: flip images at random (default: unless flipped images look like other classes).
            feature_noise, feature_drop: augmentation of features (default 0.2 each).
            seed: of all randomness (default 123).
            mixed_precision: "no" or "bf16".
            compile: compile the net.
            memory_budget: GiB for decoded images.
            track: tensorboard, wandb or trackio.
            output: folder of the result; default `runs/DATASET-METHOD[-BACKBONE][-NOISE]`.
            overwrite: replace a finished run there.
            resume: continue an interrupted run there (default True).
            keep_checkpoints: keep the last checkpoint.
            flag_worst: flag exactly so many rows.
            overwrite_columns: replace columns that have the names of ours.
            column_prefix: what our columns' names begin with.
            push_to_hub: repository (owner/name) to push the result to.
            public: make a new repository public.

    Returns:
        The curated split, as it was also written to the output folder, with the columns clean_score, selected,
        corrected_label, teacher_soft_label, row and typicality: a Dataset that shows a summary in a notebook. Or the
        plan.

    Raises:
        CuratorError: in one line, for settings or data that do not fit.

    Example:
        curated = curate("folder/of/images", method="confident", epochs=30)
        curated = curate(files, labels=labels, backbone=my_model)
    """
    from curator.config.resolve import resolve
    from curator.library.curated import Curated
    from curator.library.given import given_in_python
    from curator.library.words import as_keywords, errors_of_python
    from curator.result.write import CurationResult
    from curator.sources.columns import quiet

    own = method is not None and not isinstance(method, str)

    def tell(line: str) -> None:
        if not dry_run:  # the plan that is returned has the lines
            say(as_keywords(line, own_method=own))

    with errors_of_python(own_method=own), quiet():
        given, rows = given_in_python(dataset, {**settings, "dry_run": dry_run})
        if isinstance(method, str):
            given["method"] = method
        resolved = resolve(given, None if isinstance(method, str) else method)
        done = execute(resolved, rows, noise_given="label_noise" in settings, say=tell)
        if isinstance(done, CurationResult):
            return Curated.of(done.dataset if done.dataset is not None else done.read(), done.output)
        words = [as_keywords(text, own_method=own) for text in (done.text, *done.warnings)]
        return replace(done, text=words[0], warnings=tuple(words[1:]))


def execute(
    resolved: Resolved,
    dataset: Dataset | DatasetDict | None = None,  # instead of loading settings.dataset
    *,
    noise_given: bool = False,  # whether the folder's name carries the noise
    say: Log = say,
) -> CurationResult | Plan:
    """Load, run, write and report; the plan alone after a dry run.

    Raises:
        CuratorError: nothing is left half-written; an interrupted run continues with the same settings.
    """
    from curator.config.names import output_folder
    from curator.result.folder import RunFolder, require_apart

    s = resolved.settings
    folder = RunFolder(output_folder(s, noise_given), s, resolved.given)
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
) -> CurationResult | Plan:
    from curator.engine.hardware import process_state
    from curator.engine.processes import of_main
    from curator.library.plan import recorded
    from curator.result.home import remember
    from curator.result.parquet import require_space
    from curator.result.write import write
    from curator.sources.load import load, memory_budget
    from curator.sources.opening import NAMED
    from curator.sources.read import read
    from curator.train import describe, introduce, picked, start, train

    s, state, identity = resolved.settings, process_state(), resolved.identity()
    lines, say = recorded(say)
    if of_main(not s.overwrite and folder.finished(identity), state.num_processes):
        return _finished_before(folder, say)
    folder.require_ours(identity)
    budget = memory_budget(s)
    table = load(s, source, budget)
    require_space([table.dataset, *table.others.values()], folder.path, table.access)
    introduce(table, s.features_column, say)
    reading = read(resolved, table, budget, say)
    resolved = picked(resolved, table, reading, folder.picked(), say)
    identity = resolved.identity() | _identity(resolved, table, reading)
    if of_main(s.resume and folder.finished(identity), state.num_processes):
        return _finished_before(folder, say)
    if folder.resumes and not reading.lasting:
        raise CuratorError(
            f"--output {folder.path}: it holds an interrupted run, and nothing tells whether --backbone {s.backbone} "
            "is the same as then: start anew with --no-resume, name another folder, or give a function with a name or "
            "a module"
        )
    folder.prepare(identity)
    state.wait_for_everyone()  # or another process would read the checkpoint that this one removes
    run = start(resolved, reading, folder.path, say)
    plan = describe(table, resolved, run, reading.data, folder.path, say)
    if s.dry_run:
        return plan.of(lines)
    _begin(folder, run, identity, say)
    try:
        found, history = train(resolved, table, reading, run, say)
        done = write(resolved, table, reading, run, found, history, folder.path, identity)
    except CuratorError:
        folder.failed()
        raise
    finally:
        run.close()
    folder.done()
    if folder.writes:
        local = source is None and is_path(s.dataset) and s.dataset not in NAMED
        remember(folder.path, s.dataset if local else None)
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
        line = command_line("publish", output, repo, "--policy", "annotate", *["--public"] * public)
        raise CuratorError(
            f"the run is finished in {output}, but not published: {e}; then the same command, which "
            f"trains nothing, or: {line}"
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
