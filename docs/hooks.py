"""What mkdocs does besides: parts of pages that are made from the code or from other files of the repository.

    <!-- include CHANGELOG.md -->        the text of a file of the repository, from its second line on
    <!-- made: flags -->                 what a function of MAKERS returns; words after its name are its arguments
    ![A figure](figures/house.svg)       a drawing, put into the page itself so that it has the page's colours

Links out of docs/ to other files of the repository work where the repository is read. On the site they lead to the page
that includes the file, or are no link.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import posixpath
import re
import types
import typing
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
INCLUDED = {  # file of the repository -> page that includes it
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "bench/RESULTS.md": "results.md",
}
PICTURES = tuple(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "bench").glob("*.png")))
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(?: {4})?```.*?^(?: {4})?```$", re.M | re.S)


def on_files(files: Any, config: Any) -> Any:
    """Add the pictures of bench/ as results/NAME.png."""
    from mkdocs.structure.files import File

    for path in PICTURES:
        files.append(File.generated(config, place_of(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is included and what is made."""
    return filled(markdown, page.file.src_uri)


def on_page_content(html: str, **_: Any) -> str:
    """Turn TeX into MathML, which browsers show without a script."""
    from latex2mathml.converter import convert

    def as_math(match: re.Match[str]) -> str:
        block = match[1] == "div"
        tex = unescape(match[2]).strip().removeprefix("\\[" if block else "\\(").removesuffix("\\]" if block else "\\)")
        math = convert(tex.strip(), display="block" if block else "inline")
        return re.sub(
            r'<mi mathvariant="bold">([a-z])</mi>', lambda m: f"<mi>{chr(0x1D41A - 97 + ord(m[1]))}</mi>", math
        )

    return re.sub(r'<(div|span) class="arithmatex">(.*?)</\1>', as_math, html, flags=re.S)


def filled(markdown: str, page: str) -> str:
    """The text of a page (its path below docs/) with all parts in their places."""

    def include(match: re.Match[str]) -> str:
        text = (ROOT / match[1]).read_text(encoding="utf-8")
        return relinked(unbroken(text.partition("\n")[2]), match[1], page)

    def make(match: re.Match[str]) -> str:
        name, *words = match[1].split()
        return relinked(MAKERS[name](*words), "README.md", page)

    markdown = relinked(markdown, f"docs/{page}", page)
    markdown = re.sub(r"<!-- include (\S+) -->", include, markdown)
    return re.sub(r"<!-- made: ([\w ,-]+) -->", make, markdown)


def unbroken(text: str) -> str:
    """Tables whose cells keep figures such as 0.920 / 0.857 / 0.888 on one line."""
    return re.sub(r"(?<=\d) (/|→) (?=\d)", "\u00a0\\1\u00a0", text)


