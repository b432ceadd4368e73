"""In front of every route, Gradio's own among them: who may come in, to what, and with how much.

Gradio makes the page; what the page asks goes to ASK and never to Gradio, whose other routes are closed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import html
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from curator.review.logins import Logins, digest

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ASK = "/ask"
OPEN = re.compile(r"/|/theme\.css|/favicon\.ico|/(assets|static)(/[\w@+-][\w@+.-]*){1,9}", re.ASCII)
LONGEST = 200  # characters of a path
BODY, FORM = 16 << 20, 8 << 10  # bytes of a call, and of the form of the login
SECONDS = 60.0  # until a body is there
SESSIONS = 1000  # logins that are kept
RULES = {
    "default-src": "'none'", "script-src": "'self' 'unsafe-eval'", "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:", "font-src": "'self'", "connect-src": "'self'", "manifest-src": "'self'",
    "base-uri": "'self'", "form-action": "'self'", "frame-ancestors": "'none'", "object-src": "'none'",
}  # fmt: skip
PLAIN = {**RULES, "script-src": "'none'", "connect-src": "'none'", "base-uri": "'none'"}  # of all but the page
HEADERS = {
    "x-frame-options": "DENY", "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with no-referrer the login's own form would have no origin
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
}  # fmt: skip
FOREIGN = "refused: another site, or another name of this machine"
LOG_IN = "log in again (reload the page; what is not saved is kept)"
PRINTED = (
    "open the address that was printed when this server was started, with ?token= in it (what is not saved is kept)"
)


class Door:
    """An ASGI application in front of the page's.

    Refused are requests that another site made the browser send; without accounts also those by another name of this
    machine (a name of somebody's that was pointed at it). Everything asks for the cookie that the printed address sets,
    or, with accounts, the login.

    Args:
        app: the page.
        ask: answers a call of the page: (the call, whose it is) -> (status, JSON value).
        logins: the accounts; None where the token of the printed address does instead.
        token: of the printed address.
        user: whose decisions they are without accounts.
        port: that is served; cookies of one machine are told apart by it.
        login_page: HTML, with {said} in it.
        waiting_page: HTML that loads itself anew, with {doing} in it: the page while `doing` says what is done first.
    """

    def __init__(
        self,
        app: Any,
        ask: Callable[[dict[str, Any], str], tuple[int, Any]],
        *,
        logins: Logins | None,
        token: str,
        user: str,
        port: int,
        login_page: str,
        waiting_page: str = "",
    ):
        self.doing = ""  # until there is a page
        self.waiting_page, self.told = waiting_page, ""  # and with what is done filled in
        self.app, self.ask, self.logins = app, ask, logins
        self.by_address = logins is None  # who has the printed address comes in
        self.token, self.user, self.cookie, self.login_page = token, user, f"curator-{port}", login_page
        self.sessions: OrderedDict[bytes, str] = OrderedDict()  # digest of a cookie -> who
        self.framed_by = "'none'"  # who may show the page of the login in a frame
        self.key = digest(f"cookie {token}").hex()  # the same after a restart with the same token
        if logins is None:
            self.sessions[digest(self.key)] = user

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        """Answer, or let the request pass."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await _live(receive, send)
            return None
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        answer = await self.answer(scope, headers, receive)
        if answer is None:
            return await self.app(scope, receive, _page(send))
        status, content, more = answer
        kind = "application/json"
        if isinstance(content, str):
            kind = f"text/{'html' if content.startswith('<!doctype html>') else 'plain'}; charset=utf-8"
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        more = {"content-type": kind, "content-length": str(len(body)), "cache-control": "no-store", **more}
        rules = {**PLAIN, "frame-ancestors": self.framed_by} if "html" in kind else PLAIN
        if content is self.told:
            rules = {**rules, "script-src": _inline(body)}
        await send({"type": "http.response.start", "status": status, "headers": _headers(more, rules)})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def answer(
        self, scope: dict[str, Any], headers: dict[str, str], receive: Callable
    ) -> tuple[int, Any, dict[str, str]] | None:
        """Status, content and headers; None to let the request pass."""
        path, method = scope["path"], scope["method"]
        said: Callable[[str], Any] = (lambda line: {"error": line}) if path == ASK else (lambda line: line)
        if self.foreign(headers):
            return 403, said(FOREIGN), {}
        entered = await self.enter(scope, headers, receive)
        if entered is not None:
            return entered
        user = self.user_of(headers)
        if self.by_address and path == "/" and method == "GET" and b"token=" in scope["query_string"]:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
            if hmac.compare_digest(digest(given), digest(self.token)):
                return 303, "", {"location": "./", "set-cookie": self.set_cookie(self.key, scope)}
            user = None
        if user is None:
            if self.by_address:
                return 401, said(PRINTED), {}
            return 401, self.form("") if path == "/" else said(LOG_IN), {}
        if path == "/logout" and not self.by_address:
            if method != "POST":
                return 405, "log out with a POST", {"allow": "POST"}
            self.sessions.pop(digest(self.cookie_of(headers)), None)
            return 303, "", {"location": "./", "set-cookie": self.set_cookie("", scope) + "; Max-Age=0"}
        if self.doing:
            if path == "/" and method in ("GET", "HEAD"):
                self.told = self.waiting_page.replace("{doing}", html.escape(self.doing))
                return 200, self.told, {}
            return 503, said(f"starting: {self.doing}"), {"retry-after": "1"}
        if path == ASK:
            return await self.asked(method, headers, receive, user)
        if len(path) > LONGEST or not OPEN.fullmatch(path):
            return 404, "no such page", {}
        if method not in ("GET", "HEAD"):
            return 405, "only GET", {"allow": "GET, HEAD"}
        return None

    def foreign(self, headers: dict[str, str]) -> bool:
        """Whether another site made the browser send it, or it is for another name than this machine's."""
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name, page = urlsplit(f"//{host}").hostname, urlsplit(origin or "").netloc
        except ValueError:
            return True
        return (origin is not None and page != host) or (self.by_address and name not in LOOPBACK)

    def cookie_of(self, headers: dict[str, str], suffix: str = "") -> str:
        """The value of the session's cookie, or of one beside it, empty where there is none."""
        pairs = (pair.partition("=") for pair in headers.get("cookie", "").split(";"))
        return next((value.strip() for name, _, value in pairs if name.strip() == self.cookie + suffix), "")

    def user_of(self, headers: dict[str, str]) -> str | None:
        """Who has logged in."""
        return self.sessions.get(digest(self.cookie_of(headers)))

    def set_cookie(self, value: str, scope: dict[str, Any]) -> str:
        """A header that no script can read the value of, and no other site can make the browser send."""
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return f"{self.cookie}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"

    def form(self, said: str) -> str:
        """The page of the login."""
        return self.login_page.replace("{said}", html.escape(said))

    async def enter(
        self, scope: dict[str, Any], headers: dict[str, str], receive: Callable
    ) -> tuple[int, Any, dict[str, str]] | None:
        """The answer to a request that is part of a login; None for another."""
        if self.logins is not None and scope["path"] == "/login" and scope["method"] == "POST":
            return await self.log_in(scope, headers, receive)
        return None

    async def log_in(
        self, scope: dict[str, Any], headers: dict[str, str], receive: Callable
    ) -> tuple[int, Any, dict[str, str]]:
        """The form of the login, sent."""
        assert self.logins is not None
        body = await _body(receive, headers, FORM)
        if isinstance(body, int):
            return body, REFUSED[body], {}
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10) if body.count(b"&") < 10 else {}
        name, password = (fields.get(field, [""])[-1] for field in ("username", "password"))
        name = name.strip()  # keyboards of phones add a space
        address = scope["client"][0] if scope.get("client") else "?"
        if wait := self.logins.wait(name, address):
            seconds = int(wait) + 1
            return 429, self.form(f"too many wrong tries: wait {seconds} s"), {"retry-after": str(seconds)}
        if not self.logins.right(name, password, address):
            return 401, self.form("wrong name or password"), {}
        return 303, "", {"location": "./", "set-cookie": self.set_cookie(self.new_session(name), scope)}

    def new_session(self, name: str) -> str:
        """The cookie of somebody who has logged in now."""
        cookie = secrets.token_urlsafe(32)
        self.sessions[digest(cookie)] = name
        while len(self.sessions) > SESSIONS:
            self.sessions.popitem(last=False)
        return cookie

    async def asked(
        self, method: str, headers: dict[str, str], receive: Callable, user: str
    ) -> tuple[int, Any, dict[str, str]]:
        """A call of the page."""
        from starlette.concurrency import run_in_threadpool

        if method != "POST":
            return 405, {"error": "expected a POST"}, {"allow": "POST"}
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, {"error": "expected JSON"}, {}
        body = await _body(receive, headers, BODY)
        if isinstance(body, int):
            return body, {"error": REFUSED[body]}, {"connection": "close"}
        try:
            call = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return 400, {"error": "expected JSON"}, {}
        if not isinstance(call, dict):
            return 400, {"error": "expected a JSON object"}, {}
        status, value = await run_in_threadpool(self.ask, call, user)
        return status, value, {}


