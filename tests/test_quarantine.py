"""Rows that cannot be used keep their place; images that do not fit are streamed; alike rows with different labels."""

import json
import time
from contextlib import closing

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, DatasetDict, Image, Value, load_dataset

from curator import curate
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.audit import draw_sample
from curator.publish.build import publish_folder
from curator.result.duplicates import conflicting_duplicates, near_pairs
from curator.result.read import Rows
from curator.review.queue import ORDERS, Queue, View, order
from tests.conftest import hf_dataset

QUICK = {"method": "ce", "net": "small", "method.epochs": 2, "method.batch_size": 16, "mixed_precision": "no"}
BAD = {3: "the label is missing", 7: "the image cannot be decoded", 20: "there is no image"}


def spoilt(n: int = 80, true_label: bool = False) -> Dataset:
    """Images of three classes; three rows cannot be used, and rows 40 and 41 are one image with two labels."""
    ds = hf_dataset(n).cast_column("image", Image(decode=False))
    columns = ds.to_dict()
    columns["label"][3] = None
    columns["image"][7], columns["image"][20] = {"bytes": b"<html>", "path": None}, None
    columns["image"][41], columns["label"][40], columns["label"][41] = columns["image"][40], 0, 1
    found = Dataset.from_dict(columns, features=ds.features)
    return found if true_label else found.remove_columns("true_label")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quarantine")
    splits = DatasetDict(train=spoilt(true_label=True), test=spoilt(true_label=True).select(range(30)))
    done = curate(splits, output=str(folder / "run"), **QUICK)
    return folder / "run", done


def test_rows_keep_their_place_and_are_listed(run):
    folder, done = run
    loaded = load_dataset(str(folder))
    assert len(loaded["train"]) == 80 and loaded["train"]["row"][:] == list(range(80))
    for split, bad in (("train", BAD), ("test", BAD)):
        rows = loaded[split].cast_column("image", Image(decode=False))
        for name in ("clean_score", "selected", "corrected_label", "teacher_soft_label"):
            assert [i for i, v in enumerate(rows[name]) if v is None] == list(bad), (split, name)
    assert rows["image"][7]["bytes"] == b"<html>" and rows["label"][3] is None  # as they were
    listed = pq.read_table(folder / "quarantine.parquet").to_pylist()
    # Other splits may have rows without a label.
    assert [(r["split"], r["row"]) for r in listed] == [*(("train", i) for i in BAD), ("test", 7), ("test", 20)]
    assert all(r["reason"].startswith(BAD[r["row"]]) for r in listed)
    facts = json.loads((folder / "curation.json").read_text())
    assert facts["n"] == 77 and facts["quarantined"] == 5 and facts["duplicates"] == {"rows": 2, "groups": 1}
    report = (folder / "report" / "report.md").read_text()
    assert "5 rows could not be used" in report and "| 40, 41 | class 0, class 1 | exact |" in report
    assert done.num_rows == 80


def test_a_review_never_shows_them(run, tmp_path):
    rows = Rows(run[0])
    journal = Journal(tmp_path / "j.sqlite", {"classes": rows.classes, "dataset": "d", "split": "train"})
    queue = Queue([rows], journal)
    shown = queue.open(View(show="all"), "ann").tolist()
    assert sorted(shown) == [i for i in range(80) if i not in BAD]
    assert queue.open(View(show="duplicates", order="row"), "ann").tolist() == [40, 41]
    assert not set(queue.open(View(), "ann").tolist()) & set(BAD)
    assert not set(draw_sample(rows.selected, 80, 0, rows.present).tolist()) & set(BAD)
    assert len(rows.margin) == len(rows.confidence) == 80 and rows.features.shape[0] == 80
    assert rows.soft(np.array([6, 7])).sum(1).round(3).tolist() == [1, 0]
    journal.close()


def test_verified_rows_come_back_although_one_cannot_be_used(run, tmp_path):
    """The journal's sample of rows holds broken ones, and one of them was verified."""
    rows = Rows(run[0])
    facts = {"classes": rows.classes, "dataset": "dataset", "split": "train", "digests": rows.digests(list(range(80)))}
    with closing(Journal(tmp_path / "j.sqlite", facts)) as journal:
        steps = [{"key": str(i), "kind": "do", "rows": [(i, "relabel", "class 1")]} for i in (7, 9, 11)]
        journal.save(steps, "ann")
    curate(spoilt(true_label=True), output=str(tmp_path / "again"), verified=tmp_path / "j.sqlite", **QUICK)
    again = Rows(tmp_path / "again")
    assert set(again.trusted) == {9, 11} and not again.present[7]


def test_labels_that_mean_none(tmp_path):
    """-100 is what torch ignores; such rows pass through every order of the page and every policy."""
    ds = hf_dataset(60).remove_columns("true_label").cast_column("label", Value("int64"))
    values = ds["label"][:]
    values[5] = -100
    ds = ds.remove_columns("label").add_column("label", values)
    curate(ds, output=str(tmp_path / "run"), **QUICK)
    rows = Rows(tmp_path / "run")
    assert rows.given[5] == -1 and all(len(order([rows], name)) == 60 for name in ORDERS)
    publish_folder(tmp_path / "run", tmp_path / "v", "relabel", say=print)
    assert load_dataset(str(tmp_path / "v"), "default", split="train")["label"][5] == -100