def relinked(text: str, file: str, page: str) -> str:
    """Markdown of a file of the repository as it stands on a page: its links lead where they can on the site."""

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        if picture and place.startswith("docs/figures/") and place.endswith(".svg"):
            drawing = (ROOT / place).read_text(encoding="utf-8")
            drawing = " ".join(drawing.split())  # an empty line would end the piece of HTML
            return f'<div class="figure" role="img" aria-label="{words}">{drawing}</div>'
        below = place.removeprefix("docs/") if place.startswith("docs/") else place_of(place)
        if below:
            start = posixpath.dirname(page) or "."
            return f"{picture}[{words}]({posixpath.relpath(below, start)}{mark}{anchor})"
        if (ROOT / place).exists():
            return f"`{place}`" if words.strip("`") in (place, posixpath.basename(place)) else words
        return match[0]  # which mkdocs refuses

    ends = [0, *(end for match in FENCE.finditer(text) for end in match.span()), len(text)]
    parts = [text[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


def place_of(path: str) -> str:
    """Where a file of the repository is on the site, below docs/; empty where it is not there."""
    if path in INCLUDED:
        return INCLUDED[path]
    return f"results/{posixpath.basename(path)}" if path in PICTURES else ""


# Parts that are made from the code


def flags() -> str:
    """The flags of clean, a table a group."""
    from curator.config.flags import GROUPS

    return "\n\n".join(f"## {title}\n\n{table_of(group)}" for title, group in GROUPS.items())


def commands() -> str:
    """The other commands: what they take, and their flags."""
    from curator.cli.main import COMMANDS
    from curator.text import PROGRAM

    modules = dict.fromkeys(inspect.getmodule(command) for command in COMMANDS.values())
    found = [(m, c) for m in modules for c in vars(m).values() if inspect.isclass(c) and c.__module__ == m.__name__]
    parts = []
    for module, cls in found:
        usage = " ".join(f.name.upper() for f in dataclasses.fields(cls) if is_positional(cls, f.name))
        name = cls.__name__.lower()
        if name not in COMMANDS:  # the second word of one
            name = f"{module.__name__.rpartition('.')[2]} {name}"
        head = f"## {name}\n\n```text\n{PROGRAM} {name} {usage} [FLAGS]\n```\n\n{inspect.getdoc(cls)}\n\n"
        parts.append(head + table_of(cls))
    return "\n\n".join(parts)


def options(method: str) -> str:
    """The hyperparameters of a method."""
    from curator.methods import METHODS

    cls = METHODS[method]
    small, large = getattr(cls, "small_net", {}), getattr(cls, "large_net", {})
    head = f"`--method {method}`."
    if small or large:
        others = ", ".join(f"{k.replace('_', '-')} {_value(v)}" for k, v in (small or large).items())
        head += f" The defaults are those of a {'large' if small else 'small'} net; of a "
        head += f"{'small' if small else 'large'} one: {others}."
    return f"{head}\n\n{table_of(cls, 'method.')}"


def notes(method: str) -> str:
    """What a method's module says of papers and released code: from the paragraph that begins so to the end."""
    from curator.methods import METHODS

    text = inspect.getdoc(inspect.getmodule(METHODS[method])) or ""
    start = re.search(r"^(Where |The reproduction's draws|There are three readings)", text, re.M)
    lines = text[start.start() :].splitlines() if start else []
    spaced: list[str] = []
    for line in lines:
        if line.startswith("- ") and spaced and spaced[-1] and not spaced[-1].startswith(("- ", "  ")):
            spaced.append("")
        if spaced and spaced[-1].startswith(("- ", "  ")) and line and not line.startswith(("- ", "  ")):
            spaced.append("")
        spaced.append(line)
    return "\n".join(spaced)


def measured(*names: str) -> str:
    """The rows of the tables of bench/RESULTS.md whose first cell names a method, a table each."""
    text = (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    parts = []
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        title, _, body = section.partition("\n")
        for table in re.findall(r"(?:^\|.*\n)+", body, flags=re.M):
            head, rule, *rows = table.splitlines()
            found = [row for row in rows if set(re.findall(r"[\w+]+", row.split("|")[1])) & set(names)]
            if head.startswith(("| cell |", "| method |")) and found:
                parts.append(f"**{title}**\n\n" + "\n".join([head, rule, *found]))
    return unbroken("\n\n".join(parts)) or "Not measured."


def table_of(cls: type, prefix: str = "") -> str:
    """The fields of a dataclass as a table: flag, default, meaning."""
    rows = ["| flag | values | default | meaning |", "|---|---|---|---|"]
    said = meanings(cls)
    for field in dataclasses.fields(cls):
        hint = typing.get_type_hints(cls, include_extras=True)[field.name]
        positional = is_positional(cls, field.name)
        name = field.name.upper() if positional else f"--{prefix}{field.name.replace('_', '-')}"
        default = "" if field.default is dataclasses.MISSING else _value(field.default)
        meaning = " ".join((said.get(field.name) or _help(hint)).split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {_kind(hint)} | {default} | {meaning} |")
    return "\n".join(rows)


def meanings(cls: type) -> dict[str, str]:
    """Field -> the text that stands below it in the class or in one that it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (body,) = ast.parse(inspect.getsource(base)).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(field.target, ast.Name):
                found[field.target.id] = str(ast.literal_eval(below.value))
    return found


def is_positional(cls: type, field: str) -> bool:
    """Whether a command takes the field without a flag."""
    import tyro

    marks = getattr(typing.get_type_hints(cls, include_extras=True)[field], "__metadata__", ())
    return any(mark is part for mark in marks for part in getattr(tyro.conf.Positional[int], "__metadata__", ()))


def _help(hint: Any) -> str:
    return next((part.help for part in getattr(hint, "__metadata__", ()) if getattr(part, "help", None)), "")


def _kind(hint: Any) -> str:
    """The values of a type, in words."""
    return ", ".join(dict.fromkeys(_kinds(hint)))


def _kinds(hint: Any) -> Iterator[str]:
    names = {str: "text", int: "whole number", float: "number", bool: "yes or no", Path: "path"}
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        yield from _kinds(inside[0])
    elif origin is typing.Literal:
        yield from (f"`{value}`" for value in inside)
    elif origin in (typing.Union, types.UnionType, tuple):
        for part in inside:
            if part not in (type(None), ...):
                yield from _kinds(part)
    else:
        yield names.get(hint, "whole number" if isinstance(hint, type) and issubclass(hint, int) else "text")


def _value(value: Any) -> str:
    if value is None or value == "" or value == ():
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"`{value}`"


MAKERS: dict[str, Callable[..., str]] = {
    "flags": flags, "commands": commands, "options": options, "notes": notes, "measured": measured,
}  # fmt: skip
