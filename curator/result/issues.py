"""issues.csv: the flagged rows, for a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from curator.result.findings import Findings
from curator.sources.images import source_files
from curator.text import as_cell


def write_issues(path: Path, findings: Findings) -> None:
    """issues.csv: row, file, given, suggested and score of every row that is not selected, worst first."""
    table, columns = findings.table, findings.columns
    given, classes = table.labels, table.classes
    wrong = np.flatnonzero(~columns.selected)
    wrong = wrong[np.argsort(columns.clean_score[wrong], kind="stable")]
    files = source_files(table.data.select(wrong), table.image_column, table.access)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "file", "given", "suggested", "score"])
        for i, source in zip(wrong.tolist(), files, strict=True):
            cells = as_cell(source), as_cell(classes[given[i]]), as_cell(classes[columns.corrected[i]])
            writer.writerow([columns.rows[i], *cells, f"{columns.clean_score[i]:.6f}"])
