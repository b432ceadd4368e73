"""What the rooms share: cells of a spreadsheet, and lines for a terminal."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curator.text import as_cell, from_cell, name_of, printable

CELL = st.text(max_size=6) | st.text(st.sampled_from("'=+-@\t\r\n＝x"), max_size=6)


@settings(deadline=None, derandomize=True, database=None)
@given(CELL)
@example("'=x")
@example("''-1")
@example("'")
def test_a_cell_gives_its_text_back(text):
    """So no two texts become one cell."""
    assert from_cell(as_cell(text)) == text


@settings(deadline=None, derandomize=True, database=None)
@given(CELL)
def test_a_cell_is_no_formula(text):
    cell = as_cell(text)
    assert not cell.startswith(tuple("=+@\t\r\n＝＋－＠")) and (cell[:1] != "-" or len(cell) == 1)


def test_cells_of_older_exports():
    assert from_cell("'=x") == "=x" and from_cell("cat") == "cat" and from_cell("'tis") == "'tis"


@settings(deadline=None, derandomize=True, database=None)
@given(st.text())
@example("\x1b[2J\x07")
@example("\ud800")
def test_a_line_has_nothing_that_acts(text):
    line = printable(text)
    assert len(line.splitlines()) <= 1 and not set(map(ord, line)) & {*range(32), *range(127, 160)}
    line.encode()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
        ("a\u202eb", r"a\u202eb"),
        ("a\nb", r"a\nb"),
        ("naïve 猫 👩\u200d🔬", "naïve 猫 👩\u200d🔬"),
        ("\udc80", r"\udc80"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_the_name_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name_of(".") == name_of("./") == tmp_path.name and name_of("~/a/b/") == "b" and name_of("/") == "dataset"
    assert name_of("/x/caf\udce9") == "caf\\udce9"  # as old archives unpack to
