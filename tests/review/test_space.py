"""The review as a Space: pushed to a Hub on this machine, run as the Hub would, in Chromium; and who may do what."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from curator.cli.main import main
from curator.decisions.journal import Journal
from tests.conftest import ROOT
from tests.oidc import loopback_provider
from tests.review.serving import browsing, local, saved
from tests.review.spaces import running
from tests.review.test_publish_page import fill, press

OWNERS = "hf_token-of-the-owner-1234"


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


@pytest.mark.slow
def test_the_way_of_a_space(run, hub, login, tmp_path, monkeypatch, capsys):
    """Push, log in, decide, restart, pull, pull request; the tokens are nowhere but where they belong."""
    provider, issuer = login
    home = tmp_path / "run"
    shutil.copytree(run, home)
    hub.tokens = {OWNERS: "me", "other": "julia"}
    monkeypatch.setenv("HF_TOKEN", OWNERS)
    assert main(["space", str(home), "me/pets", "--reviewers", "julia"]) == 0
    said = capsys.readouterr()
    assert "/spaces/me/pets" in said.out and "space pull me/pets" in said.out
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "requirements.txt").write_bytes(hub.files(hub.spaces["me/pets"])["requirements.txt"])
    python = sys.executable if os.environ.get("CURATOR_NO_VENV") else fresh(tmp_path, tmp_path / "app/requirements.txt")
    with running(hub, "me/pets", tmp_path / "space", provider, issuer, python=python) as space, browsing() as page:
        page.goto(space.address)
        assert "stored under its name" in page.inner_text("main") and not page.query_selector("#curator")
        picture(page, "space-login")
        julia = log_in(page, space.address, "julia")
        for key in ["Enter"] * 8 + ["k"] * 5 + ["d"] * 2:
            julia.keyboard.press(key)
        saved(julia)
        picture(julia, "space-grid")
        assert space.stop() in (0, 143, -15)  # a restart: the Hub stops a Space so


