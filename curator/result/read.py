"""A finished run as reviews and versions read it: columns, images, neighbours."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curator.decisions.content import content_of
from curator.decisions.places import Places
from curator.engine.cache import read_npy
from curator.errors import CuratorError
from curator.result.facts import (
    AGAIN,
    FACTS,
    data_files,
    described,
    is_label,
    names_of,
    open_parquet,
    read_facts,
    read_small,
    reading,
)
from curator.sources.labels import are_values, codes_of

TRUSTED = "trusted.parquet"  # row, label
DUPLICATES = "duplicates.parquet"  # row, group, kind
MAP = "map.npy"  # of the review: (n, 2) float32 in [0, 1], NaN for rows that are not on it
SOFT_ROWS = 100_000  # soft labels held at once while all are read


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_image(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and {f.name: f.type for f in kind} == {"bytes": pa.binary(), "path": pa.string()}


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


# The columns of a verdict and their types.
SOFT = "teacher_soft_label"  # a list of as many float32 as there are classes
SCORES = ("clean_score", "selected", "corrected_label", "row")
AMBIGUOUS = "ambiguous"  # bool; older runs have none
COLUMNS = {
    "clean_score": pa.float32().equals,
    "selected": pa.bool_().equals,
    "corrected_label": pa.int64().equals,
    "row": pa.int64().equals,
}


class Rows:
    """The curated split of an output folder: n rows, addressed by their position in its files.

    Attributes:
        facts: curation.json.
        classes: the k class names.
        row: (n,) int64, ascending ids: positions in the source split.
        given, suggested: (n,) int32 class numbers.
        score: (n,) float32 in [0, 1]; selected: (n,) bool.
        ambiguous: (n,) bool, rows that may have two right labels.
        present: (n,) bool, rows that the run could use; of others nothing is said (score 1, selected, suggested the
            given label).
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.facts: dict[str, Any] = read_facts(folder)
        if "published" in self.facts:
            raise CuratorError(f"{folder}: expected the output folder of a run; this is a published version")
        self.prefix = self.facts["settings"].get("column_prefix") or ""
        self.paths = data_files(folder, self.facts["split"])
        if not self.paths:
            raise CuratorError(f"{folder}: expected data/{self.facts['split']}-*.parquet, found none; {AGAIN}")
        self._parquet = [open_parquet(path) for path in self.paths]
        self.schema = self._parquet[0].schema_arrow
        self._described = described(self._parquet[0], self.paths[0])
        self._require_columns()
        self.classes = self._classes()
        columns = self._read([self.prefix + name for name in SCORES] + [self.facts["label_column"]])
        score, selected, corrected, row, label = columns.columns
        self.present = pc.is_valid(score).to_numpy()
        self.score = score.fill_null(1.0).to_numpy()
        self.selected = selected.fill_null(True).to_numpy()
        self.row, self.given = row.to_numpy(), self.codes(label)
        suggested = corrected.fill_null(-1).to_numpy()
        self._require_values(suggested)
        self.suggested = np.where(self.present, suggested, self.given).astype(np.int32)
        groups = [f.metadata.row_group(g).num_rows for f in self._parquet for g in range(f.num_row_groups)]
        self._group = [(f, g) for f in self._parquet for g in range(f.num_row_groups)]
        self._lock = threading.Lock()  # a file has one reader
        self._start = np.concatenate([[0], np.cumsum(groups)])
        self.ambiguous = self._ambiguous()

    def _require_columns(self) -> None:
        """Refuse files without the columns that the facts name, of other types, or with other numbers of rows."""
        facts = self.facts
        wanted = [(self.prefix + name, fits) for name, fits in COLUMNS.items()]
        wanted += [(self.prefix + SOFT, pa.list_(pa.float32(), facts["classes"]).equals)]
        for name, fits in (
            (facts["label_column"], is_label),
            (facts.get("reference_column"), is_label),
            (facts["image_column"], _is_image),
            (facts.get("text_column"), _is_text),
            (facts["settings"].get("features_column"), _is_list),
        ):
            wanted += [] if name is None else [(name, fits)]
        for path, file in zip(self.paths, self._parquet, strict=True):
            if not file.schema_arrow.equals(self.schema, check_metadata=True):
                raise CuratorError(f"{path}: its columns are not those of {self.paths[0].name}; {AGAIN}")
        for name, fits in wanted:
            found = self.schema.field(name).type if self.schema.names.count(name) == 1 else "none, or several"
            if not isinstance(found, pa.DataType) or not fits(found):
                raise CuratorError(f"{self.paths[0]}: expected the column {name!r} of a run, found {found}; {AGAIN}")
        n, rows = facts["n"], sum(file.metadata.num_rows for file in self._parquet)
        if not n <= rows <= n + facts.get("quarantined", 0):
            raise CuratorError(f"{self.folder}: expected {n:,} rows in data/ as {FACTS} says, found {rows:,}; {AGAIN}")

    def _classes(self) -> list[str]:
        names = names_of(self._described[self.prefix + "corrected_label"]) or []
        label = self.facts["label_column"]
        given, kind = names_of(self._described[label]), self.schema.field(label).type
        if given != names if pa.types.is_integer(kind) and given else not are_values(names, kind):
            raise CuratorError(f"{self.paths[0]}: its labels and corrected labels have other class names; {AGAIN}")
        if len(names) != self.facts["classes"] or len(set(names)) < len(names):
            raise CuratorError(
                f"{self.paths[0]}: expected {self.facts['classes']} class names as {FACTS} says, "
                f"found {len(set(names))}; {AGAIN}"
            )
        return names

    def _require_values(self, suggested: np.ndarray) -> None:
        """Refuse values that no run writes."""
        here = self.present
        for name, fits in (
            ("clean_score", np.isfinite(self.score) & (self.score >= 0) & (self.score <= 1)),
            ("corrected_label", ~here | ((suggested >= 0) & (suggested < len(self.classes)))),
            (self.facts["label_column"], ~here | (self.given >= 0)),
            ("row", np.diff(self.row, prepend=-1) > 0),
        ):
            if not fits.all():
                where = int(np.flatnonzero(~fits)[0])
                raise CuratorError(
                    f"{self.folder}: column {name} has values that no run writes, in line {where}; {AGAIN}"
                )
        if here.sum() != self.facts["n"]:
            raise CuratorError(
                f"{self.folder}: expected {self.facts['n']:,} rows with a score as {FACTS} says, "
                f"found {here.sum():,}; {AGAIN}"
            )

    def __len__(self) -> int:
        return len(self.row)

    def _ambiguous(self) -> np.ndarray:
        """Rows (n,) bool of the column; none where a run has no such column of bools of its own."""
        name = self.prefix + AMBIGUOUS
        if "ambiguous" not in self.facts or self.schema.names.count(name) != 1:
            return np.zeros(len(self), bool)
        if not pa.types.is_boolean(self.schema.field(name).type):
            raise CuratorError(
                f"{self.paths[0]}: expected the column {name!r} of a run, found {self.schema.field(name).type}; {AGAIN}"
            )
        return self._read([name])[name].fill_null(False).to_numpy()

    def _read(self, columns: list[str]) -> pa.Table:
        with reading(self.folder / "data"):
            return pa.concat_tables([f.read(columns) for f in self._parquet]).select(columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """The n values of a column."""
        return self._read([name])[name]

    def names_of_column(self, name: str) -> list[str] | None:
        """Names of the classes of a column that holds class numbers; None for any other."""
        return names_of(self._described[name])

    def codes(self, labels: pa.ChunkedArray, column: str | None = None) -> np.ndarray:
        """Class numbers (m,) int32 of values of a label column, by default the given labels; -1 where there is none."""
        names = names_of(self._described[column or self.facts["label_column"]])
        return codes_of(labels, self.classes, names).astype(np.int32)

    def position(self, row: int) -> int | None:
        """Where the row of an id lies; None where the run has no such row."""
        place = int(np.searchsorted(self.row, row))
        return place if place < len(self) and self.row[place] == row else None

    def positions(self, rows: list[int]) -> np.ndarray:
        """Positions of ids; ids that the run does not have are left out."""
        ids = np.asarray(rows, np.int64)
        places = np.minimum(np.searchsorted(self.row, ids), len(self) - 1)
        return places[self.row[places] == ids]

    def _values(self, positions: np.ndarray, column: str) -> list[Any]:
        """Values of a column at positions, of texts their bytes; each row group is read once."""
        out: dict[int, Any] = {}
        groups = np.searchsorted(self._start, positions, "right") - 1
        for group in np.unique(groups):
            file, number = self._group[group]
            with self._lock, reading(self.folder / "data"):
                values = file.read_row_group(number, [column], use_threads=False)[column]
            if _is_text(values.type):  # a stranger's need not be UTF-8
                values = values.cast(pa.binary() if pa.types.is_string(values.type) else pa.large_binary())
            for position in positions[groups == group].tolist():
                out[position] = values[position - int(self._start[group])].as_py()
        return [out[position] for position in positions.tolist()]

    @cached_property
    def files(self) -> list[str]:
        """Source files of the n rows, as "cat/003.png" in the dataset's folder; "" where there is none.

        Older runs hold their names alone.
        """
        column = self.facts["image_column"]
        if column is None:
            return [""] * len(self)
        with reading(self.folder / "data"):
            read = [pc.struct_field(f.read([f"{column}.path"]).column(0), "path") for f in self._parquet]
        return (
            pa.chunked_array([chunk for column in read for chunk in column.chunks], pa.string())
            .fill_null("")
            .to_pylist()
        )

    def files_of(self, rows: list[int]) -> list[str]:
        """Source files of ids; "" for one that the run does not have."""
        return ["" if place is None else self.files[place] for place in map(self.position, rows)]

    def images(self, positions: np.ndarray) -> list[tuple[bytes, str]]:
        """Encoded images and their source files; empty where there is none."""
        column = self.facts["image_column"]
        if column is None:
            return [(b"", "")] * len(positions)
        items = [value or {} for value in self._values(positions, column)]
        return [(item.get("bytes") or b"", item.get("path") or "") for item in items]

    def texts(self, positions: np.ndarray) -> list[str]:
        """Texts at positions; empty where there is none."""
        column = self.facts.get("text_column")
        values = [None] * len(positions) if column is None else self._values(positions, column)
        return [(value or b"").decode(errors="replace") for value in values]

    def soft(self, positions: np.ndarray) -> np.ndarray:
        """Soft labels (m, k) float32 at positions; zeros where there is none."""
        values = self._values(positions, self.prefix + SOFT)
        return self._soft_of(pa.array(values, pa.list_(pa.float32(), len(self.classes))))

    @cached_property
    def verdict(self) -> str:
        """Hash of rows, given labels and which are selected: a run that was made anew has another."""
        digest = hashlib.blake2b(self.row.tobytes(), digest_size=16)
        digest.update(self.given.tobytes())
        digest.update(np.packbits(self.selected).tobytes())
        return digest.hexdigest()

    @cached_property
    def trusted(self) -> dict[int, str]:
        """Verified labels of the rows that the run trusted."""
        table = read_small(self.folder / TRUSTED, {"row": pa.int64(), "label": pa.string()}, len(self))
        if table is None:
            return {}
        found = dict(zip(table["row"].to_pylist(), table["label"].to_pylist(), strict=True))
        odd = next((name for name in found.values() if name not in self.classes), None)
        if odd is not None:
            raise CuratorError(f"{self.folder / TRUSTED}: {odd[:50]!r} is not one of the classes of the run; {AGAIN}")
        return found

    @cached_property
    def flagged(self) -> np.ndarray:
        """(n,) bool: rows that are not selected, without those whose label was verified before the run."""
        return ~self.selected & ~self.verified

    @cached_property
    def verified(self) -> np.ndarray:
        """(n,) bool: rows whose label was verified before the run."""
        return np.isin(self.row, list(self.trusted))

    @cached_property
    def duplicates(self) -> np.ndarray:
        """(n,) int64, the group of a row that is there more than once, with different labels; -1 for others."""
        found = np.full(len(self), -1)
        table = read_small(self.folder / DUPLICATES, {"row": pa.int64(), "group": pa.int64()}, len(self))
        if table is not None:
            rows, group = (table[name].to_numpy() for name in ("row", "group"))
            if not np.isin(rows, self.row).all():
                raise CuratorError(f"{self.folder / DUPLICATES}: it names rows that the run does not have; {AGAIN}")
            found[np.searchsorted(self.row, rows)] = group
        return found

    @cached_property
    def truth(self) -> np.ndarray | None:
        """(n,) int32 class numbers of the true labels, -1 where there is none; None where they are not known."""
        column = self.facts.get("reference_column")
        if column is None:
            return None
        return self.codes(self._read([column])[column], column)

    def digests(self, rows: list[int]) -> dict[str, str]:
        """What the rows of some ids show, as hashes by id: of the image, the text, or the features column."""
        facts = self.facts
        column = facts["image_column"] or facts.get("text_column") or facts["settings"].get("features_column")
        positions = self.positions(rows) if column else np.zeros(0, np.int64)
        values = self._values(positions, str(column))
        return {str(self.row[p]): content_of(value) for p, value in zip(positions.tolist(), values, strict=True)}

    def sample(self, most: int = 16) -> dict[str, str]:
        """Digests of a few rows from all over the run."""
        places = np.unique(np.linspace(0, len(self) - 1, most).round().astype(int))
        return self.digests(self.row[places].tolist())

    def facts_for_a_journal(self) -> dict[str, Any]:
        """What a new journal says of these rows."""
        found = {"classes": self.classes, "dataset": self.facts["dataset"], "split": self.facts["split"]}
        return {**found, "sample": self.sample(), "id": uuid.uuid4().hex}

    @cached_property
    def margin(self) -> np.ndarray:
        """(n,) float32 in [-1, 1]: probability of the given label less that of the best other one."""
        out = np.empty(len(self), np.float32)
        for here, soft in self._soft():
            rows, given = np.arange(len(soft)), self.given[here]
            of_given = soft[rows, given]
            soft[rows, given] = -1
            out[here] = of_given - soft.max(1)
        return out

    @cached_property
    def confidence(self) -> np.ndarray:
        """(n,) float32 in [0, 1]: probability of the suggested label; 0 where the run could not use the row."""
        out = np.empty(len(self), np.float32)
        for here, soft in self._soft():
            out[here] = soft[np.arange(len(soft)), self.suggested[here]]
        return out

    def _soft(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All soft labels, a part (slice, (m, k) float32) at a time."""
        start, column = 0, self.prefix + SOFT
        for file in self._parquet:
            batches = file.iter_batches(SOFT_ROWS, columns=[column])
            while True:
                with self._lock, reading(self.folder / "data"):
                    batch = next(batches, None)
                if batch is None:
                    break
                soft = self._soft_of(batch.column(0))
                yield slice(start, start + len(soft)), soft
                start += len(soft)

    def _soft_of(self, values: pa.Array) -> np.ndarray:
        """Soft labels (m, k) float32 of lists; zeros where there is none."""
        k, numbers = len(self.classes), values.flatten()
        if numbers.null_count or not np.isfinite(numbers.to_numpy()).all():
            raise CuratorError(f"{self.folder}: expected {k} numbers in every teacher_soft_label; {AGAIN}")
        soft = np.zeros((len(values), k), np.float32)
        soft[values.is_valid().to_numpy(zero_copy_only=False)] = numbers.to_numpy().reshape(-1, k)
        return soft

    @cached_property
    def features(self) -> np.ndarray | None:
        """(n, d) float16, read from the disk where it is touched; None where the run has none that can be read."""
        return read_npy(self.folder / "features.npy", (len(self), None), np.float16, mapped=True)

    def nearest(self, position: int, label: int, count: int = 6, most: int = 20_000) -> np.ndarray:
        """Positions of the rows nearest to one (cosine of their features) among those whose corrected label is a class.

        These are the selected rows with the label, or all with it where none is selected. Of more than `most`, a fixed
        sample is searched.
        """
        if self.features is None:
            return np.zeros(0, np.int64)
        same = (self.given == label) & self.present
        candidates = np.flatnonzero(same & self.selected)
        candidates = candidates if len(candidates) else np.flatnonzero(same)
        candidates = candidates[candidates != position]
        if len(candidates) > most:
            candidates = np.sort(np.random.default_rng(0).choice(candidates, most, replace=False))
        if not len(candidates):
            return candidates
        near = self.features[candidates].astype(np.float32)
        one = self.features[position].astype(np.float32)
        similarity = near @ one / np.maximum(np.linalg.norm(near, axis=1) * np.linalg.norm(one), 1e-12)
        return candidates[np.argsort(-similarity, kind="stable")[:count]]


def places_of(rows: Rows) -> Places:
    """The rows of a run by their files."""
    return Places(zip(rows.row.tolist(), rows.files, strict=True))
