"""report/: what was found, as text and pictures."""

from __future__ import annotations

import contextlib
import html
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from curator.curation.columns import Columns
from curator.curation.duplicates import Duplicates
from curator.curation.metrics import reliability
from curator.errors import CuratorError
from curator.sources.images import Access, encoded, with_bytes
from curator.system import printable

CONTACT_SHEET = "contact_sheet.png"
CONTACT = 64  # images on the contact sheet
THUMBNAIL = 512  # pixels a side at most of each
SHOWN = 10  # rows or groups in a table
MATRIX = 1000  # classes; above, no matrix
MANY_CLASSES = 30  # above, matrices and bars go without class names


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
            ("clean_score.png", "How sure: the clean score of all rows", _scores(out, columns, given, truth)),
            ("matrix.png", "Given against corrected labels", _matrix(out, columns, given, classes)),
            (
                "per_class.png",
                "Share of rows not selected, per given class",
                _per_class(out, columns, given, truth, classes),
            ),
            (
                CONTACT_SHEET,
                "The least clean rows: given → suggested",
                _contact(out, columns, given, classes, dataset, image_column, access),
            ),
        ]
        if truth is not None:
            plots.insert(
                1, ("reliability.png", "Is the clean score a probability?", _reliability(out, columns, given, truth))
            )
        if history:
            plots.append(("training.png", "Training", _training(out, history)))
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
        "| rows | given labels | how alike |", "|---|---|---|",
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
        f"({percent(facts['estimated_noise_rate'])}) are held to be wrong, {facts['changed']:,} get another one.",
        "",
    ]
    lines += [line for warning in facts["warnings"] for line in (f"**Warning:** {md(warning, 300)}", "")]
    if facts["trusted"]["count"]:
        lines += [
            f"{facts['trusted']['count']:,} rows are trusted ({md(str(facts['settings']['trusted']), 200)}); the "
            f"verified label of {facts['trusted']['relabelled']:,} is not the given one. "
            "Trusted rows are left out of the figures below, but for label_accuracy_after_all.",
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


def _figure(width: float = 7, height: float = 4):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure, path: Path) -> bool:
    figure.savefig(path, dpi=110)
    return True


def _label(name: str, length: int = 14) -> str:
    """A class name for a plot: short, and no mathematics in it."""
    name = printable(" ".join(name.split()))
    return (name if len(name) <= length else name[: length - 1] + "…").replace("$", r"\$")


def _scores(out: Path, columns: Columns, given: np.ndarray, truth: np.ndarray | None) -> bool:
    figure, axes = _figure()
    bins = np.linspace(0, 1, 41)
    parts: dict[str, np.ndarray]
    if truth is None:
        parts = {"selected": columns.selected, "not selected": ~columns.selected}
    else:
        right = given == truth
        parts = {"label is right": right, "label is wrong": ~right}
    for (name, rows), colour in zip(parts.items(), ("tab:blue", "tab:red"), strict=True):
        axes.hist(columns.clean_score[rows], bins, color=colour, alpha=0.55, label=name)
    axes.set(xlabel="clean score", ylabel="rows", yscale="log")
    axes.legend()
    return _save(figure, out / "clean_score.png")


