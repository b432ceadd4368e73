"""The file of a journal: opening it, writing to it all or nothing, and whether it is still the file that was opened."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curator.decisions.schema import SCHEMA, UNTRUSTED, VERSION, NotOurs, inspect, missing_columns, read_facts
from curator.errors import CuratorError

LONGEST = 64 << 20  # bytes of a value
BESIDE = ("", "-wal", "-shm")  # the file, and what SQLite keeps beside it while it is open


class TakenKey(CuratorError):
    """A step's key is another step's: the step was not saved, nor any that came with it; send it with another key."""

    def __init__(self, key: str):
        super().__init__("the key of a step is that of another step; nothing was saved")
        self.key = key


class Database:
    """The open file, with the one lock of all who use it in this process.

    Raises:
        CuratorError: when the file cannot be opened, or is none of Curator's.
    """

    def __init__(self, path: Path, facts: dict[str, Any] | None = None):
        """Open the file; with facts about its rows make it if it is missing, without them only read."""
        self.path = path
        self.lock = threading.RLock()
        self.seen = {"steps": 0, "decisions": 0}  # rows of these tables that were read, and must be there from now on
        with _refused(path):
            self._real = os.path.realpath(path)  # beside which SQLite keeps its own files
            self._require_files(facts is None)
            self._db = self._connect("ro" if facts is None else "rwc")
        with self.closed_if_refused():
            if facts is None:
                inspect(self._db)
            else:
                _patiently(lambda: self._prepare(facts))
                self._stood = self._stat()
            self.facts = read_facts(self._db)
            self.lacks = [column for _, column in missing_columns(self._db)]  # of an older file that is only read

    @contextmanager
    def closed_if_refused(self) -> Iterator[None]:
        """Close the file when the block finds that it is no journal, and say so in one line that names it."""
        try:
            with _refused(self.path):
                yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Opening

    def _require_files(self, to_read: bool) -> None:
        """Refuse what SQLite would wait for, or take for a new journal, before it is opened."""
        there = {suffix: os.stat(self._real + suffix) for suffix in BESIDE if os.path.exists(self._real + suffix)}
        for suffix, found in there.items():
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{self.path.name}{suffix} is no regular file")
        if "" not in there:
            if to_read:
                raise NotOurs("expected a review journal, found no such file")
        elif there[""].st_size == 0 and (to_read or ("-wal" in there and there["-wal"].st_size)):
            raise ValueError("an empty file")  # SQLite would delete the -wal with its decisions

    def _open(self, options: str) -> sqlite3.Connection:
        address = f"{Path(self._real).as_uri()}?{options}"
        db = sqlite3.connect(address, timeout=30, isolation_level=None, check_same_thread=False, uri=True)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        return db

    def _connect(self, mode: str) -> sqlite3.Connection:
        db = self._open(f"mode={mode}")
        if mode == "ro":
            try:
                db.execute("SELECT count(*) FROM sqlite_master")
            except sqlite3.OperationalError:  # a folder that cannot be written: nobody else writes there, either
                db.close()
                unmerged = Path(f"{self._real}-wal")
                if unmerged.exists() and unmerged.stat().st_size:
                    raise NotOurs(
                        "it holds decisions that are not merged yet, and its folder cannot be written; "
                        "open it once where it can"
                    ) from None
                db = self._open("mode=ro&immutable=1")
        return db

    def _prepare(self, facts: dict[str, Any]) -> None:
        inspect(self._db)
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = FULL")
        self.execute("PRAGMA journal_size_limit = -1")  # the -wal never shrinks by itself, wherever SQLite comes from
        self.execute("BEGIN IMMEDIATE")
        try:
            for statement in SCHEMA.split(";"):
                self.execute(statement)
            for table, column in missing_columns(self._db):
                self.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")
            if self.execute("SELECT count(*) FROM facts").fetchone() != (0,):
                read_facts(self._db)
            new = ((name, json.dumps(value)) for name, value in facts.items())
            self.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", new)
            if self.execute("PRAGMA user_version").fetchone() != (VERSION,):
                self.execute(f"PRAGMA user_version = {VERSION}")
            self.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self.execute("ROLLBACK")

    # Reading and writing

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        return self._db.execute(statement, values)

    def executemany(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Execute a statement once for each of the values."""
        self._db.executemany(statement, values)

    @contextmanager
    def transaction(self, undone: Callable[[], None] = lambda: None) -> Iterator[None]:
        """All of the block's writing on the disk at its end, or none of it; nobody else writes meanwhile.

        Args:
            undone: called when none of it is there, before the error is raised: forget what was read inside.

        Raises:
            CuratorError: the file is not the one that was opened, or a text cannot be written.
            sqlite3.Error: nothing was written.
        """
        with self.lock:
            self.execute("BEGIN IMMEDIATE")
            try:
                self._require_place()
                yield
                self.execute("COMMIT")
                self._require_place()
            except BaseException as e:
                if self._db.in_transaction:  # a full disk has ended it by itself
                    self.execute("ROLLBACK")
                undone()
                if isinstance(e, UnicodeEncodeError):
                    raise CuratorError(f"{self.path}: expected text that can be written, found {e.object!a:.60}") from e
                raise

    # Whether it is still the file that was opened

    def _stat(self) -> list[os.stat_result]:
        return [os.stat(self._real + suffix) for suffix in BESIDE]

    def _require_place(self) -> None:
        """Refuse to say "saved" when the file, or what SQLite keeps beside it, was removed, replaced or cut meanwhile.

        SQLite itself would go on to write to a file that nobody finds again. (No file is opened for this: closing it
        would take away SQLite's own locks on it, which are the process's.)
        """
        wrong = (
            f"{self.path.name} was removed, replaced or cut while it was open; put it back, or start the review again"
        )
        try:
            now = self._stat()
        except OSError:
            raise CuratorError(wrong) from None
        for was, found in zip(self._stood, now, strict=True):
            if (was.st_dev, was.st_ino) != (found.st_dev, found.st_ino) or found.st_size < was.st_size:
                raise CuratorError(wrong)
        if (self._stood[0].st_mtime_ns, self._stood[0].st_size) != (now[0].st_mtime_ns, now[0].st_size):
            self._look_again(wrong)  # SQLite has merged what was beside it, or somebody has written over it
        self._stood = now

    def _look_again(self, wrong: str) -> None:
        """Read the file anew, with nothing remembered."""
        try:
            with closing(self._open("mode=ro")) as db:
                db.execute(UNTRUSTED)
                (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
                (of_file,) = db.execute("SELECT value FROM facts WHERE name = 'id'").fetchone() or ("null",)
                same = json.loads(of_file) == self.facts.get("id")
                counts = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in self.seen}
        except (sqlite3.Error, TypeError, ValueError):
            raise CuratorError(wrong) from None
        if said != "ok" or not same or any(counts[name] < seen for name, seen in self.seen.items()):
            raise CuratorError(wrong)


def unfit(path: Path, found: str) -> CuratorError:
    """The error about a file that is no whole journal."""
    return CuratorError(
        f"{path}: expected a review journal that can be opened, found: {' '.join(found.split())}; "
        "restore a copy of it, or name another file with --journal"
    )


def timestamp() -> str:
    """The time now, as it is written down."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """What is wrong with the file, as an error in one line that names it."""
    try:
        yield
    except NotOurs as e:
        raise CuratorError(f"{path}: {e}") from e
    except CuratorError:
        raise
    except (OSError, sqlite3.Error, ValueError, RecursionError) as e:
        raise unfit(path, str(e)) from e


def _patiently(work: Callable[[], None], seconds: float = 30) -> None:
    """Repeat what another process's opening of the same new file hinders: SQLite does not wait when it turns to WAL."""
    end = time.monotonic() + seconds
    while True:
        try:
            return work()
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or time.monotonic() > end:
                raise
        time.sleep(0.05)
