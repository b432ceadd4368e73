"""A folder of image files, with class folders, with tables that name the images, or with both, as splits of rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

from curator.decisions.names import Classes
from curator.errors import CuratorError
from curator.sources.columns import with_columns
from curator.sources.layout import Layout, layout_of, notes_of, split_of
from curator.sources.listing import Listing, listing
from curator.sources.matching import Files
from curator.sources.metadata import require_own_files
from curator.sources.named import Named, named_in, notes_on_columns
from curator.sources.tables import path_column
from curator.sources.written import read_table

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # what datasets takes for tables of images
MOST_TABLES = 100
LARGEST = 2**26  # bytes of a table that is read where class folders tell the labels


@dataclass
class Found:
    """What was found in a folder.

    Attributes:
        splits: the rows: images, not read yet, and what folders and tables say of them.
        label: the column that holds the labels by its name, if one does.
        notes: what the user should know of it.
    """

    splits: DatasetDict
    label: str | None = None
    notes: list[str] = field(default_factory=list)


def read_folder(
    folder: Path, found: Listing, level: int | None, image: str | None, label: str | None, flag: str
) -> Found | None:
    """The rows of a folder of images; None where its metadata name several of a row, which datasets reads.

    Args:
        folder: the dataset's.
        found: what lies in it; some are images.
        level: --class-level.
        image: --image-column.
        label: --label-column.
        flag: what errors begin with.

    Raises:
        CuratorError: for a layout that tells no labels, or several, naming it and what to do.
    """
    try:
        layout = layout_of(found.images, level)
    except CuratorError as e:
        raise e if level is not None else CuratorError(f"{flag}: {e}") from e
    tables = [] if level is not None else _tables(folder, found, layout, image, label, flag)
    if tables is None:
        return None
    notes = [*notes_of(found.left_out), *(f"{a} is a link to {b}: its images are rows twice" for a, b in found.twice)]
    notes += [f"{path} is not read: unpack it" for path in found.rows if path.endswith((".zip", ".gz"))][:3]
    if not tables:
        if not layout.classes:
            raise CuratorError(f"{flag}: {_seen(found, layout)}")
        return Found(_of_classes(folder, layout), "label", [*notes, *layout.notes, *notes_of(layout.left_out)])
    with_classes = [] if any(table.label for table in tables) else [layout.classes]
    if with_classes and layout.classes:
        columns = ", ".join(name for name in tables[0].table.column_names if name != tables[0].column)
        notes.append(
            f"the labels are the names of the folders; to use a column of {tables[0].name} ({columns}), name it with "
            "--label-column"
        )
    elif layout.classes:
        notes.append(
            f"the labels are column {tables[0].label} of {tables[0].name}; to use the folders, --class-level 1"
        )
    notes += notes_on_columns(tables)
    splits = _of_tables(folder, tables, layout, flag)
    listed = {path for table in tables for path in table.files if path}
    rest = [path for path in found.images if path not in listed]
    if rest:
        left_out = {f"{' and '.join(table.name for table in tables[:3])} names them in no row": rest}
        notes += notes_of(left_out)
    labelled = "label" if with_classes and layout.classes else tables[0].label
    return Found(splits, labelled, notes)


def read_single(file: Path, table: pa.Table, homes: list[Path], image: str | None, label: str | None) -> Found:
    """The rows of a table in a file of its own, whose images lie in the first of the folders that has any."""
    best = None
    for home in homes or [file.parent]:
        files = Files(partial(_images_in, home), home) if homes else None
        named = named_in(table, file.name, files, "", image, label, exact=False)
        if named is not None and (best is None or any(named.files)):
            best = home, named
            if any(named.files):
                break
    if best is None:  # perhaps rows of embeddings
        return Found(DatasetDict({"train": Dataset(table)}))
    return Found(DatasetDict({"train": _rows(*best, {})}), best[1].label, notes_on_columns([best[1]]))


def _images_in(folder: Path) -> list[str]:
    return listing(folder, strict=False).images


def _tables(
    folder: Path, found: Listing, layout: Layout, image: str | None, label: str | None, flag: str
) -> list[Named] | None:
    """The tables from which the rows are taken; none where the class folders tell all. None: as read_folder says."""
    whole = Files(lambda: found.images)
    by_split = {split: Files(partial(list, files)) for split, files in layout.splits.items() if layout.named}
    own = [path for path in found.tables if path.rpartition("/")[2] in METADATA]
    named: list[Named] = []
    for path in own or found.tables[:MOST_TABLES]:
        if "submission" in path.rpartition("/")[2].casefold():  # of Kaggle: labels that nobody gave
            continue
        require_own_files([str(folder / path)], folder, flag)
        if not own and layout.classes and (folder / path).stat().st_size > LARGEST:
            continue
        try:
            table = read_table(folder / path)
        except CuratorError as e:
            if own or not layout.classes:
                raise CuratorError(f"{flag}: {e}") from e
            continue  # some other file beside class folders
        if own and any(re.fullmatch("(.+_)?file_names|.+_file_name", name) for name in table.column_names):
            return None
        base, exact = path.rpartition("/")[0], bool(own)
        # The same names may stand in train/ and in test/: those of train.csv are of train/.
        nearest = by_split.get(_split_of_table(path) or "")
        entry = named_in(table, path, nearest, base, image, label, exact=exact) if nearest else None
        entry = entry or named_in(table, path, whole, base, image, label, exact=exact)
        if entry is not None:
            named.append(entry)
    if own and not named:
        raise CuratorError(f"{flag}: {own[0]}: expected a column file_name with the names of image files; rename it")
    if own or not layout.classes:
        return [entry for entry in named if entry.label] or named  # one of sizes says nothing of labels
    # Beside class folders a table counts that has other classes for most of the images: the folders are shards. One of
    # the same classes is a list of some files, as of verified ones.
    half, classes = len(found.images) / 2, Classes(sorted({*layout.classes.values()}))
    return [
        entry
        for entry in named
        if entry.label
        and any(classes.named(value) is None for value in entry.table[entry.label].drop_null().unique().to_pylist())
        and sum(path is not None for path in entry.files) >= half
    ]


def _of_classes(folder: Path, layout: Layout) -> DatasetDict:
    names = sorted({*layout.classes.values()})
    number = {name: i for i, name in enumerate(names)}
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    splits = {}
    for split, files in layout.splits.items():
        images = path_column([str(folder / path) for path in files])
        labels = pa.array([number[layout.classes[path]] for path in files], pa.int64())
        splits[split] = Dataset(pa.table({"image": images, "label": labels}).cast(features.arrow_schema))
    return DatasetDict(splits)


def _of_tables(folder: Path, tables: list[Named], layout: Layout, flag: str) -> DatasetDict:
    classes = {} if any(table.label for table in tables) else layout.classes
    place = {path: split for split, files in layout.splits.items() for path in files} if layout.named else {}
    known = [_split_of_table(table.name) for table in tables]
    by_table = len({*known}) > 1 and len(tables) > 1
    parts: dict[str, list[Dataset]] = {}
    seen: dict[str, str] = {}
    for table, own in zip(tables, known, strict=True):
        for path in sorted({path for path in table.files if path}):
            if seen.setdefault(path, table.name) != table.name:
                raise CuratorError(
                    f"{flag}: {seen[path]} and {table.name} both name {path}; keep one, or name it: "
                    f"--dataset {folder / seen[path]}"
                )
        rows = _rows(folder, table, classes)
        if layout.named:
            default = split_of(table.base.strip("/").rpartition("/")[2]) or own or "train"
            of_row = [place.get(path or "", default) for path in table.files]
        else:
            of_row = [(own or "train") if by_table else "train"] * len(rows)
        for split in dict.fromkeys(of_row):
            parts.setdefault(split, []).append(rows.select([i for i, s in enumerate(of_row) if s == split]))
    splits = {}
    for split, datasets in parts.items():
        if any(part.features != datasets[0].features for part in datasets):
            raise CuratorError(
                f"{flag}: expected tables of the same columns, found others among "
                f"{', '.join(table.name for table in tables[:5])}; name one of them with --dataset"
            )
        splits[split] = _concatenated(datasets)
    return DatasetDict({split: splits[split] for split in sorted(splits, key=lambda s: s != "train")})


def _split_of_table(name: str) -> str | None:
    """The split that the name of a table means, as train_labels.csv does."""
    return split_of(Path(name).stem)


def _concatenated(parts: list[Dataset]) -> Dataset:
    from datasets import concatenate_datasets

    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def _rows(folder: Path, named: Named, classes: dict[str, str]) -> Dataset:
    """A table's rows, its images as a column of that type, with the labels of their folders where it has none."""
    cells = named.table[named.column].to_pylist()
    paths = [
        str(folder / path) if path else None if cell is None else named.missing(folder, str(cell))
        for path, cell in zip(named.files, cells, strict=True)
    ]
    column = "image" if named.column == "file_name" and "image" not in named.table.column_names else named.column
    names = [column if name == named.column else name for name in named.table.column_names]
    rows = Dataset(named.table.drop_columns([named.column])) if len(names) > 1 else None
    images = pa.table({column: path_column(paths)}).cast(Features({column: Image()}).arrow_schema)
    rows = Dataset(images) if rows is None else with_columns(rows, {column: (images[column], Image())})
    rows = rows.select_columns(names)
    if not classes:
        return rows
    found = sorted({*classes.values()})
    number = {name: i for i, name in enumerate(found)}
    labels = pa.array([number.get(classes.get(path or "", "")) for path in named.files], pa.int64())
    return with_columns(rows, {"label": (labels, ClassLabel(names=found))})


def _seen(found: Listing, layout: Layout) -> str:
    """A layout that tells no labels, and what to do."""
    n, first = len(found.images), found.images[0]
    where = "in folders of splits" if layout.named else f"in one folder, as {first}"
    text = f"saw {n:,} images {where}, and nothing that tells their labels"
    if found.tables:
        text += f"; no column of {', '.join(found.tables[:3])} names them"
    return (
        f"{text}: put them in one folder per class, or add a table, as labels.csv with the columns file_name and label"
    )
