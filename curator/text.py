"""Texts as they are printed, and as cells of a spreadsheet."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

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


def decoded(content: bytes) -> str:
    """The text of a file: UTF-8 or UTF-16 by its mark, UTF-8 where it is that, else what Excel writes on Windows.

    Raises:
        UnicodeDecodeError: for what is none of these.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


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


PROGRAM = "label-curator"
HOME = Path(__file__).resolve().parent.parent
SCRIPTS = {"clean": HOME / "curator" / "clean.py", "review": HOME / "app.py"}  # of a checkout
MODULE = Path(__file__).resolve().with_name("cli") / "__main__.py"


def command_line(command: str = "", *words: object) -> str:
    """The shell line of a command, begun as this process was: label-curator, a script of the checkout, or python -m.

    Without a command, what commands begin with.
    """
    return printable(shlex.join([*filter(None, _start(command)), *map(str, words)]))


def public_command(command: str) -> str:
    """The same for readers elsewhere: without where Python and the scripts lie on this machine."""
    in_checkout = Path(sys.argv[0]).resolve() in SCRIPTS.values() and command in SCRIPTS
    return f"python {SCRIPTS[command].relative_to(HOME).as_posix()}" if in_checkout else f"{PROGRAM} {command}"


def _start(command: str) -> list[str]:
    started = Path(sys.argv[0])
    python, installed = _shown(sys.executable), Path(sys.executable).with_name(PROGRAM)
    if started.resolve() in SCRIPTS.values():
        if command in SCRIPTS:
            launched = command == "clean" and "ACCELERATE_MIXED_PRECISION" in os.environ
            return [*(["accelerate", "launch"] if launched else [python]), _near(SCRIPTS[command])]
        return [_shown(str(installed)), command] if installed.exists() else [python, "-m", "curator.cli", command]
    if started.resolve() == MODULE:
        return [python, "-m", "curator.cli", command]
    return [_shown(sys.argv[0]) if started.name == PROGRAM else PROGRAM, command]


def _shown(program: str) -> str:
    """A program as this shell finds it: by its name where that is enough."""
    path = os.path.abspath(program)
    names = (os.path.basename(path), "python", "python3")
    found = (name for name in names if os.path.abspath(shutil.which(name) or os.curdir) == path)
    return next(found, _near(Path(path)))


def _near(path: Path) -> str:
    """A path from the working folder where it lies below it."""
    here = os.path.relpath(path)
    return str(path) if here.startswith(os.pardir) else here


def span(seconds: float) -> str:
    """Between which times an estimate lies, since later epochs are rarely like the first steps.

    100 -> '1 min 15 s to 2 min 30 s'.
    """
    ends = [duration(seconds * factor) for factor in (0.75, 1.5)]
    return " to ".join(dict.fromkeys(ends))
