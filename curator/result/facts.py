"""What the folder of a run or a version says of itself, looked at once on reading; a folder may be a stranger's."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curator.errors import CuratorError
from curator.sources.pictures import KINDS
from curator.system import read_file

FACTS = "curation.json"
MOST = 64 * 2**20  # bytes of it
RANGES = "pixel_ranges"  # in it: kind of image of more than 8 bits -> the values that became 0 and 255
DEEP = 32  # values inside values
AGAIN = "run it again, or name another folder"
NONE = type(None)
# What it holds that anybody reads: name (inside.name), types; what may be missing begins with "?".
TYPES: dict[str, tuple[type, ...]] = {
    "method": (str,), "recipe": (str, NONE), "dataset": (str,), "name": (str,), "split": (str,), "command": (str,),
    "image_column": (str, NONE), "label_column": (str,), "?reference_column": (str, NONE),
    "?text_column": (str, NONE),
    "n": (int,), "classes": (int,), "selected": (int,), "changed": (int,), "?quarantined": (int,), "seed": (int,),
    "?ambiguous": (int, NONE),
    "estimated_noise_rate": (int, float), "trusted": (dict,), "trusted.count": (int,),
    "source": (dict,), "?source.id": (str,), "?source.revision": (str, NONE),
    "versions": (dict,), "versions.label-curator": (str,),
    "settings": (dict,), "?settings.column_prefix": (str, NONE), "?settings.features_column": (str, NONE),
    "?settings.label_noise": (str, NONE), "?settings.revision": (str, NONE),
    f"?{RANGES}": (dict,), "?encoders": (list,), "?accuracy": (dict,),
    "?leaks": (dict,), "?leaks.rows": (int,), "?leaks.in": (str,), "?leaks.splits": (dict,),
    "?look_alikes": (dict,), "?look_alikes.rows": (int,), "?look_alikes.groups": (int,), "?picture_faults": (dict,),
    "?suspect": (dict,), "?suspect.junk": (int,), "?suspect.ambiguous": (int,), "?suspect.below": (int, float),
     "?published": (dict,), "?published.policy": (str,),
}  # fmt: skip


def read_facts(folder: Path) -> dict[str, Any]:
    """curation.json of a run's or a version's folder; with "published" it is a version's.

    Raises:
        CuratorError: naming the file and what does not fit.
    """
    return facts_in(folder / FACTS, f"{folder}: expected the output folder of a finished run (with {FACTS}); ")


def facts_in(path: Path, expected: str) -> dict[str, Any]:
    """The facts of a file; the errors begin with what was expected."""
    try:
        facts = read_json(path)
        if "published" not in facts and facts.keys().isdisjoint(("split", "settings")):
            raise ValueError("it holds the facts of no run")
        for name, types in TYPES.items():
            _require_type(facts, name.removeprefix("?"), types, needed=name[0] != "?")
        for name in ("selected", "changed", "trusted.count", "quarantined"):
            _require_range(facts, name, 0, facts["n"] if name != "quarantined" else 2**53)
        for kind, ends in facts.get(RANGES, {}).items():
            if kind not in KINDS or not isinstance(ends, list) or [type(end) for end in ends] != [float] * 2:
                raise ValueError(f"{RANGES}: expected two numbers by kind of image, found {json.dumps(ends)[:50]}")
        for name in ("picture_faults", "leaks.splits"):
            inside, last = _at(facts, name)
            for count in inside.get(last, {}).values():
                if type(count) is not int:
                    raise ValueError(f"{name}: expected whole numbers, found {json.dumps(count)[:50]}")
        _require_range(facts, "n", 1, 2**53)
        _require_range(facts, "classes", 2, 2**31)
        _require_range(facts, "estimated_noise_rate", 0, 1)
        _require_range(facts, "seed", -(2**64), 2**64)
        if len(facts["split"]) > 200 or not re.fullmatch(r"\w+(\.\w+)*", facts["split"]):
            raise ValueError(f"split: expected the name of a split, found {facts['split'][:50]!r}")
    except OSError as e:
        raise CuratorError(f"{expected}{path}: {e.strerror or e}; {AGAIN}") from e
    except ValueError as e:
        raise CuratorError(f"{expected}{path}: {' '.join(str(e).split())[:300]}; {AGAIN}") from e
    return facts


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file. What JSON has no number for (NaN, 1e999) is None.

    Raises:
        OSError: for what is no file, is too large, or cannot be read.
        ValueError: for anything but an object of at most DEEP levels, with every key once and text that can be written.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"it says twice: {next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i]))!r}")
        return found

    def finite(text: str) -> float | None:
        return number if math.isfinite(number := float(text)) else None

    try:
        text = read_file(path, MOST).decode()
        value = json.loads(text, object_pairs_hook=once, parse_float=finite, parse_constant=lambda name: None)
    except RecursionError as e:
        raise ValueError("it is nested too deeply") from e
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    _require_plain(value)
    return value


def _require_plain(value: Any) -> None:
    """Refuse what could not be written again: too many levels, or text with half a character."""
    level = [value]
    for _ in range(DEEP):
        for text in (t for v in level for t in (v if isinstance(v, dict) else [v]) if isinstance(t, str)):
            text.encode()
        level = [x for v in level if isinstance(v, dict | list) for x in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _at(facts: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The object that holds a name, and its last part."""
    head, _, last = name.rpartition(".")
    return (facts.get(head, {}) if head else facts), last


