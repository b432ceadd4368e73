"""The review as a Space: pushed to a Hub on this machine, run as the Hub would, in Chromium; and who may do what."""

import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest

from curator.cli.main import main
from curator.result.read import Rows
from tests.conftest import ROOT
from tests.hub import Repo
from tests.oidc import loopback_provider
from tests.review.serving import browsing, local, saved, verified
from tests.review.spaces import running
from tests.review.test_publish_page import fill, press

OWNERS = "hf_token-of-the-owner-1234"
BY_HAND = """async (more) => {
  const how = { method: "POST", headers: { "Content-Type": "application/json" } };
  const ask = async (data) => (await fetch("ask", { ...how, body: JSON.stringify(data) })).json();
  const { reviewer, journal, run } = await ask({ what: "hello" });
  const page = { reviewer, journal, run };
  return (await ask({ what: "publish", target: "me/curated", policy: "relabel", ...page, ...more })).error;
}"""


@pytest.fixture
def login():
    with loopback_provider(scopes="openid profile write-discussions") as (provider, address):
        provider.accounts = {name: {} for name in ("me", "julia", "guest")}
        yield provider, address


def fresh(folder: Path, requirements: Path) -> str:
    """A new virtual environment with what the Space asks for, this version of Curator built here; its Python."""
    uv = [sys.executable, "-m", "uv", "-q"]
    subprocess.run([*uv, "build", "--wheel", "-o", str(folder / "wheels"), str(ROOT)], check=True)
    subprocess.run([*uv, "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    install = ["pip", "install", "--python", python, "--find-links", str(folder / "wheels"), "-r", str(requirements)]
    subprocess.run([*uv, *install], check=True)
    return python


def log_in(page, address: str, name: str):
    """The new tab in which somebody has logged in."""
    page.goto(address)
    with page.context.expect_page() as tab:
        page.click("text=Sign in with Hugging Face")
    other = tab.value
    other.errors, other.outside = page.errors, page.outside
    other.on("request", lambda r: None if local(r.url) else page.outside.append(r.url))
    other.click(f"text=Authorize as {name}")
    other.wait_for_selector("#curator [data-row]")
    saved(other)
    return other


def picture(page, name: str) -> None:
    if folder := os.environ.get("CURATOR_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def cookie_of(tab, name: str) -> str:
    return next((c["value"] for c in tab.context.cookies() if c["name"] == name), "")


def status(address: str, cookie: str = "", what: str = "ask") -> int:
    """What a call, or a page, with a cookie of one's own is answered."""
    data = json.dumps({"what": "hello"}).encode() if what == "ask" else None
    headers = {"Content-Type": "application/json", "Cookie": cookie}
    try:
        return urllib.request.urlopen(urllib.request.Request(address + what, data, headers), timeout=30).status
    except urllib.error.HTTPError as e:
        return e.code


@pytest.mark.slow
def test_the_way_of_a_space(run, hub, login, tmp_path, monkeypatch, capsys):
    """Push, log in, decide, restart, pull, pull request; the tokens are nowhere but where they belong."""
    provider, issuer = login
    home = tmp_path / "run"
    shutil.copytree(run, home)
    hub.tokens = provider.tokens = {OWNERS: "me"}
    hub.repos["me/curated"] = Repo(private=False)
    hub.repos["me/curated"].branches["main"] = hub.repos["me/curated"].commit({}, "initial commit")
    monkeypatch.setenv("HF_TOKEN", OWNERS)
    assert main(["space", str(home), "me/pets", "--reviewers", "julia"]) == 0
    said = capsys.readouterr()
    assert "/spaces/me/pets" in said.out and "space pull me/pets" in said.out
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "requirements.txt").write_bytes(hub.files(hub.spaces["me/pets"])["requirements.txt"])
    python = sys.executable if os.environ.get("CURATOR_NO_VENV") else fresh(tmp_path, tmp_path / "app/requirements.txt")
    pages = []
    with running(hub, "me/pets", tmp_path / "space", provider, issuer, python=python) as space, browsing() as page:
        name = f"curator-{space.port}"
        page.goto(space.address)
        assert "stored under its name" in page.inner_text("main") and not page.query_selector("#curator")
        picture(page, "space-login")
        julia = log_in(page, space.address, "julia")
        for key in ["Enter"] * 8 + ["k"] * 5 + ["d"] * 2:
            julia.keyboard.press(key)
        saved(julia)
        picture(julia, "space-grid")
        mine = f"{name}={cookie_of(julia, name)}"
        assert status(space.address, mine) == 200
        for forged in ("", f"{name}=", f"{name}={secrets.token_urlsafe(32)}", mine[:-1], f"session={mine}"):
            assert status(space.address, forged) == 401
        # kill -9: what was shown as saved is on the bucket; a login does not outlive the process
        space.kill()
        space.start()
        assert status(space.address, mine) == 401
        julia.close()
        julia = log_in(page, space.address, "julia")
        assert "15 of 150 flagged rows decided by julia" in julia.inner_text(".cr-pace")
        # somebody who is no reviewer looks
        other = page.context.browser.new_context().new_page()
        other.errors, other.outside = page.errors, page.outside
        guest = log_in(other, space.address, "guest")
        guest.keyboard.press("Enter")
        assert "look, but not decide" in guest.inner_text(".cr-state") and not guest.is_visible("[data-do=publish]")
        picture(guest, "space-guest")
        pages += [julia.content(), guest.content(), page.content()]
        guest.click("form[action=logout] button")
        guest.wait_for_selector("text=Sign in with")
        # a login that another browser began, or that nobody did
        stolen = cookie_of(other, f"{name}-login")
        other.goto(space.address + "login/huggingface")
        state = parse_qs(urlsplit(other.url).query)["state"][-1]
        provider.codes["known"] = {"as": "me", "redirect_uri": provider.back, "code_challenge": "x"}
        for back, cookie in ((state, ""), (state, stolen), ("forged", cookie_of(other, f"{name}-login"))):
            at = f"login/callback?code=known&state={back}"
            assert status(space.address, f"{name}-login={cookie}", at) == 401 and "known" in provider.codes
        # with the right state, but a code that was given to another verifier
        other.goto(space.address + "login/huggingface")
        state = parse_qs(urlsplit(other.url).query)["state"][-1]
        cookie = f"{name}-login={cookie_of(other, f'{name}-login')}"
        assert status(space.address, cookie, f"login/callback?code=known&state={state}") == 502
        assert provider.refused == ["verifier"]
        # the decisions come home while others go on
        assert space.stop() in (0, 143, -15)  # as the Hub does; the last copy is made
        assert main(["space", "pull", "me/pets", str(home)]) == 0 and "15 decisions are new" in capsys.readouterr().out
        space.start()
        julia.close()
        julia = log_in(page, space.address, "julia")
        julia.keyboard.press("d")
        saved(julia)
        # a pull request in her name, and a push by the owner
        julia.click("[data-do=publish]")
        fill(julia, target="me/curated")
        assert julia.is_hidden(".cr-form [name=create_pr]") and julia.is_hidden(".cr-form [name=branch]")
        assert not julia.query_selector(".cr-panel button:text-is('Push')")
        assert "pull request: " in press(julia, "Open a pull request"), julia.inner_text(".cr-lines")
        picture(julia, "space-publish")
        assert list(hub.repos["me/curated"].pulls) == ["refs/pr/1"]
        used = [token.removeprefix("Bearer ") for token in hub.tokens_seen]
        assert any(hub.tokens.get(token) == "julia" for token in used)
        fill(julia, target="somebody/else")
        assert "expected a dataset of me" in press(julia, "Open a pull request")
        fill(julia, target=str(tmp_path))
        assert "a Space has no folders" in press(julia, "Open a pull request")
        for more in ({"create_pr": False}, {"branch": "main"}, {"tag": "v1"}):
            assert "only the owner of this Space pushes" in julia.evaluate(BY_HAND, more)
        curated = hub.repos["me/curated"]
        assert not hub.files(curated) and not curated.tags and list(curated.pulls) == ["refs/pr/1"]
        pages.append(julia.content())
        # the owner pushes
        other = page.context.browser.new_context().new_page()
        other.errors, other.outside = page.errors, page.outside
        owner = log_in(other, space.address, "me")
        owner.click("[data-do=publish]")
        fill(owner, target="me/curated")
        assert "would publish" in press(owner, "What would change") and not hub.files(curated)
        assert "published: " in press(owner, "Push"), owner.inner_text(".cr-lines")
        picture(owner, "space-push")
        assert owner.is_visible(".cr-form [name=create_pr]") and list(curated.tags) == ["v1"]
        pushed = hub.files(curated)
        facts = json.loads(pushed["curation.json"])
        assert facts["published"]["policy"] == "relabel" and not any(path.endswith(".sqlite") for path in pushed)
        pages.append(owner.content())
        command = Path(f"/proc/{space.process.pid}/cmdline").read_bytes().decode()
        assert space.stop() in (0, 143, -15)
        assert not page.outside and not page.errors
        assert main(["space", "pull", "me/pets", str(home)]) == 0 and "1 decisions are new" in capsys.readouterr().out
        assert main(["space", "pull", "me/pets", str(home)]) == 0 and "0 decisions are new" in capsys.readouterr().out
        decided = verified(home / "review.sqlite")
        assert len(decided) == 12  # one of them was dropped at last
        before = Rows(home)
        found = pq.read_table(io.BytesIO(pushed["data/train-00000-of-00001.parquet"])).to_pydict()
        assert {row: before.classes[found["label"][row]] for row in decided} == decided
        assert found["original_label"] == before.given.tolist() != found["label"]
        held = [*pages, space.log.read_text(), said.out, said.err, command]
        held += [path.read_bytes().decode("latin-1") for path in space.mount.iterdir()]
        held += [content.decode("latin-1") for content in hub.objects.values()]
        for secret in (*hub.tokens, provider.secret, mine.partition("=")[2], stolen):
            assert len(secret) > 8 and not any(secret in text for text in held)
