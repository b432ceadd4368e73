"""Copies of a journal elsewhere, made in the background: many decisions in one copy, and the last ones at the end."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from curator.decisions.journal import FILE, Journal

EVERY = 200  # rows written until a copy is made
SECONDS = 60.0  # that what is written waits for a copy at most
PAUSE = 20.0  # seconds between two copies that somebody waits for: the Hub does not take any number of commits
LONGEST = 300.0  # seconds until the next try, at most, after tries that failed


class Copies:
    """What copies a journal.

    Args:
        journal: that is written to in this process.
        put: takes a file, a copy of the journal, to its place; it may fail.
        behind: whether the journal may hold what no copy does, of a process that was killed.
        every, seconds, pause: see EVERY, SECONDS, PAUSE.
    """

    def __init__(
        self, journal: Journal, put: Callable[[Path], None], behind: bool = False, every: int = EVERY,
        seconds: float = SECONDS, pause: float = PAUSE,
    ):  # fmt: skip
        self.journal, self._put = journal, put
        self._every, self._seconds, self._pause = every, seconds, pause
        self._news = threading.Condition()
        self._copied = -1 if behind else journal.changes  # what the last copy holds
        self._asked = -1  # what somebody waits for
        self._last = 0.0  # when a copy was begun
        self._ending = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Tell that something was written."""
        with self._news:
            self._news.notify_all()

    def wait(self, seconds: float) -> bool:
        """Whether all that was written before this call is in a copy, within so many seconds."""
        wanted = self.journal.changes
        with self._news:
            self._asked = max(self._asked, wanted)
            self._news.notify_all()
            return self._news.wait_for(lambda: self._copied >= wanted, seconds)

    def close(self) -> bool:
        """Make the last copy; whether all that was written is in one."""
        with self._news:
            self._ending = True
            self._news.notify_all()
        self._thread.join()
        return self._copied >= self.journal.changes

    def _due(self) -> float:
        """Seconds until the next copy, 0 for now; until something happens where nothing is new."""
        new = self.journal.changes - self._copied
        if not new:
            return self._seconds
        wait = self._pause if new >= self._every or self._asked > self._copied else self._seconds
        return max(0.0, self._last + wait - time.monotonic())

    def _work(self) -> None:
        failed = 0
        self._last = time.monotonic() - self._pause
        while True:
            with self._news:
                end = time.monotonic() + (min(LONGEST, 2.0**failed) if failed else 0.0)
                while not self._ending and (left := max(self._due(), end - time.monotonic())) > 0:
                    self._news.wait(left)
                if self._ending and (failed > 2 or self.journal.changes == self._copied):
                    return
            self._last, failed = time.monotonic(), 0 if self._copy() else failed + 1

    def _copy(self) -> bool:
        try:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / FILE
                with self.journal.lock:
                    held = self.journal.changes
                    self.journal.copy(file)
                self._put(file)
        except Exception as e:  # of the network, most often; what it says may quote an address with a secret
            print(f"the copy of the decisions was not made ({type(e).__name__}); trying again", file=sys.stderr)
            return False
        with self._news:
            self._copied = held
            self._news.notify_all()
        return True