def _reliability(out: Path, columns: Columns, given: np.ndarray, truth: np.ndarray) -> bool:
    figure, axes = _figure(5, 4.5)
    found = [row for row in reliability(columns.clean_score, given == truth, 10) if row["rows"]]
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="a probability")
    axes.plot([row["score"] for row in found], [row["right"] for row in found], marker="o", label="this run")
    for row in found:
        where = (row["score"], row["right"])
        axes.annotate(f"{row['rows']:,}", where, textcoords="offset points", xytext=(5, -10), fontsize=7)
    axes.set(xlabel="clean score (mean of the bin)", ylabel="share of right labels", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend()
    return _save(figure, out / "reliability.png")


def _matrix(out: Path, columns: Columns, given: np.ndarray, classes: tuple[str, ...]) -> bool:
    k = len(classes)
    if k > MATRIX:
        return False
    counts = np.bincount(given * k + columns.corrected, minlength=k * k).reshape(k, k)
    side = min(9, 3.5 + 0.35 * k)
    figure, axes = _figure(side + 1, side)
    shown = axes.imshow(np.log1p(counts), cmap="Blues")
    axes.set(xlabel="corrected", ylabel="given")
    if k <= MANY_CLASSES:
        names = [_label(c) for c in classes]
        axes.set_xticks(range(k), names, rotation=90)
        axes.set_yticks(range(k), names)
        for i in range(k):
            for j in range(k):
                if counts[i, j]:
                    dark = counts[i, j] > counts.max() ** 0.6
                    axes.text(
                        j, i, counts[i, j], ha="center", va="center", fontsize=6, color="white" if dark else "black"
                    )
    else:
        figure.colorbar(shown, label="log(1 + rows)")
    return _save(figure, out / "matrix.png")


def _per_class(
    out: Path, columns: Columns, given: np.ndarray, truth: np.ndarray | None, classes: tuple[str, ...]
) -> bool:
    k = len(classes)
    rows = np.maximum(np.bincount(given, minlength=k), 1)
    figure, axes = _figure(min(14, 3 + 0.45 * k), 4)
    x = np.arange(k)
    axes.bar(x - 0.2 * (truth is not None), np.bincount(given, ~columns.selected, k) / rows, 0.4, label="not selected")
    if truth is not None:
        axes.bar(x + 0.2, np.bincount(given, given != truth, k) / rows, 0.4, color="tab:red", label="wrong")
    axes.set(ylabel="share of the class", ylim=(0, 1))
    if k <= MANY_CLASSES:
        axes.set_xticks(x, [_label(c) for c in classes], rotation=90)
    else:
        axes.set_xlabel("class")
    axes.legend()
    return _save(figure, out / "per_class.png")


def _training(out: Path, history: list[dict[str, float]]) -> bool:
    figure, axes = _figure()
    x = np.arange(1, len(history) + 1)
    axes.set(xlabel="yield of the method")
    if any("loss" in h for h in history):  # linear models have none: the line begins where nets train
        axes.plot(x, [h.get("loss", np.nan) for h in history], color="grey", label="training loss")
        axes.set(ylabel="loss", ylim=(0, None))
    else:
        axes.set_yticks([])
    right = axes.twinx()
    for name, title in (
        ("selected", "selected"),
        ("noisy_f1", "noisy F1"),
        ("label_accuracy_after", "label accuracy after"),
    ):
        if name in history[-1]:
            right.plot(x, [h[name] for h in history], label=title)
    right.set(ylabel="share", ylim=(0, 1))
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="lower right", fontsize=8)
    return _save(figure, out / "training.png")


def _contact(
    out: Path,
    columns: Columns,
    given: np.ndarray,
    classes: tuple[str, ...],
    dataset: Dataset,
    image_column: str | None,
    access: Access,
) -> bool:
    from matplotlib.figure import Figure

    wrong = np.flatnonzero(~columns.selected)
    worst = wrong[np.argsort(columns.clean_score[wrong], kind="stable")][:CONTACT]
    if not len(worst) or image_column is None:
        return False
    height = -(-len(worst) // 8)
    figure = Figure(figsize=(12, 1.75 * height), layout="constrained")
    grid = figure.subplots(height, 8, squeeze=False).reshape(-1)
    for axes in grid:
        axes.axis("off")
    items = encoded(dataset.select(worst), image_column)
    for axes, i, (_, item) in zip(grid, worst, items, strict=False):
        with contextlib.suppress(CuratorError):  # on a column of features nobody has looked at the images yet
            content = with_bytes(int(i), item, columns.rows, image_column, access)["bytes"]
            picture = access.decoder.rgb(content, near=THUMBNAIL)
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            axes.imshow(np.asarray(picture), interpolation="nearest")
        names = f"{_label(classes[given[i]])} → {_label(classes[columns.corrected[i]])}"
        title = f"{names}\nrow {columns.rows[i]}, {columns.clean_score[i]:.3f}"
        axes.set_title(title, fontsize=7)
    return _save(figure, out / CONTACT_SHEET)
