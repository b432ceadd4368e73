"""Texts as they are printed, and as cells of a spreadsheet."""

from __future__ import annotations

import difflib
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable

Log = Callable[[str], None]  # what prints a line: `say`, or what says nothing

FORMULA = ("=", "+", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the wide ones are = + - @, too
KEPT = "\u200c\u200d"  # the joiners, which scripts and emoji need


def as_cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula; no two texts become one."""
    bare = text.lstrip("'")  # what begins with ' and would be a formula after it takes one more
    return "'" + text if bare.startswith(FORMULA) or (bare[:1] == "-" and len(bare) > 1) else text


def from_cell(text: str) -> str:
    """What as_cell was given."""
    return text[1:] if text[:1] == "'" and as_cell(text[1:]) == text else text


def printable(text: str) -> str:
    """A stranger's text as one line that acts on no terminal and hides nothing: ESC is written as four letters."""
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, among them those of direction; surrogates; ends of lines
    return "".join(
        c if c.isprintable() or c in KEPT or unicodedata.category(c) not in hidden else _escaped(c) for c in text
    )


def say(line: str) -> None:
    """Print a line to stderr."""
    print(printable(line), file=sys.stderr, flush=True)


def _escaped(character: str) -> str:
    return repr(character)[1:-1]


def name_of(path: str) -> str:
    """The name of a file or folder, without where it lies."""
    return printable(os.path.basename(os.path.abspath(os.path.expanduser(path)))) or "dataset"


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of an error, "; did you mean 'x'?", for the nearest known word; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff) if len(word) < 1000 else []
    return f"; did you mean {near[0].replace('_', '-')!r}?" if near else ""


def duration(seconds: float) -> str:
    """90 -> '1 min 30 s'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
