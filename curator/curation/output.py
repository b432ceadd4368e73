"""The output folder: a dataset that `load_dataset` reads, put in place only when all of it is on the disk."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, LargeList, List
from datasets.features.features import require_storage_embed
from datasets.table import embed_array_storage, table_cast

from curator.curation.columns import Columns
from curator.curation.facts import split_of
from curator.errors import CuratorError
from curator.files import Refused, bare_name, read_inside
from curator.pictures import NoPicture
from curator.review.rows import DUPLICATES, TRUSTED
from curator.sources.images import NO_FILES, Access, encoded
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


def write_parquet(
    dataset: Dataset,
    folder: Path,
    split: str,
    access: Access = NO_FILES,
    whole: tuple[str, np.ndarray] | None = None,  # a column, and which of its (n,) images were decoded
) -> None:
    """Write a split as data/<split>-0000i-of-0000n.parquet with its image bytes embedded."""
    files = max(1, -(-_bytes(dataset, access) // SHARD_BYTES))
    per_file = max(1, -(-len(dataset) // files))
    files = max(1, -(-len(dataset) // per_file))
    schema = dataset.features.arrow_schema
    arrow = dataset.with_format("arrow")
    step = min(ROW_GROUP, max(1, WRITE_BYTES * len(dataset) // max(1, _bytes(dataset, access))))  # rows held at once
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for i in range(files):
        end = min((i + 1) * per_file, len(dataset))
        with pq.ParquetWriter(folder / "data" / f"{split}-{i:05d}-of-{files:05d}.parquet", schema) as writer:
            for start in range(i * per_file, end, step):
                here = slice(start, min(start + step, end))
                known = {whole[0]: whole[1][here]} if whole else {}
                writer.write_table(_embedded(table_cast(arrow[here], schema), access, known))


def written_images(folder: Path, split: str, column: str) -> Iterator[bytes | None]:
    """The encoded images of a split that write_parquet wrote, in the order of the rows."""
    for path in sorted((folder / "data").glob("*.parquet")):
        if split_of(path) == split:
            for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP, columns=[column]):
                for item in batch.column(0):
                    yield item.as_py()["bytes"] if item.is_valid else None


@dataclass
class _Files:
    """In the place of a feature whose values are files: embeds them, as embed_array_storage asks of a feature.

    Attributes:
        images: whether only what can be decoded as an image is embedded.
        whole: which of the values, in their order, need not be decoded again; empty where none is known.
    """

    access: Access
    images: bool
    whole: deque[bool]

    def embed_storage(self, storage: pa.Array, **_: Any) -> pa.Array:
        """{bytes, path} with the bytes of its files; one that may not be read keeps its name alone."""
        if not pa.types.is_struct(storage.type) or not {"bytes", "path"} <= {field.name for field in storage.type}:
            return storage
        contents, paths = storage.field("bytes"), storage.field("path").to_pylist()
        known = [self.whole.popleft() if self.whole else False for _ in paths]
        there = contents.is_valid().to_pylist()
        if not all(have or not path for have, path in zip(there, paths, strict=True)):
            values = contents.to_pylist()
            for i, path in enumerate(paths):
                if values[i] is None and path and storage[i].is_valid:
                    values[i] = self._read(path, known[i])
            contents = pa.array(values, contents.type)
        names = pa.array([None if path is None else bare_name(path) for path in paths], storage.field("path").type)
        parts = {"bytes": contents, "path": names}
        fields = list(storage.type)
        arrays = [parts[field.name] if field.name in parts else storage.field(field.name) for field in fields]
        return pa.StructArray.from_arrays(arrays, fields=fields, mask=storage.is_null())

    def _read(self, path: str, whole: bool) -> bytes | None:
        try:
            content = read_inside(path, self.access.folders)
            if self.images and not whole:
                self.access.decoder.rgb(content)
            return content
        except (Refused, NoPicture):
            return None


def _embedded(table: pa.Table, access: Access, whole: dict[str, np.ndarray]) -> pa.Table:
    """The table with the bytes of the files that it names; one that may not be read keeps its name alone.

    Nothing is fetched. whole: of a column of images, which rows of the table were decoded.
    """

    def mine(feature: Any, known: Iterable[bool] = ()) -> Any:
        if hasattr(feature, "embed_storage"):
            return _Files(access, isinstance(feature, Image), deque(known))
        if isinstance(feature, dict):
            return {name: mine(inner) for name, inner in feature.items()}
        if isinstance(feature, LargeList):
            return LargeList(mine(feature.feature))
        return List(mine(feature.feature), length=feature.length) if isinstance(feature, List) else feature

    features = Features.from_arrow_schema(table.schema)
    columns = [
        embed_array_storage(table[name], mine(feature, whole.get(name, ()))) if require_storage_embed(feature)
        else table[name]
        for name, feature in features.items()
    ]  # fmt: skip
    return pa.Table.from_arrays(columns, schema=table.schema)


def content_hash(data: Path) -> str:
    """Hash of the files in a folder."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(p for p in data.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _bytes(dataset: Dataset, access: Access) -> int:
    """Bytes of the rows, images in files outside included."""
    share = len(dataset) / max(1, len(dataset.data))  # after select() the table still holds all rows
    size = int(dataset.data.nbytes * share)
    if len(dataset) and size < 1000 * len(dataset):  # perhaps only paths: look at one table with its bytes
        part = dataset.with_format("arrow")[: min(100, len(dataset))]
        known = dict.fromkeys(dataset.column_names, np.ones(len(part), bool))  # decoding takes time and changes no size
        embedded = _embedded(table_cast(part, dataset.features.arrow_schema), access, known)
        size = max(size, embedded.nbytes * len(dataset) // len(part))
    return size


def require_space(splits: list[Dataset], folder: Path, access: Access = NO_FILES) -> None:
    """Refuse to start a run whose result cannot fit the disk."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    need, free = sum(_bytes(split, access) for split in splits), shutil.disk_usage(there).free
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
    wrong = np.flatnonzero(~columns.selected)
    wrong = wrong[np.argsort(columns.clean_score[wrong], kind="stable")]
    files: dict[int, str] = {}
    if len(wrong) and image_column is not None:
        paths = [
            bare_name(item["path"] or "") if item else "" for _, item in encoded(dataset.select(wrong), image_column)
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
