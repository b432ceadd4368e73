"""The page: its markup and scripts (web/) in Gradio's frame, and what its script may ask for.

Names, captions and ids of strangers reach the browser as JSON and the page as text; no template sees them.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import CuratorError
from curator.review.door import LOOPBACK, Door
from curator.review.logins import Logins, accounts, require_name
from curator.review.owed import require_enough

if TYPE_CHECKING:
    from curator.review.session import Session

TOKEN = "CURATOR_TOKEN"
SCRIPTS = (
    "common.js",
    "shortcuts.js",
    "saving.js",
    "grid.js",
    "more.js",
    "panels.js",
    "large.js",
    "zoom.js",
    "matrix.js",
    "classes.js",
    "scores.js",
    "map.js",
    "groups.js",
    "audit.js",
    "publish.js",
    "keys.js",
)  # one script, in this order
ASKED = (
    "hello", "open", "page", "detail", "matrix", "people", "export", "fixed", "save", "audit", "pictures",
    "audit_result", "publish", "publishing", "whole", "of_class", "classes", "scores", "map", "area", "look",
)  # fmt: skip


def launch(
    folders: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: Sequence[str] = (),  # NAME:PASSWORD
    auth_file: Path | None = None,
    reviewer: str | None = None,
    journal: Path | None = None,
    overlap: int = 1,
    adjudicator: Sequence[str] = (),
) -> None:
    """Serve the page until a signal; it answers at once, and says what it does until the run is loaded.

    Raises:
        CuratorError: for flags or folders that do not fit.
        OSError: when the port cannot be had.
    """
    people = accounts(auth, auth_file)
    if people and reviewer is not None:
        raise CuratorError("--reviewer: with accounts the reviewers are those who log in; give only one of the two")
    if host not in LOOPBACK and not people:
        raise CuratorError(
            f"--host {host}: others could then open the page; add --auth NAME:PASSWORD, or leave --host out"
        )
    if not 1 <= port <= 65535:
        raise CuratorError(f"--port {port}: expected a number from 1 to 65535")
    user = reviewer if reviewer is not None else _user()
    require_name(user, "--reviewer")
    if wrong := require_enough(overlap, people):
        raise CuratorError(wrong)
    if unknown := next((name for name in adjudicator if name not in people), None):
        raise CuratorError(f"--adjudicator {unknown}: expected the name of an account; add --auth {unknown}:PASSWORD")
    token = token_of(os.environ)
    sessions: list[Session] = []
    first = [*people][:1]

    def load() -> None:
        from curator.review.session import Session

        if sessions:
            return
        door.doing = f"reading {', '.join(folder.resolve().name for folder in folders)}"
        sessions.append(
            Session(
                folders, journal, publisher=next(iter(first), None), overlap=overlap, accounts=[*people],
                adjudicators=adjudicator or first,
            )
        )  # fmt: skip
        door.doing = "making the page"
        door.app = build()
        door.doing = ""
        print("ready", flush=True)

    from curator.review.server import listen, serve

    door = Door(
        None, lambda call, who: answer(sessions[0], call, who), logins=Logins(people) if people else None, token=token,
        user=user, port=port, login_page=web_file("login.html"), waiting_page=web_file("waiting.html"),
    )  # fmt: skip
    door.doing = "starting"
    try:
        if not all((folder / "curation.json").is_file() for folder in folders):
            load()  # which says what is wrong before there is a page
        with listen(host, port) as listening:
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}/{'' if people else f'?token={token}'}"
            print(f"the page: {address}    (Ctrl-C ends it)", flush=True)
            serve(door, listening, load)
    finally:
        for session in sessions:
            session.journal.close()


def token_of(variables: Mapping[str, str]) -> str:
    """The token of the printed address: CURATOR_TOKEN, or a new one."""
    token = variables.get(TOKEN) or secrets.token_urlsafe(24)
    if not re.fullmatch("[A-Za-z0-9_-]{16,200}", token):
        raise CuratorError(f"{TOKEN}: expected 16 to 200 letters, digits, - or _; leave it out for a new one each time")
    return token


def build() -> Any:
    """The ASGI application that makes the page."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    with warnings.catch_warnings():  # Gradio's advice is for who calls launch() and for its own users, not for ours
        warnings.simplefilter("ignore")
        return _page()


def _page() -> Any:
    import fastapi
    import gradio as gr

    with gr.Blocks(title="Curator", fill_width=True) as page:
        gr.HTML(
            value="",
            html_template=web_file("page.html"),
            js_on_load="".join(map(web_file, SCRIPTS)),
            elem_id="curator",
            apply_default_css=False,
        )
    return gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None), page, path="/", css=web_file("page.css"),
        footer_links=[], enable_monitoring=False, ssr_mode=False, pwa=False, run_history=False, show_error=False,
        root_path=os.environ.get("GRADIO_ROOT_PATH"),
    )  # fmt: skip


def answer(session: Session, call: dict[str, Any], user: str) -> tuple[int, dict[str, Any]]:
    """Status and value of a call of the page's script, {"what": a name of ASKED, ...}; an error is one line."""
    what = call.pop("what", None)
    if what not in ASKED:
        return 400, {"error": f"expected one of {', '.join(ASKED)}"}
    try:
        return 200, getattr(session, what)(call, user)
    except CuratorError as e:
        return 400, {"error": " ".join(str(e).split())}
    except (OSError, sqlite3.Error) as e:
        return 503, {"error": f"{what}: it cannot be done ({' '.join(str(e).split())})"}
    except Exception:  # what nobody has thought of
        traceback.print_exc()
        return 500, {"error": f"{what}: the server has failed; its terminal says why"}


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reviewer"


def web_file(name: str) -> str:
    """The text of a file of web/."""
    return files("curator.review").joinpath("web", name).read_text(encoding="utf-8")
