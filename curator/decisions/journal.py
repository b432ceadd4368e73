"""The journal of a review: who decided what, append-only in SQLite, on the disk before it shows as saved.

A step is what a reviewer does at once (one key, or a bulk apply) and the unit of undo. It holds a decision for each of
its rows. Undo and redo are steps, too: they name the step they turn, and append decisions; nothing is ever changed or
removed. Several reviewers, in one process or in several, may write to one file.

A ruling is a decision that settles a row on which reviewers conflict. Its reviewer's own earlier word stays beside it:
how far people agree is told by what they said before anybody ruled.
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
from curator.decisions.remarks import Remarks
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
        self.audits, self.remarks = Audits(self._db), Remarks(self._db)
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
                "rows", a list of (row, action, label) or (row, "both", label, second label), and a true "ruling" where
                they are rulings; or "undo" or "redo" with "target", the key of the step to turn, None for the last one.
                A step is not undone when one of its rows was decided again since.
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
            # Who has ruled on a row changes the ruling, wherever they decide it again.
            ruled = {row for row in named if step.get("ruling") or reviewer in self._rulings.get(row, {})}
        else:
            target, named, made = self._turned(kind, step.get("target"), reviewer)
            ruled = set() if target is None else self._ruled(target)
        number = self._db.execute(
            "INSERT INTO steps (key, kind, target, reviewer, time) VALUES (?, ?, ?, ?, ?)",
            (step["key"], kind, target, reviewer, now),
        ).lastrowid
        rows = [
            (row, action, label, reviewer, now, before.id if before else None, number, repeats, also)
            for row, action, label, also, repeats in made
            for before in [self._word(row, reviewer, row in ruled)]
        ]
        names, marks = ", ".join(Decision._fields[1:]), ", ".join("?" * len(Decision._fields[1:]))
        self._db.executemany(f"INSERT INTO decisions ({names}) VALUES ({marks})", rows)
        of_step = "INSERT INTO rulings SELECT id FROM decisions WHERE step = ? AND row = ?"
        self._db.executemany(of_step, [(number, row) for row in ruled])
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
        ruled = self._ruled(step)
        for row, *_, decision in made:
            now = self._word(row, reviewer, row in ruled)
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

    def _ruled(self, step: int) -> set[int]:
        """The rows of a step on which it rules."""
        found = "SELECT d.row FROM decisions d JOIN rulings r ON r.decision = d.id WHERE d.step = ?"
        return {row for (row,) in self._db.execute(found, (step,))}

    # Reading

    def sync(self) -> None:
        """Read what other processes have appended."""
        with self.lock:
            self._read()

    def _clear(self) -> None:
        self._seen = 0, 0  # ids of the last step and decision that were read
        self._rows: dict[int, dict[str, Decision]] = {}
        self._rulings: dict[int, dict[str, Decision]] = {}
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
        new = found.fetchall()
        # After them: a decision's ruling came with it.
        rulings = {r for (r,) in self._db.execute("SELECT decision FROM rulings WHERE decision > ?", (decision,))}
        for values in new:
            made = Decision(*values)
            labelled = made.label in classes if made.action in LABELLED else made.label is None
            second = made.also in classes - {made.label} if made.action == "both" else made.also is None
            known = made.action in (*ACTIONS, CLEAR) and self._by.get(made.step) == made.reviewer
            if not (labelled and second and known and max(made.previous or 0, made.repeats or 0) < made.id):
                raise unfit(self.path, f"decision {made.id} is none that was made here")
            decision = made.id
            self._log.append(made.row)
            of_row = (self._rulings if decision in rulings else self._rows).setdefault(made.row, {})
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

    def _word(self, row: int, reviewer: str, ruling: bool) -> Decision | None:
        return (self._rulings if ruling else self._rows).get(row, {}).get(reviewer)

    def decision(self, row: int, reviewer: str) -> Decision | None:
        """The reviewer's latest decision on the row; who has ruled on it, the ruling."""
        return self._word(row, reviewer, True) or self._word(row, reviewer, False)

    def of_row(self, row: int) -> dict[str, Decision]:
        """The latest decision of every reviewer on the row; of who has ruled on it, the ruling."""
        return {**self._rows.get(row, {}), **self._rulings.get(row, {})}

    def rules(self, made: Decision) -> bool:
        """Whether a decision that still holds is a ruling."""
        return self._word(made.row, made.reviewer, True) == made

    def rulings(self) -> dict[int, Decision]:
        """The latest ruling of every row that has one."""
        with self.lock:
            return tally.latest(self._rulings)

    def story(self, row: int) -> list[tuple[str, str, str, str | None, str]]:
        """All that was decided on a row, as it came: (time, reviewer, action, label, kind of the step)."""
        with self.lock:
            return self._db.execute(
                "SELECT d.time, d.reviewer, d.action, d.label, s.kind FROM decisions d JOIN steps s ON s.id = d.step "
                "WHERE d.row = ? ORDER BY d.id",
                (row,),
            ).fetchall()

    def history(self, reviewer: str, most: int = 100) -> tuple[list[str], list[str]]:
        """Keys of the reviewer's steps that can be undone, and redone, the next one last."""
        with self.lock:
            stacks = self._stacks.get(reviewer, _Stacks())
            return list(stacks.done.values())[-most:], list(stacks.undone.values())[-most:]

    # What several reviewers say together: see tally

    def reviewers(self) -> dict[str, int]:
        """Rows decided by every reviewer who decided any."""
        with self.lock:
            return tally.reviewers({**self._rows, **{row: self.of_row(row) for row in self._rulings}})

    def conflicts(self) -> list[int]:
        """Rows, in order, to which reviewers gave different labels, or one a label and another dropped it.

        Rows on which somebody has ruled are settled.
        """
        with self.lock:
            return tally.conflicts(self._settled())

    def dropped(self) -> list[int]:
        """Rows, in order, that reviewers dropped and nobody kept or relabelled."""
        with self.lock:
            return tally.dropped(self._settled())

    def agreement(self) -> list[dict[str, Any]]:
        """For every two reviewers the rows both decided, the share they agree on, and Cohen's kappa if defined."""
        return tally.agreement(self.labels())

    def labels(self) -> tally.Labels:
        """What every reviewer who was sure of any row says, by row; None where dropped. Rulings are left out."""
        with self.lock:
            return tally.labels(self._rows)

    def verified(self) -> tally.Verified:
        """The rows to trust: the latest keep is the given label, the latest relabel its label."""
        with self.lock:
            return tally.verified(self._settled())

    def _settled(self) -> tally.ByRow:
        return {**self._rows, **{row: {made.reviewer: made} for row, made in tally.latest(self._rulings).items()}}

    def export(self, folder: Path, files: Files = lambda rows: []) -> list[Path]:
        """Write decisions (all of them) and verified (row, label: a file for --verified) as parquet and CSV.

        Where there are any, notes and tags, too: remarks. The source files of rows, where they are given,
        go along. Nothing is overwritten but an earlier export of this journal: see write_table.
        """
        with self.lock:
            self._read()
            decisions = self._db.execute(f"SELECT {self._fields()} FROM decisions ORDER BY id").fetchall()
            verified = self.verified().labels
            remarks = [remark for row in sorted(self.remarks.by_row()) for remark in self.remarks.of_row(row)]
        return export(decisions, verified, folder, str(self.facts.get("id")), files(list(verified)), remarks)


def _act(row: int, action: str, label: str | None, also: str | None = None) -> Act:
    return int(row), action, label, also, None
