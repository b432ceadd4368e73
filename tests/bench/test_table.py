"""Tables of measurements: their rows are JSON lines, and RESULTS.md shows them."""

import json
import re

import pytest

from bench.table import PENDING, RESULTS, Table

HEADINGS = [
    heading
    for heading in re.findall(r"^## (.*)$", RESULTS.read_text(encoding="utf-8"), re.M)
    if Table(heading, []).file.exists()
]


def test_every_file_has_its_table():
    files = {Table(heading, []).file.name for heading in HEADINGS} | {
        "auto.jsonl",
        "drawn.jsonl",
        "everyday.jsonl",
        "guard.jsonl",
    }  # which are summed up
    assert files == {path.name for path in (RESULTS.parent / "results").iterdir()} and len(HEADINGS) > 15


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_page_shows_the_rows(heading, tmp_path):
    """Rendered again, nothing changes."""
    there = Table(heading, [])
    columns = list(json.loads(there.file.read_text(encoding="utf-8").splitlines()[0]))[1:]
    assert all(list(row) == columns for row in there.rows().values())
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / there.file.name).write_bytes(there.file.read_bytes())
    (tmp_path / "RESULTS.md").write_bytes(RESULTS.read_bytes())
    Table(heading, columns, tmp_path / "RESULTS.md").render()
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == RESULTS.read_text(encoding="utf-8")


def test_rows_come_and_are_replaced_between_what_is_written(tmp_path):
    page = tmp_path / "RESULTS.md"
    table = Table("A table: one", ["score", "date"], page)
    table.pending("a")
    assert "a" not in table and "| a | not measured | not measured |" in page.read_text()
    page.write_text(
        page.read_text().replace("## A table: one\n", "## A table: one\n\nWhat it is.\n") + "\n## Next\n\ntext\n"
    )
    table.append("a", ["1", "today"])
    table.append("b", ["2", "today"])
    table.pending("b")
    assert table.row("a") == {"score": "1", "date": "today"} and table.row("c") == {} and "b" in table
    again = Table("A table: one", ["score", "date"], page)
    assert list(again.rows()) == ["a", "b"] and PENDING not in page.read_text()
    assert re.sub(r"\n+", "\n", page.read_text()) == (
        "# Results\n## A table: one\nWhat it is.\n| cell | score | date |\n|---|---|---|\n| a | 1 | today |\n"
        "| b | 2 | today |\n## Next\ntext\n"
    )
