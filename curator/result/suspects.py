"""What else may be wrong with the rows of a run: junk, faults of pictures, rows that are there more than once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curator.errors import CuratorError
from curator.result.facts import AGAIN, read_small
from curator.sources.faults import FAULTS

if TYPE_CHECKING:
    from pathlib import Path

    from curator.result.read import Rows

LOOK_ALIKES = "lookalikes.parquet"  # group, split, row, kind, leak, file
PICTURES = "image_issues.parquet"  # split, row, fault, place among those with the fault (0 is the worst), file
MOST = 2**26  # rows of such a file
TYPICALITY = "typicality"
SHOWN = 3  # rows that a row is said to look like


class Suspects:
    """Findings about the n rows of a run's curated split, read when they are asked for; older runs have none."""

    def __init__(self, rows: Rows):
        self.rows = rows

    @cached_property
    def typicality(self) -> np.ndarray:
        """(n,) float32 in [0, 1]; NaN where nothing is known."""
        rows, name = self.rows, self.rows.prefix + TYPICALITY
        if name not in rows.schema.names:
            return np.full(len(rows), np.nan, np.float32)
        found = rows.column(name)
        if found.type != pa.float32():
            raise CuratorError(
                f"{rows.folder}: expected numbers (float32) in column {name}, found {found.type}; {AGAIN}"
            )
        values = found.fill_null(np.nan).to_numpy()
        if not (np.isnan(values) | ((values >= 0) & (values <= 1))).all():
            raise CuratorError(f"{rows.folder}: column {name} has values that no run writes; {AGAIN}")
        return values

    @cached_property
    def junk(self) -> np.ndarray:
        """(n,) bool: rows that are like nothing in the dataset."""
        below = (self.rows.facts.get("suspect") or {}).get("below") or 0.0
        return self.rows.present & (self.typicality < below)

    @cached_property
    def faults(self) -> dict[int, list[str]]:
        """Faults of the pictures by position, rows with the worst of a fault first."""
        found: dict[int, list[str]] = {}
        columns = {"split": pa.string(), "row": pa.int64(), "fault": pa.string(), "place": pa.int64()}
        table = self._own(PICTURES, columns)
        if table is not None:
            places = self.rows.positions(table["row"].to_pylist()).tolist()
            worst = sorted(zip(table["place"].to_pylist(), places, table["fault"].to_pylist(), strict=True))
            for _, position, fault in worst:
                found.setdefault(position, []).append(fault if fault in FAULTS else "another fault")
        return found

    @cached_property
    def _alike(self) -> tuple[np.ndarray, dict[int, list[tuple[str, int]]], np.ndarray]:
        """Group of every row (-1: none), the (split, row) of every group, and which groups are in several splits."""
        group, members = np.full(len(self.rows), -1), dict[int, list[tuple[str, int]]]()
        columns = {"group": pa.int64(), "split": pa.string(), "row": pa.int64()}
        table = read_small(self.rows.folder / LOOK_ALIKES, columns, MOST)
        if table is None:
            return group, members, np.zeros(len(self.rows), bool)
        own = self.rows.facts["split"]
        for number, split, row in zip(*(table[name].to_pylist() for name in columns), strict=True):
            members.setdefault(number, []).append((split, row))
            if split == own:
                place = self.rows.position(row)
                if place is None:
                    raise _unknown(self.rows.folder / LOOK_ALIKES)
                group[place] = number
        several = {number for number, rows in members.items() if len({split for split, _ in rows}) > 1}
        return group, members, np.isin(group, list(several))

    @property
    def groups(self) -> np.ndarray:
        """(n,) int64, the group of rows of any split that are alike; -1 for a row that is like no other."""
        return self._alike[0]

    @property
    def leaks(self) -> np.ndarray:
        """(n,) bool: rows that stand in another split, too."""
        return self._alike[2]

    @cached_property
    def elsewhere(self) -> dict[str, np.ndarray]:
        """By other split, in the order of their names, (n,) bool: rows that stand in it, too."""
        group, members, _ = self._alike
        numbers: dict[str, set[int]] = {}
        for number, rows in members.items():
            for split, _ in rows:
                numbers.setdefault(split, set()).add(number)
        numbers.pop(self.rows.facts["split"], None)
        found = {split: np.isin(group, list(numbers[split])) for split in sorted(numbers)}
        return {split: mask for split, mask in found.items() if mask.any()}

    @cached_property
    def twins(self) -> np.ndarray:
        """(n,) bool: rows that are there more than once in this split."""
        group = self.groups
        count = np.bincount(group[group >= 0], minlength=1)
        return (group >= 0) & (count[group] > 1)

    def said(self, position: int) -> list[str]:
        """What is known of a row, in a few words each."""
        said = list(self.faults.get(position, []))
        if self.junk[position]:
            said.append(f"typicality {self.typicality[position]:.3f}")
        own = self.rows.facts["split"], int(self.rows.row[position])
        others = [member for member in self._alike[1].get(int(self.groups[position]), []) if member != own]
        if others:
            names = [f"{'row' if split == own[0] else split} {row}" for split, row in others[:SHOWN]]
            said.append(f"like {', '.join(names)}{', …' if len(others) > SHOWN else ''}")
        return said

    def _own(self, name: str, columns: dict[str, pa.DataType]) -> pa.Table | None:
        """The rows of the curated split in a file beside the data."""
        path = self.rows.folder / name
        table = read_small(path, columns, MOST)
        if table is None:
            return None
        table = table.filter(pc.equal(table["split"], self.rows.facts["split"]))
        if not np.isin(table["row"].to_numpy(), self.rows.row).all():
            raise _unknown(path)
        return table


def leaked(folder: Path) -> dict[str, np.ndarray]:
    """By split its rows (m,) int64 that stand in the split for training.

    Raises:
        CuratorError: for a file that cannot be read.
    """
    columns = {"split": pa.string(), "row": pa.int64(), "leak": pa.bool_()}
    table = read_small(folder / LOOK_ALIKES, columns, MOST)
    if table is None:
        return {}
    table = table.filter(table["leak"])
    return {
        split: table.filter(pc.equal(table["split"], split))["row"].to_numpy()
        for split in pc.unique(table["split"]).to_pylist()
    }


def _unknown(path: Path) -> CuratorError:
    return CuratorError(f"{path}: it names rows that the run does not have; {AGAIN}")
