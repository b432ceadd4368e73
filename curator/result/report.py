"""report.md: what a run found, in numbers, tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from curator.result.columns import least_clean, pairs
from curator.result.findings import Findings
from curator.result.marks import SHOWN, md, percent
from curator.result.other_findings import other_findings
from curator.result.plots import CONTACT, draw
from curator.sources.texts import texts_of

TEXT = 200  # characters of a text


def write_report(folder: Path, findings: Findings) -> None:
    """Write report.md and its plots to folder/report."""
    out = folder / "report"
    out.mkdir(parents=True)
    (out / "report.md").write_text(_text(findings, draw(out, findings)), encoding="utf-8")


def _set_aside(aside: list[dict[str, Any]]) -> list[str]:
    """The section on rows that no method could read."""
    if not aside:
        return []
    lines = [
        "## Rows set aside",
        "",
        f"{len(aside):,} rows could not be used (quarantine.parquet has all of them).",
        "",
    ]
    lines += ["| split | row | file | reason |", "|---|---|---|---|"]
    rows = (
        f"| {md(a['split'])} | {a['row']} | {md(a.get('file', ''), 120)} | {md(a['reason'], 150)} |"
        for a in aside[:SHOWN]
    )
    return [*lines, *rows, ""]


def _alike(findings: Findings) -> list[str]:
    """The section on images or texts that are there more than once, with different labels."""
    alike, given, classes = findings.duplicates, findings.table.labels, findings.table.classes
    count = len(np.unique(alike.groups))
    if not count:
        return []
    lines = [
        f"## The same {'image' if findings.table.text_column is None else 'text'}, different labels", "",
        f"{len(alike.positions):,} rows in {count:,} groups (duplicates.parquet; on the page: show duplicates).", "",
        "| rows | given labels | match |", "|---|---|---|",
    ]  # fmt: skip
    for group in range(min(SHOWN, count)):
        of_group = np.flatnonzero(alike.groups == group)
        here, files = alike.positions[of_group], [findings.alike_files[i] for i in of_group[:SHOWN]]
        rows, labels = findings.columns.rows[here[:SHOWN]], sorted({classes[c] for c in given[here]})
        kind = "near" if alike.near[of_group[0]] else "exact"
        names = [f"{row} ({md(file, 120)})" if file else str(row) for row, file in zip(rows, files, strict=True)]
        lines.append(f"| {', '.join(names)} | {md(', '.join(labels), 120)} | {kind} |")
    return [*lines, ""]


def _texts(findings: Findings) -> list[str]:
    """The section on the least clean texts, in the place of a contact sheet."""
    table, columns, classes = findings.table, findings.columns, findings.table.classes
    worst = least_clean(columns, CONTACT)
    if table.text_column is None or not len(worst):
        return []
    lines = ["## The least clean rows", "", "| row | score | given | suggested | text |", "|---|---|---|---|---|"]
    for i, text in zip(worst.tolist(), texts_of(table.data.select(worst), table.text_column)[0], strict=True):
        names = f"{md(classes[table.labels[i]])} | {md(classes[columns.corrected[i]])}"
        lines.append(f"| {columns.rows[i]} | {columns.clean_score[i]:.3f} | {names} | {md(text, TEXT)} |")
    return [*lines, ""]


def _accuracy(findings: Findings) -> list[str]:
    """The section on the other splits, where they were scored while the nets trained."""
    splits = findings.facts.get("accuracy", {})
    if not splits:
        return []
    rows = [(f"{split}, {name}", found) for split, by in splits.items() for name, found in by.items()]
    epochs = sorted({epoch for _, found in rows for epoch in found["epochs"]})[-SHOWN:]
    by_epoch = [dict(zip(found["epochs"], found["by_epoch"], strict=True)) for _, found in rows]
    lines = [
        "## Accuracy of the nets on other splits", "",
        "| split | last | best | at epoch | mean of the last 10 |", "|---|---|---|---|---|",
        *(
            f"| {md(name)} | {found['last']:.4f} | {found['best']:.4f} | {found['best_epoch']} "
            f"| {found['mean_of_last_10']:.4f} |"
            for name, found in rows
        ),
        "", f"| epoch | {' | '.join(md(name) for name, _ in rows)} |", "|---" * (1 + len(rows)) + "|",
    ]  # fmt: skip
    for epoch in epochs:
        cells = (f"{found[epoch]:.4f}" if epoch in found else "" for found in by_epoch)
        lines.append(f"| {epoch} | {' | '.join(cells)} |")
    return [*lines, "", "The last epochs that were scored; curation.json has all of them.", ""]


def _stages(findings: Findings) -> list[str]:
    """The section on what a method hands from stage to stage, where the truth is known."""
    lines = []
    for stage, parts in findings.facts.get("stages", {}).items():
        lines += [f"## {md(stage).capitalize()}", "", "| | rows | right |", "|---|---|---|"]
        for name, found in parts.items():
            lines.append(f"| {md(name)} | {found['rows']:,} | {'' if found['right'] is None else found['right']} |")
        lines.append("")
    return lines


def _text(findings: Findings, plots: list[tuple[str, str]]) -> str:
    facts, classes = findings.facts, findings.table.classes
    lines = [
        f"# {md(findings.table.name)}, cleaned by {md(facts['method'])}",
        "",
        f"{facts['n']:,} rows of {facts['classes']} classes; {facts['n'] - facts['selected']:,} labels "
        f"({percent(facts['estimated_noise_rate'])}) are flagged, {facts['changed']:,} get a new label.",
        "",
    ]
    lines += [line for warning in facts["warnings"] for line in (f"**Warning:** {md(warning, 300)}", "")]
    if facts["trusted"]["count"]:
        lines += [
            f"{facts['trusted']['count']:,} rows are verified ({md(str(facts['settings']['verified']), 200)}); the "
            f"verified label of {facts['trusted']['relabelled']:,} differs from the given one. "
            "Verified rows are excluded from the figures below, except label_accuracy_after_all.",
            "",
        ]
    if facts.get("metrics"):
        lines += ["## Against the truth", "", "| figure | value |", "|---|---|"]
        lines += [f"| {figure} | {value:.4f} |" for figure, value in facts["metrics"].items() if value is not None]
        lines.append("")
    lines += [*_accuracy(findings), *_stages(findings)]
    lines += ["## Most frequent changes", "", "| given | suggested | rows |", "|---|---|---|"]
    changes = pairs(findings.table.labels, findings.columns.corrected, len(classes))
    lines += [f"| {md(classes[a])} | {md(classes[b])} | {n} |" for a, b, n in changes]
    lines += ["", *_set_aside(findings.quarantine), *_alike(findings), *other_findings(findings), *_texts(findings)]
    for file, title in plots:
        lines += [f"## {title}", "", f"![{title}]({file})", ""]
    lines += ["## How it was made", "", "| setting | value |", "|---|---|"]
    lines += [f"| {md(k)} | {md(str(v), 200)} |" for k, v in facts["settings"].items() if v is not None]
    lines += [
        f"| {k} | {md(str(facts[k]), 200)} |"
        for k in ("recipe", "device", "threads", "seconds", "images_per_second", "mfu")
    ]
    lines += [f"| {name} | {md(str(value), 200)} |" for name, value in facts["findings"].items()]
    return "\n".join([*lines, ""])
