"""The errors users see: one line each."""

from __future__ import annotations

from curator.text import printable


class CuratorError(ValueError):
    """Something the user can fix; its one line says what was expected, what was found and what to do."""

    exit_code = 2

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the place of a traceback: the line."""
        return [f"{type(self).__name__}: {printable(str(self))}"]


class RunFailed(CuratorError):
    """A run that could not continue (a NaN loss, a full disk): the input was fine, so the exit code is 1."""

    exit_code = 1
