import pytest

from curator.result.estimate import wrong_labels
from curator.result.pages import (
    ROWS,
    ROWS_END,
    Code,
    Heading,
    Link,
    Name,
    Paragraph,
    Picture,
    Rows,
    Table,
    as_html,
    as_markdown,
)

HOSTILE = "<img src=x onerror=alert(1)> | `a` [b](javascript:c)\n# <!-- label-curator: end of rows -->"
BLOCKS = [
    Paragraph(("About ", Name(HOSTILE, 200)), answer=True),
    Heading("Next"),
    Code(["label-curator review RUN <x>"]),
    Rows([Table(("row", Name("<b>")), [("1", Name("x" * 100)), ("2", ("a", Name("|")))]), Picture("a.png", "seen")]),
    Paragraph((Link("curation.json", "../curation.json"), " has more.")),
]


def test_markdown():
    text = as_markdown(("Run of ", Name("a*b")), BLOCKS)
    lines = text.splitlines()
    assert lines[0] == "# Run of a\\*b" and "## Next" in lines and "![seen](a.png)" in lines
    assert "<img" not in text and "\n# <" not in text and text.count(ROWS_END) == text.count(ROWS) == 1
    assert lines[lines.index("| row | &lt;b&gt; |") + 1] == "|---|---|" and "| 2 | a\\| |" in lines
    assert f"| 1 | {'x' * 59}… |" in lines and "[curation.json](../curation.json) has more." in lines


def test_html_needs_no_other_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    text = as_html("Run", BLOCKS, tmp_path)
    assert "<img src=x" not in text and "<b>" not in text and "review RUN &lt;x&gt;" in text
    assert 'src="data:image/png;base64,iVBORw=="' in text and "default-src 'none'" in text
    assert text.count("src=") == text.count("data:image") + text.count("src=x") and "href" not in text
    assert '<p class="answer">' in text and "<code>curation.json</code>" in text


@pytest.mark.parametrize(("flagged", "doubt", "expected"), [
    (200, 250, (216.7, 168, 270)), (10, 60, (26.7, 0, 64.8)), (0, 0, (0, 0, 0)), (300, 100, (233.3, 233.3, 233.3)),
])  # fmt: skip
def test_estimate(flagged, doubt, expected):
    assert wrong_labels("posterior", 1000, flagged, doubt) == pytest.approx(expected, abs=0.05)
    assert wrong_labels("ce", 1000, flagged, doubt)[1:] == (None, None)
