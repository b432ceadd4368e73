"""Texts that speak of flags, in the words of Python."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from curator.errors import CuratorError

COMMAND = re.compile(r"((?:label-curator|python|accelerate launch) [^;]*)")  # a line for a shell
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z_-]*(?:\.[a-z][a-z_-]*)?)(?: ('[^']*'|[\w.+-]*\w))?")


@contextmanager
def errors_of_python(*, own_method: bool = False) -> Iterator[None]:
    """Let errors speak of keywords, as as_keywords does."""
    try:
        yield
    except CuratorError as e:
        e.args = (as_keywords(str(e), own_method=own_method),)
        raise


def as_keywords(text: str, *, own_method: bool = False) -> str:
    """The text with the flags of clean.py as keywords: --overwrite is overwrite=True; a line for a shell stays.

    A flag has its value where that is a number, quoted, or a word that the flag takes; other words after it are prose.
    A hyperparameter is a key in **settings, or with own_method an attribute of the method that was given.
    """
    if text.startswith("unknown setting"):  # it quotes them without their dashes
        text = re.sub("'[a-z][a-z.-]*'", lambda name: name[0].replace("-", "_"), text)

    def keyword(found: re.Match[str]) -> str:
        return _keyword(found, own_method)

    parts = COMMAND.split(text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"\bthe same command\b", "the same call", FLAG.sub(keyword, parts[i]))
    return "".join(parts)


def _keyword(found: re.Match[str], own_method: bool) -> str:
    from curator.config.flags import METHOD, Settings, field_name, hints

    name, value, known = field_name(found[1]), found[2], hints(Settings)
    rest = "" if value is None else f" {value}"
    number = value is not None and re.fullmatch(r"\d+(\.\d+)?", value) is not None
    if name.startswith(METHOD):
        if own_method:
            return f"{name} = {value}" if number else name + rest
        return f'**{{"{name}": {value}}}' if number else f'"{name}"{rest}'
    off = name.removeprefix("no_")
    if name not in known and _is_switch(known.get(off)):
        return f"{off}=False{rest}"
    if name not in known:
        return found[0]
    if _is_switch(known[name]):
        return f"{name}=True{rest}"
    if number or rest.startswith(" '"):
        return f"{name}={value}"
    return f"{name}={value!r}" if value in _choices(name, known[name]) else name + rest


def _is_switch(hint: Any) -> bool:
    return bool in _parts(hint)


def _choices(name: str, hint: Any) -> set[Any]:
    """The words that a flag takes, if they are few."""
    from curator.engine.nets import NETS
    from curator.methods import AUTO, METHODS

    literals = {word for part in _parts(hint) if typing.get_origin(part) is Literal for word in typing.get_args(part)}
    return {"net": {*NETS}, "method": {*METHODS, AUTO}}.get(name, literals)


def _parts(hint: Any) -> list[Any]:
    """A type and the types that it is made of."""
    return [hint, *(inner for part in typing.get_args(hint) for inner in _parts(part))]
