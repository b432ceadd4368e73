"""What a version holds: an imagefolder, and a card with the source's own and what reviewers measured."""

import csv
import json
import shutil
from contextlib import closing
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Image
from huggingface_hub import DatasetCard

import curator
from curator.cli.main import main
from curator.publish.imagefolder import folder_names
from curator.publish.policy import verdict
from curator.result.read import Rows
from curator.review.session import Session
from tests.conftest import hf_dataset
from tests.review.serving import shown


def table_of(card: str) -> dict[str, str]:
    """Rows of the card's tables of two columns."""
    lines = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1] for cells in lines if len(cells) == 2}


@pytest.mark.parametrize("policy", ["annotate", "relabel", "filter"])
def test_an_imagefolder_has_the_original_bytes(run, tmp_path, policy):
    for name in ("parquet", "imagefolder"):
        argv = ["publish", str(run), str(tmp_path / name), "--policy", policy, "--format", name]
        assert main(argv) == 0
    folder, wanted = tmp_path / "imagefolder", datasets.load_dataset(str(tmp_path / "parquet"))
    found = datasets.load_dataset(str(folder))
    lines = list(csv.DictReader(open(folder / "labels.csv", newline="")))  # noqa: SIM115
    assert {*found} == {*wanted} == {"train", "test"}
    for split, rows in wanted.items():
        raw = rows.cast_column("image", Image(decode=False))
        here = {int(line["row"]): line for line in lines if line["split"] == split}
        assert list(here) == rows["row"][:] and found[split].num_rows == len(rows)
        for row, image, label in zip(rows["row"], raw["image"], rows["label"], strict=True):
            assert (folder / here[row]["file"]).read_bytes() == image["bytes"]
            assert here[row]["label"] == f"kind {label}" == Path(here[row]["file"]).parent.name
    names = found["train"].features["label"].names
    labels = {f"kind {label}" for label in wanted["train"]["label"]}
    assert set(names) == labels
    clean = {int(line["row"]) for line in lines if line["clean"] == "True"}
    everything = ["publish", str(run), str(tmp_path / "kept"), "--policy", policy]
    assert main(everything) == 0
    assert sorted(clean) == datasets.load_dataset(str(tmp_path / "kept"), "clean", split="train")["row"][:]
    given = dict(zip(*(datasets.load_dataset(str(run), split="train")[c][:] for c in ("row", "label")), strict=True))
    assert all(line["given"] == f"kind {given[int(line['row'])]}" for line in lines if line["split"] == "train")
    card = (folder / "README.md").read_text()
    assert "labels.csv" in card and '"clean"' not in card
    assert main(["publish", str(run), str(folder), "--policy", policy, "--format", "imagefolder", "--overwrite"]) == 0


def test_folders_of_hostile_classes():
    names = ["cat", "Cat", "../../etc", "a/b", "", "..", "x" * 10_000, "x" * 9_999, "__x", "%", "naïve 漢字", "con:*?"]
    found = folder_names(names)
    assert len({name.lower() for name in found}) == len(names)
    assert all(name and "/" not in name and name[0] not in "._ " for name in found)
    names = ["漢" * 500, "漢" * 501]
    assert all(len(name.encode()) < 255 for name in (*found, *folder_names(names)))
    assert found[0] == "cat" and found[10] == "naïve 漢字" and found[3] == "a%2Fb"


def test_no_imagefolder_without_images_or_on_the_hub(run, tmp_path, capsys):
    from datasets import Dataset

    rng = np.random.default_rng(0)
    rows = Dataset.from_dict({"e": rng.normal(size=(60, 4)).astype("float32").tolist(), "label": [0, 1, 2] * 20})
    curator.curate(rows, method="ce", epochs=1, features_column="e", output=tmp_path / "out")
    assert main(["publish", str(tmp_path / "out"), str(tmp_path / "p"), "--format", "imagefolder"]) == 2
    assert "the run has no images" in capsys.readouterr().err
    assert main(["publish", str(run), "me/data", "--format", "imagefolder"]) == 2
    assert "--format imagefolder is for folders" in capsys.readouterr().err
    assert main(["publish", str(run), str(tmp_path / "p"), "--format", "imagfolder"]) == 2
    assert "did you mean 'imagefolder'" in capsys.readouterr().err


