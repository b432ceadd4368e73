"""The page, served by Gradio: its markup and scripts (web/), who may ask, and what they may ask for.

Names, captions and ids of strangers reach the browser as JSON and the page as text; no template sees them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from http.cookies import SimpleCookie
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from curator.errors import CuratorError
from curator.review.session import Session

LOOPBACK = ("127.0.0.1", "localhost", "::1")
STARTED = "/gradio_api/startup-events"  # asked by Gradio itself when it starts; it tells nothing
# What the page of the login needs; everything else asks for it.
PUBLIC = ("/static/", "/assets/", "/svelte/")
PUBLIC_PAGES = ("/", "/login", "/login/", "/theme.css", "/favicon.ico", STARTED)
SCRIPTS = (
    "common.js",
    "saving.js",
    "grid.js",
    "panels.js",
    "audit.js",
    "publish.js",
    "keys.js",
)  # one script, in this order
ASKED = (
    "hello", "open", "page", "detail", "matrix", "people", "export", "save", "audit", "pictures", "audit_result",
    "publish", "publishing",
)  # fmt: skip


def launch(
    folders: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: Sequence[str] = (),  # NAME:PASSWORD
    reviewer: str | None = None,
    journal: Path | None = None,
) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        CuratorError: for flags or folders that do not fit.
        OSError: when the port cannot be had.
    """
    people = accounts(auth, reviewer)
    if host not in LOOPBACK and not people:
        raise CuratorError(
            f"--host {host}: others could then open the page; add --auth NAME:PASSWORD, or leave --host out"
        )
    session = Session(folders, journal, publisher=people[0][0] if people else None)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    page = build(session, reviewer or _user())
    from starlette.middleware import Middleware

    try:
        page.launch(
            server_name=host,
            server_port=port,
            auth=people or None,
            css=_file("page.css"),
            share=False,
            footer_links=[],
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            app_kwargs={"middleware": [Middleware(Guard, page=page, any_host=bool(people))]},
        )
    finally:
        session.journal.close()


def accounts(auth: Sequence[str], reviewer: str | None) -> list[tuple[str, str]]:
    """(name, password) of every --auth; what came is not repeated in the error, it may end in a log."""
    people = [(name, password) for name, _, password in (text.partition(":") for text in auth)]
    if not all(name and password for name, password in people) or len({name for name, _ in people}) < len(people):
        raise CuratorError("--auth: expected NAME:PASSWORD, a name once; write --auth ann:secret1 ben:secret2 for two")
    if people and reviewer is not None:
        raise CuratorError("--reviewer: with --auth the reviewers are those who log in; give only one of the two")
    return people


def build(session: Session, reviewer: str):
    """The Gradio page."""
    import gradio as gr

    with gr.Blocks(title="Curator", fill_width=True) as page:  # the page of the login shows it to everybody
        gr.HTML(
            value="",
            html_template=_file("page.html"),
            js_on_load="".join(map(_file, SCRIPTS)),
            elem_id="curator",
            apply_default_css=False,
            server_functions=[asked(session, reviewer)],
        )
    return page


def asked(session: Session, reviewer: str) -> Callable:
    """The function that the page's script calls with {"what": a name of ASKED, ...}; users' errors are a value."""
    import gradio as gr

    def ask_session(data: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        what = data.pop("what", None)
        if what not in ASKED:
            return {"error": f"expected one of {', '.join(ASKED)}"}
        try:
            user = user_of(request.app, request.headers.get("cookie", "")) or reviewer
            return getattr(session, what)(data, user)
        except CuratorError as e:
            return {"error": str(e)}

    ask_session.__annotations__["request"] = gr.Request  # Gradio evaluates no text
    return ask_session


def user_of(app: Any, cookies: str) -> str | None:
    """Who is logged in, by the cookies that Gradio's login sets."""
    found = SimpleCookie(cookies)
    for name in (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}"):
        if name in found and (user := app.tokens.get(found[name].value)):
            return user
    return None


class Guard:
    """In front of every route, Gradio's own among them.

    Refused are requests that another site made the browser send; without accounts also those by another name of this
    machine (a name of somebody's that was pointed at it); with accounts whatever nobody has logged in for.
    """

    def __init__(self, app: Any, page: Any, any_host: bool):
        self.app, self.page, self.any_host = app, page, any_host

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        """Answer 403 or 401, or let the request pass."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status = self.refused(scope["path"], headers)
        if not status:
            return await self.app(scope, receive, send)
        from starlette.responses import PlainTextResponse

        words = {403: "refused: another site, or another name of this machine", 401: "log in first"}
        return await PlainTextResponse(words[status], status)(scope, receive, send)

    def refused(self, path: str, headers: dict[str, str]) -> int:
        """The status to refuse a request with; 0 to let it pass."""
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name, page = urlsplit(f"//{host}").hostname, urlsplit(origin or "").netloc
        except ValueError:
            return 403
        if origin is not None and page != host:
            return 403
        if not self.any_host:
            return 0 if name in LOOPBACK else 403
        if path in PUBLIC_PAGES or (path.startswith(PUBLIC) and ".." not in path):
            return 0
        return 0 if user_of(self.page.app, headers.get("cookie", "")) else 401


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reviewer"


def _file(name: str) -> str:
    return files("curator.review").joinpath("web", name).read_text(encoding="utf-8")
