"""The errors users see: one line each."""

from __future__ import annotations


class CuratorError(ValueError):
    """Something the user can put right; its one line says what was expected, what came and what to do."""

    exit_code = 2


class RunFailed(CuratorError):
    """A run that could not go on (a NaN loss, a full disk): the input was fine, so the exit code is 1."""

    exit_code = 1
