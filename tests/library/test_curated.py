"""The result of curate() in a notebook, and its plan."""

import pickle
import re
import shutil

import datasets
import numpy as np
import pytest
from PIL import Image as Pil

import curator
from curator.cli.main import main
from curator.library.curated import Curated
from curator.library.plan import Plan
from tests.conftest import hf_dataset, image_folder, planted_images

EVIL = ["<script>alert(1)</script>", "'><img src=x onerror=alert(1)>", "\u202eevil" + "x" * 200]
QUICK = {"method": "ce", "epochs": 1, "flip": False}


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """The result on 48 files of classes and folders of hostile names, a quarter with a wrong label."""
    home = tmp_path_factory.mktemp("library")
    images, truth = planted_images(48, 3)
    files = [home / "pictures" / "<b>&" / f"{i}'\">.png" for i in range(48)]
    files[0].parent.mkdir(parents=True)
    for pixels, file in zip(images, files, strict=True):
        Pil.fromarray(pixels).save(file)
    labels = [EVIL[(c + (i % 4 == 0)) % 3] for i, c in enumerate(truth)]
    probs = np.full((48, 3), 0.05)
    probs[np.arange(48), truth if sorted(EVIL) == EVIL else [sorted(EVIL).index(EVIL[c]) for c in truth]] = 0.9
    return curator.curate(files, labels=labels, pred_probs=probs, output=home / "<i>out</i> &", verified=None)


def test_the_summary_of_a_notebook(curated):
    html = curated._repr_html_()
    assert "<b>48</b> rows" in html and "<b>12</b> flagged" in html and "<b>12</b> get a new label" in html
    assert html.count("<img src='data:image/png;base64,") == html.count("<figure") == 12  # the worst of them
    rows = [int(row) for row in re.findall(r"row (\d+), 0\.05", html)]
    assert sorted(rows) == [row for row in range(48) if row % 4 == 0]
    assert "next: <code>label-curator review " in html and "out&lt;/i&gt; &amp;" in html
    assert {*re.findall(r"<(\w+)", html)} == {
        "div", "p", "b", "table", "tr", "td", "figure", "img", "figcaption", "br", "code"
    }  # fmt: skip
    assert "&lt;script&gt;" in html and "\u202e" not in html and "onerror=alert(1)&gt;" in html
    assert all(len(line) < 100 for line in re.findall(r"<br>([^<]*)", html))


def test_it_is_a_dataset(curated, tmp_path):
    assert isinstance(curated, Curated) and isinstance(curated, datasets.Dataset)
    assert curated.facts["selected"] == 36 == sum(curated["selected"])
    again = pickle.loads(pickle.dumps(curated))
    assert again["clean_score"][:] == curated["clean_score"][:] and again._repr_html_() == curated._repr_html_()
    kept = curated.filter(lambda row: row["selected"])
    assert len(kept) == 36 and kept.facts == curated.facts
    assert all(made._repr_html_() is None for made in (kept, curated.rename_column("row", "place")))  # not of the run
    curated.select([5]).save_to_disk(tmp_path / "saved")
    assert datasets.load_from_disk(tmp_path / "saved")[0]["row"] == 5
    assert curated[3]["image"].size == (12, 12)


def test_a_summary_is_that_of_its_run(curated, tmp_path):
    """Where the folder has other results by now, or none, there is none."""
    moved = Curated.of(curated, curated.output)
    moved.output = tmp_path / "gone"
    assert moved._repr_html_() is None
    shutil.copytree(curated.output, moved.output)
    assert moved._repr_html_() is not None
    moved.facts = {**moved.facts, "seed": 5}
    assert moved._repr_html_() is None


def test_a_plan(tmp_path, capsys):
    """It has the lines that the command prints, in the words of Python, and nothing is printed, trained or written."""
    folder = image_folder(tmp_path / "pictures", 24)
    plan = curator.curate(folder, dry_run=True, output=tmp_path / "out", **QUICK)
    assert capsys.readouterr().err == "" and not (tmp_path / "out").exists()
    assert isinstance(plan, Plan) and str(plan) == repr(plan) == plan.text
    assert (plan.rows, plan.classes, plan.method, plan.epochs, plan.backbone) == (24, 3, "ce", 1, None)
    assert plan.memory == 24 * 3 * 12 * 12 and plan.images_per_second > 0 and plan.seconds >= 0 and plan.net
    argv = ["--dataset", str(folder), "--method", "ce", "--epochs", "1", "--no-flip", "--output", str(tmp_path / "out")]
    assert main(["clean", *argv, "--dry-run"]) == 0
    said = capsys.readouterr().err

    def without_numbers(text):  # which are measured
        lines = [line for line in text.splitlines() if "--" not in line and "method.batch" not in line]
        return [re.sub(r"[\d.,]+( \w+ to [\d.,]+)?", "0", line) for line in lines]

    assert without_numbers(said) == without_numbers(plan.text)
    assert all(warning in plan.text for warning in plan.warnings) and "--" not in plan.text


def test_features_of_a_callable(tmp_path, monkeypatch):
    """Those of a lambda are not kept, and a run with it that was interrupted does not go on with another."""
    from curator.engine.run import Run
    from curator.errors import CuratorError

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkpoint = Run.checkpoint

    def interrupt(self):
        checkpoint(self)
        raise KeyboardInterrupt

    plan = curator.curate(hf_dataset(30), dry_run=True, backbone=lambda x: x.float().flatten(1), **QUICK)
    assert plan.backbone == "python-lambda" and "its features are not kept" in plan.warnings[0]
    call = {"dataset": hf_dataset(30), "backbone": lambda x: x.float().flatten(1)[:, ::40], **QUICK}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "checkpoint", interrupt)
        curator.curate(**call, output=tmp_path / "out")
    with pytest.raises(CuratorError, match="backbone python-lambda is the same as then: start anew with resume=False"):
        curator.curate(**call, output=tmp_path / "out")
    done = curator.curate(**call, output=tmp_path / "out", resume=False)
    assert not (tmp_path / "cache").exists() and len(done) == 30
    with pytest.raises(CuratorError, match="add overwrite=True to replace") as e:
        curator.curate(**call, output=tmp_path / "out")
    assert e.value._render_traceback_() == [f"CuratorError: {e.value}"]
    curator.curate(**{**call, "backbone": named}, output=tmp_path / "out", overwrite=True)
    assert len([*(tmp_path / "cache").rglob("*.npy")]) == 2  # features, and faults of the pictures


def named(x):
    return x.float().flatten(1)[:, ::40]
