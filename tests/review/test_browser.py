"""The page in a real Chromium, as a reviewer uses it."""

import json
import os
import re
import time
from contextlib import closing
from pathlib import Path

import datasets
import numpy as np
import pytest

import curator
from curator.cli.main import main
from curator.decisions.journal import Journal
from curator.review.session import Session
from tests.review.serving import browsing, chromium, ready, saved, serving, shown, verified

PHONE = {"width": 390, "height": 800}


@pytest.fixture(scope="module", autouse=True)
def one_browser():
    """Which takes a second or two to start."""
    with chromium():
        yield


def rows_of(page) -> list[int]:
    return page.eval_on_selector_all(".cr-card", "cards => cards.map((c) => Number(c.dataset.row))")


def badges(page) -> list[str | None]:
    """What the page shows as decided, card after card."""
    return page.eval_on_selector_all(
        ".cr-card", "cards => cards.map((c) => c.querySelector('.cr-badge')?.textContent ?? null)"
    )


def decisions(path: Path, reviewer: str = "ann") -> dict[int, tuple[str, str | None]]:
    with closing(Journal(path)) as journal:
        found = {row: d for row in set(journal.log(0)) if (d := journal.decision(row, reviewer))}
    return {row: (d.action, d.label) for row, d in found.items()}


def picture(page, name: str) -> None:
    """A picture for the README: CURATOR_PICTURES=docs python -m pytest tests/review/test_browser.py."""
    if folder := os.environ.get("CURATOR_PICTURES"):
        page.wait_for_timeout(400)
        page.screenshot(path=Path(folder) / f"{name}.png")


