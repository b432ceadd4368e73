"""Map, groups and search in a real Chromium, by the keyboard."""

import shutil
from contextlib import closing

import numpy as np

from curator.decisions.journal import Journal
from curator.result.read import MAP, Rows
from curator.review.groups import groups_of
from tests.review.serving import browsing, ready, saved, serving


def decided(path) -> dict[int, str]:
    with closing(Journal(path)) as journal:
        return {row: journal.decision(row, "ann").action for row in set(journal.log(0)) if journal.decision(row, "ann")}


def scope(page) -> str:
    return page.inner_text(".cr-scope")


def test_the_whole_in_bulk(run, tmp_path):
    """Select what is in view on the map, decide it at once, open an area as a queue, then groups and rows like one."""
    folder = shutil.copytree(run, tmp_path / "run")
    journal = tmp_path / "review.sqlite"
    np.save(folder / MAP, 0.02 + 0.96 * np.random.default_rng(0).random((400, 2)).astype(np.float32))
    rows = Rows(folder)
    flagged = np.flatnonzero(~rows.selected).tolist()
    with browsing() as page, serving(folder, "--journal", journal, "--reviewer", "ann") as server:
        ready(page, server.address)
        page.click("[data-do=map]")
        page.wait_for_selector("canvas.cr-map[data-frames]")
        assert page.locator(".cr-parts tbody tr").count() >= 30
        page.keyboard.press("s")
        page.wait_for_selector("text=400 rows here: 150 flagged")
        page.keyboard.press("u")
        saved(page)
        assert decided(journal) == dict.fromkeys(flagged, "unsure")
        page.keyboard.press("Control+z")
        saved(page)
        assert decided(journal) == {}
        pixels = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 2000, 2000).data"
        drawn = f"{pixels}.filter((v) => v).length"
        before = page.evaluate(drawn)
        page.keyboard.press("+")
        page.wait_for_function(f"{drawn} !== {before}")

        page.select_option("[aria-label='what dragging does']", "box")
        box = page.locator("canvas.cr-map").bounding_box()
        page.mouse.move(box["x"] + 300, box["y"] + 80)
        page.mouse.down()
        page.mouse.move(box["x"] + 500, box["y"] + 300, steps=4)
        page.mouse.up()
        page.wait_for_function("/^(?!400)[0-9]+ rows here/.test(document.querySelector('.cr-area b')?.textContent)")
        here, bad = (int(word) for word in page.inner_text(".cr-area b").replace(":", "").split() if word.isdigit())
        assert 0 < bad < here < 400
        page.click("text=Open as queue")
        page.wait_for_selector(".cr-where:not([hidden])")
        page.wait_for_function(f"document.querySelector('.cr-pages').textContent.endsWith('· {bad} rows')")
        page.reload()  # the address holds the view
        page.wait_for_function(f"document.querySelector('.cr-pages')?.textContent.endsWith('· {bad} rows')")
        assert "area of the map" in page.inner_text(".cr-where")

        page.click(".cr-where button")
        page.select_option("[data-view=order]", "cluster")
        groups = groups_of(rows)
        first = np.flatnonzero(groups == 0)
        page.wait_for_selector(".cr-group")
        page.wait_for_function(f"document.querySelector('.cr-scope').textContent === '{len(first)} chosen:'")
        assert f"{groups.max() + 1} groups are left: one decision each settles 150 labels" in page.inner_text(
            ".cr-pace"
        )
        assert "a click takes a row out of its group" in page.inner_text(".cr-pace")
        assert page.get_attribute(".cr-grid", "role") == "group"  # heads stand between lists, not in one
        in_lists = page.locator(".cr-grid [role=listbox] > .cr-card").count()
        assert in_lists == page.locator(".cr-card").count() > len(first)
        page.locator(".cr-card").nth(1).click()  # taken out
        assert scope(page) == f"{len(first) - 1} chosen:"
        page.keyboard.press("d")
        saved(page)
        apart = int(first[1])
        assert decided(journal) == dict.fromkeys(set(first.tolist()) - {apart}, "drop")
        assert scope(page) == f"row {apart}:"  # what was taken out comes next, then the next group
        page.keyboard.press("k")
        saved(page)
        assert decided(journal)[apart] == "keep"
        second = np.flatnonzero(groups == 1)
        if len(first) + len(second) > 64:
            page.keyboard.press("n")
        page.wait_for_function(f"document.querySelector('.cr-scope').textContent === '{len(second)} chosen:'")
        assert f"{groups.max()} groups are left" in page.inner_text(".cr-pace")

        page.keyboard.press("Escape")
        row = int(page.locator(".cr-focus").get_attribute("data-row"))
        page.keyboard.press("l")
        page.wait_for_selector(f"text=most like row {row} first")
        page.wait_for_function("document.querySelector('.cr-pages').textContent.endsWith('· 400 rows')")
        assert int(page.locator(".cr-card").first.get_attribute("data-row")) == row
        assert page.errors == page.outside == []
        assert page.locator(".cr-words").is_hidden()  # its encoder reads no words
