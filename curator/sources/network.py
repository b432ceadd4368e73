"""The Hub's client within limits: how long answers may take and how large they may be, and who gets the token.

The client itself waits forever, reads whatever comes and turns page after page. Uploads are not limited but for how
long one of their steps may stand still.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from curator.errors import CuratorError

CONNECT = 15.0  # seconds to be let in
ANSWER = 300.0  # seconds that an answer takes at most, and for which an upload stands still
ANSWER_BYTES = 64 * 2**20
PAGES, PAGES_SECONDS = 1000, 600.0  # of one list
FILE_STEP, FILE_STEP_SECONDS = 64 * 2**10, 60.0  # bytes of a file that come in so many seconds at least
PAUSE = 300  # seconds that the Hub may ask to be left alone
SMALL = (".json", ".md", ".txt", ".yaml", ".yml")  # files that are as large as an answer at most
HUBS = ("https://huggingface.co", "https://hf.co")


class HubLimit(CuratorError):
    """The Hub took too long, or sent what it should not."""


class _Watch(threading.local):
    """What the request at work in this thread has taken so far."""

    file = False  # a file of a dataset, of any size
    most = ANSWER_BYTES
    taken = since_step = 0
    started: float | None = None  # when its answer was first waited for
    step = 0.0
    next_page: Any = None
    pages, first_page = 0, 0.0

    def begin(self, file: bool) -> None:
        self.file, self.most, self.taken, self.since_step = file, ANSWER_BYTES, 0, 0
        self.started = None

    def left(self) -> float:
        """Seconds that the answer may still take."""
        now = time.monotonic()
        if self.started is None:
            self.started = self.step = now
        left = self.step + FILE_STEP_SECONDS - now if self.file and self.taken else self.started + ANSWER - now
        if left <= 0:
            raise HubLimit(f"the Hub did not finish an answer in time ({now - self.started:.0f} s)")
        return left

    def took(self, count: int) -> None:
        """So many bytes came."""
        self.taken, self.since_step = self.taken + count, self.since_step + count
        if self.since_step >= FILE_STEP:
            self.step, self.since_step = time.monotonic(), 0
        if self.taken > self.most:
            raise HubLimit(f"the Hub's answer does not end ({self.most / 2**20:,.0f} MiB)")


_watch = _Watch()


class _Stream:
    """A connection that is given up when the answer takes too long or is too large, however slowly it drips."""

    def __init__(self, inner: Any):
        self.inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _watch.left()
        try:
            data = self.inner.read(max_bytes, timeout=min(timeout or left, left))
        except Exception as e:
            if "Timeout" in type(e).__name__ and (timeout is None or timeout >= left):
                raise HubLimit("the Hub did not respond in time") from e
            raise
        _watch.took(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        _watch.started = None  # the answer is not waited for yet
        try:
            self.inner.write(buffer, timeout=min(timeout or ANSWER, ANSWER))
        except Exception as e:
            if "Timeout" in type(e).__name__:
                raise HubLimit(f"the Hub took nothing more for {ANSWER:.0f} s") from e
            raise

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        limit = min(timeout or CONNECT, CONNECT)
        return _Stream(self.inner.start_tls(ssl_context, server_hostname=server_hostname, timeout=limit))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Backend:
    """Makes such connections."""

    def __init__(self, inner: Any):
        self.inner = inner

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> _Stream:
        return _Stream(self.inner.connect_tcp(host, port, timeout=min(timeout or CONNECT, CONNECT), **options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _sending(request: Any) -> None:
    """Before every request, also one that a redirect asks for."""
    origin, path = _origin(str(request.url)), request.url.path
    if origin not in _hubs():  # a link to a next page, or an upload's, may lead anywhere
        request.headers.pop("authorization", None)
    # Where a redirect leads says nothing of what was asked for: it keeps the extensions of the first request.
    wanted = "/resolve/" in path and request.method == "GET" and not path.endswith(SMALL)
    _watch.begin(request.extensions.setdefault("curator_file", wanted))
    request.headers["accept-encoding"] = "identity"
    now = time.monotonic()
    if _watch.next_page is not None and request.url == _watch.next_page:
        _watch.pages += 1
        if _watch.pages >= PAGES or now - _watch.first_page > PAGES_SECONDS:
            raise HubLimit(f"the Hub's list does not end ({_watch.pages:,} pages)")
    else:
        _watch.pages, _watch.first_page = 0, now


def _answered(response: Any) -> None:
    """Before the body of an answer is read."""
    headers = response.headers
    for name in ("etag", "x-linked-etag", "x-repo-commit"):  # names of files in the cache are made of these
        if any(c in headers.get(name, "") for c in "/\\\0") or ".." in headers.get(name, ""):
            raise HubLimit(f"the Hub's answer names {headers[name][:50]!r}, which would be a path")
    if headers.get("content-encoding", "identity") != "identity":  # a few bytes could be any number of them
        raise HubLimit("the Hub's answer is packed, which was not asked for")
    for name in ("retry-after", "ratelimit"):
        if any(int(word) > PAUSE for word in _numbers(headers.get(name, ""))):
            del headers[name]
    _watch.next_page = None
    if link := response.links.get("next", {}).get("url"):
        _watch.next_page = type(response.request.url)(link)
    if _watch.file:
        length, (start, end) = headers.get("content-length", ""), _range(response.request.headers.get("range", ""))
        if end is not None:
            _watch.most = end - start + 2**20
        elif length.isdecimal():
            _watch.most = int(length) + 2**20


def _numbers(text: str) -> list[str]:
    return [w for w in "".join(c if c.isdecimal() and c.isascii() else " " for c in text).split() if len(w) < 1000]


def _range(text: str) -> tuple[int, int | None]:
    start, _, end = text.removeprefix("bytes=").partition("-")
    return (int(start), int(end)) if start.isdecimal() and end.isdecimal() else (0, None)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _hubs() -> set[tuple[str, str, int | None]]:
    from huggingface_hub import constants

    return {_origin(url) for url in (constants.ENDPOINT, *HUBS)}


def is_of_network(error: BaseException) -> bool:
    """Whether an error is one of a connection: the Hub's client has had several libraries for them."""
    library = type(error).__module__.startswith(("httpx", "httpcore"))
    return library or isinstance(error, ConnectionError | TimeoutError)


