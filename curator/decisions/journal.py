"""The journal of a review: who decided what, append-only in SQLite, on the disk before it shows as saved.

A step is what a reviewer does at once (one key, or a bulk apply) and the unit of undo. It holds a decision for each of
its rows. Undo and redo are steps, too: they name the step they turn, and append decisions; nothing is ever changed or
removed. Several reviewers, in one process or in several, may write to one file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curator.decisions import tally
from curator.decisions.audits import Audits
from curator.decisions.database import Database, TakenKey, timestamp, unfit
from curator.decisions.decision import ACTIONS, CLEAR, Decision
from curator.decisions.export import export
from curator.decisions.merge import merge
from curator.errors import CuratorError

# Row, action, label, second right label, id of the decision that it repeats.
Act = tuple[int, str, str | None, str | None, int | None]
Files = Callable[[list[int]], list[str]]
Digests = Callable[[list[int]], dict[str, str]]
KINDS = ("do", "undo", "redo")
LABELLED = ("keep", "relabel", "both")  # actions with a label
FILE = "review.sqlite"


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
        self._db = Database(path, facts)
        self.path, self.facts, self.lock = path, self._db.facts, self._db.lock
        self.audits = Audits(self._db)
        self._clear()
        with self._db.closed_if_refused():
            self._read()
            if facts is not None:
                self.require(facts["classes"], facts["split"])

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
        moved = "; where label-curator apply has moved them, its --undo moves them back"
        for differ, what, hint in (
            (self.facts["classes"] != classes, "other classes than", ""),
            (self.facts["split"] != split, "another split than", ""),
            (
                any(sample[row] != digest for row, digest in now.items()),
                "other images or texts, or in another order, than",
                moved,
            ),
        ):
            if differ:
                raise CuratorError(
                    f"{self.path}: its decisions are about {what} this run's; name another with --journal or --verified"
                    + hint
                )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def changes(self) -> int:
        """How much this process has written so far; it grows with every decision and label."""
        return self._db.changes

    @contextmanager
    def readable(self) -> Iterator[Path]:
        """A path where others in this process can read the decisions: the file, or, where it is ours alone, a copy."""
        if not self._db.alone:
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            self.copy(Path(folder) / FILE)
            yield Path(folder) / FILE

    def merge(self, source: Path) -> int:
        """Append what another journal of the same rows holds and this one does not; how many decisions: see merge.

        Raises:
            CuratorError: it is no journal, or one of other classes or another split; nothing was saved.
        """
        with closing(Journal(source)) as there:
            there.require(self.facts["classes"], self.facts["split"])
            return merge(there, self)

    def turns(self, kind: str, step: int | None, reviewer: str) -> bool:
        """Whether a reviewer's undo or redo can turn the step of that number."""
        stacks = self._stacks.setdefault(reviewer, _Stacks())
        return step in (stacks.done if kind == "undo" else stacks.undone)

    def copy(self, path: Path) -> None:
        """Write the journal as it is now to a new path, while others go on to decide."""
        self._db.copy(path)

    # Writing

    def save(self, steps: Sequence[dict[str, Any]], reviewer: str) -> dict[int, Decision | None]:
        """Append steps in their order, in one transaction; it is on the disk when this returns.

        Args:
            steps: each with a "key" that no other step has (a step sent twice counts once) and a "kind": "do" with
                "rows", a list of (row, action, label) or (row, "both", label, second label); or "undo" or "redo" with
                "target", the key of the step to turn, None for the last one. A step is not undone when one of its rows
                was decided again since.
            reviewer: whose steps they are.

        Returns:
            The reviewer's decision on every row that the steps name or touch, None where there is none now.

        Raises:
            TakenKey: a key is that of another step; nothing was saved.
            CuratorError: the file is not the one that was opened; nothing was saved where it would be found again.
            sqlite3.Error: nothing was saved.
        """
        with self._db.transaction(self._forget):
            self._read()
            touched = [row for step in steps for row in self._append(step, reviewer)]
        return {row: self.decision(row, reviewer) for row in touched}

    def _append(self, step: dict[str, Any], reviewer: str) -> list[int]:
        """Append one step; the rows it touches."""
        kind, now = step["kind"], timestamp()
        known = self._db.execute("SELECT id, kind, reviewer FROM steps WHERE key = ?", (step["key"],)).fetchone()
        if known:
            made = self._decisions_of(known[0])
            sent = [_act(*act)[:4] for act in step["rows"]] if kind == "do" else None
            if known[1:] != (kind, reviewer) or sent not in (None, [act[:4] for act in made]):
                raise TakenKey(step["key"])
            return [row for row, *_ in made]
        if kind == "do":
            made = [_act(*act) for act in step["rows"]]
            target, named = None, [row for row, *_ in made]
        else:
            target, named, made = self._turned(kind, step.get("target"), reviewer)
        number = self._db.execute(
            "INSERT INTO steps (key, kind, target, reviewer, time) VALUES (?, ?, ?, ?, ?)",
            (step["key"], kind, target, reviewer, now),
        ).lastrowid
        rows = [
            (row, action, label, reviewer, now, before.id if before else None, number, repeats, also)
            for row, action, label, also, repeats in made
            for before in [self.decision(row, reviewer)]
        ]
        names, marks = ", ".join(Decision._fields[1:]), ", ".join("?" * len(Decision._fields[1:]))
        self._db.executemany(f"INSERT INTO decisions ({names}) VALUES ({marks})", rows)
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
            f"SELECT d.row, coalesce(p.action, '{CLEAR}'), p.label, p.also, coalesce(p.repeats, p.id) "
            "FROM decisions d "
            f"LEFT JOIN decisions p ON p.id = d.previous WHERE d.step = ({latest})",
            (step, step),
        )
        return step, rows, before.fetchall()

    def _decisions_of(self, step: int) -> list[Act]:
        """The decisions of a step, as a step that repeats them has them."""
        made = self._db.execute("SELECT row, action, label, also, id FROM decisions WHERE step = ?", (step,))
        return made.fetchall()

    # Reading

    def sync(self) -> None:
        """Read what other processes have appended."""
        with self.lock:
            self._read()

    def _clear(self) -> None:
        self._seen = 0, 0  # ids of the last step and decision that were read
        self._rows: dict[int, dict[str, Decision]] = {}
        self._log: list[int] = []  # rows of all decisions, as they came
        self._stacks: dict[str, _Stacks] = {}
        self._by: dict[int, str] = {}  # step -> reviewer

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
                    raise unfit(self.path, f"step {step} turns a step that cannot be turned")
                goal[target] = source.pop(target)
        # A reader between two statements must not see the decisions of a step that it has not seen.
        found = self._db.execute(
            f"SELECT {self._fields()} FROM decisions WHERE id > ? AND step <= ? ORDER BY id",
            (decision, step),
        )
        for values in found.fetchall():
            made = Decision(*values)
            labelled = made.label in classes if made.action in LABELLED else made.label is None
            second = made.also in classes - {made.label} if made.action == "both" else made.also is None
            known = made.action in (*ACTIONS, CLEAR) and self._by.get(made.step) == made.reviewer
            if not (labelled and second and known and max(made.previous or 0, made.repeats or 0) < made.id):
                raise unfit(self.path, f"decision {made.id} is none that was made here")
            decision = made.id
            self._log.append(made.row)
            of_row = self._rows.setdefault(made.row, {})
            if made.action == CLEAR:
                of_row.pop(made.reviewer, None)
            else:
                of_row[made.reviewer] = made
        self._seen = step, decision
        self._db.seen = {"steps": len(self._by), "decisions": len(self._log)}

    def _fields(self) -> str:
        """The fields of a decision, as SQL; of older files that are only read some are null."""
        return ", ".join(f"NULL AS {name}" if name in self._db.lacks else name for name in Decision._fields)

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

    def history(self, reviewer: str, most: int = 100) -> tuple[list[str], list[str]]:
        """Keys of the reviewer's steps that can be undone, and redone, the next one last."""
        with self.lock:
            stacks = self._stacks.get(reviewer, _Stacks())
            return list(stacks.done.values())[-most:], list(stacks.undone.values())[-most:]

    # What several reviewers say together: see tally

    def reviewers(self) -> dict[str, int]:
        """Rows decided by every reviewer who decided any."""
        with self.lock:
            return tally.reviewers(self._rows)

    def conflicts(self) -> list[int]:
        """Rows, in order, to which reviewers gave different labels, or one a label and another dropped it."""
        with self.lock:
            return tally.conflicts(self._rows)

    def dropped(self) -> list[int]:
        """Rows, in order, that reviewers dropped and nobody kept or relabelled."""
        with self.lock:
            return tally.dropped(self._rows)

    def agreement(self) -> list[dict[str, Any]]:
        """For every two reviewers the rows both decided, the share they agree on, and Cohen's kappa if defined."""
        with self.lock:
            labels = tally.labels(self._rows)
        return tally.agreement(labels)

    def verified(self) -> tally.Verified:
        """The rows to trust: the latest keep is the given label, the latest relabel its label."""
        with self.lock:
            return tally.verified(self._rows)

    def export(self, folder: Path, files: Files = lambda rows: []) -> list[Path]:
        """Write decisions (all of them) and verified (row, label: a file for --verified) as parquet and CSV.

        The source files of rows, where they are given, go along. Nothing is overwritten but an earlier export of this
        journal: see write_table.
        """
        with self.lock:
            self._read()
            decisions = self._db.execute(f"SELECT {self._fields()} FROM decisions ORDER BY id").fetchall()
            verified = self.verified().labels
        return export(decisions, verified, folder, str(self.facts.get("id")), files(list(verified)))


def _act(row: int, action: str, label: str | None, also: str | None = None) -> Act:
    return int(row), action, label, also, None
