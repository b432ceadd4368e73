"""A dataset on this machine: a folder of images is listed here, any other is read by datasets."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Image

from curator.errors import CuratorError
from curator.sources.builders import read_rows
from curator.sources.cards import own_card, require_cards
from curator.sources.files import beside, real_folders, whole_of
from curator.sources.folders import METADATA, read_folder, read_single
from curator.sources.images import paths
from curator.sources.layout import notes_of
from curator.sources.listing import Listing, is_text, listing
from curator.sources.metadata import names_files, require_own_files
from curator.sources.written import read_table


@dataclass
class Opened:
    """A dataset that was found.

    Attributes:
        splits: all of them.
        source: where they come from (Table.source).
        folders: its own, as real paths (Access.folders).
        home: the local folder that its paths are relative to; None where there is none.
        label: the column that holds the labels by its name, if one does.
        notes: what the user should know of it.
    """

    splits: DatasetDict
    source: dict[str, Any]
    folders: tuple[str, ...]
    home: Path | None = None
    label: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What the user said of the dataset's files.

    Attributes:
        data_dir, config_name, class_level, image_column, label_column, text_column: the flags.
    """

    data_dir: Path | None = None
    config_name: str | None = None
    class_level: int | None = None
    image_column: str | None = None
    label_column: str | None = None
    text_column: str | None = None


def open_local(path: Path, asked: Asked, flag: str) -> Opened:
    """A file or folder of this machine: listed here where it holds images, else read by datasets.

    Raises:
        CuratorError: beginning with the flag, in the user's terms.
    """
    path = Path(os.path.abspath(path))  # datasets takes `csv` for its own reader, and `.` for nothing
    if not is_text(str(path)):
        raise CuratorError(f"{flag}: expected a path that is UTF-8 text; rename its folders")
    opened, levels = _file(path, asked, flag) if path.is_file() else _folder(path, asked, flag)
    if asked.class_level is not None and not levels:
        raise CuratorError("--class-level: it is for folders of images that no card describes; leave it out")
    return opened


def _file(path: Path, asked: Asked, flag: str) -> tuple[Opened, bool]:
    """Rows of one file, and whether --class-level has a meaning."""
    folders = real_folders(beside(path))
    homes = [path.parent] * bool(folders) + ([asked.data_dir] if asked.data_dir else [])
    home = homes[-1] if homes else None
    if path.suffix.lower() not in (".csv", ".tsv", ".json", ".jsonl", ".ndjson"):
        return Opened(read_rows(str(path), None, None, flag)[0], {"id": None}, folders, home), False
    table = read_table(path)
    if not table.num_rows:
        raise CuratorError(f"{flag}: {path.name} has no rows")
    if asked.text_column is not None:  # none of its columns names images
        return Opened(DatasetDict({"train": Dataset(table)}), {"id": None}, folders, home), False
    found = read_single(path, table, homes, asked.image_column, asked.label_column)
    return Opened(found.splits, {"id": None}, folders, home, found.label, found.notes), False


def _folder(path: Path, asked: Asked, flag: str) -> tuple[Opened, bool]:
    """Rows of a folder, and whether --class-level has a meaning."""
    saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
    try:
        files = Listing() if saved else listing(path, filter(None, [asked.data_dir]))
    except CuratorError as e:
        raise CuratorError(f"{flag}: {e}") from e
    if files.outside and (files.images or not (files.tables or files.rows)):
        raise CuratorError(
            f"{flag}: {files.outside[0]} is a link out of the dataset's folder: put the files themselves there, or "
            "name the folder that it leads to with --data-dir"
        )
    if not saved:
        require_cards(path, None, flag)
    if files.left_out and not (files.images or files.tables or files.rows):
        raise CuratorError(f"{flag}: no image in it can be read: {'; '.join(notes_of(files.left_out))}")
    opened = Opened(DatasetDict(), {**own_card(path), "id": None}, (whole_of(path),), path)
    own = bool(files.images) and not names_files(path)
    others = _of_rows(path, files, flag) if own else []
    level, image, label = asked.class_level, asked.image_column, asked.label_column
    found = read_folder(path, files, level, image, label, flag) if own and not others else None
    if found is None:
        opened.splits, pictures = read_rows(str(path), asked.config_name, None, flag)
        _count(opened, files, pictures, others, flag)
        return opened, False
    if asked.config_name not in (None, "default"):
        raise CuratorError(f"--config-name {asked.config_name}: a folder of images has none; leave it out")
    opened.splits, opened.label, opened.notes = found.splits, found.label, found.notes
    return opened, True


def _count(opened: Opened, found: Listing, pictures: bool, others: list[str], flag: str) -> None:
    """Say which image files are no rows of what datasets has read; pictures: whether its rows are files.

    Raises:
        CuratorError: where it is not clear which the rows are, and where nothing tells their labels.
    """
    if others and pictures:
        raise CuratorError(
            f"{flag}: saw {len(found.images):,} images and files of rows ({others[0]}): name the file of rows with "
            "--dataset, or move the images to a folder of their own"
        )
    if others:
        opened.notes += notes_of({f"the rows are those of {others[0]}": found.images})
    if pictures and len(found.images) > sum(map(len, opened.splits.values())):
        rest = _no_rows(opened, found.images)
        why = {"the dataset's card or metadata do not name them": rest} if rest else {}
        opened.notes += [*notes_of(why), *notes_of(found.left_out)]
    if pictures and all(split.column_names == ["image"] for split in opened.splits.values()):
        raise CuratorError(
            f"{flag}: its card names images, and nothing tells their labels: name one folder per class there, or take "
            "`configs` out of README.md"
        )


def _no_rows(opened: Opened, images: list[str]) -> list[str]:
    """Those of the image files of a folder that are no rows."""
    columns = [(s, c) for s in opened.splits.values() for c, kind in s.features.items() if isinstance(kind, Image)]
    rows = {os.path.realpath(path) for split, column in columns for path in paths(split, column) if path}
    return [path for path in images if os.path.realpath(Path(str(opened.home), path)) not in rows]


def _of_rows(folder: Path, found: Listing, flag: str) -> list[str]:
    """Files among a folder's that hold rows and not only names of images: datasets reads these."""
    parquet = [p for p in found.tables if p.endswith(".parquet") and p.rpartition("/")[2] not in METADATA]
    require_own_files([str(folder / path) for path in parquet], folder, flag)
    kinds = {path: pq.read_schema(folder / path).types for path in parquet}
    images = [path for path, types in kinds.items() if any(pa.types.is_nested(t) or _is_binary(t) for t in types)]
    return [*images, *(path for path in found.rows if path.endswith((".arrow", ".tar")))]


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
