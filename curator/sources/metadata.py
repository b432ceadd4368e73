"""What a stranger's dataset says of itself, looked at before `datasets` acts on it: its card, its files, its classes.

A card's YAML may stand for far more than it is, and may name any file of this machine as the dataset's; the metadata of
parquet and Arrow files may give anything for the names of the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import yaml
from datasets import ClassLabel, Features

from curator.errors import CuratorError
from curator.sources.files import lies_inside, whole_of
from curator.system import free_memory

CARDS = ("README.md", ".huggingface.yaml")  # whose YAML datasets reads
LARGEST = 16 * 2**20  # bytes of such a file
YAML = 2**20  # characters of YAML
WRITTEN_OUT = 4 * 2**20  # characters of its values, when every alias is written out
NUMBER = 400  # characters of one
NAME = 10_000  # characters of a class name
CLASSES = 100_000
BYTES = {"BOOLEAN": 1 / 8, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12, "BYTE_ARRAY": 4}  # of a value


def require_card(file: Path, what: str) -> str:
    """The text of a card, which is fit to be parsed.

    Args:
        file: README.md, or a file of YAML alone.
        what: the error begins with it.

    Raises:
        CuratorError: for YAML that is or stands for too much, or that names files outside the dataset's folder.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    if file.stat().st_size > LARGEST:
        raise CuratorError(f"{what}: expected at most {LARGEST / 2**20:.0f} MiB; shorten it")
    text = file.read_text(encoding="utf-8")
    content = _yaml_of(file, text)
    if len(content) > YAML:
        raise CuratorError(f"{what}: expected at most {YAML:,} characters of YAML, found {len(content):,}; shorten it")
    try:
        root = yaml.compose(content, yaml.SafeLoader)
        if root is not None and _written_out(root, {}) > WRITTEN_OUT:
            raise CuratorError(f"{what}: its YAML aliases expand to too much text; write them out")
        values = yaml.load(content, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as e:
        if isinstance(e, CuratorError):
            raise
        raise CuratorError(f"{what}: it is not readable YAML ({' '.join(str(e).split())[:150]}); fix it") from e
    _require_own_patterns(values, what)
    return text


def _yaml_of(file: Path, text: str) -> str:
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    block = REGEX_YAML_BLOCK.search(text)
    return block[2] if block else ("" if file.suffix == ".md" else text)


def names_files(folder: Path) -> bool:
    """Whether a card in a folder, of those that require_card took, says which files are the dataset's."""
    for file in (folder / name for name in CARDS):
        if file.is_file():
            values = yaml.safe_load(_yaml_of(file, require_card(file, file.name)))
            if isinstance(values, dict) and values.get("configs"):
                return True
    return False


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """Characters of a node's values, with every alias written out; too many where it holds itself."""
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > NUMBER and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            raise ValueError(f"a number of {len(node.value):,} characters")
        return 1 + len(node.value)
    if id(node) not in known:
        known[id(node)] = WRITTEN_OUT + 1  # for who meets it inside itself
        inner = (part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,)))
        known[id(node)] = 1 + sum(_written_out(part, known) for part in inner)
    return known[id(node)]


def _require_own_patterns(values: Any, what: str) -> None:
    """Refuse configurations that name data files anywhere but in the dataset's own folder."""
    configs = values.get("configs") if isinstance(values, dict) else None
    for config in configs if isinstance(configs, list) else ():
        if isinstance(config, dict):
            for pattern in _texts([config.get("data_files"), config.get("data_dir")]):
                if pattern.startswith(("/", "~")) or ".." in pattern.split("/") or "::" in pattern or ":/" in pattern:
                    raise CuratorError(
                        f"{what}: expected data_files inside the dataset's own folder, found {pattern[:200]!r}; "
                        "put the files there"
                    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.replace("\\", "/")
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def require_own_files(files: Iterable[str], folder: Path, what: str) -> None:
    """Refuse files of rows that lie elsewhere once every link is followed.

    Raises:
        CuratorError: naming the first.
    """
    own = (whole_of(folder),)
    for file in files:
        if not lies_inside(file, own):
            raise CuratorError(
                f"{what}: {Path(file).name} leads out of the dataset's folder; put the file itself there"
            )


def require_distinct(columns: Sequence[str], what: str) -> None:
    """Refuse two columns of one name.

    Raises:
        CuratorError: naming the first.
    """
    if len({*columns}) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise CuratorError(f"{what} has two columns {twice!r}; rename one")


def require_readable(files: Iterable[str], what: str) -> None:
    """Refuse parquet files without a row, with two columns of one name, and that do not fit the memory there is.

    A short one may stand for any number of rows: what is asked are the numbers of rows, and the sizes that the file
    names; a text that stands in many rows is in neither.

    Raises:
        CuratorError: naming the file, and its column or its size.
    """
    free, parquet, rows = free_memory(), [file for file in files if file.endswith(".parquet")], 0
    for file in parquet:
        about = pq.read_metadata(file)
        rows += about.num_rows
        require_distinct(about.schema.to_arrow_schema().names, f"{what}: {Path(file).name}")
        for group in map(about.row_group, range(about.num_row_groups)):
            columns = [group.column(i) for i in range(group.num_columns)]
            size = sum(max(c.total_uncompressed_size, c.num_values * BYTES.get(c.physical_type, 1)) for c in columns)
            if size > free:
                raise CuratorError(
                    f"{what}: {Path(file).name}: {group.num_rows:,} rows that must be read at once take "
                    f"{size / 2**30:,.1f} GiB, {free / 2**30:,.1f} GiB are free; write it with smaller row groups"
                )
    if parquet and not rows:
        raise CuratorError(f"{what}: {Path(parquet[0]).name} has no rows")


def require_own_repository(files: Iterable[str], repo: str) -> None:
    """Refuse files of rows that are none of the repository's.

    Raises:
        CuratorError: naming the first.
    """
    for file in files:
        if not file.lower().startswith(f"hf://datasets/{repo}@".lower()) or "::" in file or "/../" in file:
            raise CuratorError(
                f"--dataset {repo}: {file[:200]} is not one of its files; use a dataset that contains its files"
            )


def require_names(names: Any) -> None:
    """Refuse class names that are no texts, or that cannot be written.

    Raises:
        CuratorError: naming the first.
    """
    if not isinstance(names, list | tuple) or len(names) > CLASSES:
        raise CuratorError(f"expected a list of at most {CLASSES:,} class names, found {str(names)[:100]}")
    for code, name in enumerate(names):
        if not isinstance(name, str):
            raise CuratorError(f"class {code}: expected a name, found {str(name)[:100]}; give it one")
        if len(name) > NAME:
            raise CuratorError(f"class {code}: expected a name of at most {NAME:,} characters, found {len(name):,}")
        try:
            name.encode()
        except UnicodeEncodeError as e:
            raise CuratorError(
                f"class {code}: expected a name that can be written as UTF-8, found {name[:100]!r}; rename it"
            ) from e


def require_features(features: Features) -> None:
    """Refuse class names that are no names, in any column.

    Raises:
        CuratorError: naming the column.
    """

    def look(feature: Any, column: str) -> None:
        if isinstance(feature, ClassLabel):
            try:
                require_names(feature.names)
            except CuratorError as e:
                raise CuratorError(f"column {column!r}: {e}") from e
        elif isinstance(feature, dict):
            for inner in feature.values():
                look(inner, column)
        elif isinstance(feature, datasets.List | datasets.LargeList):
            look(feature.feature, column)

    for column, feature in features.items():
        look(feature, column)
