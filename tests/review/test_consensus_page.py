"""Several reviewers of the same rows, in a real Chromium."""

import os
import random
from contextlib import closing
from pathlib import Path

import pytest

from curator.decisions.journal import Journal
from tests.review.serving import browsing, ready, saved, serving


def log_in(page, server, name: str) -> None:
    page.context.clear_cookies()
    page.goto(server.root)
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", "p")
    page.keyboard.press("Enter")
    page.wait_for_selector("#curator [data-row], #curator .cr-grid p")
    saved(page)


def picture(page, name: str) -> None:
    if folder := os.environ.get("CURATOR_PICTURES"):
        page.wait_for_timeout(300)
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.slow  # the rules behind it are in test_owed.py
def test_three_review_and_one_settles(run, tmp_path):
    journal, people = tmp_path / "review.sqlite", ["ann", "ben", "eve"]
    accounts = ["--auth", *(f"{name}:p" for name in people)]
    with serving(run, "--journal", journal, *accounts, "--overlap", "2") as server, browsing() as page:
        for name in people:
            log_in(page, server, name)
            pace = page.text_content(".cr-pace")
            assert "still owed by you, each is decided by 2 people" in pace
            assert page.input_value("[data-view=decided]") == "owed"
            assert not page.query_selector(".cr-others")  # nobody is swayed
            rng = random.Random(name)
            for _ in range(40):
                page.keyboard.press(rng.choice(["Enter", "Enter", "Enter", "k", "2"]))
            saved(page)
        with closing(Journal(journal)) as opened:
            conflicts = opened.conflicts()
        assert conflicts
        log_in(page, server, "ann")  # the first account is the adjudicator
        page.click("[data-do=people]")
        page.wait_for_selector("text=Fleiss")
        assert "as the consensus" in page.text_content(".cr-panel")
        page.click("summary")
        picture(page, "reviewers")
        page.click("text=Show conflicts")
        page.wait_for_function(f"document.querySelectorAll('.cr-card').length === {len(conflicts)}")
        assert "what you decide here settles the row" in page.text_content(".cr-pace")
        assert page.query_selector(".cr-others")
        picture(page, "conflicts")
        page.keyboard.press("Enter")
        saved(page)
        assert page.text_content(".cr-badge").startswith("settled: ")
        with closing(Journal(journal)) as opened:
            assert len(opened.conflicts()) == len(conflicts) - 1 and len(opened.rulings()) == 1
        page.keyboard.press("Control+z")
        saved(page)
        page.click("[data-do=accept-page]")
        saved(page)
        with closing(Journal(journal)) as opened:
            assert opened.rulings() and len(opened.rulings()) == len(
                [row for row in conflicts if row not in opened.conflicts()]
            )
        ready(page, server.root)
        assert not page.errors and not page.outside