def no_wider_than_the_window(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_review(digits, tmp_path):
    """Decide 50 rows 5 ms apart, undo 5, accept a page, reload, kill and start the server, filter, audit."""
    journal = tmp_path / "review.sqlite"
    columns = datasets.load_dataset(str(digits), split="train").with_format("numpy")[:]
    given, suggested, truth = columns["label"], columns["corrected_label"], columns["true_label"]
    soft = np.stack(columns["teacher_soft_label"])
    with browsing() as page, serving(digits, "--journal", journal, "--reviewer", "ann") as server:
        ready(page, server.address)
        rows = rows_of(page)
        flagged = np.flatnonzero(~columns["selected"])
        assert rows == flagged[np.argsort(columns["clean_score"][flagged], kind="stable")][:64].tolist()

        keys = (["Enter"] * 4 + ["k", "d", "u", "q", "2", "Enter"]) * 5  # 2 is the class, q a suggestion
        due = time.monotonic()
        for key in keys:
            page.keyboard.press(key)
            due += 0.005
            time.sleep(max(0, due - time.monotonic()))
        saved(page)

        def expected(row: int, key: str) -> tuple[str, str | None]:
            if key in "du":
                return {"d": "drop", "u": "unsure"}[key], None
            label = {"k": given, "Enter": suggested, "q": soft.argmax(1)}[key][row] if key != "2" else 2
            return ("keep" if label == given[row] else "relabel"), str(label)

        wanted = {row: expected(row, key) for row, key in zip(rows[:50], keys, strict=True)}
        assert decisions(journal) == wanted
        picture(page, "review")

        for _ in range(5):
            page.keyboard.press("Control+z")
        saved(page)
        assert decisions(journal) == {row: wanted[row] for row in rows[:45]}
        assert badges(page)[45:] == [None] * 19
        page.keyboard.press("Control+Shift+z")
        page.keyboard.press("Control+z")

        page.keyboard.press("Shift+Enter")
        saved(page)
        wanted = {row: wanted[row] for row in rows[:45]} | {row: expected(row, "Enter") for row in rows[45:]}
        assert decisions(journal) == wanted and None not in badges(page)
        before = badges(page)

        page.reload()
        ready(page, server.address)
        assert badges(page) == before
        server.kill()
        page.keyboard.press("d")
        page.wait_for_selector(".cr-failing")
        assert "not saved" in page.inner_text(".cr-state")
        page.keyboard.press("d")
        server.start()
        saved(page)
        wanted |= {row: ("drop", None) for row in rows[:2]}
        assert decisions(journal) == wanted
        server.kill()
        page.keyboard.press("d")
        page.wait_for_selector(".cr-failing")
        server.start()
        page.reload()  # what was not saved is kept by the browser
        ready(page, server.address)
        wanted[rows[2]] = ("drop", None)
        assert decisions(journal) == wanted and badges(page) == ["drop"] * 3 + before[3:]
        page.keyboard.press("n")
        page.wait_for_function("document.querySelector('.cr-pages').textContent.startsWith('page 2')")
        assert not set(rows_of(page)) & set(rows)

        page.keyboard.press("m")
        cell = page.locator(".cr-matrix td[data-given]").nth(7)
        a, b = (int(cell.get_attribute(f"data-{n}")) for n in ("given", "suggested"))
        count = cell.inner_text()
        cell.click()
        page.wait_for_function(f"document.querySelector('.cr-pages').textContent.endsWith('· {count} rows')")
        assert sorted(rows_of(page)) == [i for i in flagged if given[i] == a and suggested[i] == b]

        page.click("[data-do=audit]")
        page.fill(".cr-panel input", "30")
        page.click("text=Start")
        for i in range(30):
            page.wait_for_selector(f"text=Audit: {i + 1} of 30")
            shown = page.locator(".cr-audit img").get_attribute("alt")
            if i == 4:
                picture(page, "audit")
            page.keyboard.press(str(truth[int(shown.removeprefix("row "))]))
        page.wait_for_selector(".cr-rate")
        texts = page.locator(".cr-panel h3").all_inner_texts()
        rates = [[float(x) for x in re.findall(r"([\d.]+) %", t.replace("95 % interval", ""))] for t in texts]
        assert [t.split(":")[0] for t in texts] == ["Before", "After"]
        (before, low, high), (after, *_) = rates
        assert low <= before <= high and low < 30 < high and after < before
        picture(page, "audit-result")
        assert page.outside == [] and page.errors == []
    assert decisions(journal) == wanted  # an audit decides nothing


def test_large_view_search_choice_and_inputs(digits, tmp_path):
    journal = tmp_path / "review.sqlite"
    columns = datasets.load_dataset(str(digits), split="train").with_format("numpy")[:]
    with browsing() as page, serving(digits, "--journal", journal, "--reviewer", "ann") as server:
        ready(page, server.address)
        rows = rows_of(page)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        page.wait_for_selector(f"h2:text-is('Row {rows[1]}')")
        page.wait_for_selector(".cr-strip img")
        strips = page.locator(".cr-strip img").evaluate_all("images => images.map((i) => Number(i.alt.slice(4)))")
        assert len(strips) == 12 and rows[1] not in strips
        labels = columns["label"][strips]
        assert set(labels[:6]) == {columns["label"][rows[1]]} and set(labels[6:]) == {
            columns["corrected_label"][rows[1]]
        }
        page.keyboard.press("1")
        page.wait_for_selector(f"h2:text-is('Row {rows[2]}')")
        page.wait_for_selector(".cr-strip img")
        picture(page, "large")
        page.keyboard.press("/")
        page.keyboard.type("7")  # letters and digits type here
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        saved(page)
        assert decisions(journal)[rows[2]][1] == "7" and set(decisions(journal)) == {rows[1], rows[2]}

        page.fill("input[name=row]", "")
        page.type("input[name=row]", "kd12")
        page.fill("input[name=row]", "5")
        page.keyboard.press("Enter")
        page.wait_for_selector("h2:has-text('Row 5')")
        page.keyboard.press("Escape")
        page.keyboard.press("Control+k")
        assert set(decisions(journal)) == {rows[1], rows[2]}

        page.locator(".cr-card").nth(10).click()
        for _ in range(3):
            page.keyboard.press("Shift+ArrowRight")
        page.locator(".cr-card").nth(20).click(modifiers=["Control"])
        assert page.locator(".cr-chosen").count() == 5 and page.inner_text(".cr-scope") == "5 chosen:"
        page.keyboard.press("d")
        saved(page)
        dropped = {row for row, (action, _) in decisions(journal).items() if action == "drop"}
        assert dropped == {*rows[10:14], rows[20]} and page.locator(".cr-chosen").count() == 0
        page.keyboard.press("Control+z")
        saved(page)
        assert set(decisions(journal)) == {rows[1], rows[2]}

        page.select_option("[data-view=order]", "least sure")
        page.select_option("[data-view=decided]", "undecided")
        page.wait_for_function(f"document.querySelector('.cr-card').dataset.row != '{rows[0]}'")
        page.wait_for_selector(".cr-grid:not(.cr-loading)")
        shown = rows_of(page)
        confidence = np.stack(columns["teacher_soft_label"])[shown, columns["corrected_label"][shown]]
        assert (np.diff(confidence) >= 0).all() and not {rows[1], rows[2]} & set(shown)
        page.reload()  # the view is in the address
        ready(page, page.url)
        assert page.input_value("[data-view=order]") == "least sure"
        page.click("[data-do=people]")
        page.click("text=Export decisions")
        page.wait_for_selector("text=verified.csv")
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        page.keyboard.press("Escape")
        with page.expect_download() as download:
            page.click("[data-do=fixed]")
        assert download.value.suggested_filename == "fixed.csv"
        fixed = Path(download.value.path()).read_text().splitlines()
        page.set_viewport_size(PHONE)
        page.locator(".cr-card").nth(1).click()
        page.click("button[data-do=unsure]")
        saved(page)
        assert "unsure" in badges(page)[1] and no_wider_than_the_window(page)
        assert page.outside == [] and page.errors == []
    exported = (tmp_path / "verified.csv").read_text().splitlines()
    assert len(exported) == 1 + len(verified(journal))
    assert fixed[0] == "file,row,given,label" and len(fixed) > 1


def test_names_of_strangers_are_text(hostile_run, tmp_path):
    """Nothing of a class name runs, and none is wider than its place; light and dark, on a desk and on a phone."""
    words = [hostile_run, "--journal", tmp_path / "j.sqlite", "--reviewer", "<b onclick=hacked=1>${hacked=1}</b>"]
    with browsing() as page, serving(*words) as server:
        for size, scheme in (({"width": 1280, "height": 900}, "light"), (PHONE, "dark")):
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=scheme)
            ready(page, server.address)
            assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
            assert no_wider_than_the_window(page)
            page.keyboard.press("Enter")
            for opening in ("Space", "m", "/", "?"):
                page.keyboard.press(opening)
                page.wait_for_selector(".cr-over:not([hidden])")
                page.wait_for_timeout(200)
                assert no_wider_than_the_window(page), opening
                page.keyboard.press("Escape")
            for button in ("audit", "people"):
                page.click(f"[data-do={button}]")
                page.wait_for_selector(".cr-over:not([hidden])")
                if button == "audit" and page.locator("text=Start").count():
                    page.click("text=Start")
                    page.wait_for_selector(".cr-classes")
                assert no_wider_than_the_window(page), button
                page.keyboard.press("Escape")
        saved(page)
        assert page.evaluate("window.hacked") is None and page.errors == [] and page.outside == []
        assert page.locator("#curator script").count() == 0 and page.locator("#curator img[src=x]").count() == 0
        assert page.locator(".cr-name:has-text('<img src=x')").count() > 0
        heights = page.eval_on_selector_all(".cr-labels", "nodes => nodes.map((n) => n.offsetHeight)")
        assert max(heights) < 90  # two names of two lines