class _Once(logging.Filter):
    """Of what the Hub's client logs of its tries one line is shown, and how long it waits where the Hub says so."""

    def __init__(self) -> None:
        super().__init__()
        self.said = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is shown; the first of a connection says what is going on."""
        if record.levelno != logging.WARNING or record.getMessage().startswith("Rate limited"):
            return True
        first, self.said = not self.said, True
        record.msg, record.args = "the Hub does not answer as it should: it is tried again for some seconds", ()
        return first


_lock = threading.Lock()
_users = 0
_once: _Once | None = None
_before: Any = None  # what made the clients outside


@contextmanager
def hub_limits() -> Iterator[None]:
    """Inside the block all of the process's clients of the Hub keep to the limits, and say once that they try again.

    Raises:
        HubLimit: from the client's calls, where the Hub does not.
    """
    from huggingface_hub.utils import _http

    global _users, _before, _once
    log = logging.getLogger(_http.__name__)
    with _lock:
        if not _users:
            _once = _Once()
            log.addFilter(_once)
            _before = _http._GLOBAL_CLIENT_FACTORY
            _http.set_client_factory(_limited(_before))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _http.set_client_factory(_before)
                log.removeFilter(_once)  # type: ignore[arg-type]


def _limited(make: Callable[[], Any]) -> Callable[[], Any]:
    """Clients as they are made, with limits."""

    def client() -> Any:
        made = make()
        hooks = made.event_hooks
        made.event_hooks = {
            "request": [*hooks.get("request", []), _sending],
            "response": [_answered, *hooks.get("response", [])],
        }
        for transport in {made._transport, *made._mounts.values()}:
            pool: Any = getattr(transport, "_pool", None)  # None: one of the user's own
            if hasattr(pool, "_network_backend"):
                pool._network_backend = _Backend(pool._network_backend)
        return made

    return client


def fetch(url: str, most: int) -> bytes:
    """What an address holds, of at most so many bytes.

    Raises:
        OSError: where it cannot be had within the limits.
    """
    import urllib.request

    started, parts, size = time.monotonic(), [], 0
    with urllib.request.urlopen(url, timeout=60) as response:
        while block := response.read1(2**16):
            parts.append(block)
            size += len(block)
            if size > most or time.monotonic() - started > ANSWER:
                raise OSError(f"it does not end: {size:,} bytes in {time.monotonic() - started:.0f} s")
    return b"".join(parts)
