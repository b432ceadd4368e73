"""Verified rows: told by a column, a file, a journal, or drawn as a share of the truth."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Value

from curator.decisions.content import content_of
from curator.decisions.journal import FILE, Journal
from curator.decisions.names import Classes
from curator.decisions.pairs import KEYS, pairs_of, read_columns
from curator.decisions.places import Places
from curator.errors import CuratorError
from curator.sources.columns import column_array
from curator.sources.images import BrokenImage, encoded, source_files, with_bytes
from curator.sources.noise import stratified_sample
from curator.sources.table import Table
from curator.sources.texts import encoded_texts
from curator.text import did_you_mean

FORMS = (
    "a boolean column, a .csv or .parquet file with the columns row (or file) and label, a review journal, or a share "
    "as 0.1"
)


def trust(table: Table, trusted: str | Path | float, seed: int) -> None:
    """Set table.verified, and a note that says how many rows it has.

    Args:
        table: with its noise and its sample drawn.
        trusted: a boolean column of the dataset; a CSV or parquet file `row,label` or `file,label` (row: position in
            the source split, file: the image's path in the dataset's folder, label: a class name or number); a review
            journal, or the run's folder that holds it; or a share in (0, 1), drawn from every class of the reference.
        seed: of the draw.

    Raises:
        CuratorError: naming what does not fit.
    """
    share = _share(trusted)
    if share is not None:
        found, how = _drawn(table, share, seed), "drawn from the reference"
    elif str(trusted) in table.dataset.column_names:
        found, how = _column(table, str(trusted)), f"column {trusted!r}"
    else:
        path = Path(str(trusted)).expanduser()
        columns = did_you_mean(str(trusted), table.dataset.column_names)
        try:
            if path.is_dir():
                path = path / FILE
                if not path.is_file():
                    raise CuratorError(f"--verified {trusted}: the folder holds no {FILE}; review the run first")
            if not path.is_file():
                raise CuratorError(
                    f"--verified: expected {FORMS}; found neither a column nor a file {trusted}{columns}"
                )
            found, how = _file(table, path)
        except OSError as e:
            raise CuratorError(f"--verified {str(trusted)[:100]}: it cannot be read ({e.strerror})") from e
    table.verified = found
    count = int((found >= 0).sum())
    if not count:
        raise CuratorError(f"--verified {trusted}: it names no row of this dataset; leave it out")
    wrong = int(((found >= 0) & (found != table.labels)).sum())
    table.notes.append(f"{count:,} verified rows ({how}), of which {wrong:,} were given another label")


def _share(trusted: str | Path | float) -> float | None:
    try:
        share = float(str(trusted))
    except ValueError:
        return None
    if not 0 < share < 1:
        raise CuratorError(f"--verified: expected a fraction between 0 and 1, found {trusted}")
    return share


def _drawn(table: Table, share: float, seed: int) -> np.ndarray:
    if table.truth is None:
        raise CuratorError(
            f"--verified {share:g}: a fraction is sampled from the true labels, which are not known; "
            "name their column with --reference-column, or give verified rows"
        )
    found = np.full(len(table.labels), -1)
    chosen = stratified_sample(table.truth, max(1, round(share * len(found))), seed)
    found[chosen] = table.truth[chosen]
    return found


def _column(table: Table, column: str) -> np.ndarray:
    feature = table.dataset.features[column]
    if not (isinstance(feature, Value) and feature.dtype == "bool"):
        raise CuratorError(f"--verified {column}: expected a boolean column, found {feature}")
    trusted = column_array(table.data, column).fill_null(False).to_numpy()
    return np.where(trusted, table.labels, -1)


def _file(table: Table, path: Path) -> tuple[np.ndarray, str]:
    """Verified labels (n,), and where they come from."""
    with open(path, "rb") as file:
        if file.read(16) == b"SQLite format 3\0":
            return _journal(table, path)
    found = read_columns(path, "--verified", KEYS, table.source_rows)
    return _placed(table, pairs_of(*found, path, "--verified", lambda: _places(table)), path), path.name


def _places(table: Table) -> Places:
    """The rows of a table by their files; of a sample the names alone might mean rows that are not in it."""
    files = source_files(table.dataset, table.image_column, table.access)
    return Places(zip(table.ids.tolist(), files, strict=True), whole=len(table.ids) == table.source_rows)


def _journal(table: Table, path: Path) -> tuple[np.ndarray, str]:
    with closing(Journal(path)) as journal:
        verified, facts = journal.verified(), journal.facts
        counts = ", ".join(f"{count:,} {name}" for name, count in verified.counts.items() if count or name != "both")
        if facts["split"] != table.split:
            raise CuratorError(
                f"--verified {path}: its rows are of split {facts['split']!r}, this run is of {table.split!r}; "
                "choose it with --split"
            )
        journal.require(facts["classes"], table.split, lambda rows: _digests(table, rows))
    if not verified.labels:
        raise CuratorError(f"--verified {path}: no row is verified yet ({counts}); review some first")
    made_on = str(facts["dataset"])
    other = "" if table.name in (made_on, Path(made_on).name) else f" made on dataset {made_on}"
    return _placed(table, verified.labels.items(), path, exact=True), f"review journal {path.name}{other} ({counts})"


def _digests(table: Table, rows: list[int]) -> dict[str, str]:
    """Rows.digests of a table of images or texts."""
    places, column = np.flatnonzero(np.isin(table.ids, rows)), table.image_column
    if table.text_column is not None:
        texts = encoded_texts(table.dataset.select(places), table.text_column)
        return {str(row): content_of(text) for row, text in zip(table.ids[places], texts, strict=True)}
    if column is None:
        return {}
    images = encoded(table.dataset.select(places), column)
    ids = table.ids[places]

    def digest(i: int, item: dict) -> str:
        try:
            return content_of(with_bytes(i, item, ids, column, table.access))
        except BrokenImage:  # which the page does not show either
            return content_of(None)

    return {str(ids[i]): digest(i, item) for i, item in images}


def _placed(table: Table, pairs: Iterable[tuple[int, Any]], path: Path, *, exact: bool = False) -> np.ndarray:
    """Class numbers (n,) of verified (row, label); rows outside a sample (--limit-rows) are left out.

    exact: the labels are names as they stand, as a journal has them.
    """
    last = table.source_rows - 1
    place = {int(row): i for i, row in enumerate(table.rows)}
    classes = Classes(table.classes)
    code_of = classes.number.get if exact else classes.code
    found = np.full(len(table.rows), -1)
    seen: dict[int, int] = {}
    for row, label in pairs:
        if row is None or not 0 <= row <= last:
            raise CuratorError(f"--verified {path}: expected rows 0 to {last} of split {table.split!r}, found {row}")
        code = code_of(label)
        if code is None:
            raise CuratorError(f"--verified {path}: row {row} has the label {label!r}, {classes.why_not(label)}")
        if seen.setdefault(row, code) != code:
            raise CuratorError(f"--verified {path}: row {row} has two labels; keep one")
        if row in place:
            found[place[row]] = code
    lost = len(seen.keys() & set(table.ids[list(table.aside)].tolist()))
    if lost:
        table.notes.append(f"{lost:,} verified rows cannot be used: they are set aside")
    return found
