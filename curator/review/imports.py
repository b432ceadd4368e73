"""Decisions that were made elsewhere: in tables, cleanlab's among them, or in a version that was edited on the Hub."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from curator.decisions.decision import MACHINE
from curator.decisions.journal import FILE, Journal
from curator.decisions.names import Classes
from curator.decisions.pairs import KEYS, pairs_of, read_columns, row_ids
from curator.errors import CuratorError
from curator.publish.edits import edited_labels
from curator.result.read import Rows, places_of

FLAG = "import"
ISSUE = "is_label_issue"
INDEX = ("row", "", "index", "Unnamed: 0", "__index_level_0__")  # what a table's index is called in a file
WANTED = (*KEYS, ISSUE, "predicted_label", "given_label", *INDEX[1:])


def import_decisions(run: Path, file: Path, reviewer: str | None = None, journal: Path | None = None) -> dict[str, int]:
    """Append the file's decisions to a run's journal as one step, which the reviewer of that name can undo on the page.

    Decisions that the reviewer holds already are left out. A label that is the given one keeps it, another relabels
    the row. Of a table of cleanlab's (`is_label_issue`,
    `predicted_label`, `given_label`) the issues are relabelled as it predicts.

    Args:
        run: output folder of the run.
        file: CSV or parquet.
        reviewer: whose decisions they are; by default the file's name, or cleanlab.
        journal: file of the decisions; by default the run's.

    Returns:
        Rows by action: keep, relabel.

    Raises:
        CuratorError: nothing was saved.
    """
    if not file.is_file():
        raise CuratorError(f"{FLAG} {file}: no such file")
    rows = Rows(run)
    columns, names = read_columns(file, FLAG, WANTED, len(rows))
    is_cleanlab = ISSUE in columns
    pairs = (
        _cleanlab(rows, columns, names, file)
        if is_cleanlab
        else pairs_of(columns, names, file, FLAG, lambda: places_of(rows))
    )
    who = reviewer or (MACHINE if is_cleanlab else file.stem)
    return _append(rows, list(_acts(rows, pairs, file)), who, journal, f"{FLAG} {file}: it contains no decisions")


def import_edits(run: Path, name: str, reviewer: str | None = None, journal: Path | None = None) -> dict[str, int]:
    """Append the labels that somebody edited in a published version, as one step; see import_decisions.

    Args:
        run: output folder of the run.
        name: owner/name@revision of a version on the Hub.
        reviewer: whose decisions they are; by default owner/name.
        journal: file of the decisions; by default the run's.

    Raises:
        CuratorError: nothing was saved.
    """
    rows = Rows(run)
    acts = list(_acts(rows, edited_labels(name, rows), name))
    none = f"{FLAG} {name}: no label differs from the version that was pushed"
    return _append(rows, acts, reviewer or name.partition("@")[0], journal, none)


def _append(rows: Rows, acts: list[tuple[int, str, str]], who: str, journal: Path | None, none: str) -> dict[str, int]:
    """Append what the reviewer does not hold yet; rows by action. The error where there is nothing at all."""
    if not acts:
        raise CuratorError(none)
    with closing(Journal(journal or rows.folder / FILE, rows.facts_for_a_journal())) as opened:
        opened.require(rows.classes, rows.facts["split"], rows.digests)
        held = {row: opened.decision(row, who) for row, *_ in acts}
        new = [act for act in acts if (d := held[act[0]]) is None or (d.action, d.label) != act[1:]]
        if new:
            opened.save([{"key": f"import-{uuid.uuid4().hex}", "kind": "do", "rows": new}], who)
    return {action: sum(act[1] == action for act in acts) for action in ("keep", "relabel")}


def _acts(rows: Rows, pairs: Any, file: Path | str) -> Iterator[tuple[int, str, str]]:
    classes, seen = Classes(rows.classes), dict[int, int]()
    for row, label in pairs:
        position, code = rows.position(row), classes.code(label)
        if position is None:
            raise CuratorError(f"{FLAG} {file}: the run has no row {row}; its rows are {rows.row[0]} to {rows.row[-1]}")
        if code is None:
            raise CuratorError(f"{FLAG} {file}: row {row} has the label {label!r}, {classes.why_not(label)}")
        if seen.setdefault(row, code) != code:
            raise CuratorError(f"{FLAG} {file}: row {row} has two labels; keep one")
    for row, code in seen.items():
        given = int(rows.given[rows.position(row)])
        yield row, "keep" if code == given else "relabel", rows.classes[code]


def _cleanlab(rows: Rows, columns: dict[str, list[Any]], names: list[str], file: Path) -> Iterator[tuple[int, object]]:
    """(row, predicted label) of the issues, of a table as find_label_issues or Datalab's get_issues gives it."""
    if "predicted_label" not in columns:
        raise CuratorError(f"{FLAG} {file}: expected a column predicted_label beside {ISSUE}, found {', '.join(names)}")
    index = next((name for name in INDEX if name in columns), None)
    flags = columns[ISSUE]
    ids = row_ids(columns[index], file, FLAG) if index is not None else [int(row) for row in rows.row]
    if len(ids) != len(flags):
        raise CuratorError(
            f"{FLAG} {file}: expected a column row, or one line for each of the {len(ids):,} rows; found {len(flags):,}"
        )
    given = columns.get("given_label", [None] * len(ids))
    issues = [i for i, flag in enumerate(flags) if str(flag).lower() in ("true", "1")]
    code_of = _reading(rows, list(zip(ids, given, strict=True)), [columns["predicted_label"][i] for i in issues], file)
    for i in issues:
        label = columns["predicted_label"][i]
        code = code_of(label)
        yield ids[i], label if code is None else rows.classes[code]


def _reading(rows: Rows, given: list[tuple[int, Any]], predicted: list[Any], file: Path) -> Callable[[Any], int | None]:
    """How a table writes classes, by their names or their numbers: as its given labels are those of the run.

    Args:
        rows: of the run.
        given: (row, label that it was given there; None where the table does not tell).
        predicted: labels that are wanted.
        file: for error messages.
    """
    classes = Classes(rows.classes)
    placed = [(row, label, rows.position(row)) for row, label in given if label is not None]
    known = [(row, label, int(rows.given[position])) for row, label, position in placed if position is not None]
    readings = [
        code for code in (classes.named, classes.numbered) if all(code(label) == here for _, label, here in known)
    ]
    if not readings:
        numbers = all(classes.named(label) is None for _, label, _ in known)
        code = classes.numbered if numbers else classes.named
        row, was, here = next(entry for entry in known if code(entry[1]) != entry[2])
        name = rows.classes[here] if here >= 0 else None
        raise CuratorError(
            f"{FLAG} {file}: row {row} was given {was!r} there, here {name!r}; it is a table of other rows"
        )
    possible = [code for code in readings if all(code(label) is not None for label in predicted)] or readings[:1]
    unclear = next((label for label in predicted if len({code(label) for code in possible}) > 1), None)
    if unclear is not None:
        raise CuratorError(
            f"{FLAG} {file}: its labels, as {unclear!r}, may be names of classes or their numbers; give it a column "
            "given_label that tells, or predicted labels that are names"
        )
    return possible[0]
