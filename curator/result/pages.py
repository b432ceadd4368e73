"""A page of headings, paragraphs, tables and pictures, written as Markdown and as one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from curator.text import printable

# What shows single rows lies between these two lines of the Markdown; publishing without them takes it out.
ROWS, ROWS_END = "<!-- label-curator: rows -->", "<!-- label-curator: end of rows -->"
SHOWN = 10  # rows or groups in a table
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
.answer { font-size: 1.25rem; font-weight: bold; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .7rem; border-bottom: 1px solid #8884; vertical-align: top; }
td { max-width: 34rem; overflow-wrap: break-word; } img { max-width: 100%; height: auto; background: #fff; }
pre { background: #8882; padding: .7rem 1rem; overflow-x: auto; }
"""


def percent(share: float) -> str:
    """0.1234 -> 12.3 %."""
    return f"{100 * share:.1f} %"


class Name(NamedTuple):
    """A stranger's text: it is shown as one line of at most so many characters, and nothing of it acts."""

    text: str
    most: int = 60


class Link(NamedTuple):
    """A file beside the page; in the HTML, which may be elsewhere, its name alone."""

    text: str
    target: str


Text = str | Name | Link
Line = Text | Sequence[Text]


class Heading(NamedTuple):
    """A heading of the second level."""

    parts: Line


class Paragraph(NamedTuple):
    """A paragraph; the answer of a page is large."""

    parts: Line
    answer: bool = False


class Table(NamedTuple):
    """A table with a line of heads."""

    head: Sequence[Text]
    rows: Sequence[Sequence[Line]]


class Picture(NamedTuple):
    """A PNG file beside the page."""

    file: str
    title: str


class Code(NamedTuple):
    """Lines of a shell."""

    lines: Sequence[str]


class Rows(NamedTuple):
    """What shows single rows."""

    blocks: Sequence[Heading | Paragraph | Table | Picture]


Block = Heading | Paragraph | Table | Picture | Code | Rows


def shown(name: Name) -> str:
    """A stranger's text as one line."""
    text = printable(" ".join(name.text.split()))
    return text if len(text) <= name.most else text[: name.most - 1] + "…"


def md(text: str, length: int = 60) -> str:
    """A stranger's text inside Markdown: one line, nothing of it acts."""
    text = html.escape(shown(Name(text, length)), quote=False)
    return "".join("\\" + c if c in "\\`*_{}[]()#+!|~$" else c for c in text)


def as_markdown(title: Line, blocks: Iterable[Block]) -> str:
    """The page as Markdown; pictures are links to their files."""
    return "\n".join([f"# {_line(title, _md)}", "", *(line for block in blocks for line in _markdown(block))])


def as_html(title: Line, blocks: Iterable[Block], folder: Path) -> str:
    """The page as one HTML file that loads nothing: the pictures of the folder are in it, and no script runs."""
    body = "\n".join(_html(block, folder) for block in blocks)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_line(title, _text)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_line(title, _escaped)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _line(parts: Line, write) -> str:
    return "".join(map(write, [parts] if isinstance(parts, str | Name | Link) else parts))


def _md(part: Text) -> str:
    if isinstance(part, Name):
        return md(*part)
    return f"[{part.text}]({part.target})" if isinstance(part, Link) else part


def _text(part: Text) -> str:
    plain = shown(part) if isinstance(part, Name) else part.text if isinstance(part, Link) else part
    return html.escape(plain)


def _escaped(part: Text) -> str:
    text = _text(part)
    if isinstance(part, Name):
        return f"<bdi>{text}</bdi>"
    return f"<code>{text}</code>" if isinstance(part, Link) else text


def _markdown(block: Block) -> list[str]:
    match block:
        case Heading(parts):
            return [f"## {_line(parts, _md)}", ""]
        case Paragraph(parts, answer):
            return [f"**{_line(parts, _md)}**" if answer else _line(parts, _md), ""]
        case Table(head, rows):
            lines = [" | ".join(_line(cell, _md) for cell in row) for row in rows]
            return [
                f"| {' | '.join(map(_md, head))} |",
                "|---" * len(head) + "|",
                *(f"| {line} |" for line in lines),
                "",
            ]
        case Picture(file, title):
            return [f"![{title}]({file})", ""]
        case Code(lines):
            return ["```", *lines, "```", ""]
        case Rows(blocks):
            return [ROWS, "", *(line for inner in blocks for line in _markdown(inner)), ROWS_END, ""]


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(parts):
            return f"<h2>{_line(parts, _escaped)}</h2>"
        case Paragraph(parts, answer):
            kind = ' class="answer"' if answer else ""
            return f"<p{kind}>{_line(parts, _escaped)}</p>"
        case Table(head, rows):
            heads = "".join(f"<th>{_escaped(text)}</th>" for text in head)
            lines = ("".join(f"<td>{_line(cell, _escaped)}</td>" for cell in row) for row in rows)
            body = "\n".join(f"<tr>{line}</tr>" for line in lines)
            return f'<div class="table"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        case Picture(file, title):
            content = base64.b64encode((folder / file).read_bytes()).decode("ascii")
            return f'<p><img alt="{html.escape(title)}" src="data:image/png;base64,{content}"></p>'
        case Code(lines):
            text = html.escape("\n".join(lines))
            return f"<pre>{text}</pre>"
        case Rows(blocks):
            return "\n".join(_html(inner, folder) for inner in blocks)
