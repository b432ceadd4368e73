"""The tables of a journal's file, and whether a file that somebody hands over has them and nothing else."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from functools import cache
from typing import Any

VERSION = 2  # of the file, in its user_version; files of before it was written have 0
UNTRUSTED = "PRAGMA trusted_schema = OFF"

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS steps (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, target INTEGER, reviewer TEXT NOT NULL,
    time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY, row INTEGER NOT NULL, action TEXT NOT NULL, label TEXT, reviewer TEXT NOT NULL,
    time TEXT NOT NULL, previous INTEGER, step INTEGER NOT NULL, repeats INTEGER, also TEXT);
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

# Columns that older files lack: they get them when they are opened to be written.
ADDED = {"decisions": ("also",)}


class NotOurs(ValueError):
    """A file of somebody else, or of a newer Curator: not damaged, but none to read or write."""


def inspect(db: sqlite3.Connection) -> None:
    """Refuse a newer journal, somebody else's database and a damaged one, before anything is read or written.

    Raises:
        NotOurs: a newer journal, or another database.
        ValueError: a damaged journal; what is wrong with it.
        sqlite3.Error: a damaged file.
    """
    db.execute(UNTRUSTED)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= VERSION:
        raise NotOurs(
            f"a newer Curator wrote it (journal version {version}, this one reads up to {VERSION}); "
            "update Curator, or name another --journal"
        )
    expected = _tables()
    found = db.execute("SELECT type, name, coalesce(rootpage, 0) FROM sqlite_master").fetchall()
    tables = {name for kind, name, page in found if kind == "table" and page}
    others = any(kind != "index" and not (kind == "table" and page) for kind, _, page in found)
    if others or tables - expected.keys():
        raise NotOurs("expected a review journal, found another database; name another --journal")
    if not tables:
        return  # a new file
    if missing := expected.keys() - tables:
        raise ValueError(f"no table {', '.join(sorted(missing))}")
    (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise ValueError(said)
    for table in sorted(tables):
        _require_cells(db, table, expected[table])
    of_none = "NOT EXISTS (SELECT 1 FROM steps s WHERE s.id = d.step AND s.reviewer = d.reviewer)"
    lost = db.execute(f"SELECT id FROM decisions d WHERE id < 1 OR {of_none} LIMIT 1").fetchone()
    if lost or db.execute("SELECT 1 FROM steps WHERE id < 1").fetchone():
        raise ValueError("decisions that no step made")


def _require_cells(db: sqlite3.Connection, table: str, expected: dict[str, tuple[str, ...]]) -> None:
    """Refuse a table with other columns, or with a cell that is not of its column's types."""
    columns = dict(db.execute(f"SELECT name, hidden FROM pragma_table_xinfo('{table}')").fetchall())
    expected = {name: types for name, types in expected.items() if name in columns or name not in ADDED.get(table, ())}
    if columns != dict.fromkeys(expected, 0):
        raise ValueError(f"other columns of table {table}")
    wrong = " OR ".join(f"typeof({name}) NOT IN ({', '.join(map(repr, types))})" for name, types in expected.items())
    if db.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1").fetchone():
        raise ValueError(f"values of other types in table {table}")


def missing_columns(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """(table, column) of ADDED that a file lacks."""
    found = []
    for table, names in ADDED.items():
        there = {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
        found += [(table, name) for name in names if name not in there]
    return found


def read_facts(db: sqlite3.Connection) -> dict[str, Any]:
    """What the file says of its rows.

    Raises:
        ValueError: when that is not what a journal says.
    """
    facts = {name: json.loads(value) for name, value in db.execute("SELECT name, value FROM facts")}
    classes, sample = facts.get("classes"), facts.get("sample", {})
    texts = facts.get("dataset"), facts.get("split"), facts.get("id", "")  # files of long ago have no id
    if isinstance(classes, list) and isinstance(sample, dict):
        texts = (*texts, *classes, *sample.values())
        if all(isinstance(text, str) for text in texts) and all(re.fullmatch("[0-9]{1,18}", row) for row in sample):
            return facts
    raise ValueError("facts about its rows that are missing, or not what they should be")


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
