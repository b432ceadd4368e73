"""The errors users see: one line each."""

from __future__ import annotations


class CuratorError(ValueError):
    """Something the user can fix; its one line says what was expected, what was found and what to do."""

    exit_code = 2


class RunFailed(CuratorError):
    """A run that could not continue (a NaN loss, a full disk): the input was fine, so the exit code is 1."""

    exit_code = 1
