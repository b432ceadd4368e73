"""issues.csv: the flagged rows, for a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from datasets import Dataset

from curator.result.columns import Columns
from curator.sources.files import bare_name
from curator.sources.images import encoded
from curator.text import as_cell


def write_issues(
    path: Path,
    dataset: Dataset,
    image_column: str | None,
    columns: Columns,
    given: np.ndarray,
    classes: tuple[str, ...],
) -> None:
    """issues.csv: row, file, given, suggested and score of every row that is not selected, worst first."""
    wrong = np.flatnonzero(~columns.selected)
    wrong = wrong[np.argsort(columns.clean_score[wrong], kind="stable")]
    files: dict[int, str] = {}
    if len(wrong) and image_column is not None:
        paths = [
            bare_name(item["path"] or "") if item else "" for _, item in encoded(dataset.select(wrong), image_column)
        ]
        files = dict(zip(wrong.tolist(), paths, strict=True))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "file", "given", "suggested", "score"])
        for i in wrong.tolist():
            names = as_cell(files.get(i, "")), as_cell(classes[given[i]]), as_cell(classes[columns.corrected[i]])
            writer.writerow([columns.rows[i], *names, f"{columns.clean_score[i]:.6f}"])
