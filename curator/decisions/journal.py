"""The journal of a review: who decided what, append-only in SQLite, on the disk before it shows as saved.

A step is what a reviewer does at once (one key, or a bulk apply) and the unit of undo. It holds a decision for each of
its rows. Undo and redo are steps, too: they name the step they turn, and append decisions; nothing is ever changed or
removed. Several reviewers, in one process or in several, may write to one file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import re
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from curator.errors import CuratorError
from curator.system import atomic
from curator.text import as_cell

ACTIONS = ("keep", "relabel", "drop", "unsure")
Act = tuple[int, str, str | None, int | None]  # row, action, label, id of the decision that it repeats
Digests = Callable[[list[int]], dict[str, str]]
CLEAR = "clear"  # what undo appends for a row that had no decision before
KINDS = ("do", "undo", "redo")
FILE = "review.sqlite"
VERSION = 1  # of the file, in its user_version; files of before it was written have 0
LONGEST = 64 << 20  # bytes of a value
UNTRUSTED = "PRAGMA trusted_schema = OFF"
BESIDE = ("", "-wal", "-shm")  # the file, and what SQLite keeps beside it while it is open
MARK = b"label-curator"  # metadata of parquet files that export wrote
MACHINE = "cleanlab"  # whose imported decisions are no person's

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS steps (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, target INTEGER, reviewer TEXT NOT NULL,
    time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY, row INTEGER NOT NULL, action TEXT NOT NULL, label TEXT, reviewer TEXT NOT NULL,
    time TEXT NOT NULL, previous INTEGER, step INTEGER NOT NULL, repeats INTEGER);
CREATE INDEX IF NOT EXISTS decisions_of_step ON decisions (step);
CREATE TABLE IF NOT EXISTS audits (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, reviewer TEXT NOT NULL, seed INTEGER NOT NULL, time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit_rows (
    audit INTEGER NOT NULL, place INTEGER NOT NULL, row INTEGER NOT NULL, stratum TEXT NOT NULL,
    PRIMARY KEY (audit, place));
CREATE TABLE IF NOT EXISTS audit_labels (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, audit INTEGER NOT NULL, row INTEGER NOT NULL, label TEXT,
    reviewer TEXT NOT NULL, time TEXT NOT NULL);
"""


class Decision(NamedTuple):
    """One reviewer's word on a row: the label is the class name that holds from now on, None for drop and unsure."""

    id: int
    row: int
    action: str
    label: str | None
    reviewer: str
    time: str
    previous: int | None  # id of the decision of the same row and reviewer that it replaces
    step: int
    repeats: int | None  # id of the decision that an undo or redo brought back with this one

    @property
    def origin(self) -> int:
        """Id of the decision that said so first."""
        return self.repeats or self.id