REFUSED = {
    400: "the request ended too early", 408: "the request took too long", 411: "expected a length",
    413: "the request is too large",
}  # fmt: skip


async def _live(receive: Callable, send: Callable) -> None:
    """The server's start and end: nothing is to be done at either."""
    for kind in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{kind}.complete"})


async def _body(receive: Callable, headers: dict[str, str], most: int) -> bytes | int:
    """The body, at most so many bytes; or the status to refuse it with."""
    if headers.get("content-length", "0").isdecimal() and int(headers.get("content-length", "0")[:20]) > most:
        return 413
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return 400
                body += message.get("body", b"")
                if len(body) > most:
                    return 413
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        return 408


def _page(send: Callable) -> Callable:
    """send, with the headers of every answer; an HTML page may run the inline scripts that it came with, no other."""
    held: list[dict[str, Any]] = []

    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            there = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}
            if there.get("content-type", "").startswith("text/html"):
                return held.append({**message, "there": there, "body": b""})
            return await send({**message, "headers": _headers(there, RULES)})
        if held:
            held[0]["body"] += message.get("body", b"")
            if message.get("more_body"):
                return None
            start = held.pop()
            body, there = start.pop("body"), start.pop("there")
            rules = {**RULES, "script-src": f"{RULES['script-src']} {_inline(body)}".strip()}
            await send({**start, "headers": _headers({**there, "cache-control": "no-store"}, rules)})
            message = {"type": "http.response.body", "body": body}
        return await send(message)

    return sending


@lru_cache(maxsize=4)
def _inline(body: bytes) -> str:
    """The hashes of a page's inline scripts, as a policy names them."""
    scripts = re.findall(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", body, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)


def _headers(more: dict[str, str], rules: dict[str, str]) -> list[tuple[bytes, bytes]]:
    policy = "; ".join(f"{name} {value}" for name, value in rules.items())
    all_of_them = {**more, **HEADERS, "content-security-policy": policy}
    if rules["frame-ancestors"] != "'none'":
        del all_of_them["x-frame-options"]  # which knows no other site
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in all_of_them.items()]


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")
