"""A stranger's text in Markdown."""

from __future__ import annotations

import html

from curator.text import printable

SHOWN = 10  # rows or groups in a table


def md(text: str, length: int = 60) -> str:
    """A stranger's text inside Markdown: one line, nothing of it acts."""
    text = printable(" ".join(text.split()))
    text = text if len(text) <= length else text[: length - 1] + "…"
    return "".join("\\" + c if c in "\\`*_{}[]()#+!|~$" else c for c in html.escape(text, quote=False))


def percent(share: float) -> str:
    """0.1234 -> 12.3 %."""
    return f"{100 * share:.1f} %"