def test_login_and_a_restart_behind_it(run, tmp_path):
    """Decisions that a restart cut off are saved after the next login."""
    journal = tmp_path / "j.sqlite"
    with browsing() as page, serving(run, "--auth", "ann:secret", "ben:secret", "--journal", journal) as server:

        def login(name: str, page=page) -> None:
            page.context.clear_cookies()
            page.goto(server.address)
            page.get_by_label("username").fill(name)
            page.get_by_label("password").fill("secret")
            page.get_by_role("button", name="Login").click()
            page.wait_for_selector("#curator [data-row]")

        login("ann")
        rows = rows_of(page)
        page.keyboard.press("d")
        saved(page)
        server.kill()
        server.start()
        page.keyboard.press("u")
        page.wait_for_selector("text=log in again")
        assert set(decisions(journal)) == {rows[0]}
        login("ann")
        saved(page)
        assert decisions(journal) == {rows[0]: ("drop", None), rows[1]: ("unsure", None)}
        other = page.context.new_page()  # somebody else logs in, in the same browser
        login("ben", other)
        page.bring_to_front()
        quick(page, "ArrowRight", "ArrowRight", "d")
        page.wait_for_selector("text=you are logged in as ben now")
        other.keyboard.press("k")
        saved(other)
        assert len(decisions(journal)) == 2 and decisions(journal, "ben").keys() == {rows[0]}
        other.close()
        login("ann")
        saved(page)
        assert len(decisions(journal)) == 3 and page.outside == []


