"""What a run found: one object for all that is written of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from curator.engine.source import Features
from curator.evidence import Evidence, Source, collapse_warning, collapsed_into
from curator.result.columns import Columns, columns_of, flag_worst
from curator.result.duplicates import Duplicates
from curator.result.lookalikes import LookAlikes, Part, look_alikes
from curator.result.provenance import facts_of_run
from curator.signals.typicality import typicality
from curator.sources.faults import faults_of
from curator.sources.images import source_files
from curator.sources.inputs import Inputs
from curator.sources.read import Reading
from curator.sources.table import Table, remaining
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
        look_alikes: alike rows of all splits that were read, whatever their labels; look_alike_files: their files.
        faults: {split, row, fault, place among those with the fault, file} of pictures, the worst of a fault first.
        history: what every yield of the method reported.
    """

    table: Table
    columns: Columns
    facts: dict[str, Any]
    duplicates: Duplicates
    alike_files: list[str]
    quarantine: list[dict[str, Any]]
    history: list[dict[str, float]]
    look_alikes: LookAlikes
    look_alike_files: list[str]
    faults: list[dict[str, Any]]


def findings_of(
    resolved: Resolved,
    table: Table,
    reading: Reading,
    run: Run,
    found: Evidence,
    history: list[dict[str, float]],
    test_accuracy: float | None,
    features: Tensor | None = None,  # (n, d), of the frozen encoder or of the run's net
) -> Findings:
    """Make columns and facts of the evidence."""
    data, worst = reading.data, resolved.settings.flag_worst
    trusted = data.trusted.numpy()
    typical = None if features is None else typicality(features, table.learned)
    judged = reading.present.evidence(found)
    columns = columns_of(judged, table.labels, trusted, table.rows, None if typical is None else typical.score)
    if worst is not None:
        columns = flag_worst(columns, table.labels, trusted, worst)
    twins, alike = look_alikes(_parts(table, reading, run), table.labels)
    aside = _quarantine(table, reading.others)
    collapsed = collapsed_into(found, data)
    facts = facts_of_run(resolved, table, reading, run, columns, history, test_accuracy)
    facts["duplicates"] = {"rows": len(alike.positions), "groups": len(np.unique(alike.groups))}
    if typical is not None:
        counts = {"junk": int(typical.junk.sum()), "ambiguous": int(typical.mixed.sum())}
        facts["suspect"] = {**counts, "below": typical.below}
    facts |= twins.facts()
    faults = _faults(table, reading)
    facts["picture_faults"] = dict(Counter(fault["fault"] for fault in faults))
    facts["quarantined"] = len(aside)
    facts["warnings"] = [*run.warnings, *([] if collapsed is None else [collapse_warning(data.classes[collapsed])])]
    files = source_files(table.data.select(alike.positions), table.image_column, table.access)
    twin_files = _files(table, [(twins.splits[s], int(row)) for s, row in zip(twins.split, twins.rows, strict=True)])
    return Findings(table, columns, facts, alike, files, aside, history, twins, twin_files, faults)


def _parts(table: Table, reading: Reading, run: Run) -> dict[str, Part]:
    """By split what was read of its rows; features where they are a frozen encoder's, in the main process."""

    def frozen(source: Source) -> Tensor | None:
        return source.features.cpu() if isinstance(source, Features) else None

    with_features = isinstance(reading.data.inputs, Features) and is_main()
    parts = {table.split: Part(table.rows, reading.hashes, frozen(reading.data.inputs) if with_features else None)}
    for name, read in reading.others.items():
        good = remaining(len(table.others[name]), read.broken)
        parts[name] = Part(good, read.hashes, frozen(read.source(run.device)) if with_features else None)
    return parts


def _faults(table: Table, reading: Reading) -> list[dict[str, Any]]:
    """What is wrong with the pictures of every split, as Findings.faults."""
    seen = {table.split: (table.rows, reading.measures)}
    for name, read in reading.others.items():
        seen[name] = remaining(len(table.others[name]), read.broken), read.measures
    found: list[dict[str, Any]] = []
    for split, (rows, measures) in seen.items():
        for fault, places in ({} if measures is None else faults_of(measures)).items():
            some = zip(rows[places].tolist(), range(len(places)), strict=True)
            found += [{"split": split, "row": row, "fault": fault, "place": place} for row, place in some]
    files = _files(table, [(fault["split"], fault["row"]) for fault in found])
    return [{**fault, **({"file": file} if any(files) else {})} for fault, file in zip(found, files, strict=True)]


def _files(table: Table, rows: list[tuple[str, int]]) -> list[str]:
    """Source files of rows (split, its row)."""
    found = [""] * len(rows)
    for split in {split for split, _ in rows}:
        places = [i for i, (of, _) in enumerate(rows) if of == split]
        numbers = np.array([rows[i][1] for i in places])
        own = split == table.split
        dataset = table.dataset if own else table.others[split]
        positions = np.searchsorted(table.ids, numbers) if own else numbers
        names = source_files(dataset.select(positions), table.image_column, table.access)
        for i, name in zip(places, names, strict=True):
            found[i] = name
    return found


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
