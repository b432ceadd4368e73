"""Words of the command line as typed values."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
from typing import Annotated, Any

import tyro

from curator.errors import CuratorError
from curator.text import command_line


def parse(argv: list[str]) -> dict[str, Any]:
    """The flags that were given, typed, by their names with underscores; hyperparameters as "method.NAME".

    Raises:
        CuratorError: for what tyro refuses, as one line.
        SystemExit: 0, after printing the help.
    """
    from curator.config.flags import GROUPS, METHOD, PICKS, flags_of
    from curator.config.resolve import hyperparameters, resolve
    from curator.config.values import instead
    from curator.methods import AUTO

    wants_help = any(a in ("-h", "--help") for a in argv)
    words = [a for a in argv if a not in ("-h", "--help")]
    picks: dict[str, Any] = {k: v for k in flags_of(PICKS) if (v := _value_of(words, k)) is not None}
    if "ensemble" in picks or picks.get("method") == AUTO:  # resolve says that hyperparameters do not go with it
        picks |= {name: "" for w in words if (name := _field_of(w)).startswith(METHOD)}
    try:
        shown = resolve(picks)
    except CuratorError:
        if not wants_help:
            raise
        shown = resolve({})
    defaults = {
        title: group(**{f.name: getattr(shown.settings, f.name) for f in dataclasses.fields(group)})
        for title, group in GROUPS.items()
    }
    fields = [(title, Annotated[group, tyro.conf.OmitArgPrefixes]) for title, group in GROUPS.items()]
    if dataclasses.is_dataclass(shown.method):  # an ensemble's hyperparameters are in recipes
        fields.append(("hyper", Annotated[type(shown.method), tyro.conf.arg(name="method")]))
        defaults["hyper"] = shown.method
    both = dataclasses.make_dataclass("clean", fields)
    both.__doc__ = "Find wrong labels in a dataset, and write it with new columns: score, selection, corrected label."
    try:
        words += ["--help"] * wants_help
        parsed = vars(read_flags(both, words, command_line("clean"), default=both(**defaults)))
    except CuratorError as e:
        known = [*vars(shown.settings), *(METHOD + name for name in hyperparameters(shown.method))]
        unknown = next((name for w in words if (name := _field_of(w)) and name not in known), None)
        hint = instead(unknown, known, "--") if unknown and "Unrecognized" in str(e) else ""
        raise CuratorError(str(e).replace(" (--help", f"{hint} (--help")) from e
    values = {METHOD * (part == "hyper") + k: v for part, held in parsed.items() for k, v in vars(held).items()}
    return {name: values[name] for word in words if (name := _field_of(word)) in values}


def _field_of(word: str) -> str:
    """The field that a flag sets, --no-NAME as well; empty for another word."""
    from curator.config.flags import field_name

    if not word.startswith("--"):
        return ""
    head, dot, last = word[2:].split("=")[0].replace("-", "_").rpartition(".")
    return field_name(f"{head}{dot}{last.removeprefix('no_')}")


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


def _value_of(words: list[str], field: str) -> str | None:
    """The last value of a flag, before the flags are parsed."""
    value = None
    for word, following in itertools.zip_longest(words, words[1:]):
        if _field_of(word) == field:
            _, eq, rest = word.partition("=")
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
