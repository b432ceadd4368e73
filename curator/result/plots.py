"""The plots of the report."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from curator.errors import CuratorError
from curator.result.accuracy import figures
from curator.result.columns import Columns, least_clean
from curator.result.findings import Findings
from curator.result.layout import CONTACT_SHEET
from curator.result.metrics import reliability
from curator.sources.images import Access, encoded, with_bytes
from curator.text import printable

CONTACT = 64  # images on the contact sheet
ACROSS = 8  # of them in a line
CELL, TITLE, GAP = 165, 36, 8  # pixels: a side of an image's cell, above it its title, between two images
THUMBNAIL = 2 * CELL  # pixels a side that a JPEG is decoded to at least
DPI = 110
CLASSES = 30  # in a plot: of more, those of which most labels change


def draw(out: Path, findings: Findings) -> list[tuple[str, str]]:
    """Draw all plots that a run has something for; their file names and titles."""
    table, columns, history = findings.table, findings.columns, findings.history
    given, truth, classes = table.labels, table.truth, table.classes
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # class names in any script
        calibration = truth is not None and plot_calibration(out, columns, given, truth)
        plots = [
            ("clean_score.png", "Clean scores of all rows", plot_scores(out, columns, given, truth)),
            ("reliability.png", "Is the clean score a probability?", calibration),
            ("matrix.png", "Given against corrected labels", plot_matrix(out, columns, given, classes)),
            (
                "per_class.png",
                "Share of rows flagged, per given class",
                plot_per_class(out, columns, given, truth, classes),
            ),
            (
                CONTACT_SHEET,
                "The least clean rows: given → suggested",
                contact_sheet(out, columns, given, classes, table.data, table.image_column, table.access),
            ),
            ("training.png", "Training", bool(history) and plot_training(out, history)),
        ]
    return [(file, title) for file, title, drawn in plots if drawn]


def _figure(width: float = 7, height: float = 4):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure, path: Path) -> bool:
    figure.savefig(path, dpi=DPI)
    return True


def _label(name: str, length: int = 20) -> str:
    """A class name for a plot: short, and no mathematics in it."""
    name = printable(" ".join(name.split()))
    return (name if len(name) <= length else name[: length - 1] + "…").replace("$", r"\$")


def plot_scores(out: Path, columns: Columns, given: np.ndarray, truth: np.ndarray | None) -> bool:
    """Histogram of the clean scores, of right and wrong labels apart where the truth is known; whether it was drawn."""
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


def plot_calibration(out: Path, columns: Columns, given: np.ndarray, truth: np.ndarray) -> bool:
    """Share of right labels among rows of a clean score; whether it was drawn."""
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


def most_changed(columns: Columns, given: np.ndarray, k: int) -> np.ndarray:
    """Class numbers (m,), in order, for a plot: all, or the CLASSES that most flagged labels are of or become."""
    if k <= CLASSES:
        return np.arange(k)
    flagged = ~columns.selected
    times = np.bincount(given[flagged], minlength=k) + np.bincount(columns.corrected[flagged], minlength=k)
    return np.sort(np.argsort(-times, kind="stable")[:CLASSES])


def _of(shown: np.ndarray, k: int, what: str) -> str:
    """What a plot says where it does not show all classes."""
    return what if len(shown) == k else f"{what} (the {len(shown)} of {k:,} classes with the most flagged labels)"


def plot_matrix(out: Path, columns: Columns, given: np.ndarray, classes: tuple[str, ...]) -> bool:
    """Given against suggested labels, with the names of the classes; whether it was drawn."""
    shown = most_changed(columns, given, len(classes))
    k, place = len(shown), np.full(len(classes), -1)
    place[shown] = np.arange(k)
    a, b = place[given], place[columns.corrected]
    inside = (a >= 0) & (b >= 0)
    counts = np.bincount(a[inside] * k + b[inside], minlength=k * k).reshape(k, k)
    side = min(11, 3.5 + 0.35 * k)
    figure, axes = _figure(side + 1, side)
    axes.imshow(np.log1p(counts), cmap="Blues")
    axes.set(xlabel=_of(shown, len(classes), "corrected"), ylabel="given")
    names = [_label(classes[c]) for c in shown]
    axes.set_xticks(range(k), names, rotation=90)
    axes.set_yticks(range(k), names)
    for i in range(k):
        for j in range(k):
            if counts[i, j]:
                dark = counts[i, j] > counts.max() ** 0.6
                axes.text(j, i, counts[i, j], ha="center", va="center", fontsize=6, color="white" if dark else "black")
    return _save(figure, out / "matrix.png")


def plot_per_class(
    out: Path, columns: Columns, given: np.ndarray, truth: np.ndarray | None, classes: tuple[str, ...]
) -> bool:
    """Flagged rows of every class, with its name; whether it was drawn."""
    shown = most_changed(columns, given, len(classes))
    rows = np.maximum(np.bincount(given, minlength=len(classes)), 1)

    def share(of: np.ndarray) -> np.ndarray:
        return (np.bincount(given, of, len(classes)) / rows)[shown]

    figure, axes = _figure(min(14, 3 + 0.45 * len(shown)), 4)
    x = np.arange(len(shown))
    axes.bar(x - 0.2 * (truth is not None), share(~columns.selected), 0.4, label="not selected")
    if truth is not None:
        axes.bar(x + 0.2, share(given != truth), 0.4, color="tab:red", label="wrong")
    axes.set(ylabel="share of the class", ylim=(0, 1))
    axes.set_xticks(x, [_label(classes[c]) for c in shown], rotation=90)
    if len(shown) < len(classes):
        axes.set_xlabel(_of(shown, len(classes), "class"))
    axes.legend()
    return _save(figure, out / "per_class.png")


def plot_training(out: Path, history: list[dict[str, float]]) -> bool:
    """Figures of every epoch; whether it was drawn."""
    figure, axes = _figure()
    x = np.arange(1, len(history) + 1)
    axes.set(xlabel="epoch, or turn of a method without epochs; the last one is the result")
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
    for name in figures(history):
        scored = [(i, h[name]) for i, h in zip(x, history, strict=True) if name in h]
        right.plot(*zip(*scored, strict=True), linestyle=":", marker=".", label=_label(name.replace("/", ", "), 30))
    right.set(ylabel="share", ylim=(0, 1))
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="lower right", fontsize=8)
    return _save(figure, out / "training.png")


def contact_sheet(
    out: Path,
    columns: Columns,
    given: np.ndarray,
    classes: tuple[str, ...],
    dataset: Dataset,
    image_column: str | None,
    access: Access,
) -> bool:
    """The least clean images with their given and suggested labels; whether it was drawn."""
    from matplotlib.figure import Figure

    worst = least_clean(columns, CONTACT)
    if not len(worst) or image_column is None:
        return False
    lines, wide, high = -(-len(worst) // ACROSS), CELL, CELL + TITLE
    sheet = np.full((lines * high, ACROSS * wide, 3), 255, np.uint8)
    figure = Figure(figsize=(sheet.shape[1] / DPI, sheet.shape[0] / DPI))
    # One picture and its texts: axes for every image would take ten times as long.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for k, (i, (_, item)) in enumerate(zip(worst, encoded(dataset.select(worst), image_column), strict=True)):
        top, left = k // ACROSS * high, k % ACROSS * wide
        with contextlib.suppress(CuratorError):  # on a column of features nobody has looked at the images yet
            content = with_bytes(int(i), item, columns.rows, image_column, access)["bytes"]
            picture = _thumbnail(access.decoder.rgb(content, near=THUMBNAIL))
            y, x = top + TITLE, left + (wide - picture.width) // 2
            sheet[y : y + picture.height, x : x + picture.width] = np.asarray(picture)
        names = f"{_label(classes[given[i]], 14)} → {_label(classes[columns.corrected[i]], 14)}"
        title = f"{names}\nrow {columns.rows[i]}, {columns.clean_score[i]:.3f}"
        axes.text(left + wide / 2, top + TITLE - 3, title, fontsize=7, ha="center", va="bottom")
    axes.imshow(sheet, aspect="auto", interpolation="nearest")
    return _save(figure, out / CONTACT_SHEET)


def _thumbnail(picture: Any) -> Any:
    """A Pillow image that just fits a cell of the contact sheet; of a small one every pixel becomes a square."""
    from PIL.Image import Resampling

    room = CELL - GAP
    scale = min(room / picture.width, room / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Resampling.NEAREST if scale > 1 else Resampling.BILINEAR, reducing_gap=2.0)