@pytest.mark.parametrize("policy", ["annotate", "relabel", "filter"])
def test_versions_keep_or_drop_them(run, tmp_path, policy):
    publish_folder(run[0], tmp_path / "v", policy, say=print)
    version = load_dataset(str(tmp_path / "v"), "default", split="train")
    if policy == "filter":
        assert not set(version["row"]) & set(BAD)
        return
    assert version["row"][:] == list(range(80)) and version["label"][3] is None
    clean = load_dataset(str(tmp_path / "v"), "clean", split="train")
    assert not set(clean["row"]) & set(BAD)


def test_too_many_stop_the_run(tmp_path):
    ds = spoilt(50)
    with pytest.raises(CuratorError, match=r"3 of 50 rows cannot be used \(row 3: the label is missing\).*allow_quar"):
        curate(ds, output=str(tmp_path / "run"), **QUICK)
    assert not (tmp_path / "run").exists()
    found = curate(ds, output=str(tmp_path / "run"), allow_quarantine=True, **QUICK)
    assert found["selected"][3] is None and found["selected"][4] is not None


def test_good_rows_have_no_quarantine(tmp_path):
    curate(hf_dataset(60), output=str(tmp_path / "run"), **QUICK)
    assert not (tmp_path / "run" / "quarantine.parquet").exists()
    assert not (tmp_path / "run" / "duplicates.parquet").exists()


@pytest.mark.parametrize("method, own", [
    ("ce", {}),
    ("promix", {"method.warmup": 1, "method.gamma_ramp": 1, "method.lambda_u_ramp": 1, "method.lga_epochs": 1}),
    ("dividemix", {"method.warmup": 1, "method.warmup_batch": 16}),
])  # fmt: skip
def test_streamed_and_resident_give_the_same_bytes(tmp_path, method, own):
    settings = {**QUICK, "method": method, **own}
    for name, budget in (("held", 1.0), ("streamed", 1e-6)):
        curate(spoilt(true_label=True), output=str(tmp_path / name), memory_budget=budget, **settings)
    held, streamed = ([p.read_bytes() for p in sorted((tmp_path / n / "data").iterdir())] for n in ("held", "streamed"))
    assert held == streamed


def test_frozen_features_leave_broken_images_out(tmp_path, monkeypatch):
    (tmp_path / "tiny_backbone.py").write_text("def net(x):\n    return x.float().mean((2, 3)).repeat(1, 2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = {**QUICK, "net": "mlp", "backbone": "tiny_backbone:net", "output": "run"}
    curate(spoilt(), **settings)
    rows = Rows(tmp_path / "run")
    assert np.flatnonzero(~rows.present).tolist() == list(BAD) and (rows.duplicates[[40, 41]] >= 0).all()
    assert rows.features.shape == (80, 6) and not rows.features[list(BAD)].any()


# Duplicates


def test_groups_are_of_alike_rows_with_different_labels():
    hashes = np.array([5, 7, 5, 7, 9, 9, 9], np.uint64)
    found = conflicting_duplicates(np.array([0, 1, 1, 1, 2, 2, 0]), hashes, None)
    assert found.positions.tolist() == [0, 2, 4, 5, 6] and found.groups.tolist() == [0, 0, 1, 1, 1]
    assert not found.near.any()
    none = conflicting_duplicates(np.array([0, 1, 0, 1, 2, 2, 2]), hashes, None)
    assert len(none.positions) == 0


@pytest.mark.parametrize("width", [50, 1000], ids=["axes-tell-most-apart", "axes-tell-little"])
def test_near_pairs_are_those_of_all_cosines(width):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, width, generator=generator)
    x[200:260] = x[:60] + (0.15 if width == 50 else 0.35) * torch.randn(60, width, generator=generator)
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    i, j = ((unit @ unit.T) >= 0.92).nonzero(as_tuple=True)
    wanted = {(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if a < b}
    started = time.process_time()
    assert len(wanted) > 20 and {tuple(p) for p in near_pairs(x).tolist()} == wanted
    assert time.process_time() - started < 2  # pair by pair it is 4 s for the wide ones


def test_features_that_tell_nothing_have_no_near_pairs():
    flat = 5 + 0.01 * torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    assert near_pairs(flat.sign()) is None or len(near_pairs(flat.sign())) == 0
    line = torch.linspace(0.1, 1, 400)[:, None].repeat(1, 2) * torch.tensor([1.0, 2.0])
    labels, hashes = np.arange(400) % 2, np.arange(400).astype(np.uint64)
    hashes[7] = hashes[8]
    found = conflicting_duplicates(labels, hashes, line)  # half of the rows are near the other half
    assert found.positions.tolist() == [7, 8] and not found.near.any()


def test_near_rows_with_different_labels():
    x = torch.eye(6)
    x[4], x[5] = x[0] + 0.01, x[1]
    found = conflicting_duplicates(np.array([0, 1, 2, 0, 1, 1]), np.array([1, 2, 3, 4, 5, 2], np.uint64), x)
    assert found.positions.tolist() == [0, 4] and found.near.all()  # 1 and 5 have one label
    found = conflicting_duplicates(np.array([0, 1, 2, 0, 0, 0]), np.array([1, 2, 3, 4, 5, 2], np.uint64), x)
    assert found.positions.tolist() == [1, 5] and not found.near.any()