SAME_KEY = """
const real = crypto.getRandomValues.bind(crypto);
let calls = 0;
crypto.getRandomValues = (array) => (++calls === 2 ? array.fill(0xab) : real(array)); // the first is the tab's name
"""


def test_what_is_not_saved_is_said_and_kept(run, tmp_path):
    """A journal that is gone, a key that is another's, a server with another token."""
    journal = tmp_path / "j.sqlite"
    with browsing() as page, serving(run, "--journal", journal, "--reviewer", "ann") as server:
        session = Session([run], journal)
        step = {"key": "ab" * 12, "kind": "do", "rows": [[399, "drop", None]]}
        session.save({**shown(session, "ben"), "steps": [step]}, "ben")
        session.journal.close()
        page.add_init_script(SAME_KEY)
        ready(page, server.address)
        assert page.url.startswith(server.root) and "token" not in page.url
        rows = rows_of(page)
        page.keyboard.press("d")
        saved(page)
        assert decisions(journal) == {rows[0]: ("drop", None)} and decisions(journal, "ben") == {399: ("drop", None)}
        page.keyboard.press("Control+z")
        saved(page)
        assert decisions(journal) == {}
        journal.rename(tmp_path / "away")
        page.keyboard.press("u")
        page.wait_for_selector("text=j.sqlite was removed, replaced or cut")
        page.reload()  # the browser has kept it
        page.wait_for_selector("text=j.sqlite was removed, replaced or cut")
        (tmp_path / "away").rename(journal)
        saved(page)
        assert [action for action, _ in decisions(journal).values()] == ["unsure"]
        server.kill()
        server.token = "another-token-another-token"
        server.start()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("k")
        page.wait_for_selector("text=open the address that was printed when this server was started")
        assert len(decisions(journal)) == 1
        ready(page, server.address)
        assert len(decisions(journal)) == 2 and page.errors == [] and page.outside == []


# What the server is asked takes its time: {what: milliseconds}.
SLOW = """
const real = window.fetch;
window.slow = {};
window.fetch = async (address, options) => {
  const what = /"what":"(\\w+)"/.exec(options?.body ?? "")?.[1];
  if (window.slow[what]) await new Promise((done) => setTimeout(done, window.slow[what]));
  return real(address, options);
};
"""


def quick(page, *keys: str) -> None:
    """Keys 5 ms apart."""
    for key in keys:
        page.keyboard.press(key)
        time.sleep(0.005)


