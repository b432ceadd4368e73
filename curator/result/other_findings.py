"""The sections of report.md on what else is wrong with rows: junk, faults of pictures, rows that are there twice."""

from __future__ import annotations

import numpy as np

from curator.result.findings import Findings
from curator.result.marks import SHOWN, md


def other_findings(findings: Findings) -> list[str]:
    """Lines of Markdown."""
    return [*_junk(findings), *_faults(findings), *_leaks(findings)]


def _junk(findings: Findings) -> list[str]:
    suspect, columns = findings.facts.get("suspect"), findings.columns
    if suspect is None:
        return []
    lines = [
        "## Rows like nothing in the dataset", "",
        f"{suspect['junk']:,} rows have a typicality below {suspect['below']:.3f} (on the page: show junk). Of "
        f"{suspect['ambiguous']:,} others the rows that look like them have no class in common.", "",
    ]  # fmt: skip
    worst = np.argsort(columns.typicality, kind="stable")[: min(SHOWN, suspect["junk"])]
    if len(worst):
        lines += ["| row | typicality | given |", "|---|---|---|"]
        names = [md(findings.table.classes[c]) for c in findings.table.labels[worst]]
        shown = zip(columns.rows[worst], columns.typicality[worst], names, strict=True)
        lines += [f"| {row} | {typical:.3f} | {name} |" for row, typical, name in shown]
    return [*lines, ""]


def _faults(findings: Findings) -> list[str]:
    if not findings.faults:
        return []
    lines = [
        "## Faults of pictures", "",
        "image_issues.parquet has all of them (on the page: show picture faults). What more than half of the pictures "
        "have is no fault.", "", "| fault | pictures | the worst |", "|---|---|---|",
    ]  # fmt: skip
    for fault, count in findings.facts["picture_faults"].items():
        of = [f for f in findings.faults if f["fault"] == fault][:SHOWN]
        worst = ", ".join(f"{md(f['split'])} {f['row']}" for f in of)
        lines.append(f"| {fault} | {count:,} | {worst} |")
    return [*lines, ""]


def _leaks(findings: Findings) -> list[str]:
    alike, facts = findings.look_alikes, findings.facts.get("leaks")
    if facts is None:
        return []
    how = "have the same content or nearly the same features" if alike.by_features else "have the same content"
    lines = [
        "## Rows of other splits that are used for training", "",
        f"{facts['rows']:,} rows of other splits {how} as rows of split {md(facts['in'])}: a score on them tells too "
        "much (lookalikes.parquet; on the page: show leaks; publish --drop-leaks leaves them out).", "",
    ]  # fmt: skip
    for name, count in facts["splits"].items():
        rows = alike.rows[alike.leak & (alike.split == alike.splits.index(name))][:SHOWN]
        shown = f" (rows {', '.join(map(str, rows))}{', …' if count > SHOWN else ''})" if count else ""
        lines.append(f"- {md(name)}: {count:,}{shown}")
    return [*lines, ""]
