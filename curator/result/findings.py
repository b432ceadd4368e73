"""What a run found: one object for all that is written of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curator.engine.source import Features
from curator.evidence import Evidence, collapse_warning, collapsed_into
from curator.result.columns import Columns, columns_of, flag_worst
from curator.result.duplicates import Duplicates, conflicting_duplicates
from curator.result.provenance import facts_of_run
from curator.sources.images import source_files
from curator.sources.inputs import Inputs
from curator.sources.read import Reading
from curator.sources.table import Table
from curator.system import is_main

if TYPE_CHECKING:
    from curator.config.resolve import Resolved
    from curator.engine.run import Run


@dataclass(frozen=True)
class Findings:
    """What a run found about the rows of its table.

    Attributes:
        table: the rows, with their given labels and, where it is known, the truth.
        columns: of the rows that are not set aside.
        facts: what curation.json holds.
        duplicates: alike rows whose labels differ.
        quarantine: rows of all splits that were set aside: {split, row, file where there is one, reason}.
        alike_files: source files of the rows of duplicates, "" for none.
        history: what every yield of the method reported.
    """

    table: Table
    columns: Columns
    facts: dict[str, Any]
    duplicates: Duplicates
    alike_files: list[str]
    quarantine: list[dict[str, Any]]
    history: list[dict[str, float]]


def findings_of(
    resolved: Resolved,
    table: Table,
    reading: Reading,
    run: Run,
    found: Evidence,
    history: list[dict[str, float]],
    test_accuracy: float | None,
) -> Findings:
    """Make columns and facts of the evidence."""
    data, worst = reading.data, resolved.settings.flag_worst
    trusted = data.trusted.numpy()
    columns = columns_of(found, table.labels, trusted, table.rows)
    if worst is not None:
        columns = flag_worst(columns, table.labels, trusted, worst)
    frozen = data.inputs.features.cpu() if isinstance(data.inputs, Features) and is_main() else None
    alike = conflicting_duplicates(table.labels, reading.hashes, frozen)
    aside = _quarantine(table, reading.others)
    collapsed = collapsed_into(found, data)
    facts = facts_of_run(resolved, table, reading, run, columns, history, test_accuracy)
    facts["duplicates"] = {"rows": len(alike.positions), "groups": len(np.unique(alike.groups))}
    facts["quarantined"] = len(aside)
    facts["warnings"] = [*run.warnings, *([] if collapsed is None else [collapse_warning(data.classes[collapsed])])]
    files = source_files(table.data.select(alike.positions), table.image_column, table.access)
    return Findings(table, columns, facts, alike, files, aside, history)


def _quarantine(table: Table, inputs: dict[str, Inputs]) -> list[dict[str, Any]]:
    places = {table.split: (table.dataset, table.aside)}
    places |= {name: (table.others[name], read.broken) for name, read in inputs.items()}
    found = []
    for split, (rows, reasons) in places.items():
        files = source_files(rows.select(list(reasons)), table.image_column, table.access)
        ids = [int(table.ids[i]) for i in reasons] if split == table.split else list(reasons)
        found += [
            {"split": split, "row": row, **({"file": file} if table.image_column else {}), "reason": why}
            for row, file, why in zip(ids, files, reasons.values(), strict=True)
        ]
    return found