def test_keys_in_a_hurry(run, tmp_path):
    """Every key decides the row that was on the screen when it was pressed, however late the server answers."""
    journal = tmp_path / "j.sqlite"
    with browsing() as page, serving(run, "--journal", journal, "--reviewer", "ann") as server:
        page.add_init_script(SLOW)
        ready(page, server.address)
        rows = rows_of(page)
        page.evaluate("window.slow = {detail: 200, save: 200, matrix: 300, pictures: 200}")

        page.keyboard.press("Space")
        quick(page, "k", "d", "u")
        page.wait_for_selector(f"h2:text-is('Row {rows[3]}')")
        quick(page, "Escape")
        saved(page)
        wanted = dict(zip(rows, ["keep", "drop", "unsure"], strict=False))
        assert {row: action for row, (action, _) in decisions(journal).items()} == wanted

        quick(page, "k", "d", "Control+z")  # an undo under way to the server does not leave the others unsaved
        saved(page)
        assert decisions(journal)[rows[3]][0] == "keep" and rows[4] not in decisions(journal)
        assert page.locator(".cr-unsaved").count() == 0
        wanted[rows[3]] = "keep"

        quick(page, "b")
        saved(page)
        with closing(Journal(journal)) as kept:
            made = kept.decision(rows[4], "ann")
        assert made.action == "both" and made.also is not None and made.label != made.also
        badge = page.locator(f".cr-card[data-row='{rows[4]}'] .cr-badge")
        assert badge.text_content() == f"also {made.also}" and badge.get_attribute("data-action") == "both"
        quick(page, "Control+z")
        saved(page)
        assert rows[4] not in decisions(journal)

        quick(page, "m", "Escape")
        page.wait_for_timeout(500)
        assert page.locator(".cr-matrix").count() == 0  # what comes late does not open any more
        quick(page, "Space", "/")
        page.keyboard.type("k")
        page.wait_for_timeout(500)
        assert page.input_value(".cr-find input") == "k"
        quick(page, "Escape", "Escape")

        far = next(row for row in range(400) if row not in rows)
        page.locator(".cr-card").nth(8).click(modifiers=["Control"])
        page.fill("input[name=row]", str(far))
        page.keyboard.press("Enter")
        page.wait_for_selector(f"h2:text-is('Row {far}')")
        page.keyboard.press("/")
        page.keyboard.type("class 3")
        page.keyboard.press("Enter")  # means the row that is shown, not the one that is chosen
        saved(page)
        assert decisions(journal)[far][1] == "class 3" and rows[8] not in decisions(journal)
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.keyboard.press("9")  # there is no ninth suggestion: nothing happens
        assert page.locator(".cr-focus").get_attribute("data-row") == str(rows[8])

        page.click("[data-do=audit]")
        page.fill(".cr-panel input", "150")
        page.click("text=Start")
        page.wait_for_selector("text=Audit: 1 of 150")
        for _ in range(3):
            quick(page, *["1", "2", "3"] * 8)
            page.wait_for_timeout(300)
        page.keyboard.press("Control+u")
        page.click("text=Result so far")
        page.wait_for_selector(".cr-rate")
        with closing(Journal(journal)) as kept:
            labels = kept._db.execute("SELECT row, label FROM audit_labels").fetchall()
        assert len(labels) == len({row for row, _ in labels}) and 16 <= len(labels) <= 72
        assert all(label is not None for _, label in labels)
        assert page.errors == []


def test_undo_across_reloads_and_tabs(run, tmp_path):
    journal = tmp_path / "j.sqlite"
    with browsing() as page, serving(run, "--journal", journal, "--reviewer", "ann") as server:
        ready(page, server.address)
        a, b, c = rows_of(page)[:3]
        page.keyboard.press("k")
        saved(page)
        page.reload()
        ready(page, server.address)
        quick(page, "ArrowRight", "d")
        quick(page, "Control+z", "Control+z")
        saved(page)
        assert decisions(journal) == {} and badges(page)[:2] == [None, None]
        page.keyboard.press("Control+Shift+z")
        saved(page)
        assert list(decisions(journal)) == [a] and badges(page)[:2] == ["keep", None]

        other = page.context.new_page()
        ready(other, server.address)
        page.bring_to_front()
        page.locator(".cr-card").nth(1).click()
        page.keyboard.press("d")
        saved(page)
        other.bring_to_front()
        other.locator(".cr-card").nth(2).click()
        other.keyboard.press("u")
        saved(other)
        page.bring_to_front()
        page.keyboard.press("Control+z")  # its own step, not the other tab's
        saved(page)
        assert {row: action for row, (action, _) in decisions(journal).items()} == {a: "keep", c: "unsure"}
        assert b not in decisions(journal) and badges(page)[1] is None

        server.kill()  # both tabs have something that is not saved; one is closed
        page.locator(".cr-card").nth(5).click()
        page.keyboard.press("d")
        page.wait_for_selector(".cr-failing")
        other.bring_to_front()
        other.locator(".cr-card").nth(6).click()
        other.keyboard.press("d")
        other.wait_for_selector(".cr-failing")
        rows = rows_of(page)
        other.close()
        server.start()
        saved(page)
        page.reload()
        ready(page, server.address)
        assert {rows[5], rows[6]} <= set(decisions(journal))
        assert page.errors == []


