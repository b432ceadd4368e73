"""Files of a user's folder that are moved: never over another, and every place they may be in is on the disk before.

The journal holds, of every file, its content and the places it has been given, the first of which is its own. Whatever
a kill leaves, the file is in one of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curator.decisions.content import content_of
from curator.errors import CuratorError
from curator.result.facts import AGAIN, read_json
from curator.sources.files import Refused, lies_inside, read_inside
from curator.system import rename_new, sync_folder, write_text


class Stays(Exception):
    """Why a file is not moved; the text is for the user."""


@dataclass(frozen=True)
class Move:
    """A file's way, places in the folder."""

    row: int
    digest: str  # content_of the file
    source: str
    target: str


class Folder:
    """A user's folder; what was dropped goes to another beside it."""

    def __init__(self, path: Path):
        self.path = path
        self.aside = f"../{path.name}-dropped"

    def full(self, place: str) -> Path:
        """The path of a place.

        Raises:
            Stays: where it would lie outside.
        """
        root, inner = self._split(place)
        if "\0" in place or not {"", ".", ".."}.isdisjoint(inner.split("/")):
            raise Stays("its path leads out of the folder")
        path = root / inner
        above = next(p for p in path.parents if os.path.lexists(p))
        if not lies_inside(above, (str(root),)) and above != root.parent:
            raise Stays("a link on its path leads out of the folder")
        return path

    def _split(self, place: str) -> tuple[Path, str]:
        if place.startswith(f"{self.aside}/"):
            return self.path.with_name(f"{self.path.name}-dropped"), place.removeprefix(f"{self.aside}/")
        return self.path, place

    def require_same(self, place: str, digest: str) -> None:
        """Refuse a place where the file that is meant is not.

        Raises:
            Stays: saying why.
        """
        path = self.full(place)
        if not os.path.lexists(path):
            raise Stays("it is not there")
        if path.is_symlink():
            raise Stays("it is a link: move it by hand")
        root, inner = self._split(place)
        try:
            content = read_inside(inner, (str(root),))
        except Refused as e:
            raise Stays(str(e)) from e
        if content_of({"bytes": content}) != digest:
            raise Stays("its content is not the one that the run has seen")

    def place_of(self, places: Iterable[str], digest: str) -> str:
        """Where a file is, of its places, of which the last ones are the newest.

        Raises:
            Stays: where it is in none.
        """
        why = Stays("it is not there")
        for place in reversed(list(places)):
            try:
                self.require_same(place, digest)
                return place
            except Stays as e:
                why = e
        raise why

    def free(self, place: str, taken: set[str]) -> str:
        """The place, or one beside it that nothing has, nor any of those taken (in small letters); it is taken then."""
        head, dot, suffix = place.rpartition(".")
        if not dot or "/" in suffix:
            head, dot, suffix = place, "", ""
        found, number = place, 0
        while found.lower() in taken or os.path.lexists(self.full(found)):
            number += 1
            found = f"{head}-{number}{dot}{suffix}"
        taken.add(found.lower())
        return found


class Journal:
    """The moves of a run, in a file of its folder that is replaced as a whole.

    Raises:
        CuratorError: when it cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.files: dict[int, tuple[str, list[str]]] = {}  # row -> content, places
        self.made: list[str] = []  # folders that were made
        if not path.exists():
            return
        try:
            found = read_json(path)
            for row, (digest, places) in found["files"].items():
                self.files[int(row)] = str(digest), [str(place) for place in places]
                if not places:
                    raise ValueError("a file without a place")
            self.made = [str(place) for place in found["made"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise CuratorError(f"{path}: it cannot be read ({' '.join(str(e).split())[:100]}); {AGAIN}") from e

    def places(self, row: int, file: str) -> list[str]:
        """The places that a row's file may be in."""
        return self.files[row][1] if row in self.files else [file]

    def write(self) -> None:
        """Put it on the disk; an empty one goes."""
        if not self.files:
            self.path.unlink(missing_ok=True)
            sync_folder(self.path.parent)
            return
        held: dict[str, Any] = {"files": self.files, "made": self.made}
        write_text(self.path, json.dumps(held) + "\n")

    def move(self, folder: Folder, moves: list[Move]) -> list[tuple[str, str]]:
        """Note all moves, then make them; the files that stay, and why."""
        for move in moves:
            _, places = self.files.setdefault(move.row, (move.digest, [move.source]))
            places[1:] = [*(place for place in places[1:] if place != move.target), move.target]
        paths = {move: folder.full(move.target) for move in moves}
        missing = {p for path in paths.values() for p in path.parents if not os.path.lexists(p)}
        self.made += [os.path.relpath(p, folder.path) for p in sorted(missing)]
        self.write()
        for path in sorted(missing):
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)
        stay = self._rename(folder, moves)
        for move, _ in stay:
            places = self.files[move.row][1]
            places.pop()
        self._forget(folder)
        self.write()
        return [(move.source, why) for move, why in stay]

    def undo(self, folder: Folder, moves: list[Move]) -> list[tuple[str, str]]:
        """Move files to their first places; the ones that stay, and why. What is done is forgotten."""
        stay = self._rename(folder, moves)
        self._forget(folder)
        for place in sorted(self.made, reverse=True):
            with suppress(OSError, Stays):  # somebody else's files are in it now
                (folder.path / place if place == folder.aside else folder.full(place)).rmdir()
                self.made.remove(place)
        self.write()
        return [(move.source, why) for move, why in stay]

    def _forget(self, folder: Folder) -> None:
        """Leave out the files that are in their first places, and in no other."""

        def is_there(place: str) -> bool:
            try:
                return os.path.lexists(folder.full(place))
            except Stays:
                return False

        for row, (_, places) in list(self.files.items()):
            if is_there(places[0]) and not any(map(is_there, {*places} - {places[0]})):
                del self.files[row]

    def settle(self, folder: Folder) -> None:
        """Finish renames that a kill left as two names of one file, on systems that cannot do it in one step."""
        for digest, places in self.files.values():
            with suppress(Stays, OSError):
                now = folder.place_of(places, digest)
                for other in {*places} - {now}:
                    if folder.full(other).exists() and folder.full(other).samefile(folder.full(now)):
                        folder.full(other).unlink()

    def _rename(self, folder: Folder, moves: list[Move]) -> list[tuple[Move, str]]:
        stay, touched = [], set[Path]()
        for move in moves:
            try:
                source, target = folder.full(move.source), folder.full(move.target)
                target.parent.mkdir(parents=True, exist_ok=True)
                rename_new(source, target)
                touched |= {source.parent, target.parent}
            except FileExistsError:
                stay.append((move, f"{move.target} is taken"))
            except OSError as e:
                stay.append((move, f"it cannot be moved ({e.strerror})"))
            except Stays as e:
                stay.append((move, str(e)))
        for path in touched:
            sync_folder(path)
        return stay
