"""Publishing from the page: one at a time, in the background, told line by line."""

from __future__ import annotations

import threading
from typing import Any

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.result.read import Rows

LINES = 200  # that are kept
# What the page may send, and of which type.
TAKEN: dict[str, type] = {
    "target": str, "policy": str, "min_confidence": float, "format": str, "public": bool, "branch": str,
    "create_pr": bool, "tag": str, "overwrite": bool, "dry_run": bool, "drop_leaks": bool,
}  # fmt: skip


class Publishing:
    """The publishing of a run that was started last, if any."""

    def __init__(self, rows: Rows, journal: Journal):
        self.rows, self.journal = rows, journal
        self._lock = threading.Lock()
        self._running = False
        self._lines: list[str] = []
        self._done: str | None = None
        self._failed: str | None = None

    def start(self, data: dict[str, Any], token: str | None = None) -> None:
        """Begin, with the server's token for the Hub or another; empty texts are left out, as flags are.

        Raises:
            CuratorError: for what no page would send, and while another one runs.
        """
        given = {name: data.get(name) for name in TAKEN}
        options = {
            name: value for name, value in given.items() if value is not None and value is not False and value != ""
        }
        for name, value in options.items():
            fits = (int, float) if TAKEN[name] is float else TAKEN[name]
            if not isinstance(value, fits) or (value is True and TAKEN[name] is not bool):
                raise CuratorError(f"publish: expected {name} to be of type {TAKEN[name].__name__}")
        target, policy = options.pop("target", ""), options.pop("policy", "relabel")
        if not target.strip():
            raise CuratorError("publish: expected a Hub id (owner/name), or a folder that begins with ./ or /")
        with self._lock:
            if self._running:
                raise CuratorError("publish: it is running already; wait until it is done")
            self._running, self._lines, self._done, self._failed = True, [], None, None
        threading.Thread(
            target=self._work, args=(target.strip(), policy, {**options, "token": token}), daemon=True
        ).start()

    def state(self) -> dict[str, Any]:
        """{"running", "lines": what was said, "done": where the version is, "failed": why not, in one line}."""
        with self._lock:
            return {"running": self._running, "lines": self._lines, "done": self._done, "failed": self._failed}

    def _work(self, target: str, policy: str, options: dict[str, Any]) -> None:
        from curator.publish.hub import publish

        done = error = None
        try:
            if Rows(self.rows.folder).verdict != self.rows.verdict:
                raise CuratorError("the run was replaced since this server was started: start it again")
            with self.journal.readable() as journal:
                done = publish(self.rows.folder, target, policy, journal=journal, say=self._say, **options)
        except CuratorError as e:
            error = " ".join(str(e).split())
        except Exception as e:  # what nobody has thought of must not leave the page waiting
            error = f"publish: {type(e).__name__}: {' '.join(str(e).split())[:300]}"
        with self._lock:
            self._running, self._done, self._failed = False, done, error

    def _say(self, line: str) -> None:
        with self._lock:
            self._lines = [*self._lines, line][-LINES:]
