"""docs/security.md: what it says is tested, is."""

import re

from tests.conftest import ROOT


def test_the_tests_of_the_security_page_are_there():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    there = {name for text in texts for name in re.findall(r"def (test_\w+)", text)}
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 30 and not named - there
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    assert files and all((ROOT / file).is_file() for file in files)
