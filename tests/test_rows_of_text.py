"""Rows of text all the way: the result, the page, decisions, an audit, a version, and the next run."""

import csv
import re
from contextlib import closing

import datasets
import pytest
from datasets import DatasetDict

import curator
from curator.cli.main import main
from curator.errors import CuratorError
from curator.result.read import Rows
from curator.review.session import SHORT, Session
from tests.review.serving import browsing, ready, saved, serving, shown
from tests.texts import HOSTILE, encode, text_rows

LOST = 3  # a row without words


def rows() -> DatasetDict:
    data = text_rows(90)
    texts = data["text"][:]
    texts[LOST] = " \n"
    feature = data.features["text"]
    data = data.remove_columns("text").add_column("text", texts, feature=feature)
    return DatasetDict({"train": data, "test": data.select(range(30))})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on texts, with a split that is scored."""
    folder = tmp_path_factory.mktemp("texts") / "run"
    curator.curate(
        rows(), "ce", epochs=2, backbone=encode, text_column="text", reference_column="true_label",
        allow_quarantine=True, flag_worst=40, output=folder,
    )  # fmt: skip
    return folder


def test_the_result(run):
    whole = datasets.load_dataset(str(run))
    given = rows()
    for split in ("train", "test"):
        assert whole[split]["text"][:] == given[split]["text"][:] and whole[split]["clean_score"][LOST] is None
        assert all(score is not None for i, score in enumerate(whole[split]["clean_score"][:]) if i != LOST)
    found = Rows(run)
    assert found.facts["text_column"] == "text" and found.facts["image_column"] is None
    assert set(found.row[found.duplicates >= 0]) >= {88, 89}  # the same text, two labels
    with open(run / "issues.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 40 and all(line["text"] == given["train"]["text"][int(line["row"])] for line in lines)
    report = (run / "report" / "report.md").read_text()
    assert "| train | 3 |  | the text is empty |" in report and "contact_sheet" not in report
    table = report.partition("## The least clean rows")[2].partition("##")[0]
    assert [line.split(" | ")[0] for line in table.splitlines()[4:44]] == [f"| {line['row']}" for line in lines]
    assert "<img" not in report and "<script" not in report
    card = (run / "README.md").read_text()
    assert "task_categories:\n- text-classification" in card and "image" not in card.partition("## Provenance")[0]


def test_the_page(run, tmp_path):
    """What the browser is given: the words of a row, cut in the grid, whole in the large view, and its neighbours'."""
    session = Session([run], tmp_path / "j.sqlite")
    said = rows()["train"]["text"][:]
    with closing(session.journal):
        hello = session.hello({}, "ann")
        assert hello["texts"] and not hello["images"]
        cards = session.page({"token": session.open({"show": "all"}, "ann")["token"], "number": 0}, "ann")["cards"]
        (first,) = (card for card in session.cards(session.rows.positions([0]), "ann"))
        assert len(HOSTILE) > SHORT == len(first["text"]) and HOSTILE.startswith(first["text"][:-1])
        assert all(card["text"] == said[card["row"]] and card["image"] is None for card in cards if card["row"])
        detail = session.detail({"row": 0}, "ann")
        near = [card for group in detail["near"] for card in group["cards"]]
        assert detail["text"] == HOSTILE and near
        assert all(card["text"] == said[card["row"]][:SHORT] for card in near)
        asked = session.pictures({"rows": [0, 5]}, "ann")
        assert asked["texts"] == {"0": HOSTILE, "5": said[5]} and asked.keys() == {"images", "texts"}


def test_decisions_go_the_way_of_those_on_images(run, tmp_path, capsys):
    """Import, an audit, a version, the difference to it, and a run that trusts the journal, but on no other texts."""
    journal, labels = tmp_path / "j.sqlite", tmp_path / "ann.csv"
    truth = text_rows(90)["true_label"][:]
    names = text_rows(3).features["label"].names
    flagged = Rows(run).row[~Rows(run).selected].tolist()[:10]
    labels.write_text("row,label\n" + "".join(f"{row},{names[truth[row]]}\n" for row in flagged))
    assert main(["import", str(run), str(labels), "--journal", str(journal), "--reviewer", "ann"]) == 0
    session = Session([run], journal)
    with closing(session.journal):
        sample = session.audit({"size": 20, "seed": 1}, "ann")
        for row in sample["rows"]:
            step = {
                "kind": "audit",
                "audit": sample["audit"],
                "row": row,
                "label": truth[row],
                "key": f"audit-{row:04}",
            }
            session.save({**shown(session), "steps": [step]}, "ann")
        assert session.audit_result({}, "ann")["before"]["estimate"] > 0
    version = tmp_path / "version"
    assert main(["publish", str(run), str(version), "--policy", "relabel", "--journal", str(journal)]) == 0
    published = datasets.load_dataset(str(version), split="train")
    assert published["text"][:] == rows()["train"]["text"][:]
    assert [published["label"][row] for row in flagged] == [truth[row] for row in flagged]
    capsys.readouterr()
    assert main(["diff", str(run), str(version)]) == 0
    assert re.search(r"labels +[1-9]\d* of 90 differ", capsys.readouterr().out)
    assert main(["publish", str(run), str(tmp_path / "images"), "--format", "imagefolder"]) == 2
    assert "--format imagefolder: the run has no images" in capsys.readouterr().err
    again = {"method": "ce", "epochs": 1, "backbone": encode, "text_column": "text", "allow_quarantine": True}
    done = curator.curate(rows(), **again, verified=journal, output=tmp_path / "again")
    assert [done["corrected_label"][row] for row in flagged] == [truth[row] for row in flagged]
    turned = rows()["train"].select(range(89, -1, -1))
    with pytest.raises(CuratorError, match="other images or texts, or in another order"):
        curator.curate(turned, **again, verified=journal, output=tmp_path / "other")


@pytest.mark.slow
def test_a_review_of_texts(run, tmp_path):
    """In Chromium: the words of strangers are words; keys decide; the audit shows the text and no label."""
    journal = tmp_path / "review.sqlite"
    with browsing() as page, serving(run, "--journal", journal, "--reviewer", "ann") as server:
        ready(page, server.address)
        assert page.locator(".cr-card .cr-text").count() == 40
        page.select_option("[data-view=show]", "all")
        page.select_option("[data-view=order]", "row")
        page.wait_for_selector(".cr-card[data-row='0']")
        assert len(page.inner_text(".cr-card[data-row='0'] .cr-text")) <= SHORT
        page.dblclick(".cr-card[data-row='0'] .cr-text")
        page.wait_for_selector(".cr-panel .cr-strip .cr-text")
        assert page.text_content(".cr-large-picture .cr-text") == HOSTILE
        assert page.locator(".cr-panel img").count() == 0 and page.evaluate("window.hacked") is None
        page.keyboard.press("k")
        saved(page)
        page.keyboard.press("Escape")
        page.click("[data-do=audit]")
        page.click("text=Start")
        page.wait_for_selector(".cr-audit .cr-text")
        assert page.text_content(".cr-audit .cr-text") in rows()["train"]["text"][:]
    with closing(Session([run], journal).journal) as kept:
        assert kept.decision(0, "ann").action == "keep"
