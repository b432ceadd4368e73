"""The page in a real Chromium: keys where classes are letters, notes, filters, links, sizes, zoom, accessibility."""

import json
from contextlib import closing
from importlib.resources import files
from urllib.parse import unquote

import numpy as np
import pytest
from datasets import ClassLabel

import curator
from curator.decisions.journal import Journal
from tests.conftest import hf_dataset
from tests.review.serving import browsing, ready, saved, serving
from tests.review.test_browser import PHONE, decisions, no_wider_than_the_window, rows_of

LETTERS = ["A", "D", "Q", "7", "long name " * 12]


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A run of 240 rows of which 200 are flagged; most of its classes are letters and digits."""
    ds = hf_dataset(240, 5, share=0.5).remove_columns("true_label").cast_column("label", ClassLabel(names=LETTERS))
    ds = ds.add_column("camera", [["Leica", "Canon"][i % 2] for i in range(240)])
    folder = tmp_path_factory.mktemp("letters")
    soft = np.random.default_rng(0).dirichlet(np.ones(5), 240) * 0.9 + 0.02
    np.save(folder / "p.npy", soft.astype(np.float32))
    settings = {"method": "confident", "pred_probs": folder / "p.npy", "label_column": "label", "flag_worst": 200}
    curator.curate(ds, **settings, output=folder / "out")
    return folder / "out"


def serious(page) -> list[str]:
    """What axe-core finds serious or worse on the page as it is."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    # The first cards stand for all, which would take seconds.
    where = "{include: ['.cr'], exclude: ['.cr-card:nth-child(n+4)']}"
    found = page.evaluate(f"axe.run({where}, {{resultTypes: ['violations']}})")["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]


def shown_rows(page) -> int:
    """Cards that are seen whole."""
    return page.eval_on_selector_all(
        ".cr-card", "cards => cards.filter((c) => c.getBoundingClientRect().bottom <= window.innerHeight).length"
    )


def test_keys_notes_filters_links_and_sizes(letters, tmp_path):
    journal = tmp_path / "j.sqlite"
    with browsing() as page, serving(letters, "--journal", journal, "--reviewer", "ann") as server:
        page.set_viewport_size({"width": 1280, "height": 800})
        ready(page, server.address)
        rows = rows_of(page)
        # a class's name gives the class; what the key did before it does with Shift, and the row says so
        keys = page.locator(".cr-card").first.locator(".cr-bars kbd").all_inner_texts()
        assert keys == ["⇧Q", "W", "E", "R", "T"][: len(keys)] and "⇧D" in page.get_attribute("[data-do=drop]", "title")
        assert page.locator(".cr-card").first.locator(".cr-bars").inner_text().count("\n0 %") == 0
        second = page.eval_on_selector_all(
            ".cr-card .cr-bars", "b => b.map((x) => x.querySelectorAll('.cr-name')[1].title)"
        )
        for key in ("d", "7", "q", "1", "Shift+d", "w"):
            page.keyboard.press(key)
        saved(page)
        found = decisions(journal)
        assert [found.get(row, (None, None))[1] for row in rows[:3]] == ["D", "7", "Q"]
        assert found[rows[3]] == ("drop", None) and found[rows[4]][1] == second[4] and len(found) == 5

        page.keyboard.press("c")  # a note and tags; letters type there
        page.wait_for_selector(".cr-remark textarea:focus")
        page.keyboard.type("dark, d 7")
        page.keyboard.press("Tab")
        page.keyboard.type("ask,  blurry one ,ask")
        page.keyboard.press("Enter")
        saved(page)
        page.keyboard.press("z")
        page.wait_for_selector(".cr-head [role=status]:has-text('12 × 12 pixels')")
        page.keyboard.press("+")
        page.keyboard.press("Escape")
        page.wait_for_selector(".cr-compare")
        assert page.locator(".cr-compare > div").count() == 2
        assert page.input_value(".cr-remark input") == "ask, blurry one" and serious(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.keyboard.type("zebra")
        page.click("text=A new class “zebra”")
        saved(page)
        assert decisions(journal)[rows[5]] == ("drop", None)
        with closing(Journal(journal)) as kept:
            (said,) = kept.remarks.of_row(rows[5])
        assert (said.note, said.tags) == ("dark, d 7", ["ask", "blurry one", "new class: zebra"])

        page.click("button.cr-not-on-phones")
        page.fill("[data-view=tag]", "ask")
        page.press("[data-view=tag]", "Enter")
        page.wait_for_function("document.querySelector('.cr-pages').textContent.endsWith('· 1 row')")
        chips = page.locator(".cr-card .cr-tag").all_inner_texts()
        assert rows_of(page) == [rows[5]] and chips == ["note", "ask", "blurry one", "new class: zebra"]
        assert page.get_attribute(".cr-card .cr-tag >> nth=0", "title") == "ann: dark, d 7"
        page.keyboard.press("Space")
        page.wait_for_selector("table:has-text('History') , h3:text-is('History')")
        assert "drop" in page.inner_text(".cr-panel table >> nth=-1") and "ann" in page.inner_text(
            ".cr-panel table >> nth=-1"
        )
        page.keyboard.press("Escape")
        page.click("[data-do=link]")
        link = page.input_value(".cr-link")
        assert json.loads(unquote(link.partition("#")[2])) == {"order": "least clean", "show": "flagged", "tag": "ask"}
        other = page.context.new_page()
        ready(other, link)
        assert rows_of(other) == [rows[5]]
        other.close()
        page.keyboard.press("Escape")
        page.fill("[data-view=tag]", "nobody's")
        page.press("[data-view=tag]", "Enter")
        page.wait_for_selector("text=No row fits these filters")
        page.click(".cr-nothing >> text=Clear filters")
        page.wait_for_function("document.querySelector('.cr-pages').textContent.endsWith('· 200 rows')")
        page.click("button.cr-not-on-phones")

        page.wait_for_selector(".cr-grid:not(.cr-loading) .cr-card")
        page.fill("input[name=size]", "60")
        page.wait_for_function("document.querySelectorAll('.cr-card').length === 192")
        page.evaluate("window.scrollTo(0, 0)")
        assert shown_rows(page) >= 100 and serious(page) == []
        page.fill("input[name=size]", "150")
        page.wait_for_function("document.querySelectorAll('.cr-card').length === 64")

        # typefaces: no file, and the same one in every weight
        families = page.eval_on_selector_all(
            ".cr *", "all => [...new Set(all.map((n) => getComputedStyle(n).fontFamily))]"
        )
        assert all(f.startswith(("system-ui", "ui-monospace")) for f in families)
        assert "pixelated" in page.eval_on_selector(".cr-card img", "i => getComputedStyle(i).imageRendering")

        page.click("[data-do=scores]")
        page.fill(".cr-scores + input", "200")
        assert "240 rows (200 flagged, 40 not)" in page.inner_text(".cr-panel [role=status]")
        page.click("text=Borderline rows")
        page.wait_for_function("document.querySelector('.cr-pages').textContent.endsWith('· 40 rows')")
        page.click("[data-do=audit]")
        page.focus(".cr-panel input")
        page.keyboard.press("Escape")  # in a field, too
        page.wait_for_selector(".cr-over", state="hidden")
        page.click("[data-do=classes]")
        page.click(".cr-pairs button >> nth=0")
        page.wait_for_selector("text=errors expected from the scores")
        page.keyboard.press("Escape")

        page.set_viewport_size(PHONE)
        assert no_wider_than_the_window(page)
        header = page.eval_on_selector(".cr-grid", "n => n.getBoundingClientRect().top + window.scrollY")
        undo = page.locator("[data-do=undo]").bounding_box()
        assert header < 0.25 * PHONE["height"] and undo["x"] + undo["width"] <= PHONE["width"]
        assert page.errors == [] and page.outside == []
