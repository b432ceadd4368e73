"""Decisions of one journal brought into another of the same rows, each exactly once: a step is known by its key."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from curator.decisions.database import Database, timestamp
from curator.errors import CuratorError

if TYPE_CHECKING:
    from curator.decisions.journal import Journal

Row = dict[str, Any]
SAMPLE = ("run", "reviewer", "seed", "time")  # by which an audit is known


def merge(source: Journal, to: Journal) -> int:
    """Append the source's steps and audits that `to` has not, with their reviewers and times; how many decisions.

    What the same reviewer decided on a row later, by the times that stand with the decisions, still holds afterwards.
    An undo or redo that cannot be turned in `to`, where the reviewer went on meanwhile, comes as a step of its own.

    Raises:
        CuratorError: a key is that of another step; nothing was saved.
        sqlite3.Error: nothing was saved.
    """
    ours, theirs = to._db, source._db
    with theirs.lock, ours.transaction(to._forget):
        to._read()
        held = _latest(ours)
        known: dict[str, Row] = {step["key"]: step for step in _rows(ours, "steps")}
        made = _by_step(theirs)
        ruled = {row["decision"] for row in _rows(theirs, "rulings")}
        steps: dict[int, int] = {}  # number there -> number here
        decisions: dict[int, int] = {}
        came: dict[tuple[int, str], Row] = {}
        mine, new = set(known), 0
        for step in _rows(theirs, "steps"):
            here, of_step = known.get(step["key"]), made.get(step["id"], [])
            mine.discard(step["key"])
            if here is not None:
                _pair(ours, here, step, of_step, decisions)
                steps[step["id"]] = here["id"]
                continue
            steps[step["id"]] = number = _append_step(to, step, steps)
            for decision in of_step:
                repeats = decisions.get(decision["repeats"] or 0)
                new_one = {**decision, "step": number, "repeats": repeats}
                decisions[decision["id"]] = _insert_decision(to, new_one, decision["id"] in ruled)
                came[decision["row"], decision["reviewer"]] = decision
            new += len(of_step)
            to._read()
        _restore(to, held, came, {known[key]["id"] for key in mine})
        _merge_audits(theirs, ours)
        _merge_remarks(theirs, ours)
        return new


def _append_step(to: Journal, step: Row, steps: dict[int, int]) -> int:
    """A step of theirs, as a "do" where what it turns cannot be turned here."""
    kind, target = step["kind"], steps.get(step["target"] or 0)
    if kind != "do" and step["target"] is not None and not to.turns(kind, target, step["reviewer"]):
        kind, target = "do", None
    return _insert(to._db, "steps", {**step, "kind": kind, "target": target})


def _pair(ours: Database, here: Row, step: Row, of_step: list[Row], decisions: dict[int, int]) -> None:
    """Note which decision of a step that is here already is which of theirs."""
    held = _rows(ours, "decisions", "WHERE step = ?", here["id"])
    told = [[(d["row"], d["action"], d["label"], d.get("also")) for d in found] for found in (held, of_step)]
    if here["reviewer"] != step["reviewer"] or told[0] != told[1]:
        raise CuratorError("the journals hold different decisions under one key: one of them was changed by hand")
    decisions.update({there["id"]: kept["id"] for there, kept in zip(of_step, held, strict=True)})


def _restore(to: Journal, held: dict[tuple[int, str], Row], came: dict[tuple[int, str], Row], mine: set[int]) -> None:
    """Say again what was said here, and later than what has come."""
    again = [
        held[place]
        for place, decision in came.items()
        if place in held and held[place]["step"] in mine and held[place]["time"] > decision["time"]
    ]
    ruled = {row["decision"] for row in _rows(to._db, "rulings")}
    for reviewer in dict.fromkeys(decision["reviewer"] for decision in again):
        step = {"key": f"merge-{uuid.uuid4().hex}", "kind": "do", "target": None, "reviewer": reviewer}
        number = _insert(to._db, "steps", {**step, "time": timestamp()})
        for decision in again:
            if decision["reviewer"] == reviewer:
                origin = decision["repeats"] or decision["id"]
                _insert_decision(to, {**decision, "step": number, "repeats": origin}, decision["id"] in ruled)
    to._read()


def _insert_decision(to: Journal, decision: Row, ruling: bool) -> int:
    """Append a decision, after the one that its reviewer had made, and say where it is a ruling."""
    before = to._word(decision["row"], decision["reviewer"], ruling)
    number = _insert(to._db, "decisions", {**decision, "previous": before and before.id})
    if ruling:
        _insert(to._db, "rulings", {"decision": number})
    return number


def _merge_remarks(theirs: Database, ours: Database) -> None:
    """Append notes and tags that are not here; of a reviewer and a row the one of the later time is the last one."""
    held = _rows(ours, "remarks")
    there = {remark["key"] for remark in held}
    came = [remark for remark in _rows(theirs, "remarks") if remark["key"] not in there]
    last = {(remark["row"], remark["reviewer"]): remark for remark in held}
    for remark in came:
        _insert(ours, "remarks", remark)
    latest = {(remark["row"], remark["reviewer"]): remark for remark in came}
    for place, remark in latest.items():
        if place in last and last[place]["time"] > remark["time"]:
            _insert(ours, "remarks", {**last[place], "key": f"merge-{uuid.uuid4().hex}"})


def _merge_audits(theirs: Database, ours: Database) -> None:
    samples = {tuple(a[name] for name in SAMPLE): a["id"] for a in _rows(ours, "audits")}
    numbers: dict[int, int] = {}
    for audit in _rows(theirs, "audits"):
        same = samples.get(tuple(audit[name] for name in SAMPLE))
        numbers[audit["id"]] = _insert(ours, "audits", audit) if same is None else same
        if same is None:
            for row in _rows(theirs, "audit_rows", "WHERE audit = ?", audit["id"]):
                _insert(ours, "audit_rows", {**row, "audit": numbers[audit["id"]]})
    there = {label["key"] for label in _rows(ours, "audit_labels")}
    for label in _rows(theirs, "audit_labels"):
        if label["key"] not in there and label["audit"] in numbers:
            _insert(ours, "audit_labels", {**label, "audit": numbers[label["audit"]]})


def _rows(db: Database, table: str, where: str = "", *values: Any) -> list[Row]:
    """Rows of a table in their order, with all of its columns."""
    cursor = db.execute(f"SELECT * FROM {table} {where} ORDER BY rowid", values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _insert(db: Database, table: str, row: Row) -> int:
    """Append a row, with a number of its own where the table has numbers."""
    values = {name: value for name, value in row.items() if name != "id"}
    places = ", ".join("?" * len(values))
    done = db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", list(values.values()))
    return int(done.lastrowid or 0)


def _by_step(db: Database) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for decision in _rows(db, "decisions"):
        found.setdefault(decision["step"], []).append(decision)
    return found


def _latest(db: Database) -> dict[tuple[int, str], Row]:
    """The last word of every reviewer on every row, one that was taken back included."""
    return {(d["row"], d["reviewer"]): d for d in _rows(db, "decisions")}
