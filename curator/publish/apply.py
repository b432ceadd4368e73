"""What people decided, carried into their own folder: files move to the folder of their class."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from curator.errors import CuratorError
from curator.publish.classes import Classes, folder_of
from curator.publish.moves import Folder, Journal, Move, Stays
from curator.publish.policy import decisions, fixes_of, require_share
from curator.result.home import home_of
from curator.result.layout import lock
from curator.result.read import Rows
from curator.text import Log

NOT_YET = "nothing was changed yet: add --yes to do it"


@dataclass
class Plan:
    """What would be done: moves, files that stay with the reason, and how many are where they belong already."""

    moves: list[Move] = field(default_factory=list)
    stay: list[tuple[str, str]] = field(default_factory=list)
    there: int = 0


def apply_moves(
    run: Path,
    folder: Path | None = None,
    *,
    min_confidence: float | None = None,
    journal: Path | None = None,
    undo: bool = False,
    yes: bool = False,
    say: Log,
) -> Plan:
    """Move the files of rows whose label was corrected to the folder of their class, and dropped ones out of it.

    Dropped ones go to the folder NAME-dropped beside the dataset's. Nothing is overwritten: where a name is taken, the
    file gets a free one. A file that is not the one that the run has seen stays. All of it can be undone, also after a
    kill at any moment; the same command then does the rest.

    Args:
        run: output folder of the run.
        folder: the dataset's; by default the one that the run was made of.
        min_confidence: in [0, 1]; not only labels that people verified, but those of which the nets are that sure.
        journal: file of the decisions; by default the run's.
        undo: move back what was moved.
        yes: do it; else it is only said what would be done.
        say: prints a line.

    Raises:
        CuratorError: nothing was moved.
    """
    if min_confidence is not None:
        require_share(min_confidence)
    rows = Rows(run)
    here = Folder(home_of(run, folder))
    if not yes:
        return _told(here, _planned(rows, here, journal, min_confidence, undo)[0], say, undo)
    with lock(run):
        held = _journal(rows, undo)
        held.settle(here)
        plan, held = _planned(rows, here, journal, min_confidence, undo)
        _require_any(plan)
        stay = (held.undo if undo else held.move)(here, plan.moves)
    plan.stay += stay
    done = len(plan.moves) - len(stay)
    for file, why in plan.stay:
        say(f"left   {file}: {why}")
    _note_tables(here, plan, say)
    say(f"{done:,} files moved{' back' if undo else ''} in {here.path}, {len(plan.stay):,} left as they are")
    return plan


def _told(here: Folder, plan: Plan, say: Log, undo: bool) -> Plan:
    """Say what would be done."""
    for move in plan.moves:
        say(f"move   {move.source} -> {move.target}")
    for file, why in plan.stay:
        say(f"leave  {file}: {why}")
    what = "to be moved back" if undo else "to be moved"
    _note_tables(here, plan, say)
    say(f"{len(plan.moves):,} files {what} in {here.path}, {len(plan.stay):,} to be left, {plan.there:,} done already")
    if plan.moves:
        say(NOT_YET)
    _require_any(plan)
    return plan


def _note_tables(here: Folder, plan: Plan, say: Log) -> None:
    """Say which tables of an imagefolder may still name the files where they were."""
    above = {parent for move in plan.moves for parent in (here.path / move.source).parents}
    inside = [parent for parent in above if parent.is_relative_to(here.path)]
    for table in sorted(path for parent in inside for path in parent.glob("metadata.*")):
        say(f"note   {table} may name these files by their places: correct it, too")


def _require_any(plan: Plan) -> None:
    """Refuse to do nothing where something was to be done."""
    if plan.stay and not plan.moves and not plan.there:
        file, why = plan.stay[0]
        raise CuratorError(f"apply: none of {len(plan.stay):,} files can be moved; {file}: {why}")


def note_of(rows: Rows, kind: str, undo: bool) -> Path:
    """The file in a run's folder that says what was done by its decisions.

    To undo, that of the last run that stood in the folder and has one, if this one has none.
    """
    own = rows.folder / f"{kind}-{rows.verdict[:16]}.json"
    others = sorted(rows.folder.glob(f"{kind}-*.json"), key=lambda path: path.stat().st_mtime)
    return others[-1] if undo and others and not own.exists() else own


def _journal(rows: Rows, undo: bool) -> Journal:
    """The moves of a run; to undo, those of the last run of the folder that has any."""
    return Journal(note_of(rows, "moved", undo))


def _planned(
    rows: Rows, here: Folder, journal: Path | None, min_confidence: float | None, undo: bool
) -> tuple[Plan, Journal]:
    held, plan = _journal(rows, undo), Plan()
    if undo:
        if not held.files:
            raise CuratorError(f"apply {rows.folder} --undo: nothing was moved by it")
        for row, (digest, places) in held.files.items():
            _add(plan, places[0], lambda: _back(here, row, digest, places))  # noqa: B023 - it is called at once
        return plan, held
    with decisions(rows, journal) as opened:
        fixes = {fix.row: fix for fix in fixes_of(rows, opened, min_confidence)}
    if not fixes and not held.files:
        raise CuratorError(
            f"apply {rows.folder}: no label was corrected yet; review some rows, or add --min-confidence"
        )
    classes = Classes(rows, here)
    digests, taken = rows.digests([*fixes, *held.files]), set[str]()

    def move(row: int, file: str) -> Move:
        places, digest = held.places(row, file), digests[str(row)]
        fix = fixes.get(row)
        if fix is None:  # it was moved, and the decision was taken back
            return _back(here, row, digest, places)
        target = classes.target(places[0], fix)
        now = here.place_of(places, digest)
        if folder_of(now) == folder_of(target):
            return Move(row, digest, now, now)
        return Move(row, digest, now, here.free(target, taken))

    for row in sorted({*fixes, *held.files}):
        file = held.places(row, classes.files[int(rows.positions([row])[0])])[0]
        _add(plan, file or f"row {row}", lambda: move(row, file))  # noqa: B023 - it is called at once
    return plan, held


def _back(here: Folder, row: int, digest: str, places: list[str]) -> Move:
    """The way of a file to its first place."""
    now = here.place_of(places, digest)
    if now != places[0] and os.path.lexists(here.full(places[0])):
        raise Stays(f"{places[0]} is taken")
    return Move(row, digest, now, places[0])


def _add(plan: Plan, name: str, make: Callable[[], Move]) -> None:
    try:
        move = make()
    except Stays as e:
        plan.stay.append((name, str(e)))
        return
    if move.source == move.target:
        plan.there += 1
    else:
        plan.moves.append(move)
