"""Runs on frozen features and of several methods, from the flags to the output folder."""

import json
import re
import shlex
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest

import curator
from curator.cli.main import main
from curator.engine.run import Run
from curator.review.session import Session
from tests.conftest import hf_dataset, noisy, with_plots
from tests.test_processes import finish, start, torchrun

# Every call is written down; a pause makes a chunk long enough to be killed in.
BACKBONE = """
import os, time
def pixels(x):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{len(x)}\\n")
    time.sleep(float(os.environ.get("PAUSE", 0)))
    return x.float().flatten(1)[:, ::9] / 255
"""


@pytest.fixture
def backbone(tmp_path, monkeypatch):
    """A backbone of one's own, in a folder on the path, with a cache of features of its own."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "pixel_backbone.py").write_text(BACKBONE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    yield "pixel_backbone:pixels"
    sys.modules.pop("pixel_backbone", None)


def seen(tmp_path: Path) -> int:
    """Images that went through the backbone; the two of its fingerprint and the blank ones are left out."""
    calls = [int(line) for line in (tmp_path / "calls").read_text().split()] if (tmp_path / "calls").exists() else []
    (tmp_path / "calls").unlink(missing_ok=True)
    return sum(calls) - 2 * calls.count(2) - calls.count(1)


def source(tmp_path: Path, n: int = 203) -> Path:
    folder = tmp_path / "rows"
    folder.mkdir()
    hf_dataset(n, 3, 0.3).to_parquet(folder / "train.parquet")
    hf_dataset(40, 3, 0.1).to_parquet(folder / "test.parquet")
    return folder


NAMES = ("mixup+confident", "mixup", "confident")
QUICK = ["--epochs", "8", "--method.batch-size", "16", "--feature-drop", "0.1"]


def run(*argv) -> int:
    return main(["clean", *map(str, argv)])


def test_a_backbone(backbone, tmp_path, capsys):
    argv = ["--dataset", source(tmp_path), "--method", "confident", "--output", tmp_path / "out", *QUICK]
    assert run(*argv, "--backbone", backbone) == 0
    assert seen(tmp_path) == 243
    features = np.load(tmp_path / "out" / "features.npy", allow_pickle=False)
    rows = datasets.load_dataset(str(tmp_path / "out"))
    pixels = np.stack([np.asarray(image).transpose(2, 0, 1).reshape(-1)[::9] for image in rows["train"]["image"]])
    np.testing.assert_allclose(features.astype(np.float32), pixels / 255, atol=1e-3)
    assert features.dtype == np.float16
    assert None not in rows["test"]["selected"]
    facts = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert facts["metrics"]["noisy_f1"] > 0.75 and facts["metrics"]["test_accuracy"] > 0.5
    assert facts["settings"]["net"] == "mlp" and facts["settings"]["backbone"] == backbone
    # The same again takes none of them; a run on images leaves its net's, one that trains nothing leaves none behind.
    assert run(*argv, "--backbone", backbone, "--overwrite", "--seed", "5") == 0 and seen(tmp_path) == 0
    assert run(*argv, "--overwrite") == 0
    of_net = np.load(tmp_path / "out" / "features.npy", allow_pickle=False)
    assert len(of_net) == len(features) and of_net.dtype == np.float16 and of_net.shape != features.shape
    np.save(tmp_path / "probs.npy", np.stack(rows["train"].with_format("numpy")["teacher_soft_label"]))
    assert run(*argv, "--overwrite", "--pred-probs", tmp_path / "probs.npy") == 0
    assert not (tmp_path / "out" / "features.npy").exists() and seen(tmp_path) == 0
    capsys.readouterr()


def test_a_dry_run_looks_at_a_few_rows(backbone, tmp_path, capsys):
    """Its time is for all splits and leaves out what is kept already; it keeps nothing itself."""
    argv = ["--dataset", source(tmp_path), "--output", tmp_path / "out", "--backbone", backbone, "--dry-run"]
    assert run(*argv) == 0
    err = capsys.readouterr().err
    assert re.search(r"features  48 per row of pixel_backbone:pixels, [\d,]+ images/s: 0 s for 243 images", err)
    assert "203 rows" in err
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_a_function_that_wants_one_size(tmp_path, monkeypatch, capsys):
    """Its images have that size from the first call on, and those of other splits too."""
    (tmp_path / "flat_backbone.py").write_text(
        "import torch\nweights = torch.linspace(-1, 1, 3 * 16 * 16 * 8).view(-1, 8)\n"
        "def flat(x):\n    return x.float().flatten(1) @ weights / 100\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = source(tmp_path, 60)
    argv = ["--dataset", folder, "--method", "ce", "--epochs", "1", "--backbone", "flat_backbone:flat"]
    assert run(*argv, "--image-size", "16", "--output", tmp_path / "out") == 0
    capsys.readouterr()
    assert run(*argv, "--output", tmp_path / "no") == 2
    assert "it cannot read uint8 images of shape (2, 3, 12, 12)" in (err := capsys.readouterr().err)
    assert "it gets uint8 (b, 3, h, w), 0..255, so scale and normalise in it, as by x.float() / 255" in err
    hf_dataset(60, 3, size=16).to_parquet(folder / "train.parquet")  # the test split stays at 12 px
    assert run(*argv, "--output", tmp_path / "own") == 0
    assert None not in datasets.load_dataset(str(tmp_path / "own"))["test"]["selected"]
    sys.modules.pop("flat_backbone", None)


@pytest.mark.parametrize("test, words", [
    ([[1.0, 2.0, 3.0]] * 12, "split 'test': expected rows of shape (2,), as in split 'train', found (3,)"),
    ([[1.0, float("nan")]] * 12, "split 'test': --features-column e: expected features that are finite"),
])  # fmt: skip
def test_embeddings_of_other_splits_are_looked_at_before_the_training(test, words, tmp_path, capsys):
    for split, values in (("train", [[1.0, 2.0], [2.0, 1.0]] * 6), ("test", test)):
        datasets.Dataset.from_dict({"e": values, "label": [0, 1] * 6}).to_parquet(
            tmp_path / "rows" / f"{split}.parquet"
        )
    argv = ["--dataset", tmp_path / "rows", "--features-column", "e", "--method", "ce", "--output", tmp_path / "out"]
    assert run(*argv) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_features_of_somebody_else_are_kept(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "features.npy").write_bytes(b"mine")
    assert run("--output", tmp_path / "out", "--method", "ce", "--epochs", "1") == 2
    assert "it holds features.npy that no run of Curator wrote" in capsys.readouterr().err
    assert (tmp_path / "out" / "features.npy").read_bytes() == b"mine"


def test_a_column_of_embeddings_and_no_images(tmp_path, capsys):
    rows = {}
    for split, n in (("train", 150), ("test", 60)):
        data, truth = noisy(n, 3, kind="features", share=0.2)
        rows[split] = datasets.Dataset.from_dict(
            {"embedding": data.inputs.features.tolist(), "label": data.labels.tolist(), "true_label": truth.tolist()}
        )
        rows[split].to_parquet(tmp_path / "rows" / f"{split}.parquet")
    argv = ["--dataset", tmp_path / "rows", "--features-column", "embedding", "--method", "mixup", *QUICK]
    with with_plots():
        assert run(*argv, "--output", tmp_path / "out") == 0
    assert "3 classes; features column 'embedding', label column 'label', reference" in capsys.readouterr().err
    again = datasets.load_dataset(str(tmp_path / "out"))
    assert again["train"]["embedding"][:] == rows["train"]["embedding"][:]
    assert None not in again["test"]["clean_score"]
    facts = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert facts["image_column"] is None and facts["metrics"]["noisy_f1"] > 0.65
    features = np.load(tmp_path / "out" / "features.npy", allow_pickle=False)
    np.testing.assert_allclose(features, np.array(rows["train"]["embedding"]), rtol=1e-3, atol=1e-3)
    session = Session([tmp_path / "out"])
    opened = session.open({}, "ann")
    cards = session.page({"token": opened["token"], "number": 0}, "ann")["cards"]
    assert opened["total"] == facts["n"] - facts["selected"] and cards[0]["image"] is None
    assert session.detail({"row": cards[0]["row"]}, "ann")["near"][0]["cards"]
    report = (tmp_path / "out" / "report" / "report.md").read_text()
    assert "contact_sheet" not in report and (tmp_path / "out" / "report" / "matrix.png").exists()
    returned = curator.curate(
        datasets.DatasetDict(rows), features_column="embedding", method="mixup", output=tmp_path / "called",
        epochs=8, feature_drop=0.1, **{"method.batch_size": 16},
    )  # fmt: skip
    assert returned["selected"][:] == again["train"]["selected"][:]
    assert run(*argv, "--label-noise", "idn-class:0.2", "--output", tmp_path / "no") == 2
    assert "--label-noise idn-class:0.2: it needs images" in capsys.readouterr().err


def test_numbers_of_any_scale(tmp_path):
    """A table's columns, as square metres and years: float16 holds neither."""
    data, _ = noisy(90, 3, kind="features", share=0.2)
    found, x = [], data.inputs.features
    for scale in (1.0, 1e6):
        rows = datasets.Dataset.from_dict({"e": (x * scale + 3 * scale).tolist(), "label": data.labels.tolist()})
        rows.to_parquet(tmp_path / f"{scale}" / "train.parquet")
        argv = ["--dataset", tmp_path / f"{scale}", "--features-column", "e", "--method", "linear"]
        assert run(*argv, "--output", tmp_path / f"out{scale}") == 0
        found.append(np.array(datasets.load_dataset(str(tmp_path / f"out{scale}"), split="train")["clean_score"]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    kept = np.load(tmp_path / f"out{scale}" / "features.npy", allow_pickle=False).astype(np.float32)
    mean, std = data.inputs.moments()
    np.testing.assert_allclose(kept, ((x - mean) / std).numpy(), atol=0.02)


@pytest.mark.slow
def test_an_ensemble(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--dataset", source(tmp_path), "--epochs", "4", "--seed", "3"]
    assert run(*argv, "--ensemble", "mixup,confident") == 0
    for method in ("mixup", "confident"):
        assert run(*argv, "--method", method) == 0
    capsys.readouterr()
    both, *alone = (datasets.load_dataset(f"runs/rows-{name}")["train"].with_format("numpy") for name in NAMES)
    for column in ("clean_score", "teacher_soft_label"):
        mean = np.mean([np.stack(rows[:][column]) for rows in alone], 0)
        np.testing.assert_allclose(np.stack(both[:][column]), mean, atol=1e-6)
    assert (both["selected"][:] == (np.stack(both[:]["teacher_soft_label"]).argmax(1) == both["label"][:])).all()
    facts = json.loads(Path("runs/rows-mixup+confident/curation.json").read_text())
    assert facts["method"] == "mixup+confident" and facts["settings"]["method.confident.epochs"] == 4
    soft = [np.array(datasets.load_dataset(f"runs/rows-{n}")["test"]["teacher_soft_label"]) for n in NAMES]
    np.testing.assert_allclose(soft[0], np.mean(soft[1:], 0), atol=1e-6)  # the other splits, too
    # The card's command makes it again; the same command continues a run that was stopped.
    card = Path("runs/rows-mixup+confident/README.md").read_text()
    (line,) = [line for line in card.splitlines() if line.startswith("label-curator clean")]
    words = shlex.split(line)[2:]
    words[words.index("--dataset") + 1] = str(tmp_path / "rows")
    checkpoint = Run.checkpoint

    def interrupt(self):
        checkpoint(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", interrupt)
    assert run(*words, "--output", "again") == 130
    monkeypatch.setattr(Run, "checkpoint", checkpoint)
    assert run(*words, "--output", "again") == 0
    assert "continuing from mixup/train epoch 1, confident/train epoch 1" in capsys.readouterr().err
    name = "data/train-00000-of-00001.parquet"
    assert Path("again", name).read_bytes() == Path("runs/rows-mixup+confident", name).read_bytes()
    assert run(*argv, "--ensemble", "mixup,confident", "--method.lr", "1", "--output", "no") == 2
    assert "leave --method.lr out" in capsys.readouterr().err
    assert run(*argv, "--ensemble", "mixup,confident", "--max-minutes", "0", "--output", "early") == 0
    assert json.loads(Path("early/curation.json").read_text())["epochs"] == 1


@pytest.mark.slow
def test_extraction_goes_on_after_a_kill(backbone, tmp_path, monkeypatch):
    """kill -9 in the middle, then two processes that share what is left."""
    argv = ["--dataset", source(tmp_path, 2100), "--method", "ce", "--epochs", "1", "--backbone", backbone, "--output"]

    def kept_chunks() -> int:
        return sum("measures" not in path.name for path in (tmp_path / "cache").rglob("*.npy"))

    monkeypatch.setenv("PAUSE", "0.1")
    process = start(*argv, tmp_path / "out")
    end = time.monotonic() + 120
    while kept_chunks() < 2 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = kept_chunks()
    assert kept in (2, 3) and not (tmp_path / "out" / "curation.json").exists()
    first = seen(tmp_path)
    assert first < 512 * (kept + 1)
    monkeypatch.setenv("PAUSE", "0")
    finish(start(*argv, tmp_path / "out", launcher=torchrun(2)))
    assert seen(tmp_path) == 2100 + 40 - 512 * kept
    assert kept_chunks() == 6 and not list((tmp_path / "cache").rglob("*.tmp"))
    assert np.load(tmp_path / "out" / "features.npy").shape == (2100, 48)
