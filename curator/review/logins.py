"""Who may log in, and how often they may try."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from curator.errors import CuratorError

VARIABLE = "CURATOR_AUTH"
WRITE = "write --auth ann:secret1 ben:secret2 for two"
NAME, PASSWORD = 100, 1000  # characters at most
SECONDS = 30.0, 2.0  # that an address, and a name, waits at most after wrong tries
KEPT = 10_000  # addresses and names whose wrong tries are known


def accounts(auth: Sequence[str], file: Path | None, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Passwords by name, of --auth, of the lines of --auth-file, or of those of CURATOR_AUTH; at most one of them.

    Raises:
        CuratorError: what came is not repeated in it, it may end in a log.
    """
    lines, where, write = list(auth), "--auth", WRITE
    if file is not None:
        if auth:
            raise CuratorError("--auth-file: give only one of --auth and --auth-file")
        lines, where, write = _lines(file), f"--auth-file {file}", "write one per line"
    elif not auth and variables.get(VARIABLE):
        lines, where, write = variables[VARIABLE].splitlines(), VARIABLE, "write one per line"
    people = [(name, password) for name, _, password in (line.partition(":") for line in lines)]
    if not all(name and password for name, password in people) or len({name for name, _ in people}) < len(people):
        raise CuratorError(f"{where}: expected NAME:PASSWORD, a name once; {write}")
    if file is not None and not people:
        raise CuratorError(f"{where}: expected at least one line NAME:PASSWORD, found none")
    for name, password in people:
        require_name(name, where)
        if len(password) > PASSWORD:
            raise CuratorError(f"{where}: expected a password of at most {PASSWORD:,} characters")
    return dict(people)


def require_name(name: str, flag: str) -> None:
    """Refuse what no journal can hold as a reviewer's name."""
    if not 0 < len(name) <= NAME or not name.isprintable() or name != name.strip():
        raise CuratorError(f"{flag}: expected a name of 1 to {NAME} characters, printable and without spaces around it")


def _lines(file: Path) -> list[str]:
    try:
        if not file.is_file():
            raise CuratorError(f"--auth-file {file}: no such file")
        if file.stat().st_mode & 0o044:
            print(f"warning: {file} can be read by others: chmod 600 {file}", file=sys.stderr)
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        if isinstance(e, CuratorError):
            raise
        raise CuratorError(f"--auth-file {file}: it cannot be read ({e})") from e
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


class Logins:
    """The accounts behind the page of the login.

    After a wrong try the address waits 1 s, then 2, 4, ... 30; the name, from wherever it is tried, at most 2.
    """

    def __init__(self, people: Mapping[str, str], now: Callable[[], float] = time.monotonic):
        self._digests = {name: digest(password) for name, password in people.items()}
        self._now = now
        self._wrong: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()  # -> tries, end of the wait

    def wait(self, name: str, address: str) -> float:
        """Seconds until a try is looked at; 0 if it is now."""
        ends = [self._wrong[key][1] for key in (("address", address), ("name", name)) if key in self._wrong]
        return max([0.0, *(end - self._now() for end in ends)])

    def right(self, name: str, password: str, address: str) -> bool:
        """Whether the password is the name's. A wrong one is told on stderr: the name, never the password."""
        keys = ("address", address), ("name", name)
        found = hmac.compare_digest(digest(password), self._digests.get(name, bytes(32)))
        if found and name in self._digests:
            for key in keys:
                self._wrong.pop(key, None)
            return True
        for key, most in zip(keys, SECONDS, strict=True):
            tries = self._wrong.pop(key, (0, 0.0))[0] + 1
            self._wrong[key] = tries, self._now() + min(most, 2.0 ** min(tries - 1, 10))
        while len(self._wrong) > KEPT:
            self._wrong.popitem(last=False)
        tries = self._wrong["address", address][0]
        print(f"login failed: {ascii(name[:NAME])} from {address}, wrong tries: {tries}", file=sys.stderr, flush=True)
        return False


def digest(secret: str) -> bytes:
    """What is kept and compared of a secret: 32 bytes, of any text."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
