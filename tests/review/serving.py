"""The page as a user starts it: a process of its own, of app.py or a fork that has imported what app.py would."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import closing, contextmanager, nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from curator.cli.main import main
from curator.decisions.journal import Journal
from tests.conftest import ROOT
from tests.forks import FORKS

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


def review(words: list[str], variables: dict[str, str], out: Path, err: Path) -> None:
    """What app.py does, in a fork."""
    os.environ |= variables
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.exit(main(["review", *words]))


class Server:
    """A running page; it can be killed and started again on the same port."""

    def __init__(self, *words: str | Path, launcher: Sequence[str] = ()):
        self.port = free_port()
        self.words = [str(word) for word in words]
        self.launcher = launcher  # of a fresh process; a fork without
        self.process: BaseProcess | subprocess.Popen | None = None
        self.token = "a-token-that-tests-know"
        self.cookie = ""  # of the printed address
        self.folder = tempfile.TemporaryDirectory()
        self.printed, self.log = Path(self.folder.name) / "out", Path(self.folder.name) / "err"
        self._page: dict[str, str] | None = None  # what a page of it says of its run

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def address(self) -> str:
        """As app.py prints it."""
        return self.root if "--auth" in self.words else f"{self.root}?token={self.token}"

    def start(self) -> None:
        words, variables = [*self.words, "--port", str(self.port)], {**os.environ, "CURATOR_TOKEN": self.token}
        self.printed.write_text("")
        if self.launcher:
            with open(self.printed, "a") as out, open(self.log, "a") as err:
                self.process = subprocess.Popen(
                    [*self.launcher, *words], cwd=ROOT, env=variables, stdout=out, stderr=err
                )
        else:
            self.process = FORKS.Process(target=review, args=(words, variables, self.printed, self.log))
            self.process.start()
        end = time.monotonic() + 120
        while not self.printed.read_text().endswith("\nready\n") and not self.ended() and time.monotonic() < end:
            time.sleep(0.01)
        assert self.printed.read_text() == f"the page: {self.address}    (Ctrl-C ends it)\nready\n", self.said()
        self.cookie = self.visit()

    def ended(self) -> bool:
        """Whether the process is no more."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll() is not None
        return not self.process.is_alive()

    def said(self) -> str:
        """What stands on its stderr."""
        return self.log.read_text() if self.log.exists() else ""

    def visit(self) -> str:
        """The cookie that the printed address sets."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", self.address.removeprefix(self.root[:-1]))
        answer = connection.getresponse()
        connection.close()
        return (answer.headers["Set-Cookie"] or "").split(";")[0]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._wait()

    def stop(self) -> None:
        self.process.terminate()
        self._wait()

    def _wait(self) -> None:
        (self.process.wait if isinstance(self.process, subprocess.Popen) else self.process.join)(30)
        assert self.ended()

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of a GET."""
        return self._send(urllib.request.Request(self.root + path, headers={"Cookie": self.cookie, **headers}))

    def post(self, path: str, value: object, **headers: str) -> tuple[int, str]:
        body = json.dumps(value).encode()
        headers = {"Cookie": self.cookie, "Content-Type": "application/json", **headers}
        return self._send(urllib.request.Request(self.root + path, body, headers))

    def _send(self, request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode(errors="replace")

    def login(self, name: str, password: str) -> tuple[int, str]:
        """Status, and the cookie that it sets."""
        form = urllib.parse.urlencode({"username": name, "password": password})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        connection.close()
        return answer.status, (answer.headers["Set-Cookie"] or "").split(";")[0]

    def save(self, reviewer: str, steps: list, **headers: str) -> dict:
        """Save steps as the page of this server's run."""
        if self._page is None:
            hello = self.ask("hello", headers)
            self._page = {name: hello[name] for name in ("journal", "run")}
        return self.ask("save", headers, **self._page, reviewer=reviewer, steps=steps)

    def ask(self, what: str, _headers: dict | None = None, **data) -> dict:
        """Ask as the page's script does; what it answers, or the error."""
        status, text = self.post("ask", {**data, "what": what}, **(_headers or {}))
        answer = json.loads(text)
        assert (status == 200) != ("error" in answer), (status, text[:200])
        return answer


@contextmanager
def serving(*words: str | Path, launcher: Sequence[str] = ()):
    server = Server(*words, launcher=launcher)
    try:
        server.start()
        yield server
    finally:
        if not server.ended():
            server.stop()
        server.folder.cleanup()


SHARED = []  # a Chromium that pages share, while there is one


@contextmanager
def chromium():
    """A Chromium; pages that are opened meanwhile are its own, each with a profile to itself."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        missing = "Chromium and playwright are needed for the tests of the page"
        if os.environ.get("CURATOR_NO_SKIP"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program, args=CHROMIUM)
        SHARED.append(browser)
        try:
            yield browser
        finally:
            SHARED.pop()
            browser.close()


@contextmanager
def browsing(**context):
    """A page of a Chromium; requests that leave the machine are in `page.outside`, what its scripts throw
    and what its policy stops in `page.errors`."""
    with nullcontext(SHARED[-1]) if SHARED else chromium() as browser:
        profile = browser.new_context(viewport={"width": 1280, "height": 900}, **context)
        page = profile.new_page()
        page.outside, page.errors = [], []
        page.on("request", lambda r: None if local(r.url) else page.outside.append(r.url))
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        page.on("console", lambda m: page.errors.append(m.text) if "Content Security Policy" in m.text else None)
        page.set_default_timeout(30_000)
        try:
            yield page
        finally:
            profile.close()


def local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def ready(page, address: str) -> None:
    """Open the address and wait for the first rows."""
    page.goto(address)
    page.wait_for_selector("#curator [data-row], #curator .cr-grid p")
    saved(page)


def saved(page) -> None:
    page.wait_for_function("document.querySelector('.cr-state').textContent === 'all saved'")
