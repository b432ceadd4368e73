"""Splits as parquet files with the bytes of their images embedded."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, LargeList, List
from datasets.features.features import require_storage_embed
from datasets.table import embed_array_storage, table_cast

from curator.result.layout import no_space
from curator.sources.files import Refused, read_inside, source_file
from curator.sources.images import NO_FILES, Access, hash_of
from curator.sources.pictures import NoPicture

SHARD_BYTES = 300 * 2**20  # the Hub's viewer edits the cells of a split that is one file
ROW_GROUP = 100  # rows: to look at one image these are read
WRITE_BYTES = 100 * 2**20
# As the Hub likes it: pages that end where content does, so that a version sends what differs from the one before, and
# an index of pages, so that a viewer reads those that it shows.
WRITER: dict[str, Any] = {"use_content_defined_chunking": True, "write_page_index": True}


def write_parquet(
    dataset: Dataset,
    folder: Path,
    split: str,
    access: Access = NO_FILES,
    whole: tuple[str, np.ndarray] | None = None,  # a column, and which of its (n,) images were decoded
) -> np.ndarray | None:
    """Write a split as data/<split>-0000i-of-0000n.parquet with its image bytes embedded.

    Returns:
        Hashes (n,) uint64 of the images of the column, as they were written; 0 where there is none. None without one.
    """
    size = size_of(dataset, access)
    files = max(1, -(-size // SHARD_BYTES))
    per_file = max(1, -(-len(dataset) // files))
    files = max(1, -(-len(dataset) // per_file))
    schema = dataset.features.arrow_schema
    arrow = dataset.with_format("arrow")
    step = min(ROW_GROUP, max(1, WRITE_BYTES * len(dataset) // max(1, size)))  # rows held at once
    hashes = np.zeros(len(dataset), np.uint64) if whole else None
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for i in range(files):
        end = min((i + 1) * per_file, len(dataset))
        with pq.ParquetWriter(folder / "data" / f"{split}-{i:05d}-of-{files:05d}.parquet", schema, **WRITER) as writer:
            for start in range(i * per_file, end, step):
                here = slice(start, min(start + step, end))
                known = {whole[0]: whole[1][here]} if whole else {}
                part = _embedded(table_cast(arrow[here], schema), access, known)
                writer.write_table(part)
                if whole and hashes is not None:
                    contents = pc.struct_field(part[whole[0]], "bytes").to_pylist()
                    hashes[here] = [0 if content is None else hash_of(content) for content in contents]
    return hashes


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
        """{bytes, path} with the bytes of its files; each is called as source_file says."""
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
        files = [None if path is None else source_file(path, self.access.folders) for path in paths]
        names = pa.array(files, storage.field("path").type)
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
    """The table with the bytes of the files that it names; each is called as source_file says.

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


def size_of(dataset: Dataset, access: Access) -> int:
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
    need, free = sum(size_of(split, access) for split in splits), shutil.disk_usage(there).free
    if need > free:
        raise no_space(folder, f"the result needs about {need / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free")
