"""A finished run as the review reads it.

Small columns are in memory; images, soft labels and features come from their files when they are looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curator.errors import CuratorError

TRUSTED = "trusted.parquet"  # row, label
DUPLICATES = "duplicates.parquet"  # row, group, kind
SOFT_ROWS = 100_000  # soft labels held at once while all are read


def split_of(file: Path) -> str:
    """The split of data/SPLIT-0000i-of-0000n.parquet."""
    return file.name.rsplit("-", 3)[0]


def content_of(value: dict[str, Any] | list[float] | None) -> str:
    """Hash of an encoded image, or of a row of features."""
    content = value.get("bytes") or b"" if isinstance(value, dict) else np.asarray(value or [], np.float32).tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


class Rows:
    """The curated split of an output folder: n rows, addressed by their position in its files.

    Attributes:
        facts: curation.json.
        classes: the k class names.
        row: (n,) int64, ascending ids: positions in the source split.
        given, suggested: (n,) int32 class numbers.
        score: (n,) float32 in [0, 1]; selected: (n,) bool.
        present: (n,) bool, rows that the run could use; of others nothing is said (score 1, selected, suggested the
            given label).
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            self.facts: dict[str, Any] = json.loads((folder / "curation.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise CuratorError(
                f"{folder}: expected the output folder of a finished run (with curation.json); {e}"
            ) from e
        if not isinstance(self.facts, dict) or "published" in self.facts:
            raise CuratorError(f"{folder}: expected the output folder of a run; this is a published version, or no run")
        try:
            found = [p for p in sorted((folder / "data").glob("*.parquet")) if split_of(p) == self.facts["split"]]
            self.files = [pq.ParquetFile(path) for path in found]
            if not self.files:
                raise CuratorError(f"{folder}: expected data/{self.facts['split']}-*.parquet, found none")
            self.prefix = self.facts["settings"].get("column_prefix") or ""
            described = json.loads(self.files[0].schema_arrow.metadata[b"huggingface"])["info"]["features"]
            self.classes: list[str] = described[self.prefix + "corrected_label"]["names"]
            names = [self.prefix + name for name in ("clean_score", "selected", "corrected_label", "row")]
            columns = self._read([*names, self.facts["label_column"]])
        except CuratorError:
            raise
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as e:
            raise CuratorError(f"{folder}: its files are not those of a finished run ({e}); run it again") from e
        self.present = pc.is_valid(columns[names[0]]).to_numpy()
        self.score = columns[names[0]].fill_null(1.0).to_numpy()
        self.selected = columns[names[1]].fill_null(True).to_numpy()
        self.row, self.given = columns[names[3]].to_numpy(), self.codes(columns[self.facts["label_column"]])
        suggested = columns[names[2]].fill_null(-1).to_numpy().astype(np.int32)
        self.suggested = np.where(self.present, suggested, self.given)
        groups = [f.metadata.row_group(g).num_rows for f in self.files for g in range(f.num_row_groups)]
        self._group = [(f, g) for f in self.files for g in range(f.num_row_groups)]
        self._lock = threading.Lock()  # a file has one reader
        self._start = np.concatenate([[0], np.cumsum(groups)])

    def __len__(self) -> int:
        return len(self.row)

    def _read(self, columns: list[str]) -> pa.Table:
        return pa.concat_tables([f.read(columns) for f in self.files])

    def codes(self, labels: pa.ChunkedArray, names: list[str] | None = None) -> np.ndarray:
        """Class numbers (m,) int32 of labels as strings or numbers (numbers of names, if there are any); else -1."""
        if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
            labels = pc.index_in(labels, value_set=pa.array(self.classes, labels.type))
        codes = np.maximum(labels.cast(pa.int64()).fill_null(-1).to_numpy(), -1)
        if names is not None and set(names) & set(self.classes):  # by name: the order may differ
            number = {name: code for code, name in enumerate(self.classes)}
            codes = np.array([*(number.get(name, -1) for name in names), -1])[codes]
        return np.where(codes < len(self.classes), codes, -1).astype(np.int32)

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
        """Values of a column at positions; each row group is read once."""
        out: dict[int, Any] = {}
        groups = np.searchsorted(self._start, positions, "right") - 1
        for group in np.unique(groups):
            file, number = self._group[group]
            with self._lock:
                values = file.read_row_group(number, [column], use_threads=False)[column]
            for position in positions[groups == group].tolist():
                out[position] = values[position - int(self._start[group])].as_py()
        return [out[position] for position in positions.tolist()]

    def images(self, positions: np.ndarray) -> list[tuple[bytes, str]]:
        """Encoded images and their file names; empty where there is none."""
        column = self.facts["image_column"]
        if column is None:
            return [(b"", "")] * len(positions)
        items = [value or {} for value in self._values(positions, column)]
        return [(item.get("bytes") or b"", Path(item.get("path") or "").name) for item in items]

    def soft(self, positions: np.ndarray) -> np.ndarray:
        """Soft labels (m, k) float32 at positions; zeros where there is none."""
        none = [0.0] * len(self.classes)
        values = [value or none for value in self._values(positions, self.prefix + "teacher_soft_label")]
        return np.array(values, np.float32).reshape(len(positions), len(self.classes))

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
        try:
            table = pq.read_table(self.folder / TRUSTED)
        except FileNotFoundError:
            return {}
        return dict(zip(table["row"].to_pylist(), table["label"].to_pylist(), strict=True))

    @cached_property
    def duplicates(self) -> np.ndarray:
        """(n,) int64, the group of a row whose image is there more than once with different labels; -1 for others."""
        found = np.full(len(self), -1)
        with contextlib.suppress(FileNotFoundError):
            table = pq.read_table(self.folder / DUPLICATES, columns=["row", "group"])
            found[np.searchsorted(self.row, table["row"].to_numpy())] = table["group"].to_numpy()
        return found

    @cached_property
    def truth(self) -> np.ndarray | None:
        """(n,) int32 class numbers of the true labels, -1 where there is none; None where they are not known."""
        column = self.facts.get("reference_column")
        if column is None:
            return None
        described = json.loads(self.files[0].schema_arrow.metadata[b"huggingface"])["info"]["features"][column]
        return self.codes(self._read([column])[column], described.get("names"))

    def digests(self, rows: list[int]) -> dict[str, str]:
        """What the rows of some ids show, as hashes by id (text): of the image, or of the features column."""
        column = self.facts["image_column"] or self.facts["settings"].get("features_column")
        positions = self.positions(rows) if column else np.zeros(0, np.int64)
        values = self._values(positions, str(column))
        return {str(self.row[p]): content_of(value) for p, value in zip(positions.tolist(), values, strict=True)}

    def sample(self, most: int = 16) -> dict[str, str]:
        """Digests of a few rows from all over the run."""
        places = np.unique(np.linspace(0, len(self) - 1, most).round().astype(int))
        return self.digests(self.row[places].tolist())

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
        """(n,) float32 in [0, 1]: probability of the suggested label."""
        out = np.empty(len(self), np.float32)
        for here, soft in self._soft():
            out[here] = soft[np.arange(len(soft)), self.suggested[here]]
        return out

    def _soft(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All soft labels, a part (slice, (m, k) float32) at a time."""
        start, column = 0, self.prefix + "teacher_soft_label"
        for file in self.files:
            batches = file.iter_batches(SOFT_ROWS, columns=[column])
            while True:
                with self._lock:
                    batch = next(batches, None)
                if batch is None:
                    break
                values, k = batch.column(0), len(self.classes)
                soft = np.zeros((len(batch), k), np.float32)
                soft[values.is_valid().to_numpy(zero_copy_only=False)] = values.flatten().to_numpy().reshape(-1, k)
                yield slice(start, start + len(soft)), soft
                start += len(soft)

    @cached_property
    def features(self) -> np.ndarray | None:
        """(n, d) float16, read from the disk where it is touched; None where the run has none that can be read."""
        try:
            features = np.load(self.folder / "features.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return features if features.ndim == 2 and len(features) == len(self) else None

    def nearest(self, position: int, label: int, count: int = 6, most: int = 20_000) -> np.ndarray:
        """Positions of the rows nearest to one (cosine of their features) among those held to be of a class.

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
