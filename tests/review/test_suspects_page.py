"""The queues of junk, picture faults and leaks in Chromium."""

import os

import pytest

import curator
from tests.result.test_lookalikes import DARK, JUNK, LEAKED, planted, pooled
from tests.review.serving import browsing, ready, saved, serving


def rows_of(page) -> list[int]:
    return [int(node.get_attribute("data-row")) for node in page.query_selector_all(".cr-card")]


def show(page, queue: str) -> list[int]:
    page.select_option("[data-view=show]", queue)
    page.wait_for_selector(".cr-grid:not(.cr-loading)")
    page.wait_for_function("document.querySelectorAll('.cr-card').length < 30")
    if folder := os.environ.get("CURATOR_PICTURES"):
        page.screenshot(path=f"{folder}/{queue.replace(' ', '-')}.png")
    return rows_of(page)


@pytest.mark.slow
def test_queues_and_their_first_key(tmp_path):
    curator.curate(planted(), method="ce", epochs=1, net="mlp", backbone=pooled, output=tmp_path / "run")
    with serving(tmp_path / "run", "--reviewer", "ann") as server, browsing() as page:
        ready(page, server.address)
        junk = show(page, "junk")
        assert {*JUNK} <= {*junk}
        assert "typicality 0.0" in page.inner_text(f".cr-card[data-row='{junk[0]}']")
        bulk = page.locator(".cr-bulk button")
        left = {bulk.nth(i).inner_text(): bulk.nth(i).bounding_box()["x"] for i in range(4)}
        assert left["Drop"] == min(left.values())
        page.keyboard.press("Enter")
        saved(page)
        assert page.inner_text(f".cr-card[data-row='{junk[0]}'] .cr-badge") == "drop"
        assert sorted(show(page, "leaks")) == list(LEAKED)
        page.click("[data-do=filters] >> visible=true")
        assert page.is_hidden("[data-split]")  # one other split is what the queue shows
        assert "like test 1" in page.inner_text(f".cr-card[data-row='{LEAKED[1]}']")
        assert {*DARK} <= {*show(page, "picture faults")}
        page.keyboard.press("Enter")  # elsewhere it accepts the suggestion
        saved(page)
        assert page.inner_text(f".cr-card[data-row='{rows_of(page)[0]}'] .cr-badge").startswith(
            ("→", "keep")
        )  # no drop
        page.click("[data-do=publish]")
        page.fill("input[name=target]", str(tmp_path / "version"))
        assert "3 rows of other splits" in page.inner_text("[data-field=drop_leaks]")
        if folder := os.environ.get("CURATOR_PICTURES"):
            page.screenshot(path=f"{folder}/publish.png")
        page.check("[data-field=drop_leaks] input")
        page.click("text=What would change")
        page.wait_for_selector("text=left out: 3 rows that stand in the training split")
        assert not page.errors and not page.outside