def test_what_was_decided_elsewhere_is_seen(run, tmp_path):
    """The next page is asked for early; rows of it that are decided meanwhile are not undecided."""
    journal = tmp_path / "j.sqlite"
    with browsing() as page, serving(run, "--journal", journal, "--reviewer", "ann") as server:
        ready(page, server.address)
        page.wait_for_timeout(500)  # the next page has come
        columns = datasets.load_dataset(str(run), split="train").with_format("numpy")[:]
        flagged = np.flatnonzero(~columns["selected"])
        row = int(flagged[np.argsort(columns["clean_score"][flagged], kind="stable")][70])
        page.fill("input[name=row]", str(row))
        page.keyboard.press("Enter")
        page.wait_for_selector(f"h2:text-is('Row {row}')")
        page.keyboard.press("d")
        saved(page)
        quick(page, "Escape", "n")
        page.wait_for_function("document.querySelector('.cr-pages').textContent.startsWith('page 2')")
        assert badges(page)[6] == "drop"
        page.keyboard.press("Shift+Enter")
        saved(page)
        assert decisions(journal)[row] == ("drop", None) and len(decisions(journal)) == 64
        page.goto(server.address + "#" + "%7B%22order%22%3A%22best%22%2C%22given%22%3A99%7D")  # a view that is none
        page.reload()
        ready(page, page.url)
        assert len(rows_of(page)) == 64 and page.input_value("[data-view=order]") == "least clean"


def test_several_runs(run, tmp_path):
    from tests.conftest import hf_dataset

    curator.curate(hf_dataset(400, 5, share=0.5), method="ce", epochs=2, seed=5, output=tmp_path / "second")
    with browsing() as page, serving(run, tmp_path / "second", "--journal", tmp_path / "j.sqlite") as server:
        ready(page, server.address)
        page.select_option("[data-view=show]", "all")
        page.select_option("[data-view=order]", "disagreement")
        page.wait_for_function("document.querySelector('.cr-pages').textContent.endsWith('400 rows')")
        page.wait_for_selector(".cr-grid:not(.cr-loading)")
        card = page.locator(".cr-card").first.inner_text()
        assert "second: class" in card and "out + second" in page.inner_text("h1")


def test_the_loop_closes(digits, tmp_path):
    """Page, journal, --verified: the second run has better labels, also of rows nobody looked at or as good ones."""
    columns = datasets.load_dataset(str(digits), split="train").with_format("numpy")[:]
    truth = columns["true_label"]
    journal = tmp_path / "review.sqlite"
    with browsing() as page, serving(digits, "--journal", journal, "--reviewer", "ann") as server:
        ready(page, server.address)
        page.select_option("[data-view=show]", "all")
        page.select_option("[data-view=order]", "least sure")
        page.wait_for_function("document.querySelector('.cr-pages').textContent.endsWith('1,797 rows')")
        for number in range(2):
            page.wait_for_selector(".cr-grid:not(.cr-loading)")
            page.wait_for_function(f"document.querySelector('.cr-pages').textContent.startsWith('page {number + 1} ')")
            for row in rows_of(page):
                quick(page, str(truth[row]))
            saved(page)
            page.keyboard.press("n")
    labels = verified(journal)
    assert len(labels) == 128 and all(int(label) == truth[row] for row, label in labels.items())
    out = tmp_path / "again"
    assert main(["clean", "--method", "ce", "--epochs", "15", "--verified", str(journal), "--output", str(out)]) == 0
    before, after = (json.loads((folder / "curation.json").read_text())["metrics"] for folder in (digits, out))
    assert after["label_accuracy_after_all"] > before["label_accuracy_after_all"]
    corrected = datasets.load_dataset(str(out), split="train").with_format("numpy")["corrected_label"][:]
    reviewed = list(labels)
    assert (corrected[reviewed] == truth[reviewed]).all() and (columns["corrected_label"] != truth)[reviewed].any()
    rest = np.setdiff1d(np.arange(len(truth)), reviewed)
    assert (corrected == truth)[rest].mean() > (columns["corrected_label"] == truth)[rest].mean() - 0.005
