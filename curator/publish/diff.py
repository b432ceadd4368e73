"""What changed between two runs or versions of the same rows: which rows are there, their labels, their flags."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from curator.errors import CuratorError
from curator.result.facts import (
    FACTS,
    data_files,
    described,
    facts_in,
    is_label,
    names_of,
    open_parquet,
    read_facts,
    split_of,
)
from curator.sources.network import HubLimit, hub_limits
from curator.system import atomic, is_path, user_path
from curator.text import as_cell

COMPARED = ("label", "corrected_label", "selected")
NOTE = "note        A was made from {}, B from {}: their rows are taken to be the same by their ids"
# What files of another kind raise.
UNREADABLE = (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError, pa.ArrowException)
MOST = 10  # changes of labels that the text lists


@dataclass(frozen=True)
class Side:
    """One of the two: its name as given, curation.json, and by row id the values of COMPARED, labels by name."""

    name: str
    facts: dict[str, Any]
    rows: dict[int, tuple[Any, ...]]


@dataclass(frozen=True)
class Difference:
    """Two sides, and the rows, ascending, that only one has, or on which a value differs."""

    a: Side
    b: Side
    only_a: list[int]
    only_b: list[int]
    differ: dict[str, list[int]]  # by name of COMPARED

    def text(self) -> str:
        """A few lines for people."""
        a, b = self.a.rows, self.b.rows
        both, names = len(a) - len(self.only_a), [side.facts["name"] for side in (self.a, self.b)]
        lines = [
            f"A  {self.a.name}: {len(a):,} rows, {_made(self.a.facts)}",
            f"B  {self.b.name}: {len(b):,} rows, {_made(self.b.facts)}",
            *([NOTE.format(*names)] if len(set(names)) > 1 else []),
            f"rows        {both:,} in both, {len(self.only_a):,} only in A, {len(self.only_b):,} only in B",
        ]
        for name, what in zip(COMPARED, ("labels", "corrected", "flags"), strict=True):
            at, found = COMPARED.index(name), self.differ[name]
            now = ""
            if name == "selected" and found:
                only_b, only_a = (sum(x[row][at] is False and y[row][at] for row in found) for x, y in ((b, a), (a, b)))
                now = f": {only_b:,} flagged only in B, {only_a:,} only in A"
                aside = len(found) - only_a - only_b
                now += f", {aside:,} set aside in one of them" if aside else ""
            lines.append(f"{what:<11} {len(found):,} of {both:,} differ{now}")
            if name != "selected":
                changes = Counter((a[row][at], b[row][at]) for row in found if None not in (a[row][at], b[row][at]))
                lines += [f"            {n:>7,}  {_short(x)} -> {_short(y)}" for (x, y), n in changes.most_common(MOST)]
        return "\n".join(lines)

    def write_csv(self, path: Path) -> int:
        """Write every row that is not the same in both, whole or not at all; how many there are."""
        rows = sorted({*self.only_a, *self.only_b, *(row for found in self.differ.values() for row in found)})
        with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "in", *(f"{name}_{side}" for name in COMPARED for side in "ab")])
            for row in rows:
                here, there = self.a.rows.get(row), self.b.rows.get(row)
                where = "both" if here and there else "a" if here else "b"
                values = [side[at] if side else "" for at in range(len(COMPARED)) for side in (here, there)]
                writer.writerow([row, where, *(as_cell(v) if isinstance(v, str) else v for v in values)])
        return len(rows)


def difference(a: str, b: str) -> Difference:
    """Compare two folders of runs or versions, or Hub ids of versions (owner/name, owner/name@revision).

    Of the Hub only the columns that are compared are read.

    Raises:
        CuratorError: for what is neither, or two that are not about the same rows.
    """
    first, second = (_from_folder(user_path(name)) if is_path(name) else _from_hub(name) for name in (a, b))
    if first.facts["split"] != second.facts["split"]:
        raise CuratorError(
            f"expected two of the same split; {a} is of {first.facts['split']!r}, {b} of {second.facts['split']!r}"
        )
    both = sorted(first.rows.keys() & second.rows.keys())
    differ = {
        name: [row for row in both if first.rows[row][at] != second.rows[row][at]] for at, name in enumerate(COMPARED)
    }
    only_a, only_b = first.rows.keys() - second.rows.keys(), second.rows.keys() - first.rows.keys()
    return Difference(first, second, sorted(only_a), sorted(only_b), differ)


def _from_folder(folder: Path) -> Side:
    try:
        facts = read_facts(folder)
        files = data_files(folder, facts["split"])
        return _side(str(folder), facts, [open_parquet(path) for path in files], files)
    except UNREADABLE as e:
        raise _neither(str(folder), e) from e


def _from_hub(name: str) -> Side:
    from huggingface_hub import HfApi, HfFileSystem, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    from curator.publish.hub import require_id, require_inside
    from curator.publish.refusals import explained, status_of

    repo, _, revision = name.partition("@")
    require_id(repo)
    try:
        with hub_limits():
            # At one commit: a branch may move meanwhile, and the client remembers how large files were on it.
            commit = HfApi().repo_info(repo, revision=revision or None, repo_type="dataset").sha
            hub = HfFileSystem()
            path = hf_hub_download(repo, FACTS, repo_type="dataset", revision=commit)
            facts = facts_in(Path(path), "")
            root = f"datasets/{repo}@{quote(str(commit), safe='')}"
            found = [str(p) for p in hub.glob(f"{root}/data/*.parquet") if split_of(Path(p)) == facts["split"]]
            require_inside(found)
            return _side(name, facts, [pq.ParquetFile(hub.open(path)) for path in sorted(found)], found)
    except Exception as e:
        error = explained(e, "reading", name)
        if error is not None and (isinstance(error, HubLimit) or status_of(e) not in (None, 404)):
            raise error from e
        if error is None and not isinstance(e, (*UNREADABLE, HfHubHTTPError)):
            raise
        raise _neither(name, e) from e


def _side(name: str, facts: dict[str, Any], files: list[pq.ParquetFile], paths: Sequence[Path | str]) -> Side:
    if not files:
        raise ValueError(f"it holds no data/{facts['split']}-*.parquet")
    prefix, label = facts["settings"].get("column_prefix") or "", facts["label_column"]
    columns = [label, prefix + "corrected_label", prefix + "selected", prefix + "row"]
    features = described(files[0], paths[0])
    for column in columns[:2]:
        kind = files[0].schema_arrow.field(column).type
        if not is_label(kind) or (names_of(features[column]) is not None and not pa.types.is_integer(kind)):
            raise ValueError(f"its column {column} holds no labels")
    table = pa.concat_tables([file.read(columns) for file in files])
    labels, corrected, selected, rows = (
        _by_name(table[column].to_pylist(), names_of(features[column])) for column in columns
    )
    if not all(type(row) is int for row in rows) or len(set(rows)) < len(rows):
        raise ValueError("its column row does not tell its rows apart")
    return Side(name, facts, dict(zip(rows, zip(labels, corrected, selected, strict=True), strict=True)))


def _by_name(values: list[Any], names: list[str] | None) -> list[Any]:
    """Class numbers by their names; values of a column that has no names as they are."""
    if names is None:
        return [None if value != value else value for value in values]
    return [None if v is None or v < 0 else names[v] for v in values]


def _neither(name: str, error: Exception) -> CuratorError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return CuratorError(
        f"{name}: expected the folder of a run or a version (parquet), or a version on the Hub (owner/name@revision); "
        f"{reason}"
    )


def _made(facts: dict[str, Any]) -> str:
    said = facts.get("published")
    return f"{facts['method']}, seed {facts['seed']}" + (f", {said['policy']}" if said else "")


def _short(name: Any) -> str:
    text = " ".join(str(name).split())
    return text if len(text) <= 40 else text[:39] + "…"
