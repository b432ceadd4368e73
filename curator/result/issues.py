"""issues.csv: the flagged rows, for a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

from curator.result.columns import least_clean
from curator.result.findings import Findings
from curator.sources.images import source_files
from curator.sources.texts import texts_of
from curator.text import as_cell


def write_issues(path: Path, findings: Findings) -> None:
    """issues.csv: row, file (of texts: text), given, suggested and score of all that are not selected, worst first.

    And whether the given and the suggested label may both be right.
    """
    table, columns = findings.table, findings.columns
    given, classes, words = table.labels, table.classes, table.text_column
    wrong = least_clean(columns)
    rows = table.data.select(wrong)
    shown = source_files(rows, table.image_column, table.access) if words is None else texts_of(rows, words)[0]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "file" if words is None else "text", "given", "suggested", "score", "ambiguous"])
        for i, what in zip(wrong.tolist(), shown, strict=True):
            cells = as_cell(what), as_cell(classes[given[i]]), as_cell(classes[columns.corrected[i]])
            unsure = "" if columns.ambiguous is None else str(bool(columns.ambiguous[i])).lower()
            writer.writerow([columns.rows[i], *cells, f"{columns.clean_score[i]:.6f}", unsure])
