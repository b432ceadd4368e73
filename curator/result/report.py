"""report.md: what a run found, in numbers, tables and plots."""

from __future__ import annotations

import html
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from curator.result.columns import Columns
from curator.result.duplicates import Duplicates
from curator.result.plots import (
    CONTACT_SHEET,
    contact_sheet,
    plot_calibration,
    plot_matrix,
    plot_per_class,
    plot_scores,
    plot_training,
)
from curator.sources.images import Access
from curator.text import printable

SHOWN = 10  # rows or groups in a table


def write_report(
    folder: Path,
    name: str,  # of the dataset
    facts: dict[str, Any],  # what curation.json holds
    columns: Columns,
    given: np.ndarray,
    truth: np.ndarray | None,
    classes: tuple[str, ...],
    history: list[dict[str, float]],
    dataset: Dataset,  # of the same rows
    image_column: str | None,
    access: Access,
    alike: Duplicates,
    aside: list[dict[str, Any]],  # rows that were set aside: split, row, reason
) -> None:
    """Write report.md and its plots to folder/report."""
    out = folder / "report"
    out.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # class names in any script
        plots = [
            ("clean_score.png", "Clean scores of all rows", plot_scores(out, columns, given, truth)),
            ("matrix.png", "Given against corrected labels", plot_matrix(out, columns, given, classes)),
            (
                "per_class.png",
                "Share of rows flagged, per given class",
                plot_per_class(out, columns, given, truth, classes),
            ),
            (
                CONTACT_SHEET,
                "The least clean rows: given → suggested",
                contact_sheet(out, columns, given, classes, dataset, image_column, access),
            ),
        ]
        if truth is not None:
            plots.insert(
                1,
                ("reliability.png", "Is the clean score a probability?", plot_calibration(out, columns, given, truth)),
            )
        if history:
            plots.append(("training.png", "Training", plot_training(out, history)))
    (out / "report.md").write_text(
        _text(
            name,
            facts,
            columns,
            given,
            classes,
            [p for p in plots if p[2]],
            _set_aside(aside),
            _alike(alike, columns, given, classes),
        ),
        encoding="utf-8",
    )


def md(text: str, length: int = 60) -> str:
    """A stranger's text inside Markdown: one line, nothing of it acts."""
    text = printable(" ".join(text.split()))
    text = text if len(text) <= length else text[: length - 1] + "…"
    return "".join("\\" + c if c in "\\`*_{}[]()#+!|~$" else c for c in html.escape(text, quote=False))


def percent(share: float) -> str:
    """0.1234 -> 12.3 %."""
    return f"{100 * share:.1f} %"


def pairs(given: np.ndarray, now: np.ndarray, k: int, most: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent (given, now, rows) among the changed labels (class numbers below k)."""
    changed = now != given
    codes, counts = np.unique(given[changed].astype(np.int64) * k + now[changed], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(int(codes[i] // k), int(codes[i] % k), int(counts[i])) for i in order]


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
    lines += ["| split | row | reason |", "|---|---|---|"]
    return [*lines, *(f"| {md(a['split'])} | {a['row']} | {md(a['reason'], 150)} |" for a in aside[:SHOWN]), ""]


def _alike(alike: Duplicates, columns: Columns, given: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    """The section on images that are there more than once, with different labels."""
    count = len(np.unique(alike.groups))
    if not count:
        return []
    lines = [
        "## The same image, different labels", "",
        f"{len(alike.positions):,} rows in {count:,} groups (duplicates.parquet; on the page: show duplicates).", "",
        "| rows | given labels | match |", "|---|---|---|",
    ]  # fmt: skip
    for group in range(min(SHOWN, count)):
        here = alike.positions[alike.groups == group]
        rows, labels = columns.rows[here[:SHOWN]], sorted({classes[c] for c in given[here]})
        kind = "near" if alike.near[alike.groups == group][0] else "exact"
        lines.append(f"| {', '.join(map(str, rows))} | {md(', '.join(labels), 120)} | {kind} |")
    return [*lines, ""]


def _text(
    name: str,
    facts: dict[str, Any],
    columns: Columns,
    given: np.ndarray,
    classes: tuple[str, ...],
    plots: list,
    *sections: list[str],
) -> str:
    lines = [
        f"# {md(name)}, cleaned by {md(facts['method'])}",
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
    lines += ["## Most frequent changes", "", "| given | suggested | rows |", "|---|---|---|"]
    lines += [
        f"| {md(classes[a])} | {md(classes[b])} | {n} |" for a, b, n in pairs(given, columns.corrected, len(classes))
    ]
    lines.append("")
    lines += [line for section in sections for line in section]
    for file, title, _ in plots:
        lines += [f"## {title}", "", f"![{title}]({file})", ""]
    lines += ["## How it was made", "", "| setting | value |", "|---|---|"]
    lines += [f"| {md(k)} | {md(str(v), 200)} |" for k, v in facts["settings"].items() if v is not None]
    lines += [
        f"| {k} | {md(str(facts[k]), 200)} |"
        for k in ("recipe", "device", "threads", "seconds", "images_per_second", "mfu")
    ]
    lines += [f"| {name} | {md(str(value), 200)} |" for name, value in facts["findings"].items()]
    return "\n".join([*lines, ""])
