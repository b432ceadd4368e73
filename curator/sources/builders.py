"""Rows that `datasets` reads: parquet, Arrow, WebDataset, what a card names, and whatever is on the Hub."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from glob import has_magic
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetBuilder, DatasetDict
from datasets.exceptions import DatasetGenerationError

from curator.errors import CuratorError
from curator.sources.align import number_alike
from curator.sources.cards import require_cards
from curator.sources.metadata import require_own_files, require_own_repository, require_readable
from curator.sources.network import HubLimit, hub_limits
from curator.sources.written import read_table

SMALL = 2**26  # bytes of CSV files that are read whole


def read_rows(
    path: str, config_name: str | None, revision: str | None, flag: str, cache_dir: str | None = None
) -> tuple[DatasetDict, bool]:
    """load_dataset, with its many errors as one line, and of a stranger's dataset nothing but its own files.

    Args:
        path: a folder, a parquet or Arrow file, or a Hub id.
        config_name: as load_dataset takes it.
        revision: as load_dataset takes it.
        flag: errors begin with it.
        cache_dir: what a folder's rows are kept in, all as load_dataset reads them; by default one of its own in the
            user's cache, for its files as they are now, and CSV files are read as a single one is.

    Returns:
        The splits, and whether each row is a file of a folder.
    """
    local, log, pictures = Path(path), logging.getLogger("datasets"), False
    before = log.level
    log.setLevel(logging.CRITICAL)  # what it logs of an error, in many lines, stands in ours
    try:
        if local.is_file():
            kind = {".parquet": "parquet", ".arrow": "arrow"}.get(local.suffix)
            if kind is None:
                raise CuratorError(f"{flag}: expected a folder, or a .parquet, .csv or .jsonl file, found {local.name}")
            require_readable([path] if kind == "parquet" else [], flag)
            own = _cache_of(local)
            loaded = datasets.load_dataset(kind, data_files=_without_magic(local, own), cache_dir=own)
        elif (local / "dataset_dict.json").exists() or (local / "state.json").exists():
            loaded = datasets.load_from_disk(path)
            parts = loaded.values() if isinstance(loaded, DatasetDict) else [loaded]
            require_own_files([file["filename"] for part in parts for file in part.cache_files], local, flag)
        else:  # what load_dataset does, with a look at the files in between
            with nullcontext() if local.is_dir() else hub_limits():
                cache = (cache_dir or _cache_of(local)) if local.is_dir() else None
                if cache is None:
                    require_cards(path, revision, flag)
                place = path if cache is None else _without_magic(local, cache)
                builder = datasets.load_dataset_builder(place, config_name, revision=revision, cache_dir=cache)
                suffixes = getattr(builder, "EXTENSIONS", ())  # of folders of files, each of which is a row
                pictures = bool(suffixes)
                files = [str(file) for part in (builder.config.data_files or {}).values() for file in part]
                rows = [file for file in files if os.path.splitext(file)[1].lower() not in suffixes]
                if local.is_dir():
                    require_own_files(rows, local, flag)
                    require_readable(rows, flag)
                else:
                    require_own_repository(files, path)
                if local.is_dir() and cache_dir is None and _is_plain_csv(builder, files):
                    loaded = DatasetDict({str(k): _tables(part) for k, part in builder.config.data_files.items()})
                elif local.is_dir() and not number_alike(f for f in rows if f.endswith(".parquet")):
                    by_split = {str(k): list(map(str, part)) for k, part in (builder.config.data_files or {}).items()}
                    loaded = DatasetDict({k: _own_classes(part, k, str(cache)) for k, part in by_split.items()})
                else:
                    builder.download_and_prepare()
                    loaded = builder.as_dataset()
    except HubLimit as e:
        raise CuratorError(f"{flag}: it could not be loaded ({e})") from e
    except CuratorError:
        raise
    except Exception as e:
        e = e.__cause__ if isinstance(e, DatasetGenerationError) and e.__cause__ is not None else e  # it says nothing
        text = " ".join(str(e).split()) or type(e).__name__
        if configs := re.search(r"(?:available configs|Available): (\[.*?\])", text):
            raise CuratorError(
                f"{flag}: it has several configurations, {configs[1][:300]}; choose one with --config-name"
            ) from e
        hint = "" if local.exists() else "; check the name and the network, and log in (hf auth login) if it is private"
        raise CuratorError(f"{flag}: it could not be loaded ({type(e).__name__}: {text[:300]}){hint}") from e
    finally:
        log.setLevel(before)
    if isinstance(loaded, Dataset):
        loaded = DatasetDict({str(loaded.split or "train"): loaded})
    if not any(len(part) for part in loaded.values()):
        raise CuratorError(f"{flag}: {local.name} has no rows in split {', '.join(loaded)}")
    return loaded, pictures


def _own_classes(files: list[str], split: str, cache: str) -> Dataset:
    """A split of parquet files with the class names that they have: datasets gives every split those of the first."""
    if not number_alike(files):
        raise CuratorError(
            f"split {split!r}: its parquet files have different class names, or the same in another order; write them "
            "anew, alike"
        )
    found = datasets.load_dataset("parquet", data_files={split: files}, split=split, cache_dir=cache)
    assert isinstance(found, Dataset)
    return found


def _without_magic(source: Path, cache: str) -> str:
    """A path to the source in which nothing is a pattern, as `photos [2]` is: it would be read as `photos 2`.

    There it is a folder of links to its files, since datasets follows a link to the folder before it looks for files.
    """
    if not has_magic(str(source)):
        return str(source)
    if source.is_file():
        place = Path(cache) / f"source{source.suffix}"
        _link(place, source)
        return str(place)
    place = Path(cache) / "links" / "source"  # datasets makes a folder of its name beside it for what it has read
    for base, _, names in os.walk(source):
        for name in names:
            file = Path(base, name)
            if file.is_file():
                _link(place / file.relative_to(source), file)
    return str(place)


def _link(place: Path, file: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # of an earlier run: the cache is of this state of the source alone
        place.symlink_to(file.resolve())


def _cache_of(source: Path) -> str:
    """A cache folder for this state of a local folder or file.

    Where a folder's card names its data files, datasets 5.2 keys its cache by these patterns alone: after the files
    changed, or for another folder of the same name, it would return old rows. A file can be replaced by one of its size
    and time, but not without another number or time of change (ctime), which nobody can set.
    """

    def refuse(error: OSError) -> None:
        raise error  # a folder that may not be read: datasets would leave its rows out without a word

    digest = hashlib.blake2b(str(source.resolve()).encode("utf-8", "surrogateescape"), digest_size=8)
    walked = os.walk(source, onerror=refuse) if source.is_dir() else ()
    found = [source, *(Path(base, name) for base, _, names in walked for name in names)]
    for file in sorted(p for p in found if p.is_file()):
        stat = file.stat()
        state = f"{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_dev}\0{stat.st_ino}\n"
        digest.update(os.fsencode(file) + f"\0{state}".encode())
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "label-curator" / digest.hexdigest())


def _is_plain_csv(builder: DatasetBuilder, files: Sequence[str]) -> bool:
    """Whether rows are those of CSV files of which a card says nothing more, and which fit the memory as text."""
    if not files or not all(Path(file).suffix.lower() in (".csv", ".tsv") for file in files):
        return False
    plain = type(builder.config)(name=builder.config.name, sep=builder.config.sep)
    said = {f.name for f in dataclasses.fields(plain) if getattr(plain, f.name) != getattr(builder.config, f.name)}
    return said <= {"data_files", "data_dir", "version", "description"} and sum(map(os.path.getsize, files)) < SMALL


def _tables(files: Sequence[str]) -> Dataset:
    """Rows of CSV files as of a single one: labels 01 and 1 stay two. What is text in one of them is text in all."""
    tables = [read_table(Path(file)) for file in files]
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for name in table.column_names:
            kinds.setdefault(name, set()).update([table[name].type] * (table[name].null_count < len(table)))

    def common(name: str) -> pa.DataType:
        found = kinds[name]
        if len(found) == 1:
            return next(iter(found))
        return pa.float64() if found and found <= {pa.int64(), pa.float64()} else pa.string()

    cast = [table.cast(pa.schema([(name, common(name)) for name in table.column_names])) for table in tables]
    return Dataset(pa.concat_tables(cast, promote_options="default"))
