"""Tables as other tools write them: their images become a column of type Image, and nothing else is changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image

from curator.sources.columns import column_array, with_columns
from curator.sources.images import NO_FILES
from curator.sources.labels import is_string
from curator.sources.listing import IMAGES, listing
from curator.sources.matching import Files, is_address
from curator.sources.pictures import NoPicture

LOOKED_AT = 1000  # values of a column, to see what it holds
OPENED = 20  # of bytes
STORED = pa.struct({"bytes": pa.binary(), "path": pa.string()})  # a column of type Image


def rows_of(table: pa.Table, folder: Path | None, wanted: str | None = None) -> Dataset:
    """A table of pandas, polars, DuckDB or Arrow as a Dataset.

    Args:
        table: a column of bytes, of {bytes, path} or of paths may hold its images.
        folder: what paths are relative to; None: they stay as they are.
        wanted: the column that holds the images; by default every one that looks so.

    Returns:
        Its rows, with the same columns in the same order; those of images are of type Image. A path becomes that of the
        file below the folder that it means, an absolute one; one that means none stays as it is.
    """
    for i, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        kind = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}.get(kind, kind)
        if kind != field.type:  # which datasets does not know
            table = table.set_column(i, field.with_type(kind), table.column(i).cast(kind))
    return with_images(Dataset(table), folder, wanted)


def with_images(dataset: Dataset, folder: Path | None, wanted: str | None = None) -> Dataset:
    """The dataset with its plain columns of images as type Image, as rows_of says; where it has one, as it is."""
    names = dataset.column_names
    done = [name for name in names if isinstance(dataset.features[name], Image)]
    if wanted in done or (done and wanted is None):
        return dataset
    files = None if folder is None else Files(lambda: listing(folder, strict=False).images, folder)
    for column in names if wanted is None else {wanted} & {*names}:
        values = _images(dataset, column, files, folder, sure=column == wanted)
        if values is not None:
            dataset = with_columns(dataset.remove_columns(column), {column: (values, Image())})
    return dataset.select_columns(names) if dataset.column_names != names else dataset


def _images(dataset: Dataset, column: str, files: Files | None, folder: Path | None, sure: bool) -> Any:
    """The column's values as STORED; None where they are no images, of which the user may be sure."""
    feature = dataset.features[column]
    first = column_array(dataset.select(range(min(LOOKED_AT, len(dataset)))), column)
    kind = first.type
    if pa.types.is_struct(kind) and {"bytes", "path"} & {field.name for field in kind}:
        if isinstance(feature, dict) and _are_images(first):
            return _chunks(column_array(dataset, column), _of_struct)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        if _are_pictures(first.to_pylist()):
            return _chunks(column_array(dataset, column), lambda part: _stored(part, None, part.is_null()))
    elif is_string(feature) and (sure or _are_names(first.to_pylist())):
        paths = column_array(dataset, column).to_pylist()
        means = files.found(paths, stems=sure) if files else [None] * len(paths)
        return path_column([str(Path(str(folder), b)) if b else a for a, b in zip(paths, means, strict=True)])
    return None


def path_column(paths: Sequence[str | None]) -> pa.ChunkedArray:
    """Paths (n,) as the values of a column of type Image."""
    texts = pa.array(paths, pa.string())
    return pa.chunked_array([_stored(None, texts, texts.is_null())], STORED)


def _are_images(values: pa.ChunkedArray) -> bool:
    """Whether {bytes, path} hold images: by their bytes, else by their names."""
    items = [item for item in values.to_pylist() if item]
    return _are_pictures([item.get("bytes") for item in items]) or _are_names([item.get("path") for item in items])


def _are_pictures(values: Sequence[Any]) -> bool:
    """Whether one of the first values is an encoded image."""
    for content in [v for v in values if isinstance(v, bytes) and v][:OPENED]:
        try:
            with NO_FILES.decoder.look(content) as image:
                if image.format != "TGA":  # which has no mark: any bytes may look like it
                    return True
        except NoPicture:
            continue
    return False


def _are_names(values: Sequence[Any]) -> bool:
    """Whether at least half of the values end as image files do."""
    texts = [v for v in values if isinstance(v, str) and v]
    ends = sum(PurePosixPath(v.partition("?")[0] if is_address(v) else v).suffix.lower() in IMAGES for v in texts)
    return bool(texts) and 2 * ends >= len(texts)


def _of_struct(part: pa.StructArray) -> pa.StructArray:
    fields = {field.name: part.field(field.name) for field in part.type}
    return _stored(fields.get("bytes"), fields.get("path"), part.is_null())


def _chunks(values: pa.ChunkedArray, convert: Any) -> pa.ChunkedArray:
    """Its chunks converted, each of at most 1 GiB: one of Image's type holds less than 2."""
    found = []
    for chunk in values.chunks:
        rows = max(1, len(chunk) * 2**30 // max(1, chunk.nbytes))
        parts = [chunk] if rows >= len(chunk) else [chunk.slice(i, rows) for i in range(0, len(chunk), rows)]
        found += [convert(part if len(parts) == 1 else part.take(pa.array(range(len(part))))) for part in parts]
    return pa.chunked_array(found, STORED)


def _stored(contents: pa.Array | None, paths: pa.Array | None, mask: pa.BooleanArray) -> pa.StructArray:
    n = len(mask)
    bytes_ = pa.nulls(n, pa.binary()) if contents is None else _cast(contents, pa.binary())
    names = pa.nulls(n, pa.string()) if paths is None else _cast(paths, pa.string())
    if isinstance(names, pa.StringArray):
        names = pc.if_else(pc.equal(names, ""), None, names)  # polars writes them where there is none
    return pa.StructArray.from_arrays([bytes_, names], fields=list(STORED), mask=mask)


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values if values.type == kind else values.cast(kind)
