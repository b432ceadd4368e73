"""Copies of a source's tables, in which labels change: all else is read from them as it was before."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Features

from curator.errors import CuratorError
from curator.publish.cells import Labels, label_cells, spellings
from curator.publish.files import INSTEAD, Edit, Layout, Source, codes_in, is_packed, require_labels
from curator.publish.parquet import alike, rewritten
from curator.publish.policy import Fix
from curator.publish.sheet import read_sheet
from curator.result.facts import open_parquet
from curator.result.read import Rows


@dataclass
class Tables:
    """The tables of a split.

    Attributes:
        source, layout, rows: of the run.
        copies: of the files, which may be changed.
        read: reads all rows of them, as the run did; is given a name for its cache, another each time.
        before: the rows, in the order of the files, until then.
        labels: of text where the labels are; of parquet nothing.
        counts: rows of each file.

    Raises:
        CuratorError: where it cannot be told which row is which.
    """

    source: Source
    layout: Layout
    rows: Rows
    copies: dict[str, Path]
    read: Callable[[str], pa.Table]
    before: pa.Table = field(init=False)
    labels: dict[str, Labels] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before, column = self.read("before"), self.rows.facts["label_column"]
        self.require_column(column)
        for file in self.layout.files:
            if self.layout.form == "parquet":
                self.counts[file] = open_parquet(self.copies[file]).metadata.num_rows
                continue
            sheet = read_sheet(self.copies[file], f"{self.source.repo}: {file}", packed=is_packed(file))
            self.labels[file] = label_cells(sheet, self.layout.form, column, self.layout.separator, self.layout.names)
            self.counts[file] = len(self.labels[file].spans)
        if sum(self.counts.values()) != len(self.before):
            raise CuratorError(
                f"{self.source.repo}: found {sum(self.counts.values()):,} rows in its files where datasets reads "
                f"{len(self.before):,}, so that it is not sure which is which; {INSTEAD}"
            )

    def require_column(self, name: str) -> None:
        """Refuse tables without a column."""
        if name not in self.before.column_names:
            raise self.source.changed(f"{self.layout.files[0]} has no column {name}")

    def edited(self, changes: list[Fix], of_row: np.ndarray) -> Edit:
        """The files with changes.

        Args:
            changes: of the run's rows.
            of_row: (m,) where among the rows as they are read each row of the source is.

        Raises:
            CuratorError: where the labels are not those of the run, and where more than labels would be read otherwise.
        """
        column = self.rows.facts["label_column"]
        codes = codes_in(self.source, self.rows, self.before[column])
        require_labels(self.source, self.rows, codes[of_row])
        new = {int(of_row[fix.row]): int(fix.label or 0) for fix in changes}
        edit, start, said = Edit({}, {}), 0, self._words(codes, set(new.values()))
        for file, count in self.counts.items():
            here = {at - start: code for at, code in new.items() if start <= at < start + count}
            start += count
            if not here:
                continue
            path = edit.files[file] = self.copies[file]
            if self.layout.form == "parquet":
                old = path.rename(path.with_name(f"old-{path.name}"))
                rewritten(old, path, self.rows, here)
            else:
                content = self.labels[file].replaced({at: said[code] for at, code in here.items()})
                if is_packed(file):  # with the time that it has said
                    content = gzip.compress(content, mtime=int.from_bytes(path.read_bytes()[4:8], "little"))
                path.write_bytes(content)
        self._require_rest(new)
        return edit

    def _words(self, codes: np.ndarray, wanted: set[int]) -> dict[int, str]:
        """How text has each wanted class."""
        if not self.labels:
            return {}
        found = spellings(self.labels.values(), codes)
        feature = Features.from_arrow_schema(self.rows.schema)[self.rows.facts["label_column"]]
        some, others = next(iter(self.labels.values())), [*found.values()]
        for code in wanted - found.keys():
            number = code if isinstance(feature, ClassLabel) else None
            found[code] = some.written(self.rows.classes[code], number, others)
        return found

    def _require_rest(self, new: Mapping[int, int]) -> None:
        """Refuse files of which more is read otherwise than the labels that are to change."""
        before, column, places = self.before, self.rows.facts["label_column"], list(new)
        try:
            after = self.read("after")
        except CuratorError as e:
            raise self._otherwise(str(e).removeprefix(f"{self.source.repo}: ")) from e
        if not after.schema.equals(before.schema):
            kinds = [
                table.schema.field(column).type if column in table.column_names else "none" for table in (before, after)
            ]
            raise self._otherwise(f"column {column}: {kinds[0]}, then {kinds[1]}")
        rest = np.ones(len(before), bool)
        rest[places] = False
        same = len(after) == len(before) and alike(before.drop_columns([column]), after.drop_columns([column]))
        if same:
            same = alike(*(table.select([column]).filter(pa.array(rest)) for table in (before, after)))
            codes = codes_in(self.source, self.rows, after[column])
            same &= codes[places].tolist() == [*new.values()]
        if not same:
            raise self._otherwise("other cells")

    def _otherwise(self, what: str) -> CuratorError:
        return CuratorError(
            f"{self.source.repo}: with the new labels more would be read otherwise than these ({what[:300]}); {INSTEAD}"
        )
