"""Corrected labels, put into a user's own CSV file in the place of the given ones."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from curator.errors import CuratorError
from curator.publish.apply import NOT_YET, note_of
from curator.publish.policy import decisions, fixes_of, require_share
from curator.publish.sheet import Sheet, Span, columns_of, read_sheet, require_unchanged, rows_of
from curator.result.facts import AGAIN, read_json
from curator.result.layout import lock
from curator.result.read import Rows, places_of
from curator.system import clear_leftovers, sync_folder, workspace, write_text
from curator.text import Log

Written = dict[str, tuple[str, list[str]]]  # file -> the cell as it was, and the labels that stood there since


@dataclass
class Edits:
    """What would change in a CSV file.

    Attributes:
        cells: their new text.
        said: (file, label there, label to be) of each.
        stay: (file, why its label is not changed).
        written: of the files of the cells.
    """

    cells: dict[Span, str] = field(default_factory=dict)
    said: list[tuple[str, str, str]] = field(default_factory=list)
    stay: list[tuple[str, str]] = field(default_factory=list)
    written: Written = field(default_factory=dict)


def apply_csv(
    run: Path,
    path: Path,
    *,
    min_confidence: float | None = None,
    journal: Path | None = None,
    undo: bool = False,
    yes: bool = False,
    say: Log,
) -> Edits:
    """Put corrected labels in the place of the given ones in a CSV file.

    The file is replaced as a whole, with its separator, quotes, ends of lines, order, other columns and encoding. Rows
    that reviewers dropped stay in it. What was written can be undone, also after a kill at any moment.

    Args:
        run: output folder of the run.
        path: of the CSV file, which has a column of files and one of labels.
        min_confidence: in [0, 1]; not only labels that people verified, but those of which the nets are that sure.
        journal: file of the decisions; by default the run's.
        undo: put back what stood there.
        yes: do it; else it is only said what would be done.
        say: prints a line.

    Raises:
        CuratorError: nothing was changed.
    """
    if min_confidence is not None:
        require_share(min_confidence)
    rows, path = Rows(run), path.resolve()
    with lock(run) if yes else nullcontext():
        note = note_of(rows, "relabelled", undo)
        before = _read(note)
        with decisions(rows, None if undo else journal) as opened:
            fixes = [] if undo else fixes_of(rows, opened, min_confidence)
        if not fixes and not before:
            hint = (
                "nothing was changed by it"
                if undo
                else "no label was corrected yet; review some, or add --min-confidence"
            )
            raise CuratorError(f"apply {run}: {hint}")
        sheet = read_sheet(path)
        wanted = {fix.row: rows.classes[fix.label] for fix in fixes if fix.label is not None}
        edits = _edits(rows, sheet, wanted, before)
        for file, was, now in edits.said:
            say(f"change {file}: {was} -> {now}")
        for file, why in edits.stay:
            say(f"leave  {file}: {why}")
        count, dropped = len(edits.cells), sum(fix.label is None for fix in fixes)
        done = (
            f"{count:,} labels {'changed' if yes else 'to be changed'} in {path}, {len(edits.stay):,} left as they are"
        )
        if yes:
            _write(sheet, edits, note, {} if undo and not edits.stay else {**before, **edits.written})
        say(done + (f"; {dropped:,} dropped rows stay in it" if dropped else ""))
        if count and not yes:
            say(NOT_YET)
    return edits


def _edits(rows: Rows, sheet: Sheet, wanted: dict[int, str], before: Written) -> Edits:
    """What is to change, that the rows that are wanted have their labels, and others that were written the old ones."""
    places, edits = places_of(rows), Edits()
    if not places:
        raise CuratorError(f"apply {rows.folder}: its rows come from no files; label-curator publish writes a version")
    given = {
        row: rows.classes[code] for row, code in zip(rows.row.tolist(), rows.given.tolist(), strict=True) if code >= 0
    }
    file_of = dict(zip(rows.row.tolist(), rows.files, strict=True))
    known = {row: {name, wanted.get(row, name), *before.get(file_of[row], ("", []))[1]} for row, name in given.items()}
    file, label = columns_of(sheet, places, known, rows.facts["label_column"])
    met = set()
    lines = sheet.lines[sheet.body :]
    names = [sheet.value(line[file]) if file < len(line) else "" for line in lines]
    for line, name, found in zip(lines, names, rows_of(places, names), strict=True):
        if not any(row in wanted or file_of[row] in before for row in found):
            continue
        met |= {file_of[row] for row in found}
        if len(found) > 1:
            edits.stay.append((name, "several rows of the run have this file"))
            continue
        row, raw = found[0], sheet.text[slice(*line[label])] if label < len(line) else ""
        now, (old, since) = sheet.value(line[label]) if raw else "", before.get(file_of[row], (raw, []))
        new, may = (sheet.cell(wanted[row], raw), known[row]) if row in wanted else (old, {*since})
        if raw == new or now == wanted.get(row):
            continue
        if now not in may:
            edits.stay.append((name, f"its label is {now!r} there, not {given[row]!r}"))
            continue
        edits.cells[line[label]] = new
        edits.said.append((name, now, wanted.get(row, old)))
        edits.written[file_of[row]] = old, [*since, *([wanted[row]] if row in wanted else [])]
    missing = sorted({*(file_of[row] for row in wanted), *before} - met)
    edits.stay += [(name, "it is not in the table") for name in missing]
    return edits


def _write(sheet: Sheet, edits: Edits, note: Path, written: Written) -> None:
    """Change the file; what is needed to take it back is on the disk before."""
    clear_leftovers(sheet.path.parent)
    content = sheet.replaced(edits.cells)
    if written:
        write_text(note, json.dumps({"files": written}) + "\n")
    if edits.cells:
        with workspace(sheet.path) as work:
            new = work / "new"
            with open(new, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(new, sheet.path.stat().st_mode & 0o7777)
            require_unchanged(sheet)
            os.replace(new, sheet.path)
            sync_folder(sheet.path.parent)
    if not written:
        note.unlink(missing_ok=True)
        sync_folder(note.parent)


def _read(note: Path) -> Written:
    if not note.exists():
        return {}
    try:
        held = read_json(note)["files"].items()
        return {str(file): (str(old), [str(label) for label in labels]) for file, (old, labels) in held}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise CuratorError(f"{note}: it cannot be read ({' '.join(str(e).split())[:100]}); {AGAIN}") from e
