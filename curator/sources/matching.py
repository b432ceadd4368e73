"""Which file below a folder a cell of a table means: people move folders, and tables keep the old paths."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

MOST_ALIKE = 1000  # files of one name that are compared with a cell


class Files:
    """Image files of a folder, by what tables call them.

    Args:
        listed: gives their paths relative to the folder, with forward slashes; asked at most once.
        folder: where cells are looked up first, so that nothing need be listed where all are there.
    """

    def __init__(self, listed: Callable[[], Iterable[str]], folder: Path | None = None):
        self._listed, self._folder = listed, folder

    @cached_property
    def _paths(self) -> dict[str, str]:
        return {_plain(path): path for path in self._listed()}

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for plain in self._paths:
            found[plain.rpartition("/")[2]].append(plain)
        return found

    @cached_property
    def _by_end(self) -> dict[str, list[str]]:
        """By the last two names, of which few files share both."""
        found = defaultdict(list)
        for plain in self._paths:
            found["/".join(plain.split("/")[-2:])].append(plain)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for plain in self._paths:
            found[PurePosixPath(plain).stem].append(plain)
        return found

    def found(self, cells: Sequence[str | None], base: str = "", *, stems: bool = False) -> list[str | None]:
        """For each cell the file that it means, relative to the folder; None where there is none, or several.

        A path is relative to the base (a folder below, "" or `train/`) or to the folder. One that is not there, one of
        another machine, and an address mean the file that ends like it, where only one does, and no other cell means
        the same. With stems a cell may also be the name of a file without its suffix.
        """
        exact: list[str | None] = []
        guesses: list[str | None] = []
        for cell in cells:
            if cell and self._folder and (there := self._there(cell)):
                exact.append(there)
                guesses.append(None)
                continue
            plain = _plain(cell) if cell else ""
            here = os.path.normpath(base + plain) if plain else ""
            path = self._paths.get(here) or self._paths.get(plain)
            exact.append(path)
            guesses.append(None if path or not plain else self._guess(plain, base, stems))
        means = Counter(g for g in {c: g for c, g in zip(cells, guesses, strict=True) if g}.values())
        taken = {path for path in exact if path}
        return [
            path or (guess if guess and means[guess] == 1 and guess not in taken else None)
            for path, guess in zip(exact, guesses, strict=True)
        ]

    def _there(self, cell: str) -> str | None:
        """The path of a cell that is a file's as it stands."""
        try:
            path = os.path.normpath(cell)
            inside = not os.path.isabs(path) and not path.startswith("..")
            return Path(path).as_posix() if inside and os.path.isfile(os.path.join(str(self._folder), path)) else None
        except ValueError:  # a zero in it
            return None

    def _guess(self, plain: str, base: str, stems: bool) -> str | None:
        parts = plain.split("/")
        same = self._by_end.get("/".join(parts[-2:]), []) or self._by_name.get(parts[-1], [])
        if len(same) > MOST_ALIKE:
            return None
        if not same and stems:
            same = self._by_stem.get(parts[-1], [])
            parts[-1] = ""  # nothing of it to compare
        if base and len(same) > 1:
            same = [path for path in same if path.startswith(base)] or same
        if not same:
            return None
        alike = [_common_end(path.split("/")[:-1], parts[:-1]) for path in same]
        return self._paths[same[alike.index(max(alike))]] if alike.count(max(alike)) == 1 else None


def is_address(text: str) -> bool:
    """Whether a cell is an address of the Web."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text) is not None


def _plain(path: str) -> str:
    """A path as it is compared: forward slashes, composed letters; of an address its path without the question."""
    path = unquote(urlsplit(path).path) if is_address(path) else path
    path = unicodedata.normalize("NFC", path.strip())
    return path.replace("\\", "/").removeprefix("./")


def _common_end(one: list[str], other: list[str]) -> int:
    """How many names at their ends are the same."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
