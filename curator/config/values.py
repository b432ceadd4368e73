"""Values as their fields' types: the one path of the command line, of recipes and of Python."""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal

from curator.config.flags import METHOD, Settings, hints
from curator.engine.held import Held
from curator.errors import CuratorError
from curator.text import did_you_mean

# Hyperparameters of earlier versions, and what serves now.
RENAMED = {"preset": "method.reading"}
FIXED = {"momentum": "0.9"}


def typed(values: dict[str, Any], cls: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split values into flags and hyperparameters of the method, each of its field's type."""
    flags, hyper = {}, {}
    known = {**hints(Settings), **{METHOD + k: v for k, v in hints(cls).items()}}
    for key, value in values.items():
        if key not in known:
            raise CuratorError(f"unknown setting {shown(key.replace('_', '-'))}{instead(key, known)}")
        value = coerce(value, known[key], f"--{key.replace('_', '-')}")
        if key.startswith(METHOD):
            hyper[key.removeprefix(METHOD)] = value
        else:
            flags[key] = value
    return flags, hyper


def instead(key: str, known: Collection[str], dashes: str = "") -> str:
    """The end of an error for an unknown setting: what took its place, or the nearest known one."""
    if key.startswith(METHOD):
        bare = key.removeprefix(METHOD)
        if bare in FIXED:
            return f"; it is always {FIXED[bare]}"
        key = next((name for name in (RENAMED.get(bare, bare), bare) if name in known), key)
    return nearest(dashes + key, [dashes + name for name in known])


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of an error for what may be far off, as a flag typed from memory."""
    return did_you_mean(key, known, 0.5)


def coerce(value: Any, hint: Any, flag: str) -> Any:
    """The value as the type: numbers may be written as text (YAML reads 1e-3 as text), nothing else is bent.

    Raises:
        CuratorError: naming the flag, the type and the value.
    """
    if isinstance(value, Held):
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return coerce(value, args[0], flag)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        for kind in kinds[:-1]:
            with contextlib.suppress(CuratorError):
                return coerce(value, kind, flag)
        return coerce(value, kinds[-1], flag)
    if origin is Literal:
        value = "no" if value is False and "no" in args else value  # YAML reads no as false
        if not isinstance(value, str | int | float) or value not in args:
            raise CuratorError(f"{flag}: expected one of {', '.join(map(str, args))}; found {shown(value)}")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, str) and not value:  # it would be the working folder
        raise CuratorError(f"{flag}: it is empty; was a variable of the shell not set?")
    if hint is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    if hint in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
            if hint is float and number == number or hint is int and number.is_integer():
                return hint(number) if not isinstance(value, int) else hint(value)
        except (ValueError, OverflowError):
            pass
    raise CuratorError(f"{flag}: expected {getattr(hint, '__name__', hint)}, found {shown(value)}")


def shown(value: Any) -> str:
    """A value as an error quotes it: of strangers, so not at any length."""
    try:
        text = " ".join(repr(value).split())  # of a table it has lines
    except ValueError:  # Python writes no integer of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."
