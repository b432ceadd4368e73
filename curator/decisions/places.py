"""Rows by the files that they come from, as people name them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from curator.decisions.pairs import Cell
from curator.errors import CuratorError
from curator.text import did_you_mean, from_cell


class Places:
    """Finds rows by the paths of their files in the dataset's folder, or by the names alone."""

    def __init__(self, files: Iterable[tuple[int, str]], whole: bool = True):
        """Take (row, file) of every row, the file as "cat/003.png" or ""; whole: of every row that there is."""
        self.whole = whole
        self._rows: dict[str, list[int]] = {}
        self._alike: dict[str, set[str]] = {}  # paths and, where there is a folder, names -> paths
        for row, file in files:
            if file:
                self._rows.setdefault(file, []).append(row)
        for file in self._rows:
            for key in {_plain(file), _plain(file.rpartition("/")[2])}:
                self._alike.setdefault(key, set()).add(file)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def known(self) -> Iterable[str]:
        """All files."""
        return self._rows

    def files(self, name: str) -> list[str]:
        """The files, in order, that a name may mean: its own path, else all that are called so."""
        names = (from_cell(name), str(name)) if isinstance(name, Cell) else (str(name),)
        for text in names:
            if text in self._rows:
                return [text]
        found = [file for text in names for file in self._alike.get(_plain(text), ())]
        return sorted({file for file in found if self.whole or _plain(file) in map(_plain, names)})

    def rows(self, name: str) -> list[int]:
        """The rows that a name may mean."""
        return [row for file in self.files(name) for row in self._rows[file]]

    def row(self, name: object, path: Path, flag: str) -> int | None:
        """The one row that a name of a table means; None where it may be that of a row outside the sample.

        Raises:
            CuratorError: beginning with the flag and the table's path, for none and for several.
        """
        if not self:
            raise CuratorError(f"{flag} {path}: the rows of this dataset have no files; name them by a column row")
        text = name if isinstance(name, str) else "" if name is None else str(name)
        files, found = self.files(text), self.rows(text)
        if len(found) == 1:
            return found[0]
        if not found and not self.whole and text:
            return None
        if not found:
            hint = did_you_mean(text, self._rows) if len(self._rows) < 10_000 else ""
            hint = hint or f"; name it by its path in the dataset's folder, as {next(iter(self._rows))}"
            raise CuratorError(f"{flag} {path}: no row has the file {text[:200]!r}{hint}")
        what = f"{len(files):,} files are called" if len(files) > 1 else f"{len(found):,} rows have the file"
        hint = f"give its path, as {files[0]}" if len(files) > 1 else "name them by a column row"
        raise CuratorError(f"{flag} {path}: {what} {text[:200]!r}; {hint}")

    def agree(self, row: int, name: object) -> bool:
        """Whether a table that names both a row and a file may mean these rows."""
        if not self or not name:
            return True
        found = self.rows(name if isinstance(name, str) else str(name))
        return row in found or (not found and not self.whole)


def _plain(path: str) -> str:
    """A path as Windows, macOS and Linux all write it."""
    return unicodedata.normalize("NFC", path).replace("\\", "/").removeprefix("./")
