"""Publishing from the page, in Chromium, to a Hub on this machine and to a folder."""

import os
import shutil
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest

import curator
from curator.errors import CuratorError
from curator.review.session import Session
from tests.review.serving import browsing, ready, saved, serving, shown, verified

APP = [sys.executable, "app.py"]  # a fresh process: it reads the address of the Hub from its environment


def fill(page, **values) -> None:
    for name, value in values.items():
        node = page.locator(f".cr-form [name={name}]")
        if isinstance(value, bool):
            node.set_checked(value)
        elif name in ("policy", "format"):
            node.select_option(value)
        else:
            node.fill(str(value))


def press(page, button: str) -> str:
    """Press a button of the panel; what it says when it is done."""
    page.click(f".cr-panel button:text-is('{button}')")
    page.wait_for_function("[...document.querySelectorAll('.cr-panel .cr-row button')].every((b) => !b.disabled)")
    return page.inner_text(".cr-lines")


def test_review_20_rows_publish_and_load(digits, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    hub.tokens["hf_secret"] = "me"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    journal = tmp_path / "review.sqlite"
    columns = datasets.load_dataset(str(digits), split="train").with_format("numpy")[:]
    with serving(digits, "--journal", journal, "--reviewer", "ann", launcher=APP) as server, browsing() as page:
        ready(page, server.address)
        for key in ["Enter"] * 8 + ["k"] * 5 + ["2"] * 3 + ["d"] * 4:
            page.keyboard.press(key)
        saved(page)
        page.click("[data-do=publish]")
        fill(page, target="me/digits", min_confidence=0.8)
        would = press(page, "What would change")
        assert "would publish relabel (nets at least 0.8 sure): 1,797 rows" in would and not hub.repos
        done = press(page, "Publish")
        assert (
            "relabel (nets at least 0.8 sure): 1,797 rows" in done
            and "16 verified and 4 dropped" in done
            and "published: " in done
        )
        link = page.get_attribute(".cr-done a", "href")
        assert link.startswith("http://127.0.0.1") and "/datasets/me/digits/commit/" in link
        assert "hf_secret" not in page.content()
        if pictures := os.environ.get("CURATOR_PICTURES"):
            page.screenshot(path=Path(pictures) / "publish.png")
        fill(page, target="me/digits", policy="annotate", create_pr=True, tag="mine")
        assert "pull request: " in press(page, "Publish")
        fill(page, target="not an id")
        assert "expected a Hub id as owner/name" in press(page, "Publish")
        assert "cr-error" in page.inner_html(".cr-lines")
        fill(page, target=str(tmp_path / "folder"), policy="filter", format="imagefolder")
        assert page.is_hidden(".cr-form [name=create_pr]")  # and is not meant
        assert f"published: {tmp_path / 'folder'}" in press(page, "Publish")
        assert "add --overwrite" in press(page, "Publish")
        fill(page, overwrite=True)
        assert "published: " in press(page, "Publish")
        page.keyboard.press("Escape")
        page.reload()
        page.wait_for_selector("#curator [data-row]")
        page.click("[data-do=publish]")
        page.wait_for_selector(".cr-done")  # what was done last is still told
        assert not page.outside and not page.errors
    found = datasets.load_dataset("me/digits", split="train").with_format("numpy")[:]
    decided = verified(journal)
    assert len(decided) == 16
    wanted = columns["label"].copy()
    confident = columns["teacher_soft_label"][np.arange(len(wanted)), columns["corrected_label"]] >= 0.8
    wanted[confident] = columns["corrected_label"][confident]
    wanted[list(decided)] = [int(name) for name in decided.values()]
    assert (found["label"] == wanted).all() and (found["original_label"] == columns["label"]).all()
    clean = datasets.load_dataset("me/digits", "clean", split="train")["row"][:]
    assert len(clean) == len(datasets.load_dataset(str(tmp_path / "folder"), split="train"))
    assert list(hub.repos["me/digits"].tags) == ["v1"] and list(hub.repos["me/digits"].pulls) == ["refs/pr/1"]


def test_only_the_first_account_publishes(digits, tmp_path):
    accounts = ["--auth", "ann:secret1", "ben:secret2"]
    with serving(digits, "--journal", tmp_path / "r.sqlite", *accounts) as server:
        for who, password, may in (("ann", "secret1", True), ("ben", "secret2", False)):
            with browsing() as page:
                page.goto(server.address)
                page.fill("input[type=text]", who)
                page.fill("input[type=password]", password)
                page.click("button:has-text('Login')")
                page.wait_for_selector("#curator [data-row]")
                assert page.is_visible("[data-do=publish]") == may
                found = server.ask("publishing", {"Cookie": server.login(who, password)[1]})
                assert ("only the first account" in found.get("error", "")) != may and ("running" in found) == may
    session = Session([digits], tmp_path / "r.sqlite", publisher="ann")
    for call in (session.publish, session.publishing):
        with pytest.raises(CuratorError, match="only the first account"):
            call({**shown(session, "ben"), "target": str(tmp_path / "x")}, "ben")
    session.journal.close()
    assert not (tmp_path / "x").exists()


def test_what_no_page_would_send(digits, tmp_path):
    session = Session([digits], tmp_path / "r.sqlite")
    for data, expected in (
        ({"target": 3}, "target to be of type str"),
        ({"target": "me/x", "policy": ["a"]}, "policy to be of type str"),
        ({"target": "me/x", "min_confidence": "1"}, "min_confidence to be of type float"),
        ({"target": " "}, "expected a Hub id"),
        ({}, "expected a Hub id"),
        ({"target": "me/x", "min_confidence": True}, "min_confidence to be of type float"),
        ({"target": "me/x", "run": "another"}, "another run is served here now"),
        ({"target": "me/x", "reviewer": "ben"}, "you are logged in as ann"),
    ):
        with pytest.raises(CuratorError, match=expected):
            session.publish({**shown(session), **data}, "ann")
    session.journal.close()


def test_a_number_of_zero_is_a_number(digits, tmp_path):
    session = Session([digits], tmp_path / "r.sqlite")
    for least in (0, 0.9, 1.0):
        data = {"target": str(tmp_path / f"v{least}"), "min_confidence": least, "policy": "relabel"}
        state = session.publish({**shown(session), **data}, "ann")
        while state["running"]:
            time.sleep(0.05)
            state = session.publishing({}, "ann")
        assert state["done"] == str(tmp_path / f"v{least}"), state
    session.journal.close()
    changed = [len(set(changed_rows(tmp_path / f"v{least}"))) for least in (0, 0.9, 1.0)]
    assert changed[0] > changed[1] > changed[2] == 0


def changed_rows(folder: Path) -> list[int]:
    rows = datasets.load_dataset(str(folder), split="train").with_format("numpy")[:]
    return rows["row"][rows["label"] != rows["original_label"]].tolist()


def test_a_run_that_was_made_anew_is_not_published(digits, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(digits, copied)
    session = Session([copied])
    again = tmp_path / "again"
    curator.curate("digits", method="ce", epochs=1, output=again)
    shutil.rmtree(copied / "data")
    shutil.copytree(again / "data", copied / "data")
    state = session.publish({**shown(session), "target": str(tmp_path / "v")}, "ann")
    while state["running"]:
        time.sleep(0.05)
        state = session.publishing({}, "ann")
    session.journal.close()
    assert "was replaced" in state["failed"] and not (tmp_path / "v").exists()
