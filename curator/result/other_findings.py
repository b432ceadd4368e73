"""The sections of the report on what else is wrong with rows: junk, faults of pictures, rows that are there twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from curator.result.findings import Findings
from curator.result.pages import SHOWN, Heading, Line, Name, Paragraph, Table, Text

Section = Iterator[Heading | Paragraph | Table]


def other_findings(findings: Findings) -> Section:
    """Blocks of the page."""
    yield from _junk(findings)
    yield from _faults(findings)
    yield from _leaks(findings)


def _junk(findings: Findings) -> Section:
    suspect, columns = findings.facts.get("suspect"), findings.columns
    if suspect is None:
        return
    yield Heading("Rows like nothing in the dataset")
    yield Paragraph(
        f"{suspect['junk']:,} rows have a typicality below {suspect['below']:.3f} (on the page: show junk). Of "
        f"{suspect['ambiguous']:,} others the rows that look like them have no class in common."
    )
    worst = np.argsort(columns.typicality, kind="stable")[: min(SHOWN, suspect["junk"])]
    if len(worst):
        names = [Name(findings.table.classes[c]) for c in findings.table.labels[worst]]
        shown = zip(columns.rows[worst], columns.typicality[worst], names, strict=True)
        yield Table(
            ("row", "typicality", "given"), [(str(row), f"{typical:.3f}", name) for row, typical, name in shown]
        )


def _faults(findings: Findings) -> Section:
    if not findings.faults:
        return
    yield Heading("Faults of pictures")
    yield Paragraph(
        "image_issues.parquet has all of them (on the page: show picture faults). What more than half of the pictures "
        "have is no fault."
    )
    lines: list[tuple[Line, ...]] = []
    for fault, count in findings.facts["picture_faults"].items():
        worst: list[Text] = []
        for f in [f for f in findings.faults if f["fault"] == fault][:SHOWN]:
            worst += [", " * bool(worst), Name(f["split"]), f" {f['row']}"]
        lines.append((fault, f"{count:,}", worst))
    yield Table(("fault", "pictures", "the worst"), lines)


def _leaks(findings: Findings) -> Section:
    alike, facts = findings.look_alikes, findings.facts.get("leaks")
    if facts is None:
        return
    how = "have the same content or nearly the same features" if alike.by_features else "have the same content"
    yield Heading("Rows of other splits that are used for training")
    yield Paragraph((
        f"{facts['rows']:,} rows of other splits {how} as rows of split ", Name(facts["in"]), ": a score on them tells "
        "too much (lookalikes.parquet; on the page: show leaks; publish --drop-leaks leaves them out).",
    ))  # fmt: skip
    lines: list[tuple[Line, ...]] = []
    for name, count in facts["splits"].items():
        rows = alike.rows[alike.leak & (alike.split == alike.splits.index(name))][:SHOWN]
        lines.append((Name(name), f"{count:,}", ", ".join(map(str, rows)) + (", …" if count > SHOWN else "")))
    yield Table(("split", "rows", "which"), lines)