OWN = """---
license: other
license_name: our-terms
license_link: https://example.org/terms
language: en
---

# Pets

Drawn by hand. See [terms](https://example.org/terms).

## Use

Feed them.
"""


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A run on a folder that has a card and known truth, with an audit and two decisions."""
    source, out = tmp_path_factory.mktemp("pets") / "pets", tmp_path_factory.mktemp("run") / "out"
    source.mkdir()
    rows = hf_dataset(150, 3, 0.3).cast_column("label", ClassLabel(names=["cat|x", "dog", "<b>"]))
    rows.to_parquet(source / "train.parquet")
    (source / "README.md").write_text(OWN)
    argv = ["clean", "--dataset", str(source), "--method", "ce", "--method.epochs", "2", "--output", str(out)]
    assert main(argv) == 0
    return out


def test_the_card_keeps_the_source_and_tells_the_noise(pets, tmp_path):
    session = Session([pets])
    truth, rows = session.rows.truth, session.rows
    with closing(session.journal):
        sample = session.audit({"size": 40, "seed": 1}, "ann")
        steps = [
            {
                "key": f"audit-step-{row}",
                "kind": "audit",
                "audit": sample["audit"],
                "row": row,
                "label": int(truth[row]),
            }
            for row in sample["rows"]
        ]
        page = {"reviewer": "ann", "journal": session.journal.facts["id"], "run": rows.verdict}
        wrong = np.flatnonzero(rows.given != truth)[:2]
        steps.append({"key": "decisions", "kind": "do", "rows": [[int(i), "relabel", int(truth[i])] for i in wrong]})
        assert not session.save({**page, "steps": steps}, "ann")["refused"]
        measured = session.audit_result({}, "ann")["before"]
    for policy in ("annotate", "relabel", "filter"):
        target = tmp_path / policy
        assert main(["publish", str(pets), str(target), "--policy", policy, "--min-confidence", "0.5"]) == 0
        card, facts = DatasetCard.load(target / "README.md"), json.loads((target / "curation.json").read_text())
        assert card.data.license == "other" and card.data.license_name == "our-terms"
        assert card.data.license_link == "https://example.org/terms"
        body = OWN.split("---\n")[2].strip()
        assert card.text.strip().endswith(body) and card.text.count("# Pets") == 1
        said, told = facts["published"], table_of(card.text)
        after = said["audits"][0]["after"]
        assert f"{said['labels_changed']:,} of" in card.data["rai:dataAnnotationProtocol"]
        assert f"{100 * after['low']:.1f}" in card.data["rai:dataLimitations"].replace(" ", "")
        version = datasets.load_dataset(str(target), split="train").with_format("numpy")[:]
        before, after = (rows.given != truth).mean(), (version["label"] != version["true_label"]).mean()
        assert said["wrong"] == pytest.approx([before, after])
        assert (
            told["wrong labels, against the known truth"] == f"{100 * before:.1f} % before, {100 * after:.1f} % after"
        )
        (audit,) = said["audits"]
        assert audit["before"] == measured and audit["after"]["estimate"] == pytest.approx(after, abs=0.15)
        line = told["wrong labels, by a blind audit of 40 rows (ann)"]
        assert f"{100 * measured['estimate']:.1f} % before (95 % interval " in line and " after (95 % interval " in line
        if policy == "annotate":
            assert audit["after"] == audit["before"] and after == before
        else:
            assert after < before
        pairs = {}
        now = rows.suggested[version["row"]] if policy == "annotate" else version["label"]
        for a, b in zip(rows.given[version["row"]], now, strict=True):
            pairs[a, b] = pairs.get((a, b), 0) + (a != b)
        (a, b), count = max(pairs.items(), key=lambda item: item[1])
        names = ["cat\\|x", "dog", "&lt;b&gt;"]
        assert not count or f"| {names[a]} | {names[b]} | {count} |" in card.text
    run_card = DatasetCard.load(pets / "README.md")
    assert run_card.text.strip().endswith("Feed them.") and run_card.data.license_name == "our-terms"


def test_a_version_is_a_source_again(pets, tmp_path):
    """What was published is a dataset: it can be curated, and its card goes along."""
    assert main(["publish", str(pets), str(tmp_path / "v1"), "--policy", "relabel"]) == 0
    argv = ["clean", "--dataset", str(tmp_path / "v1"), "--method", "ce", "--method.epochs", "1"]
    argv += ["--config-name", "clean", "--overwrite-columns", "--label-column", "label"]
    assert main([*argv, "--output", str(tmp_path / "out")]) == 0
    assert main(["publish", str(tmp_path / "out"), str(tmp_path / "v2"), "--policy", "annotate"]) == 0
    card = DatasetCard.load(tmp_path / "v2" / "README.md")
    assert card.text.count("Feed them.") == 1 and card.data.license == "other"


def test_a_license_that_is_not_known_is_said(run, pets, hub, capsys):
    assert main(["publish", str(run), "me/curated"]) == 0
    assert "the license of the source is not known" in capsys.readouterr().err
    assert "license" not in DatasetCard.load("me/curated").data.to_dict()
    assert main(["publish", str(pets), "me/pets"]) == 0
    assert "license" not in capsys.readouterr().err


def test_the_license_and_the_card_of_a_dataset_on_the_hub(hub, tmp_path, run):
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("me/pets", repo_type="dataset")
    hf_dataset(60, 3).to_parquet(tmp_path / "train.parquet")
    for name, content in {"train.parquet": tmp_path / "train.parquet", "README.md": OWN.encode()}.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="me/pets", repo_type="dataset")
    argv = ["clean", "--dataset", "me/pets", "--method", "ce", "--method.epochs", "1", "--output", str(tmp_path / "o")]
    assert main(argv) == 0
    card = DatasetCard.load(tmp_path / "o" / "README.md")
    assert card.data.license_name == "our-terms" and card.text.strip().endswith("Feed them.")
    assert card.data.source_datasets == ["me/pets"]


def test_a_journal_of_other_rows(run, tmp_path, capsys):
    """The same classes and split, but the rows are in another order: no decision may land on another row."""
    rows = datasets.load_dataset(str(run)).remove_columns(
        ["clean_score", "selected", "corrected_label", "teacher_soft_label", "row", "typicality", "ambiguous"]
    )
    shuffled = datasets.DatasetDict({"train": rows["train"].shuffle(seed=1), "test": rows["test"]})
    curator.curate(shuffled, method="ce", epochs=1, output=tmp_path / "out")
    shutil.copy(run / "review.sqlite", tmp_path / "out")
    assert main(["publish", str(tmp_path / "out"), str(tmp_path / "p")]) == 2
    said = capsys.readouterr().err
    assert "about other images or texts, or in another order, than" in said and "--undo moves them back" in said
    assert main(["publish", str(tmp_path / "out"), str(tmp_path / "p"), "--journal", str(run / "review.sqlite")]) == 2
    with pytest.raises(curator.CuratorError, match="another order"):
        Session([tmp_path / "out"])
    with pytest.raises(curator.CuratorError, match="another order"):
        curator.curate(shuffled, method="ce", epochs=1, verified=run / "review.sqlite", output=tmp_path / "t")
    curator.curate(rows, method="ce", epochs=1, verified=run, output=tmp_path / "t", limit_rows=150)  # a sample fits


def test_what_a_dry_run_says(run, hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own pauses

    def said(*words: str) -> str:
        assert main(["publish", str(run), *words, "--dry-run"]) == 0
        return capsys.readouterr().err.splitlines()[-1]

    assert said("me/curated").endswith("would be written to me/curated; 0 of its files would be removed")
    assert main(["publish", str(run), "me/curated", "--policy", "filter"]) == 0
    assert said("me/curated", "--policy", "filter").startswith("0 files, 0.0 MiB, would be written to me/curated")
    assert not said("me/curated").startswith("0 files")
    assert said("me/curated", "--branch", "none").split()[0] == said(str(tmp_path / "new")).split()[0]
    assert main(["publish", str(run), str(tmp_path / "v"), "--policy", "relabel"]) == 0
    assert said(str(tmp_path / "v")).startswith("0 files") and len(hub.repos["me/curated"].commits) == 2
    changed = said(str(tmp_path / "v"), "--policy", "filter")
    assert (
        not changed.startswith("0 files") and " 3 of its files would be removed" in changed
    )  # clean/train, contact sheet, HTML
    hub.fail("GET", "/api/datasets/me/curated", 503, times=1000)
    assert "could not be asked" in said("me/curated")


def test_what_appears_meanwhile_is_not_replaced(run, tmp_path, monkeypatch):
    import curator.publish.build as version

    target, write = tmp_path / "v", version._write_data

    def slowly(*args):
        target.mkdir()
        (target / "mine.txt").write_text("mine")
        write(*args)

    monkeypatch.setattr(version, "_write_data", slowly)
    assert main(["publish", str(run), str(target)]) == 2
    assert (target / "mine.txt").read_text() == "mine" and list(tmp_path.iterdir()) == [target]


def test_a_version_is_no_run(run, tmp_path, capsys):
    assert main(["publish", str(run), str(tmp_path / "v")]) == 0
    for words in (["publish", str(tmp_path / "v"), str(tmp_path / "w")], ["import", str(tmp_path / "v"), __file__]):
        assert main(words) == 2
    assert "this is a published version" in capsys.readouterr().err
    with pytest.raises(curator.CuratorError, match="this is a published version"):
        Session([tmp_path / "v"])


def test_a_filtered_version_shows_nothing_of_the_rows_left_out(run, tmp_path):
    assert main(["publish", str(run), str(tmp_path / "all"), "--policy", "relabel"]) == 0
    assert (tmp_path / "all" / "report" / "contact_sheet.png").exists()
    target = tmp_path / "v"
    assert main(["publish", str(run), str(target), "--policy", "filter"]) == 0
    rows = set(datasets.load_dataset(str(target), split="train")["row"])
    with open(target / "issues.csv", newline="") as file:
        assert {int(line["row"]) for line in csv.DictReader(file)} <= rows
    report = (target / "report" / "report.md").read_text()
    assert not (target / "report" / "contact_sheet.png").exists() and "contact_sheet" not in report
    assert "(matrix.png)" in report


def test_parquet_as_the_hub_likes_it(run, tmp_path):
    """Of a run and of a version: one file a split, row groups of 100, and an index of pages in every column."""
    import pyarrow.parquet as pq

    assert main(["publish", str(run), str(tmp_path / "v")]) == 0
    for folder in (run / "data", tmp_path / "v" / "data", tmp_path / "v" / "clean"):
        (path,) = folder.glob("train-*")
        groups = [pq.ParquetFile(path).metadata.row_group(i) for i in range(2)]
        assert folder.name == "clean" or [group.num_rows for group in groups] == [100, 100]
        assert all(g.column(c).has_offset_index for g in groups for c in range(g.num_columns))


def test_an_imagefolder_needs_every_image(run, tmp_path, capsys, monkeypatch):
    import pyarrow.parquet as pq

    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    (path,) = (copied / "data").glob("train-*")
    table = pq.read_table(path)
    images = table["image"].to_pylist()
    images[7] = None
    place = table.column_names.index("image")
    field = table.schema.field("image")
    pq.write_table(table.set_column(place, field, __import__("pyarrow").array(images, field.type)), path)
    (copied / "review.sqlite").unlink()
    argv = ["publish", str(copied), str(tmp_path / "v"), "--policy", "annotate", "--format", "imagefolder"]
    assert main(argv) == 2 and "row 7 of split 'train' has no image" in capsys.readouterr().err


def test_a_column_name_is_text_in_the_card(tmp_path):
    name = "my`\n\n# H <img src=x>"
    rows = hf_dataset(60, 3).remove_columns("true_label").rename_column("label", name)
    curator.curate(rows, method="ce", epochs=1, output=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "\n# H" not in card and "<img" not in card


def test_only_people_are_experts(run, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    (copied / "review.sqlite").unlink()
    (tmp_path / "issues.csv").write_text("is_label_issue,predicted_label,row\nTrue,kind 1,3\n")
    assert main(["import", str(copied), str(tmp_path / "issues.csv")]) == 0
    for name, people in (("v", False), ("w", True)):
        assert main(["publish", str(copied), str(tmp_path / name)]) == 0
        assert ("expert-generated" in (tmp_path / name / "README.md").read_text()) == people
        (tmp_path / "ann.csv").write_text("row,label\n3,kind 1\n")
        assert main(["import", str(copied), str(tmp_path / "ann.csv")]) == 0


def test_two_right_labels(run, tmp_path):
    """The second is in the column `also`, the given one stays; which of two is right no net decides."""
    copied = shutil.copytree(run, tmp_path / "run")
    session = Session([copied])
    with closing(session.journal):
        given, decided = session.rows.given, session.queue.decided(None)
        first, second = (int(row) for row in np.flatnonzero(~decided)[:2])
        steps = [[row, "both", int(given[row] + 1) % 5] for row in (first, second)]
        session.save({**shown(session), "steps": [{"key": "two-labels", "kind": "do", "rows": steps}]}, "ann")
    for policy in ("annotate", "relabel"):
        assert main(["publish", str(copied), str(tmp_path / policy), "--policy", policy]) == 0
        found = datasets.load_dataset(str(tmp_path / policy))
        rows = found["train"].with_format("numpy")[:]
        there = {
            row: also
            for row, also in zip(rows["row"].tolist(), found["train"]["also"][:], strict=True)
            if also is not None
        }
        assert there == {row: int(given[row] + 1) % 5 for row in (first, second)}
        assert [rows["label"][row] for row in (first, second)] == [given[row] for row in (first, second)]
        assert found["train"].features["also"].names == found["train"].features["label"].names
        assert found["test"]["also"][:] == [None] * 30
    assert json.loads((tmp_path / "relabel" / "curation.json").read_text())["published"]["also"] == 2
    assert "`also` | a second right label" in (tmp_path / "relabel" / "README.md").read_text()
    rows = Rows(copied)
    changed = verdict(rows, None, "relabel", 0.0).labels != rows.given
    assert changed.any()
    rows.ambiguous[:] = True
    assert not (verdict(rows, None, "relabel", 0.0).labels != rows.given).any()
