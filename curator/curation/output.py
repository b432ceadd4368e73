"""The output folder: a dataset that `load_dataset` reads, put in place only when all of it is on the disk."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from datasets.table import embed_table_storage, table_cast

from curator.curation.columns import Columns
from curator.errors import CuratorError
from curator.review.rows import DUPLICATES, TRUSTED
from curator.system import as_cell, lock_file, put, put_aside, remove, sync_folder, sync_tree

SHARD_BYTES = 500 * 2**20
ROW_GROUP = 100  # rows: to look at one image these are read
WRITE_BYTES = 100 * 2**20
FINISHED = "curation.json"  # written last
FEATURES = "features.npy"  # of runs that trained
QUARANTINE = "quarantine.parquet"  # split, row, reason
PENDING = ".pending"  # the identity of a finished run, while its command still has to clean up or to push it
OPTIONAL = (FEATURES, TRUSTED, QUARANTINE, DUPLICATES, PENDING)  # files that not every run writes
STAGING = ".staging"  # results that are being written
READY = ".ready"  # results that are whole, on their way to their places
REPLACED = ".replaced"  # those that stood there
GONE = ".gone"  # in READY: which of OPTIONAL these results do not have


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the output folder, creating it if need be; a folder that stays empty is removed again.

    Raises:
        CuratorError: when another run holds it, or the system has no file locks.
    """
    path = folder / ".lock"
    try:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115
    except OSError as e:
        raise CuratorError(f"--output {folder}: it cannot be written ({e.strerror}); choose another folder") from e
    with file:
        if not lock_file(file):
            raise CuratorError(f"--output {folder}: another run is writing there; wait for it or choose another folder")
        try:
            yield
        except BaseException:
            if missing and [p.name for p in folder.iterdir()] == [".lock"]:
                path.unlink()  # while we hold it
                with contextlib.suppress(OSError):  # somebody else may use a folder above by now
                    for empty in missing:
                        empty.rmdir()
            raise


def write_parquet(dataset: Dataset, folder: Path, split: str) -> None:
    """Write a split as data/<split>-0000i-of-0000n.parquet with its image bytes embedded."""
    files = max(1, -(-_bytes(dataset) // SHARD_BYTES))
    per_file = max(1, -(-len(dataset) // files))
    files = max(1, -(-len(dataset) // per_file))
    schema = dataset.features.arrow_schema
    arrow = dataset.with_format("arrow")
    step = min(ROW_GROUP, max(1, WRITE_BYTES * len(dataset) // max(1, _bytes(dataset))))  # rows held at once
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for i in range(files):
        end = min((i + 1) * per_file, len(dataset))
        with pq.ParquetWriter(folder / "data" / f"{split}-{i:05d}-of-{files:05d}.parquet", schema) as writer:
            for start in range(i * per_file, end, step):
                part = arrow[start : min(start + step, end)]
                writer.write_table(_embedded(table_cast(part, schema)))


def _embedded(table: pa.Table) -> pa.Table:
    """The table with the bytes of its images; one whose file is not there keeps its name alone. Nothing is fetched."""
    try:
        return embed_table_storage(table, remote_files=False)
    except OSError:
        if len(table) > 1:
            return pa.concat_tables([_embedded(table.slice(i, 1)) for i in range(len(table))])
        for i, field in enumerate(table.schema):
            if pa.types.is_struct(field.type) and field.type.get_field_index("path") >= 0:
                item = table[field.name][0].as_py() or {}
                named = {**item, "path": os.path.basename(item.get("path") or "")}  # where it lay is nobody's business
                table = table.set_column(i, field, pa.array([named], field.type))
        return table


def content_hash(data: Path) -> str:
    """Hash of the files in a folder."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(p for p in data.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _bytes(dataset: Dataset) -> int:
    """Bytes of the rows, images in files outside included."""
    share = len(dataset) / max(1, len(dataset.data))  # after select() the table still holds all rows
    size = int(dataset.data.nbytes * share)
    if len(dataset) and size < 1000 * len(dataset):  # perhaps only paths: look at one table with its bytes
        part = dataset.with_format("arrow")[: min(100, len(dataset))]
        embedded = _embedded(table_cast(part, dataset.features.arrow_schema))
        size = max(size, embedded.nbytes * len(dataset) // len(part))
    return size


def require_space(splits: list[Dataset], folder: Path) -> None:
    """Refuse to start a run whose result cannot fit the disk."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    need, free = sum(map(_bytes, splits)), shutil.disk_usage(there).free
    if need > free:
        raise no_space(folder, f"the result needs about {need / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free")


def no_space(folder: Path, detail: str = "the disk is full") -> CuratorError:
    """The one line for a full disk."""
    return CuratorError(
        f"no space left for --output {folder}: {detail}; free some or choose another folder, "
        "then run the same command again"
    )


def write_issues(
    path: Path,
    dataset: Dataset,
    image_column: str | None,
    columns: Columns,
    given: np.ndarray,
    classes: tuple[str, ...],
) -> None:
    """issues.csv: row, file, given, suggested and score of every row that is not selected, worst first."""
    from curator.sources.images import encoded

    wrong = np.flatnonzero(~columns.selected)
    wrong = wrong[np.argsort(columns.clean_score[wrong], kind="stable")]
    files: dict[int, str] = {}
    if len(wrong) and image_column is not None:
        paths = [
            os.path.basename(item["path"] or "") if item else ""
            for _, item in encoded(dataset.select(wrong), image_column)
        ]
        files = dict(zip(wrong.tolist(), paths, strict=True))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "file", "given", "suggested", "score"])
        for i in wrong.tolist():
            names = as_cell(files.get(i, "")), as_cell(classes[given[i]]), as_cell(classes[columns.corrected[i]])
            writer.writerow([columns.rows[i], *names, f"{columns.clean_score[i]:.6f}"])


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder to write results to; on leaving the block they replace the old ones, all or none of them.

    A run killed in between leaves the old results as they are, and STAGING, which tells that what lies beside it is
    ours; or READY, and then settle() goes on.
    """
    settle(folder)
    staging = folder / STAGING
    remove(staging)
    staging.mkdir()
    try:
        yield staging
        write_json(staging / GONE, [name for name in OPTIONAL if not (staging / name).exists()])
        sync_tree(staging)
        os.rename(staging, folder / READY)
    finally:
        with contextlib.suppress(OSError):
            remove(staging)
    settle(folder)


def settle(folder: Path) -> None:
    """Put results that are whole in their places, the FINISHED file last; a run that was killed may have begun it.

    The old results are put aside before, and go when the new ones stand.
    """
    ready, replaced = folder / READY, folder / REPLACED
    if (ready / FINISHED).exists():
        gone = json.loads((ready / GONE).read_text(encoding="utf-8"))
        replaced.mkdir(exist_ok=True)
        sync_folder(folder)
        for name in (FINISHED, *(name for name in OPTIONAL if name in gone)):
            put_aside(folder / name, replaced / name)
        for path in sorted(ready.iterdir(), key=lambda path: path.name == FINISHED):
            if path.name == FINISHED:
                sync_folder(folder)
            if path.name != GONE:
                put(path, folder / path.name, replaced / path.name)
        sync_folder(folder)
    for left in (ready, replaced):
        remove(left)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON."""
    path.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
