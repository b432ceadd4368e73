"""A source's own files with other labels: parquet, CSV, JSON, images in folders, and images with metadata beside."""

from __future__ import annotations

import posixpath
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curator.errors import CuratorError
from curator.publish.files import (
    INSTEAD,
    Edit,
    Layout,
    Source,
    codes_in,
    require_labels,
    require_pictures,
    require_values,
)
from curator.publish.parquet import rewritten
from curator.publish.policy import Fix
from curator.publish.tables import Tables
from curator.result.facts import open_parquet
from curator.result.read import Rows
from curator.sources.builders import read_rows
from curator.sources.metadata import CARDS


def edited(source: Source, layout: Layout, rows: Rows, changes: list[Fix], work: Path) -> Edit:
    """The files of a source with other labels of some rows, and nothing else.

    Args:
        source: which the run was made of.
        layout: of its files.
        rows: of the run.
        changes: the rows; none has the label None.
        work: an empty folder for the files.

    Raises:
        CuratorError: for a source that is not what the run has seen, and for files that cannot be changed so.
    """
    make = _metadata if layout.beside else {"images": _moved, "parquet": _parquet}.get(layout.form, _text)
    return make(source, layout, rows, changes, work)


def _parquet(source: Source, layout: Layout, rows: Rows, changes: list[Fix], work: Path) -> Edit:
    """Of large files only the labels are read, and whole those alone that have changes."""
    from huggingface_hub import HfFileSystem

    column, hub = rows.facts["label_column"], HfFileSystem(token=source.token)
    codes, starts, total = [], [], 0
    for file in layout.files:
        with hub.open(f"datasets/{source.repo}@{source.commit}/{file}") as content:
            table = pq.ParquetFile(content)
            if column not in table.schema_arrow.names:
                raise source.changed(f"{file} has no column {column}")
            values = table.read([column]).column(0)
        codes.append(codes_in(source, rows, values))
        starts.append(total)
        total += len(values)
    require_labels(source, rows, np.concatenate(codes))
    shown = rows.facts["image_column"] or rows.facts.get("text_column")
    edit = Edit({}, {})
    for place, (file, start) in enumerate(zip(layout.files, starts, strict=True)):
        here = {fix.row - start: fix for fix in changes if start <= fix.row < start + len(codes[place])}
        if not here:
            continue
        path = source.fetch(file)
        if shown is not None:
            values = open_parquet(path).read([shown]).column(0)
            require_values(source, rows, {fix: values[at].as_py() for at, fix in here.items()})
        edit.files[file] = work / f"{place}.parquet"
        rewritten(path, edit.files[file], rows, {at: int(fix.label or 0) for at, fix in here.items()})
    return edit


def _text(source: Source, layout: Layout, rows: Rows, changes: list[Fix], work: Path) -> Edit:
    """All tables and the card are copied: what one is read as depends on the others.

    Of all other files the names are there: datasets looks at them to tell what it reads, also at those of other
    configurations.
    """
    from huggingface_hub.errors import EntryNotFoundError

    home, split, config = work / "source", rows.facts["split"], rows.facts["source"].get("config")
    copies = {file: _copied(source, file, home / file) for file in layout.read}
    for card in CARDS:
        with suppress(EntryNotFoundError):
            _copied(source, card, home / card)
    for path in (home / file for file in source.files()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def read(cache: str) -> pa.Table:
        splits, _ = read_rows(str(home), config, None, source.repo, str(work / cache))
        if split not in splits:
            raise source.changed(f"it has no split {split}")
        return splits[split].with_format(None).data.table

    tables = Tables(source, layout, rows, copies, read)
    shown = rows.facts["image_column"] or rows.facts.get("text_column")
    edit = tables.edited(changes, np.arange(len(tables.before)))
    if shown is not None:
        tables.require_column(shown)
        require_values(source, rows, {fix: tables.before[shown][fix.row].as_py() for fix in changes})
    return edit


def _metadata(source: Source, layout: Layout, rows: Rows, changes: list[Fix], work: Path) -> Edit:
    """Copies with names of their own, which are no patterns, are read alone: images need not be there for it."""
    copies = {
        file: _copied(source, file, work / f"{i}{PurePosixPath(file).suffix}") for i, file in enumerate(layout.files)
    }

    def read(cache: str) -> pa.Table:
        import datasets

        try:
            found = datasets.load_dataset(
                layout.form, data_files=[str(copies[file]) for file in layout.files], split="train",
                cache_dir=str(work / cache),
            )  # fmt: skip
        except Exception as e:
            reason = " ".join(str(e.__cause__ or e).split())[:200]
            raise CuratorError(f"{source.repo}: its metadata cannot be read ({reason}); {INSTEAD}") from e
        return found.with_format(None).data.table

    tables = Tables(source, layout, rows, copies, read)
    own = f"{rows.facts['image_column']}_file_name"
    column = own if own in tables.before.column_names else "file_name"
    tables.require_column(column)
    names = [str(name).replace("\\", "/") for name in tables.before[column].to_pylist()]
    files, start = dict[str, list[str]](), 0
    for file, count in tables.counts.items():
        folder = posixpath.dirname(file)
        files[file] = [posixpath.normpath(posixpath.join(folder, n)) for n in names[start : start + count]]
        start += count
    of_row = _order(source, rows, files)
    images = [name for part in files.values() for name in part]
    edit = tables.edited(changes, of_row)
    require_pictures(source, rows, {fix: images[of_row[fix.row]] for fix in changes})
    return edit


def _order(source: Source, rows: Rows, files: dict[str, list[str]]) -> np.ndarray:
    """(m,) where each row of the split is, when the files are read one after the other.

    datasets 5.2 reads several metadata files of a split in an order of chance; the images of the run tell which.

    Args:
        source: which the run was made of.
        rows: of the run.
        files: the paths of the images of each metadata file.
    """
    known = {row: file for row, file in zip(rows.row.tolist(), rows.files, strict=True) if file}
    starts, total = dict[str, int](), 0
    for file, images in files.items():
        starts[file], total = total, total + len(images)
    order, left = list[int](), dict(files)

    def fits(file: str) -> int:
        """How many of the next rows have the images of a file; -1 where one has another."""
        found = 0
        for row, image in enumerate(left[file], len(order)):
            if row in known and known[row] not in (image, posixpath.basename(image)):
                return -1
            found += row in known
        return found

    while left:
        best = max(left, key=fits)
        if fits(best) < 0:
            raise source.changed(f"the images that {best} names are not those of the rows from {len(order)} on")
        order += range(starts[best], starts[best] + len(left.pop(best)))
    return np.array(order)


def _moved(source: Source, layout: Layout, rows: Rows, changes: list[Fix], work: Path) -> Edit:
    """The images with changes, moved to the folder of their class."""
    code = {name: i for i, name in enumerate(rows.classes)}
    there = np.array([code.get(PurePosixPath(file).parent.name, -1) for file in layout.files])
    require_labels(source, rows, there)
    taken, moves = {file.lower() for file in layout.files}, {}
    for fix in changes:
        file = PurePosixPath(layout.files[fix.row])
        folder, number = file.parent.parent / rows.classes[int(fix.label or 0)], 0
        target = folder / file.name
        while str(target).lower() in taken:
            number += 1
            target = folder / f"{file.stem}-{number}{file.suffix}"
        taken.add(str(target).lower())
        moves[str(file)] = str(target)
    require_pictures(source, rows, {fix: layout.files[fix.row] for fix in changes})
    return Edit({}, moves)


def _copied(source: Source, file: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source.fetch(file), path)
    return path
