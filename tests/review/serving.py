"""The page as a user starts it: app.py in a process of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from curator.review.journal import Journal
from tests.conftest import ROOT

CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "${window.hacked=1} {{constructor.constructor('window.hacked=1')()}}",
    "a\u202eb\u2066c",
    "x" * 10_000,
    "'\"></script><script>window.hacked=1</script>",
]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def shown(session, reviewer: str = "ann") -> dict[str, str]:
    """What a page says of itself when it saves."""
    return {"reviewer": reviewer, "journal": session.journal.facts["id"], "run": session.rows.verdict}


def verified(path: Path) -> dict[int, str]:
    """The verified rows of a journal that may be open elsewhere."""
    with closing(Journal(path)) as journal:
        return journal.verified().labels


class Server:
    """A running app.py; it can be killed and started again on the same port."""

    def __init__(self, *words: str | Path):
        self.port = free_port()
        self.words = [str(word) for word in words]
        self.process: subprocess.Popen | None = None
        self._page: dict[str, str] | None = None  # what a page of it says of its run

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        argv = [sys.executable, "app.py", *self.words, "--port", str(self.port)]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            assert self.process.poll() is None, f"app.py ended with {self.process.returncode}"
            try:
                urllib.request.urlopen(self.address, timeout=10).read()
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("app.py does not answer")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of a GET."""
        return self._send(urllib.request.Request(self.address + path, headers=headers))

    def post(self, path: str, value: object, **headers: str) -> tuple[int, str]:
        body = json.dumps(value).encode()
        headers = {"Content-Type": "application/json", **headers}
        return self._send(urllib.request.Request(self.address + path, body, headers))

    def _send(self, request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode(errors="replace")

    def component(self, cookies: str = "") -> int:
        """The id of the page's component, as its script sends it."""
        config = json.loads(self.get("config", **({"Cookie": cookies} if cookies else {}))[1])
        return next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "curator")

    def save(self, component: int, reviewer: str, steps: list, headers: dict | None = None) -> dict:
        """Save steps as the page of this server's run."""
        if self._page is None:
            hello = self.ask("hello", component, headers)
            self._page = {name: hello[name] for name in ("journal", "run")}
        return self.ask("save", component, headers, **self._page, reviewer=reviewer, steps=steps)

    def ask(self, what: str, component: int, _headers: dict | None = None, **data) -> dict:
        """Call a function of the session as the page's script does."""
        body = {"data": {**data, "what": what}, "component_id": component, "fn_name": "ask_session"}
        status, text = self.post("gradio_api/component_server/", {**body, "session_hash": "test"}, **(_headers or {}))
        assert status == 200, (status, text[:200])
        return json.loads(text)


@contextmanager
def serving(*words: str | Path):
    server = Server(*words)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@contextmanager
def browsing(**context):
    """A page of a fresh Chromium; requests that leave the machine are in `page.outside`, what its scripts throw in
    `page.errors`."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        missing = "Chromium and playwright are needed for the tests of the page"
        if os.environ.get("CURATOR_NO_SKIP"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=CHROMIUM)
        page = browser.new_context(viewport={"width": 1280, "height": 900}, **context).new_page()
        page.outside, page.errors = [], []
        page.on("request", lambda r: None if local(r.url) else page.outside.append(r.url))
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        page.set_default_timeout(30_000)
        yield page
        browser.close()


def local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def ready(page, address: str) -> None:
    """Open the address and wait for the first rows."""
    page.goto(address)
    page.wait_for_selector("#curator [data-row], #curator .cr-grid p")
    saved(page)


def saved(page) -> None:
    page.wait_for_function("document.querySelector('.cr-state').textContent === 'all saved'")
