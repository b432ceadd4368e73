"""issues.csv: the flagged rows, for a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from curator.result.findings import Findings
from curator.sources.files import source_file
from curator.sources.images import paths
from curator.text import as_cell


def write_issues(path: Path, findings: Findings) -> None:
    """issues.csv: row, file, given, suggested and score of every row that is not selected, worst first."""
    table, columns = findings.table, findings.columns
    given, classes, image_column = table.labels, table.classes, table.image_column
    wrong = np.flatnonzero(~columns.selected)
    wrong = wrong[np.argsort(columns.clean_score[wrong], kind="stable")]
    files: dict[int, str] = {}
    if len(wrong) and image_column is not None:
        names = [
            source_file(name or "", table.access.folders) for name in paths(table.data.select(wrong), image_column)
        ]
        files = dict(zip(wrong.tolist(), names, strict=True))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "file", "given", "suggested", "score"])
        for i in wrong.tolist():
            cells = as_cell(files.get(i, "")), as_cell(classes[given[i]]), as_cell(classes[columns.corrected[i]])
            writer.writerow([columns.rows[i], *cells, f"{columns.clean_score[i]:.6f}"])
