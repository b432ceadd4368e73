"""Which folder of a user's dataset is that of a class."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

from curator.errors import CuratorError
from curator.publish.moves import Folder, Stays
from curator.publish.policy import Fix
from curator.result.read import Rows


class Classes:
    """Where the classes of a run lie in a folder.

    One part of the path of every file is the name of its given class, the same part of all: cat/003.png,
    train/cat/2021/003.png. The path up to it is the class's folder.
    """

    def __init__(self, rows: Rows, here: Folder):
        if not any(rows.files):
            raise CuratorError(
                f"apply {rows.folder}: its rows come from no files; label-curator publish writes a version"
            )
        self._names, self._aside = rows.classes, here.aside
        self._plain = [_plain(name) for name in rows.classes]
        self.files = rows.files if any("/" in file for file in rows.files) else self._found(rows, here)
        given = [(file.split("/"), int(code)) for file, code in zip(self.files, rows.given, strict=True) if code >= 0]
        levels = Counter(
            i for parts, code in given for i, part in enumerate(parts[:-1]) if _plain(part) == self._plain[code]
        )
        if not levels:
            raise CuratorError(
                f"apply {rows.folder}: its files do not lie in folders of the names of their classes; where the labels "
                "are in a table, name it with --csv"
            )
        self._level = max(levels, key=lambda i: (levels[i], -i))
        self._heads: dict[int, Counter[str]] = {}
        for parts, code in given:
            if self._is_of(parts, code):
                self._heads.setdefault(code, Counter())["/".join(parts[: self._level + 1])] += 1

    def target(self, file: str, fix: Fix) -> str:
        """The place of a file in the folder of its new class, or beside the dataset.

        Raises:
            Stays: where it is in no folder of its given class.
        """
        parts = file.split("/")
        if fix.label is None:
            return f"{self._aside}/{file}"
        if not self._is_of(parts, fix.given):
            raise Stays(f"it is not in a folder {self._names[fix.given]}")
        above = "/".join(parts[: self._level])
        heads = self._heads.get(fix.label, Counter[str]())
        name = self._names[fix.label]
        if not heads and (name in ("", ".", "..") or "/" in name or "\0" in name):
            raise Stays(f"{name!r} is no name of a folder")
        own = f"{above}/{name}".lstrip("/")
        head = max(heads, key=lambda head: (folder_of(head) == above, heads[head])) if heads else own
        return "/".join([head, *parts[self._level + 1 :]])

    def _is_of(self, parts: list[str], code: int) -> bool:
        return len(parts) > self._level + 1 and _plain(parts[self._level]) == self._plain[code]

    def _found(self, rows: Rows, here: Folder) -> list[str]:
        """Of an older run, which has the names of its files alone, the one file of a name in a folder of the class."""
        by_name: dict[str, list[str]] = {}
        for base, _, names in os.walk(here.path):
            for name in names:
                by_name.setdefault(name, []).append(Path(base, name).relative_to(here.path).as_posix())

        def place(name: str, code: int) -> str:
            of_class = self._plain[code] if code >= 0 else ""
            found = [path for path in by_name.get(name, ()) if of_class in map(_plain, path.split("/")[:-1])]
            return found[0] if len(found) == 1 else name

        return [place(name, int(code)) for name, code in zip(rows.files, rows.given, strict=True)]


def folder_of(place: str) -> str:
    """The folder of a place, "" for the dataset's own."""
    return place.rpartition("/")[0]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