def _require_type(facts: dict[str, Any], name: str, types: tuple[type, ...], *, needed: bool) -> None:
    inside, last = _at(facts, name)
    if last not in inside:
        if needed:
            raise ValueError(f"it lacks {name}")
        return
    if type(inside[last]) not in types:
        kinds = " or ".join({str: "text", int: "a whole number", float: "a number", dict: "an object", NONE: "null"}[t]
                            for t in types)  # fmt: skip
        raise ValueError(f"{name}: expected {kinds}, found {json.dumps(inside[last])[:50]}")


def _require_range(facts: dict[str, Any], name: str, least: int, most: int) -> None:
    inside, last = _at(facts, name)
    if last in inside and not least <= inside[last] <= most:
        raise ValueError(f"{name}: expected a number from {least} to {most:,}, found {str(inside[last])[:50]}")


# The data files


def split_of(file: Path) -> str:
    """The split of data/SPLIT-0000i-of-0000n.parquet."""
    return file.name.rsplit("-", 3)[0]


def data_files(folder: Path, split: str | None = None) -> list[Path]:
    """The parquet files of a folder's data/, of one split or of all."""
    return [p for p in sorted((folder / "data").glob("*.parquet")) if split in (None, split_of(p))]


def open_parquet(path: Path) -> pq.ParquetFile:
    """A parquet file with the features of datasets in its metadata.

    Raises:
        CuratorError: for anything else.
    """
    with reading(path):
        if not path.is_file():  # a pipe would be waited for
            raise OSError("it is no file" if path.exists() else "there is no such file")
        return pq.ParquetFile(path)


def read_small(path: Path, columns: dict[str, pa.DataType], rows: int) -> pa.Table | None:
    """Columns of a parquet file of at most so many rows beside the data; None where it is not there.

    Raises:
        CuratorError: for other columns or types, missing values, or more rows.
    """
    if not path.exists():
        return None
    file = open_parquet(path)
    names = set(file.schema_arrow.names)
    if file.metadata.num_rows > rows or not set(columns) <= names:
        raise CuratorError(
            f"{path}: expected the columns {', '.join(columns)} and at most {rows:,} rows, found "
            f"{', '.join(sorted(names))[:100]} and {file.metadata.num_rows:,}; {AGAIN}"
        )
    with reading(path):
        table = file.read(list(columns)).select(list(columns))
        if any(table[name].null_count for name in columns):
            raise ValueError("it has missing values")
        return table.cast(pa.schema(columns.items()))


def described(file: pq.ParquetFile, path: Path | str) -> dict[str, dict[str, Any]]:
    """What datasets' metadata say of every column of a file.

    Raises:
        CuratorError: where they say nothing that can be read.
    """
    try:
        found = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"]
        _require_plain(found)
        return {name: found[name] if isinstance(found[name], dict) else {} for name in file.schema_arrow.names}
    except (KeyError, TypeError, ValueError, RecursionError) as e:
        raise CuratorError(f"{path}: its metadata do not describe its columns; {AGAIN}") from e


def names_of(feature: dict[str, Any]) -> list[str] | None:
    """Class names of a described column; None where it has none."""
    names = feature.get("names")
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def is_label(kind: pa.DataType) -> bool:
    """Whether a column of the type may hold labels."""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return number or pa.types.is_string(kind) or pa.types.is_large_string(kind)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file that a block reads when it turns out to be broken."""
    try:
        yield
    except CuratorError:
        raise
    except (OSError, ValueError, IndexError, csv.Error, pa.ArrowException) as e:
        raise unreadable(path, e) from e


def unreadable(path: Path | str, error: Exception) -> CuratorError:
    """The one line for a file that is broken."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return CuratorError(f"{path}: it cannot be read ({reason}); {AGAIN}")
