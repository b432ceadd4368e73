"""Junk, picture faults and rows that are there more than once: what a run says of them, and versions without leaks."""

import json
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import curator
from curator.cli.main import main
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.result.lookalikes import Part, look_alikes
from curator.result.read import Rows
from curator.result.suspects import Suspects
from curator.review.queue import Queue, View
from curator.signals.approximate import close_pairs
from tests.conftest import hf_dataset

JUNK, DARK, LEAKED = (7, 40, 77), (15, 60), (100, 101, 102)


def pooled(images: torch.Tensor) -> torch.Tensor:
    """A backbone: 6 x 6 means of every channel."""
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), 6).flatten(1)


def planted() -> datasets.DatasetDict:
    """120 rows to train on: 3 like nothing, 2 dark; 20 of a test split, of which 3 stand in train, 2 exactly."""
    train = hf_dataset(120, 3, share=0.1)
    images = train["image"][:]
    for place, row in enumerate(JUNK):
        pixels = np.zeros((12, 12, 3), np.uint8)
        pixels[4 * place : 4 * place + 3] = (255, 40 * place, 0)
        images[row] = Image.fromarray(pixels)
    for row in DARK:
        images[row] = images[row].point(lambda v: v // 8)
    test = hf_dataset(140, 3, share=0).select(range(120, 140))
    others = test["image"][:]
    for place, row in enumerate(LEAKED):
        others[place] = images[row] if place else Image.fromarray(np.asarray(images[row]) ^ 1)  # the first: nearly
    parts = {}
    for name, part, pictures in (("train", train, images), ("test", test, others)):
        rows = {"image": pictures, "label": part["label"][:], "true_label": part["true_label"][:]}
        parts[name] = datasets.Dataset.from_dict(rows, features=part.features)
    return datasets.DatasetDict(parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alike") / "run"
    curator.curate(planted(), method="ce", epochs=1, net="mlp", backbone=pooled, output=folder)
    return folder


def test_what_a_run_says(run):
    facts = json.loads((run / "curation.json").read_text())
    assert facts["leaks"] == {"rows": 3, "in": "train", "splits": {"test": 3}}
    found = pq.read_table(run / "lookalikes.parquet").to_pylist()
    assert {(r["split"], r["row"], r["kind"]) for r in found if r["leak"]} == {
        ("test", 0, "near"), ("test", 1, "exact"), ("test", 2, "exact"),
    }  # fmt: skip
    faults = pq.read_table(run / "image_issues.parquet").to_pylist()
    assert {r["row"] for r in faults if r["fault"] == "dark" and r["split"] == "train"} >= {*DARK}
    suspects = Suspects(Rows(run))
    assert {*JUNK} <= {*np.argsort(suspects.typicality)[:6].tolist()} and facts["suspect"][
        "junk"
    ] == suspects.junk.sum()
    assert suspects.junk[list(JUNK)].all() and suspects.junk.sum() < 12
    report, card = (run / "report" / "report.md").read_text(), (run / "README.md").read_text()
    assert "| test | 3 | 0, 1, 2 |" in report and "| dark |" in report and "| 7 |" in report
    assert "stand in train too | test 3 |" in card and "`typicality`" in card


def test_queues_of_the_page(run, tmp_path):
    rows = Rows(run)
    queue = Queue([rows], Journal(tmp_path / "review.sqlite", rows.facts_for_a_journal()))
    junk, leaks, faults = (queue.open(View(show=show), "ann") for show in ("junk", "leaks", "picture faults"))
    assert (np.diff(queue.suspects.typicality[junk]) >= 0).all() and {*JUNK} <= {*junk.tolist()}
    assert sorted(leaks.tolist()) == list(LEAKED) and {*DARK} <= {*faults.tolist()}
    assert queue.open(View(show="look-alikes"), "ann").tolist() == list(DARK)  # both nearly black
    assert sorted(queue.open(View(show="all", split="test"), "ann").tolist()) == list(LEAKED)
    assert queue.suspects.said(101) == ["like test 1"] and "dark" in queue.suspects.said(15)
    assert any(text.startswith("typicality 0.0") for text in queue.suspects.said(JUNK[0]))
    queue.journal.close()


@pytest.mark.parametrize("policy", ["annotate", "filter"])
def test_a_version_without_leaks(run, tmp_path, policy, capsys):
    words = ["publish", str(run), str(tmp_path / "v"), "--policy", policy, "--drop-leaks"]
    assert main(words) == 0
    assert "left out: 3 rows that stand in the training split" in capsys.readouterr().err
    test, train = (pq.read_table(next((tmp_path / "v" / "data").glob(f"{s}-*"))) for s in ("test", "train"))
    assert test["row"].to_pylist() == list(range(3, 20)) and {*LEAKED} <= {*train["row"].to_pylist()} | {100}
    assert "| rows left out that stand in the training split | 3 |" in (tmp_path / "v" / "README.md").read_text()


def test_a_split_of_leaks_alone_is_left_out(tmp_path, capsys):
    """A file without rows would stop load_dataset for all splits."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    x = (4 * np.eye(3, 8)[labels] + rng.normal(size=(90, 8))).astype(np.float32)
    train = datasets.Dataset.from_dict({"x": x.tolist(), "label": labels.tolist()})
    curator.curate(
        datasets.DatasetDict({"train": train, "test": train.select(range(20))}), "linear", features_column="x",
        output=tmp_path / "run",
    )  # fmt: skip
    assert main(["publish", str(tmp_path / "run"), str(tmp_path / "v"), "--drop-leaks"]) == 0
    assert "20 rows that stand in the training split, which are all of test" in capsys.readouterr().err
    for config in ("default", "clean"):
        assert list(datasets.load_dataset(str(tmp_path / "v"), config)) == ["train"]


def test_leaks_that_nobody_looked_for(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "old")
    facts = json.loads((tmp_path / "old" / "curation.json").read_text())
    facts.pop("leaks")
    (tmp_path / "old" / "curation.json").write_text(json.dumps(facts))
    assert main(["publish", str(tmp_path / "old"), str(tmp_path / "v"), "--drop-leaks"]) == 2
    assert "--drop-leaks" in capsys.readouterr().err and not (tmp_path / "v").exists()


def test_groups_across_splits():
    hashes = np.array([1, 2, 2, 3, 9], np.uint64)
    parts = {
        "test": Part(np.arange(5), hashes, None),
        "train": Part(np.arange(2) + 7, np.array([3, 4], np.uint64), None),
    }
    found, conflicts = look_alikes(parts, np.array([0, 0, 1, 0, 0]))
    assert found.training == "train" and not found.by_features
    assert [(found.splits[s], int(r)) for s, r in zip(found.split, found.rows, strict=True)] == [
        ("test", 1), ("test", 2), ("test", 3), ("train", 7),
    ]  # fmt: skip
    assert found.leak.tolist() == [False, False, True, False]  # of the curated split: train is the other one
    assert found.facts()["leaks"] == {"rows": 1, "in": "train", "splits": {"test": 1}}
    assert found.facts()["look_alikes"] == {"rows": 2, "groups": 1, "near": False}
    assert conflicts.positions.tolist() == [1, 2]


def test_faiss_finds_the_near_pairs():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 96, generator=rng) + 5
    x[1000:1100] = x[:100] + 0.1 * torch.randn(100, 96, generator=rng)
    x[2000] = x[2001] = x[5]
    found = {tuple(pair) for pair in close_pairs(x, 0.92).tolist()}
    wanted = {(i, i + 1000) for i in range(100)} | {(5, 2000), (5, 2001), (2000, 2001), (1005, 2000), (1005, 2001)}
    assert len(found & wanted) > 0.97 * len(wanted) and len(found - wanted) == 0


def test_files_of_strangers(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    table = pq.read_table(run / "lookalikes.parquet")
    index = table.column_names.index("row")
    pq.write_table(
        table.set_column(index, "row", [np.full(len(table), 10**9)]), tmp_path / "run" / "lookalikes.parquet"
    )
    with pytest.raises(CuratorError, match="rows that the run does not have"):
        Suspects(Rows(tmp_path / "run")).groups  # noqa: B018
    (tmp_path / "run" / "image_issues.parquet").write_bytes(b"x")
    with pytest.raises(CuratorError, match="cannot be read"):
        Suspects(Rows(tmp_path / "run")).faults  # noqa: B018