@dataclass
class Verified:
    """The rows whose label reviewers verified, and how many were left out and why."""

    labels: dict[int, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # keep, relabel, drop, unsure, conflict


class TakenKey(CuratorError):
    """A step's key is another step's: the step was not saved, nor any that came with it; send it with another key."""

    def __init__(self, key: str):
        super().__init__("the key of a step is that of another step; nothing was saved")
        self.key = key


@dataclass
class _Stacks:
    """A reviewer's steps that undo and redo can turn, number -> key, the next one last."""

    done: dict[int, str] = field(default_factory=dict)
    undone: dict[int, str] = field(default_factory=dict)


class Journal:
    """The open journal; what other processes append is seen at the next call.

    Raises:
        CuratorError: when the file cannot be opened, is none of Curator's, or belongs to another split or classes.
    """

    def __init__(self, path: Path, facts: dict[str, Any] | None = None):
        """Open the file; with facts (Rows.facts_for_a_journal) make it if it is missing, without them only read."""
        self.path = path
        self.lock = threading.RLock()
        self._clear()
        try:
            self._real = os.path.realpath(path)  # beside which SQLite keeps its own files
            self._require_files(facts is None)
            self._db = self._connect("ro" if facts is None else "rwc")
        except CuratorError:
            raise
        except (OSError, sqlite3.Error, ValueError) as e:
            raise CuratorError(self._unfit(str(e))) from e
        try:
            if facts is None:
                self._inspect()
            else:
                _patiently(lambda: self._prepare(facts))
            self.facts = self._facts()
            self._read()
            if facts is not None:
                self._stood = self._stat()
                self.require(facts["classes"], facts["split"])
        except BaseException as e:
            self._db.close()
            if isinstance(e, OSError | sqlite3.Error | ValueError | RecursionError) and not isinstance(e, CuratorError):
                raise CuratorError(self._unfit(str(e))) from e
            raise

    def _clear(self) -> None:
        self._seen = 0, 0  # ids of the last step and decision that were read
        self._rows: dict[int, dict[str, Decision]] = {}
        self._log: list[int] = []  # rows of all decisions, as they came
        self._stacks: dict[str, _Stacks] = {}
        self._by: dict[int, str] = {}  # step -> reviewer

    def _unfit(self, found: str) -> str:
        return (
            f"{self.path}: expected a review journal that can be opened, found: {' '.join(found.split())}; "
            "restore a copy of it, or name another file with --journal"
        )

    def require(self, classes: list[str], split: str, digests: Digests = lambda rows: {}) -> None:
        """Refuse to be the journal of other rows.

        Args:
            classes: names of the classes.
            split: name of the split.
            digests: of ids of rows, what they show (content_of), by id as text; ids that are not there are left out.

        Raises:
            CuratorError: when the decisions are about other classes, another split, or rows that show something else.
        """
        sample = self.facts.get("sample", {})
        now = digests([int(row) for row in sample])
        for differ, what in (
            (self.facts["classes"] != classes, "other classes than"),
            (self.facts["split"] != split, "another split than"),
            (
                any(sample[row] != digest for row, digest in now.items()),
                "other images, or images in another order, than",
            ),
        ):
            if differ:
                raise CuratorError(f"{self.path}: its decisions are about {what} this run's; name another --journal")

    def _require_files(self, to_read: bool) -> None:
        """Refuse what SQLite would wait for, or take for a new journal, before it is opened."""
        there = {suffix: os.stat(self._real + suffix) for suffix in BESIDE if os.path.exists(self._real + suffix)}
        for suffix, found in there.items():
            if not stat.S_ISREG(found.st_mode):
                raise CuratorError(self._unfit(f"{self.path.name}{suffix} is no regular file"))
        if "" not in there:
            if to_read:
                raise CuratorError(f"{self.path}: expected a review journal, found no such file")
        elif there[""].st_size == 0 and (to_read or ("-wal" in there and there["-wal"].st_size)):
            raise CuratorError(self._unfit("an empty file"))  # SQLite would delete the -wal with its decisions

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
                    raise CuratorError(
                        f"{self.path}: it holds decisions that are not merged yet, and its folder cannot be written; "
                        "open it once where it can"
                    ) from None
                db = self._open("mode=ro&immutable=1")
        return db

    def _inspect(self) -> None:
        """Refuse a newer journal, somebody else's database and a damaged one, before anything is read or written."""
        self._db.execute(UNTRUSTED)
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if not 0 <= version <= VERSION:
            raise CuratorError(
                f"{self.path}: a newer Curator wrote it (journal version {version}, this one reads up to {VERSION}); "
                "update Curator, or name another --journal"
            )
        expected = _tables()
        found = self._db.execute("SELECT type, name, coalesce(rootpage, 0) FROM sqlite_master").fetchall()
        tables = {name for kind, name, page in found if kind == "table" and page}
        others = any(kind != "index" and not (kind == "table" and page) for kind, _, page in found)
        if others or tables - expected.keys():
            raise CuratorError(
                f"{self.path}: expected a review journal, found another database; name another --journal"
            )
        if not tables:
            return  # a new file
        if missing := expected.keys() - tables:
            raise CuratorError(self._unfit(f"no table {', '.join(sorted(missing))}"))
        (said,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise CuratorError(self._unfit(said))
        for table in sorted(tables):
            self._require_cells(table, expected[table])
        of_none = "NOT EXISTS (SELECT 1 FROM steps s WHERE s.id = d.step AND s.reviewer = d.reviewer)"
        lost = self._db.execute(f"SELECT id FROM decisions d WHERE id < 1 OR {of_none} LIMIT 1").fetchone()
        if lost or self._db.execute("SELECT 1 FROM steps WHERE id < 1").fetchone():
            raise CuratorError(self._unfit("decisions that no step made"))

    def _require_cells(self, table: str, expected: dict[str, tuple[str, ...]]) -> None:
        """Refuse a table with other columns, or with a cell that is not of its column's types."""
        found = self._db.execute(f"SELECT name, hidden FROM pragma_table_xinfo('{table}')")
        columns = dict(found.fetchall())
        if columns != dict.fromkeys(expected, 0):
            raise CuratorError(self._unfit(f"other columns of table {table}"))
        wrong = " OR ".join(
            f"typeof({name}) NOT IN ({', '.join(map(repr, types))})" for name, types in expected.items()
        )
        if self._db.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1").fetchone():
            raise CuratorError(self._unfit(f"values of other types in table {table}"))

    def _facts(self) -> dict[str, Any]:
        facts = {name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM facts")}
        classes, sample = facts.get("classes"), facts.get("sample", {})
        texts = facts.get("dataset"), facts.get("split"), facts.get("id", "")  # files of long ago have no id
        if isinstance(classes, list) and isinstance(sample, dict):
            texts = (*texts, *classes, *sample.values())
            if all(isinstance(text, str) for text in texts) and all(re.fullmatch("[0-9]{1,18}", row) for row in sample):
                return facts
        raise CuratorError(self._unfit("facts about its rows that are missing, or not what they should be"))

    def _prepare(self, facts: dict[str, Any]) -> None:
        self._inspect()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "PRAGMA journal_size_limit = -1"
        )  # the -wal never shrinks by itself, wherever SQLite comes from
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            if self._db.execute("SELECT count(*) FROM facts").fetchone() != (0,):
                self._facts()
            new = ((name, json.dumps(value)) for name, value in facts.items())
            self._db.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", new)
            if self._db.execute("PRAGMA user_version").fetchone() != (VERSION,):
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    # Whether it is still the file that was opened

    def _stat(self) -> list[os.stat_result]:
        return [os.stat(self._real + suffix) for suffix in BESIDE]

    def _require_place(self) -> None:
        """Refuse to say "saved" when the file, or what SQLite keeps beside it, was removed, replaced or cut meanwhile.

        SQLite itself would go on to write to a file that nobody finds again. (No file is opened for this: closing it
        would take away SQLite's own locks on it, which are the process's.)
        """
        wrong = f"{self.path.name} was removed, replaced or cut while it was open; put it back, or start app.py again"
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
                counts = [db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("steps", "decisions")]
        except (sqlite3.Error, TypeError, ValueError):
            raise CuratorError(wrong) from None
        if said != "ok" or not same or counts[0] < len(self._by) or counts[1] < len(self._log):
            raise CuratorError(wrong)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Writing

    def save(self, steps: Sequence[dict[str, Any]], reviewer: str) -> dict[int, Decision | None]:
        """Append steps in their order, in one transaction; it is on the disk when this returns.

        Args:
            steps: each with a "key" that no other step has (a step sent twice counts once) and a "kind": "do" with
                "rows", a list of (row, action, label); or "undo" or "redo" with "target", the key of the step to
                turn, None for the last one. A step is not undone when one of its rows was decided again since.
            reviewer: whose steps they are.

        Returns:
            The reviewer's decision on every row that the steps name or touch, None where there is none now.

        Raises:
            TakenKey: a key is that of another step; nothing was saved.
            CuratorError: the file is not the one that was opened; nothing was saved where it would be found again.
            sqlite3.Error: nothing was saved.
        """
        with self.lock, self._transaction():
            touched = [row for step in steps for row in self._append(step, reviewer)]
        return {row: self.decision(row, reviewer) for row in touched}

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block's writing on the disk at its end, or none of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._read()
            self._require_place()
            yield
            self._db.execute("COMMIT")
            self._require_place()
        except BaseException as e:
            if self._db.in_transaction:  # a full disk has ended it by itself
                self._db.execute("ROLLBACK")
            self._forget()
            if isinstance(e, UnicodeEncodeError):
                raise CuratorError(f"{self.path}: expected text that can be written, found {e.object!a:.60}") from e
            raise

    def _append(self, step: dict[str, Any], reviewer: str) -> list[int]:
        """Append one step; the rows it touches."""
        kind, now = step["kind"], _now()
        known = self._db.execute("SELECT id, kind, reviewer FROM steps WHERE key = ?", (step["key"],)).fetchone()
        if known:
            made = self._decisions_of(known[0])
            sent = [(int(row), action, label) for row, action, label in step["rows"]] if kind == "do" else None
            if known[1:] != (kind, reviewer) or sent not in (None, [act[:3] for act in made]):
                raise TakenKey(step["key"])
            return [row for row, *_ in made]
        if kind == "do":
            made = [(int(row), action, label, None) for row, action, label in step["rows"]]
            target, named = None, [row for row, *_ in made]
        else:
            target, named, made = self._turned(kind, step.get("target"), reviewer)
        number = self._db.execute(
            "INSERT INTO steps (key, kind, target, reviewer, time) VALUES (?, ?, ?, ?, ?)",
            (step["key"], kind, target, reviewer, now),
        ).lastrowid
        rows = [
            (row, action, label, reviewer, now, before.id if before else None, number, repeats)
            for row, action, label, repeats in made
            for before in [self.decision(row, reviewer)]
        ]
        self._db.executemany(
            f"INSERT INTO decisions ({', '.join(Decision._fields[1:])}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
        self._read()
        return named

    def _turned(self, kind: str, key: str | None, reviewer: str) -> tuple[int | None, list[int], list[Act]]:
        """The step that an undo or redo turns (None: it cannot be turned), its rows, and the decisions to append."""
        stacks = self._stacks.setdefault(reviewer, _Stacks())
        stack = stacks.done if kind == "undo" else stacks.undone
        if key is None:
            step = next(reversed(stack), None)
        else:
            found = self._db.execute("SELECT id FROM steps WHERE key = ? AND reviewer = ?", (key, reviewer)).fetchone()
            step = found[0] if found else None
        if step is None:
            return None, [], []
        made = self._decisions_of(step)
        rows = [row for row, *_ in made]
        if step not in stack:
            return None, rows, []
        if kind == "redo":
            return step, rows, made
        for row, *_, decision in made:
            now = self.decision(row, reviewer)
            if now is None or now.origin != decision:
                return None, rows, []
        latest = "SELECT max(id) FROM steps WHERE id = ? OR (target = ? AND kind = 'redo')"
        before = self._db.execute(
            f"SELECT d.row, coalesce(p.action, '{CLEAR}'), p.label, coalesce(p.repeats, p.id) FROM decisions d "
            f"LEFT JOIN decisions p ON p.id = d.previous WHERE d.step = ({latest})",
            (step, step),
        )
        return step, rows, before.fetchall()

    def _decisions_of(self, step: int) -> list[Act]:
        """The decisions of a step, as a step that repeats them has them."""
        return self._db.execute("SELECT row, action, label, id FROM decisions WHERE step = ?", (step,)).fetchall()

    # Reading

    def sync(self) -> None:
        """Read what other processes have appended."""
        with self.lock:
            self._read()

    def _forget(self) -> None:
        """After a transaction that failed, what was read inside it is not there."""
        self._clear()
        self._read()

    def _read(self) -> None:
        step, decision = self._seen
        classes = {*self.facts["classes"]}
        steps = self._db.execute("SELECT id, key, kind, target, reviewer FROM steps WHERE id > ? ORDER BY id", (step,))
        for step, key, kind, target, reviewer in steps.fetchall():  # noqa: B007
            stacks = self._stacks.setdefault(reviewer, _Stacks())
            self._by[step] = reviewer
            if kind == "do":
                stacks.done[step] = key
                stacks.undone.clear()
            elif target is not None:
                source, goal = (stacks.done, stacks.undone) if kind == "undo" else (stacks.undone, stacks.done)
                if kind not in KINDS or target not in source:
                    raise CuratorError(self._unfit(f"step {step} turns a step that cannot be turned"))
                goal[target] = source.pop(target)
        # A reader between two statements must not see the decisions of a step that it has not seen.
        found = self._db.execute(
            f"SELECT {', '.join(Decision._fields)} FROM decisions WHERE id > ? AND step <= ? ORDER BY id",
            (decision, step),
        )
        for values in found.fetchall():
            made = Decision(*values)
            labelled = made.label in classes if made.action in ("keep", "relabel") else made.label is None
            known = made.action in (*ACTIONS, CLEAR) and self._by.get(made.step) == made.reviewer
            if not (labelled and known and max(made.previous or 0, made.repeats or 0) < made.id):
                raise CuratorError(self._unfit(f"decision {made.id} is none that was made here"))
            decision = made.id
            self._log.append(made.row)
            of_row = self._rows.setdefault(made.row, {})
            if made.action == CLEAR:
                of_row.pop(made.reviewer, None)
            else:
                of_row[made.reviewer] = made
        self._seen = step, decision

    @property
    def last(self) -> int:
        """Id of the last decision that was read."""
        return self._seen[1]

    def log(self, start: int) -> list[int]:
        """Rows of the decisions that were read, from the start-th on; one may come several times."""
        with self.lock:
            return self._log[start:]

    def decision(self, row: int, reviewer: str) -> Decision | None:
        """The reviewer's latest decision on the row."""
        return self._rows.get(row, {}).get(reviewer)

    def of_row(self, row: int) -> dict[str, Decision]:
        """The latest decision of every reviewer on the row."""
        return dict(self._rows.get(row, {}))

    def reviewers(self) -> dict[str, int]:
        """Rows decided by every reviewer who decided any."""
        with self.lock:
            return dict(Counter(reviewer for of in self._rows.values() for reviewer in of))

    def history(self, reviewer: str, most: int = 100) -> tuple[list[str], list[str]]:
        """Keys of the reviewer's steps that can be undone, and redone, the next one last."""
        with self.lock:
            stacks = self._stacks.get(reviewer, _Stacks())
            return list(stacks.done.values())[-most:], list(stacks.undone.values())[-most:]

    def conflicts(self) -> list[int]:
        """Rows, in order, to which reviewers gave different labels, or one a label and another dropped it.

        Who is unsure does not contradict anybody.
        """
        with self.lock:
            return sorted(row for row, of in self._rows.items() if len(_outcomes(of.values())) > 1)

    def dropped(self) -> list[int]:
        """Rows, in order, that reviewers dropped and nobody kept or relabelled."""
        with self.lock:
            return sorted(row for row, of in self._rows.items() if _outcomes(of.values()) == {None})

    def agreement(self) -> list[dict[str, Any]]:
        """For every two reviewers the rows both decided, the share they agree on, and Cohen's kappa if defined."""
        with self.lock:
            named: dict[str, dict[int, str]] = {}
            for row, of in self._rows.items():
                for reviewer, d in of.items():
                    if d.action != "unsure":
                        named.setdefault(reviewer, {})[row] = f"={d.label}" if d.label is not None else "drop"
        out = []
        for a, b in itertools.combinations(sorted(named), 2):
            both = [(named[a][row], named[b][row]) for row in named[a].keys() & named[b].keys()]
            if both:
                share = sum(x == y for x, y in both) / len(both)
                first, second = Counter(x for x, _ in both), Counter(y for _, y in both)
                chance = sum(first[label] * second[label] for label in first) / len(both) ** 2
                kappa = (share - chance) / (1 - chance) if chance < 1 else None
                out.append({"reviewers": [a, b], "rows": len(both), "agreement": share, "kappa": kappa})
        return out

    def verified(self) -> Verified:
        """The rows to trust: the latest keep is the given label, the latest relabel its label.

        Dropped rows, rows on which all are unsure, and rows on which reviewers conflict are not.
        """
        found, counts = Verified(), Counter(dict.fromkeys((*ACTIONS, "conflict"), 0))
        with self.lock:
            for row, of in sorted(self._rows.items()):
                if not of:
                    continue
                sure = [d for d in of.values() if d.action != "unsure"]
                if len(_outcomes(sure)) > 1:
                    counts["conflict"] += 1
                elif not sure:
                    counts["unsure"] += 1
                else:
                    latest = max(sure, key=lambda d: d.id)
                    counts[latest.action] += 1
                    if latest.label is not None:
                        found.labels[row] = latest.label
        found.counts = dict(counts)
        return found

    def export(self, folder: Path) -> list[Path]:
        """Write decisions (all of them) and verified (row, label: a file for --verified) as parquet and CSV.

        Nothing is overwritten but an earlier export of this journal: see write_table.
        """
        import pyarrow as pa

        with self.lock:
            self._read()
            columns = Decision._fields
            rows = self._db.execute(f"SELECT {', '.join(columns)} FROM decisions ORDER BY id").fetchall()
            verified = self.verified().labels
        kinds = (pa.int64(), pa.int64(), *[pa.string()] * 4, *[pa.int64()] * 3)
        by_column = list(zip(*rows, strict=True)) or [()] * len(columns)
        decisions = {c: pa.array(v, t) for c, v, t in zip(columns, by_column, kinds, strict=True)}
        labels = {"row": pa.array(verified, pa.int64()), "label": pa.array(verified.values(), pa.string())}
        owner = str(self.facts.get("id"))
        return [
            *write_table(pa.table(decisions), folder / "decisions", owner),
            *write_table(pa.table(labels), folder / "verified", owner),
        ]

    # Audits

    def new_audit(self, run: str, reviewer: str, seed: int, rows: Sequence[tuple[int, str]]) -> None:
        """Write down a reviewer's sample of a run, (row, stratum) in the order in which it is to be labelled."""
        with self.lock, self._transaction():
            number = self._db.execute(
                "INSERT INTO audits (run, reviewer, seed, time) VALUES (?, ?, ?, ?)", (run, reviewer, seed, _now())
            ).lastrowid
            places = ((number, place, row, stratum) for place, (row, stratum) in enumerate(rows))
            self._db.executemany("INSERT INTO audit_rows VALUES (?, ?, ?, ?)", places)

    def last_audit(self, run: str, reviewer: str) -> tuple[int, list[tuple[int, str]]] | None:
        """Number and (row, stratum) of the reviewer's latest sample of a run, in the order of labelling."""
        with self.lock:
            latest = "SELECT max(id) FROM audits WHERE run = ? AND reviewer = ?"
            number = self._db.execute(latest, (run, reviewer)).fetchone()[0]
            if number is None:
                return None
            rows = self._db.execute("SELECT row, stratum FROM audit_rows WHERE audit = ? ORDER BY place", (number,))
            return number, rows.fetchall()

    def auditors(self, run: str) -> list[str]:
        """Who has drawn a sample of a run."""
        with self.lock:
            found = self._db.execute("SELECT DISTINCT reviewer FROM audits WHERE run = ? ORDER BY reviewer", (run,))
            return [name for (name,) in found]

    def save_audit_label(self, audit: int, row: int, label: str | None, reviewer: str, key: str) -> bool:
        """Append a blind label (None: it cannot be told), once, and only for a row of the reviewer's sample.

        Whether it is there.
        """
        with self.lock, self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO audit_labels (key, audit, row, label, reviewer, time) "
                "SELECT ?, a.id, r.row, ?, a.reviewer, ? FROM audits a JOIN audit_rows r ON r.audit = a.id "
                "WHERE a.id = ? AND r.row = ? AND a.reviewer = ?",
                (key, label, _now(), audit, row, reviewer),
            )
            there = "SELECT audit, row, label, reviewer FROM audit_labels WHERE key = ?"
            found = self._db.execute(there, (key,)).fetchone()
            if found is not None and found != (audit, row, label, reviewer):
                raise TakenKey(key)
            return found is not None

    def audit_labels(self, audit: int, reviewer: str) -> dict[int, str | None]:
        """The reviewer's latest label of every row of the sample that has one."""
        with self.lock:
            found = self._db.execute(
                "SELECT row, label FROM audit_labels WHERE audit = ? AND reviewer = ? ORDER BY id", (audit, reviewer)
            )
            return dict(found.fetchall())


@cache
def _tables() -> dict[str, dict[str, tuple[str, ...]]]:
    """SCHEMA: table -> column -> what SQLite calls the types of its values."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: {
                name: (kind.lower(), *([] if needed or key else ["null"]))
                for _, name, kind, needed, _, key in db.execute(f"PRAGMA table_info({table})")
            }
            for table in names
        }


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


def write_table(table, path: Path, owner: str) -> list[Path]:
    """Write path.parquet and path.csv, each whole or not at all; in the CSV no text is taken for a formula.

    Files of somebody else that lie there stay, and so do ours that somebody changed: then path-2 is written.

    Args:
        table: to be written.
        path: without suffix.
        owner: whose tables these are; only those of the same are replaced.

    Returns:
        The two files.
    """
    import pyarrow.parquet as pq

    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        writer.writerow([as_cell(value) if isinstance(value, str) else value for value in row])
    content = lines.getvalue().encode()
    places = itertools.chain([path], (path.with_name(f"{path.name}-{i}") for i in itertools.count(2)))
    path = next(place for place in places if _is_free(place, owner))
    files = [path.with_suffix(".parquet"), path.with_suffix(".csv")]
    with atomic(files[1]) as temporary:
        temporary.write_bytes(content)
    with atomic(files[0]) as temporary:
        pq.write_table(table.replace_schema_metadata({MARK: json.dumps([owner, _hash(content)])}), temporary)
    return files


def _is_free(path: Path, owner: str) -> bool:
    """Whether nothing lies at path.parquet and path.csv but what write_table wrote there for the owner."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet, lines = path.with_suffix(".parquet"), path.with_suffix(".csv")
    if not os.path.lexists(parquet):
        return not os.path.lexists(lines)
    try:
        said = json.loads((pq.read_schema(parquet).metadata or {}).get(MARK, b"null"))
        return said == [owner, said[1]] and (not os.path.lexists(lines) or _hash(lines.read_bytes()) == said[1])
    except (OSError, TypeError, ValueError, IndexError, pa.ArrowException):
        return False


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _outcomes(decisions: Iterable[Decision]) -> set[str | None]:
    return {d.label for d in decisions if d.action != "unsure"}
