"""The files of a dataset on the Hub that hold its labels, and whether they are still what a run was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features

from curator.errors import CuratorError
from curator.publish.policy import Fix
from curator.result.facts import is_label
from curator.result.read import Rows
from curator.sources.cards import require_cards
from curator.sources.labels import codes_of
from curator.sources.metadata import require_own_repository

FORMS = (
    "parquet, CSV or JSON files, images in folders named by their class, or images with metadata.csv, .jsonl or "
    ".parquet beside them"
)
FORM_OF = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
INSTEAD = "publish a version to an id of your own instead"


@dataclass(frozen=True)
class Layout:
    """The files of a split at a commit, in the order of its rows.

    Attributes:
        files: tables, or images in the folders of their classes.
        form: what they are: "parquet", "csv", "json" or "images".
        beside: whether they are tables that name images beside them; of several the order of the rows is not known.
        read: what is read with them: the tables of the other splits, and cards.
        separator: between cells of CSV.
        names: of the columns of CSV whose first line does not have them.
    """

    files: list[str]
    form: str
    beside: bool = False
    read: list[str] = field(default_factory=list)
    separator: str = ","
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Source:
    """A dataset of the Hub at a commit, as a token sees it."""

    repo: str
    commit: str
    token: str | None = field(default=None, repr=False)

    def fetch(self, file: str) -> Path:
        """A file's copy in the Hub's cache."""
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self.repo, file, repo_type="dataset", revision=self.commit, token=self.token))

    def files(self) -> list[str]:
        """The paths of all files."""
        from huggingface_hub import HfApi

        from curator.publish.hub import require_inside

        found = HfApi(token=self.token).list_repo_files(self.repo, revision=self.commit, repo_type="dataset")
        require_inside(found)
        return found

    def hashes(self, files: Iterable[str]) -> dict[str, str]:
        """By file how the Hub knows its content: SHA-256, or git's id of a small one; those that are not there lack."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(token=self.token)
        known = api.get_paths_info(self.repo, list(files), revision=self.commit, repo_type="dataset")
        return {f.path: f.lfs.sha256 if f.lfs else f.blob_id for f in known if isinstance(f, RepoFile)}

    def changed(self, what: str) -> CuratorError:
        """The error where it is not what the run has seen."""
        return CuratorError(
            f"{self.repo}: {what}; it has changed since the run was made, or the run was made otherwise; run again"
        )


@dataclass
class Edit:
    """What a pull request changes: files by their new content, and files that move."""

    files: dict[str, Path]
    moves: dict[str, str]


def layout_of(source: Source, facts: Mapping[str, Any]) -> Layout:
    """Which files of a repository hold the rows of a run's split, as load_dataset finds them.

    Raises:
        CuratorError: for a dataset of another form.
    """
    import datasets

    from curator.publish.hub import require_inside

    repo, split = source.repo, facts["split"]
    require_cards(repo, source.commit, repo, source.token)
    builder = datasets.load_dataset_builder(
        repo, facts["source"].get("config"), revision=source.commit, token=source.token
    )
    config: Any = builder.config
    suffixes: Any = getattr(builder, "EXTENSIONS", ())  # of folders of files, each of which is a row
    found = {str(name): [str(file) for file in part] for name, part in (config.data_files or {}).items()}
    require_own_repository([file for part in found.values() for file in part], repo)
    every = {name: [_below(file) for file in part] for name, part in found.items()}
    require_inside(file for part in every.values() for file in part)
    files = every.get(split, [])
    kinds = {PurePosixPath(file).suffix.lower() for file in files}
    if suffixes and files and kinds <= set(suffixes):
        return Layout(files, "images")
    named: Any = getattr(config, "metadata_filenames", None) or getattr(builder, "METADATA_FILENAMES", ())
    tables = [file for file in files if not suffixes or PurePosixPath(file).name in named]
    forms = {_form(file) for file in tables}
    images = kinds - {PurePosixPath(file).suffix.lower() for file in tables}
    if len(forms) != 1 or "" in forms or not images <= set(suffixes) or getattr(config, "drop_metadata", None):
        raise CuratorError(
            f"{repo}: expected {FORMS}; found {', '.join(sorted(kinds)) or 'none'} in split {split!r}; {INSTEAD}"
        )
    if getattr(config, "field", None) is not None:
        raise CuratorError(f"{repo}: its rows are inside the field {config.field!r} of a JSON object; {INSTEAD}")
    form, separator = forms.pop(), getattr(config, "sep", ",") or ","
    if len(separator) != 1:
        raise CuratorError(f"{repo}: expected one character between its cells, found {separator!r}; {INSTEAD}")
    if suffixes:
        return Layout(tables, form, beside=True)
    read, names = [file for part in every.values() for file in part], getattr(config, "names", None) or ()
    return Layout(files, form, read=read, separator=separator, names=names)


def is_packed(file: str) -> bool:
    """Whether a file is compressed, which only text is here."""
    return file.lower().endswith(".gz")


def _form(file: str) -> str:
    """Of which form a table is by its name; "" of none."""
    path = PurePosixPath(file.lower())
    form = FORM_OF.get((path.with_suffix("") if is_packed(file) else path).suffix, "")
    return "" if is_packed(file) and form == "parquet" else form


def _below(address: str) -> str:
    """The path in its repository that an address of the Hub has."""
    return address.partition("@")[2].partition("/")[2]


def require_labels(source: Source, rows: Rows, there: np.ndarray) -> None:
    """Refuse a source whose labels (m,), as class numbers, are not those that the run was given."""
    if len(there) <= rows.row.max():
        raise source.changed(f"it has {len(there):,} rows, the run is of row {rows.row.max():,} too")
    differ = np.flatnonzero(there[rows.row] != rows.given)
    if len(differ):
        raise source.changed(f"row {rows.row[differ[0]]} has another label than the run was given")


def require_values(source: Source, rows: Rows, values: Mapping[Fix, Any]) -> None:
    """Refuse rows whose images {bytes, …}, or texts, are not those that were judged."""
    for fix, value in values.items():
        if rows.facts["image_column"] is None:
            same = value == rows.texts(np.array([fix.at]))[0]
        else:
            same = isinstance(value, dict) and value.get("bytes") == rows.images(np.array([fix.at]))[0][0]
        if not same:
            raise source.changed(f"row {fix.row} shows something else than the run has seen")


def require_pictures(source: Source, rows: Rows, files: Mapping[Fix, str]) -> None:
    """Refuse rows whose files of the repository are not the images that were judged."""
    known = source.hashes(files.values())
    for fix, file in files.items():
        ((content, _),) = rows.images(np.array([fix.at]))
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        if known.get(file) not in (hashlib.sha256(content).hexdigest(), blob):
            raise source.changed(f"row {fix.row} shows something else than the run has seen")


def codes_in(source: Source, rows: Rows, values: pa.ChunkedArray) -> np.ndarray:
    """(n,) class numbers of a label column of the source."""
    if not is_label(values.type):
        raise source.changed(f"its column {rows.facts['label_column']} is {str(values.type)[:50]}")
    feature = Features.from_arrow_schema(rows.schema)[rows.facts["label_column"]]
    return codes_of(values, rows.classes, getattr(feature, "names", None))
