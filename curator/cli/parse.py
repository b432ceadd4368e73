"""Words of the command line as typed values."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
from typing import Annotated, Any

import tyro

from curator.errors import CuratorError
from curator.text import did_you_mean


def parse(argv: list[str]) -> dict[str, Any]:
    """The flags that were given, typed, by their names with underscores; hyperparameters as "method.NAME".

    Raises:
        CuratorError: for what tyro refuses, as one line.
        SystemExit: 0, after printing the help.
    """
    from curator.config.flags import Settings
    from curator.config.resolve import hyperparameters, resolve

    wants_help = any(a in ("-h", "--help") for a in argv)
    words = [a for a in argv if a not in ("-h", "--help")]
    peeked = ("dataset", "method", "ensemble", "recipe", "label-noise", "net", "backbone", "features-column")
    named = {k: v for k in peeked if (v := _value_of(words, k)) is not None}
    if "ensemble" in named:  # resolve says that hyperparameters do not go with it
        named |= {w[2:].split("=")[0]: "" for w in words if w.startswith("--method.")}
    try:
        shown = resolve(dict(named))
    except CuratorError:
        if not wants_help:
            raise
        shown = resolve({})
    flags = Annotated[Settings, tyro.conf.arg(name="")]
    fields, defaults = [("flags", flags)], {"flags": shown.settings}
    if dataclasses.is_dataclass(shown.method):  # an ensemble's hyperparameters are in recipes
        fields.append(("hyper", Annotated[type(shown.method), tyro.conf.arg(name="method")]))
        defaults["hyper"] = shown.method
    both = dataclasses.make_dataclass("clean", fields)
    try:
        parsed = read_flags(
            both, [*words, *(["--help"] if wants_help else [])], "label-curator clean", default=both(**defaults)
        )
    except CuratorError as e:
        known = [
            "--" + n.replace("_", "-")
            for n in (*vars(shown.settings), *(f"method.{n}" for n in hyperparameters(shown.method)))
        ]
        unknown = next((w for w in words if w.startswith("--") and w.split("=")[0] not in known), "")
        hint = did_you_mean(unknown, known) if "Unrecognized" in str(e) else ""
        raise CuratorError(str(e).replace(" (--help", f"{hint} (--help")) from e
    given = {}
    for word in words:
        name = word[2:].split("=")[0].replace("-", "_") if word.startswith("--") else ""
        head, _, last = name.rpartition(".")
        name = f"{head}.{last.removeprefix('no_')}" if head else last.removeprefix("no_")
        if name.startswith("method."):
            given[name] = getattr(parsed.hyper, name.removeprefix("method."))
        elif name and hasattr(parsed.flags, name):
            given[name] = getattr(parsed.flags, name)
    return given


def read_flags(cls: type, words: list[str], prog: str, **options) -> Any:
    """tyro.cli, with its box of an error as one line."""
    for before, word in itertools.pairwise(["", *words]):
        flag, _, value = (word if word.startswith("--") and "=" in word else f"{before}={word}").partition("=")
        if not value and flag != "--column-prefix":  # whose default it is
            name = flag if flag.startswith("--") else f"{prog}: an argument"
            raise CuratorError(f"{name}: it is empty; was a variable of the shell not set?")
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return tyro.cli(cls, args=words, prog=prog, **options)
    except SystemExit as e:
        if not e.code:
            print(out.getvalue() or err.getvalue(), end="")
            raise
        raise CuratorError(_one_line(err.getvalue() or out.getvalue())) from e


def _value_of(words: list[str], flag: str) -> str | None:
    """The last value of a flag, before the flags are parsed."""
    value = None
    for word, following in itertools.zip_longest(words, words[1:]):
        name, eq, rest = word.partition("=")
        if name.replace("_", "-") == f"--{flag}":
            value = rest if eq else following
    return value


def _one_line(box: str) -> str:
    """Tyro's box of an error as one line: its words up to the rule, and the flag it thinks was meant."""
    lines = [line.strip("│╭╮╰╯─|+- ") for line in box.splitlines()][1:]  # the first line is the box's title
    text: list[str] = []
    for line in lines:
        if not line and text or line.startswith(("For full helptext", "Argument helptext")):
            break
        text += [line] * bool(line)
    return " ".join([*text, "(--help lists the flags)"])
