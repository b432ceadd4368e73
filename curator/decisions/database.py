"""The file of a journal: opening it, writing to it all or nothing, and whether it is still the file that was opened.

On a local disk several processes may write to it at once (SQLite's WAL). That needs memory and locks that they share,
which network disks and mounted buckets lack: there one process has the file alone, with a rollback journal.
"""

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

from curator.decisions import disk
from curator.decisions.schema import SCHEMA, UNTRUSTED, VERSION, NotOurs, complete, inspect, missing_columns, read_facts
from curator.errors import CuratorError

LONGEST = 64 << 20  # bytes of a value
BESIDE = ("", "-wal", "-shm")  # the file, and what SQLite keeps beside it while several processes may write to it
MADE = (*BESIDE, "-journal")  # whatever it makes
WAIT = 30, 3  # seconds that another process's writing is waited for, and its having the file alone


class TakenKey(CuratorError):
    """A step's key is another step's: the step was not saved, nor any that came with it; send it with another key."""

    def __init__(self, key: str):
        super().__init__("the key of a step is that of another step; nothing was saved")
        self.key = key


class Database:
    """The open file, with the one lock of all who use it in this process.

    Attributes:
        alone: whether this process has the file for itself, since its disk lets no two share it; others are refused,
            and readers in this process take a copy().

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
            self.alone = disk.is_apart(Path(self._real))
            self._db = self._connect("ro" if facts is None else "rwc")
        with self.closed_if_refused():
            if facts is None:
                inspect(self._db)
                complete(self._db)
            else:
                self._prepare_anywhere(facts)
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
        there = {suffix: os.stat(self._real + suffix) for suffix in MADE if os.path.exists(self._real + suffix)}
        for suffix, found in there.items():
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{self.path.name}{suffix} is no regular file")
        if "" not in there:
            if to_read:
                raise NotOurs("expected a review journal, found no such file")
        elif there[""].st_size == 0 and (to_read or ("-wal" in there and there["-wal"].st_size)):
            raise ValueError("an empty file")  # SQLite would delete the -wal with its decisions

    def _open(self, options: str) -> sqlite3.Connection:
        locks = not self.alone or disk.has_locks(Path(self._real).parent)
        address = f"{Path(self._real).as_uri()}?{options}{'' if locks else '&vfs=unix-none'}"
        db = sqlite3.connect(address, timeout=WAIT[self.alone], isolation_level=None, check_same_thread=False, uri=True)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        return db

    def _connect(self, mode: str) -> sqlite3.Connection:
        db = self._open(f"mode={mode}")
        if self.alone and mode != "ro":
            db.execute("PRAGMA locking_mode = EXCLUSIVE")  # before the first look: no memory is shared then
        if mode == "ro":
            left = [Path(f"{self._real}{suffix}") for suffix in ("-wal", "-journal")]
            try:
                if (
                    left[1].exists() and left[1].stat().st_size and os.access(left[1], os.W_OK)
                ):  # of a killed process: a writer takes it back
                    with closing(self._open("mode=rw")) as writer:
                        writer.execute("SELECT count(*) FROM sqlite_master")
                db.execute("SELECT count(*) FROM sqlite_master")
            except sqlite3.OperationalError as e:  # a folder that cannot be written: nobody else writes there, either
                db.close()
                if "locked" in str(e):
                    raise
                if any(path.exists() and path.stat().st_size for path in left):
                    raise NotOurs(
                        "it holds decisions that are not merged yet, and its folder cannot be written; "
                        "open it once where it can"
                    ) from None
                db = self._open("mode=ro&immutable=1")
        return db

    def _prepare_anywhere(self, facts: dict[str, Any]) -> None:
        """Make the file ready to be written: for several processes, or where its disk cannot do that, for this one."""
        try:
            _patiently(lambda: self._prepare(facts), WAIT[self.alone])
        except sqlite3.OperationalError as e:
            if self.alone or "locked" in str(e) or "readonly" in str(e):
                raise
            self._db.close()
            self.alone = True
            self._db = self._connect("rwc")
            self._prepare_anywhere(facts)

    def _prepare(self, facts: dict[str, Any]) -> None:
        inspect(self._db)
        wanted = "delete" if self.alone else "wal"
        (mode,) = self.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
        if mode != wanted:
            raise sqlite3.OperationalError(f"its mode is {mode}, not {wanted}")  # there is no memory to share, say
        self.execute(f"PRAGMA synchronous = {'EXTRA' if self.alone else 'FULL'}")
        # A -wal never shrinks by itself, wherever SQLite comes from; a rollback journal is empty when it is done with.
        self.execute(f"PRAGMA journal_size_limit = {0 if self.alone else -1}")
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
            if self.alone:
                self._require_place()  # before SQLite holds any page, so that all can be read anew
            self.execute("BEGIN IMMEDIATE")
            try:
                if not self.alone:
                    self._require_place()
                yield
                self.execute("COMMIT")
                self._require_place(wrote=True)
            except BaseException as e:
                if self._db.in_transaction:  # a full disk has ended it by itself
                    self.execute("ROLLBACK")
                undone()
                if isinstance(e, UnicodeEncodeError):
                    raise CuratorError(f"{self.path}: expected text that can be written, found {e.object!a:.60}") from e
                raise

    @property
    def changes(self) -> int:
        """Rows that this process has written since it opened the file."""
        return self._db.total_changes

    # Whether it is still the file that was opened

    def _stat(self) -> list[os.stat_result]:
        return [os.stat(self._real + suffix) for suffix in (BESIDE[:1] if self.alone else BESIDE)]

    def _require_place(self, wrote: bool = False) -> None:
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
        changed = (self._stood[0].st_mtime_ns, self._stood[0].st_size) != (now[0].st_mtime_ns, now[0].st_size)
        if changed and not (self.alone and wrote):  # alone, what we wrote ourselves has changed it
            self._look_again(wrong)  # SQLite has merged what was beside it, or somebody has written over it
        self._stood = now

    def _look_again(self, wrong: str) -> None:
        """Read the file anew, with nothing remembered."""
        try:
            with self._anew() as db:
                db.execute(UNTRUSTED)
                (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
                (of_file,) = db.execute("SELECT value FROM facts WHERE name = 'id'").fetchone() or ("null",)
                same = json.loads(of_file) == self.facts.get("id")
                counts = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in self.seen}
        except (sqlite3.Error, TypeError, ValueError):
            raise CuratorError(wrong) from None
        if said != "ok" or not same or any(counts[name] < seen for name, seen in self.seen.items()):
            raise CuratorError(wrong)

    @contextmanager
    def _anew(self) -> Iterator[sqlite3.Connection]:
        """A connection that remembers nothing of the file; alone, there can be no other than this one."""
        if self.alone:
            self.execute("PRAGMA shrink_memory")
            yield self._db
            return
        with closing(self._open("mode=ro")) as db:
            yield db

    def copy(self, path: Path) -> None:
        """Write the file as it is now to a new path, as one file, while others go on to read and write.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        with self.lock, closing(sqlite3.connect(path)) as to:
            self._db.backup(to)
            to.execute("PRAGMA journal_mode = DELETE")  # else the copy, too, would ask for shared memory


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
    except sqlite3.OperationalError as e:
        if "locked" not in str(e):
            raise unfit(path, str(e)) from e
        raise CuratorError(
            f"{path}: another process has it open (on a network's or a bucket's disk no two can share it); end "
            "that one, a review page say, or copy the run to a local disk"
        ) from e
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
