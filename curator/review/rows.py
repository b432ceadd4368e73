"""A finished run as the review page reads it.

Small columns are in memory, images come from the parquet files when they are shown.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import Features

from curator.evidence import CuratorError


class Rows:
    """The curated split of an output folder, its rows that are not selected in the order least clean first."""

    def __init__(self, folder: Path):
        try:
            self.facts = json.loads((folder / "curation.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise CuratorError(
                f"{folder}: expected the output folder of a finished run (with curation.json); {e}"
            ) from e
        self.files = [pq.ParquetFile(p) for p in sorted((folder / "data").glob(f"{self.facts['split']}-*.parquet"))]
        if not self.files:
            raise CuratorError(f"{folder}: expected data/{self.facts['split']}-*.parquet, found none")
        prefix = self.facts["settings"].get("column_prefix") or ""
        self.features = Features.from_arrow_schema(self.files[0].schema_arrow)
        self.classes: list[str] = self.features[prefix + "corrected_label"].names
        names = [prefix + n for n in ("clean_score", "selected", "corrected_label", "row")]
        columns = [np.concatenate([f.read([n])[n].to_numpy() for f in self.files]) for n in names]
        self.score, self.selected, self.corrected, self.row = columns
        self.given = self._given(self.facts["label_column"])
        wrong = np.flatnonzero(~self.selected.astype(bool))
        self.order = wrong[np.argsort(self.score[wrong], kind="stable")]

    def _given(self, column: str) -> np.ndarray:
        values = [v for f in self.files for v in f.read([column])[column].to_pylist()]
        if isinstance(values[0], str):
            number = {name: i for i, name in enumerate(self.classes)}
            values = [number[v] for v in values]
        return np.array(values)

    def images(self, positions: np.ndarray) -> list[bytes]:
        """Encoded images of the rows at the positions, empty where there is none; a row group is read once."""
        column = self.facts["image_column"]
        if column is None:
            return [b""] * len(positions)
        out: dict[int, bytes] = {}
        start = 0
        for file in self.files:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                wanted = positions[(positions >= start) & (positions < end)]
                if len(wanted):
                    values = file.read_row_group(group, [column])[column]
                    out |= {int(i): (values[int(i - start)].as_py() or {}).get("bytes") or b"" for i in wanted}
                start = end
        return [out[int(i)] for i in positions]
