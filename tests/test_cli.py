"""The command in-process: exit codes, the one line on stderr, and nothing half-written."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import curator
from curator.cli.main import COMMANDS, main
from curator.errors import CuratorError
from curator.evidence import evidence
from curator.methods.ce import CrossEntropy
from curator.text import command_line
from tests.conftest import ROOT, hf_dataset, image_folder, with_plots

QUICK = ["--epochs", "1", "--net", "small", "--method", "ce"]


def run(capsys, *argv) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["clean", *map(str, argv)])
    return code, *capsys.readouterr()


def refused(capsys, *argv, output=None) -> str:
    """Exit code 2, one line, no output folder; returns the line."""
    code, _, err = run(capsys, *argv)
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 2 and len(lines) == 1 and err.splitlines()[-1] == lines[0], err
    if output is not None:
        assert not output.exists()
    return lines[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on an imagefolder whose source is gone."""
    base = tmp_path_factory.mktemp("finished")
    image_folder(base / "pets")
    shutil.copytree(base / "pets", base / "kept")
    argv = ["clean", "--dataset", str(base / "pets"), "--label-noise", "sym:0.3", "--output", str(base / "out"), *QUICK]
    with with_plots():
        assert main(argv) == 0
    (base / "pets").rename(base / "moved")
    return base


@pytest.mark.parametrize("argv, words", [
    (["--dataset", "digitz"], "'digitz' is not a named dataset"),
    (["--dataset", "./nowhere"], "no folder ./nowhere"),
    (["--data-dir", "/nowhere", "--dataset", "cifar10n"], "--data-dir: no folder /nowhere"),
    (["--methd", "ce"], "Unrecognized options: --methd, ce; did you mean '--method'?"),
    (["--method", "confident", "--method.flds", "3"], "did you mean '--method.folds'?"),
    (["--method", "cee"], "--method: expected one of"),
    (["--method.lr", "fast"], "--method.lr: could not convert string to float: 'fast'"),
    (["--recipe", "nothing"], "no such recipe"),
    (["--label-noise", "sym:2"], "--label-noise: expected one of"),
    (["--label-noise", "worst"], "expected one of sym:RATE"),
    (["--epochs", "2", "--method.epochs", "3"], "give only one"),
    (["--limit-rows", "0"], "--limit-rows: expected at least 1"),
    (["--net", "resnet99"], "--net: expected one of small"),
    (["--net", "mlp"], "--net mlp reads features: add --backbone or --features-column"),
    (["--backbone", "resnet5"], "did you mean 'resnet50'"),
    (["--features-column", "embedding"], "--features-column: no column 'embedding'; the columns are image, label"),
    (["--ensemble", "promix"], "--ensemble: expected two or more of promix, dividemix, cpc, bootstrap, pudistill, "),
    (["--split", "test"], "no split 'test'"),
    (["--pred-probs", "nothing.npy", "--dry-run"], "expected an .npy file"),
    (["--crop", "9"], "--crop 9: expected at most the side of the images, found 8 x 8 px; give a smaller"),
    (["--net", "vgg19_bn"], "--net vgg19_bn: expected images of at least 32 px, found 8 x 8"),
    (["--seed", "-1"], "--seed: expected at least 0, found -1"),
    (["--limit-rows", "3", "--method", "confident"], "--method confident: expected at least 10 rows, found 3"),
    (["--limit-rows", "1", "--method", "ce"], "expected at least two rows"),
    (["--image-column", "label"], "expected a column of type Image"),
    (["--method", "pudistill", "--limit-rows", "60", "--dry-run"], "verified rows: expected at least 2 of every class"),
    (["--method", "pudistill", "--verified", "0.1", "--early-stop", "3"], "--early-stop watches the corrected labels"),
    (["--method", "pudistill", "--method.votes", "6"], "--method.votes: expected 1 to 5, found 6"),
    (["--method", "pudistill", "--method.alpha", "1.5"], "--method.alpha: expected 0 to 1, found 1.5"),
])  # fmt: skip
def test_wrong_input(capsys, tmp_path, argv, words):
    assert words in refused(capsys, *argv, "--output", tmp_path / "deep" / "out", output=tmp_path / "deep")


def test_wrong_columns_and_labels(capsys, tmp_path):
    from datasets import ClassLabel, Dataset, Features

    ds = hf_dataset(30).remove_columns("true_label")
    cases = {
        "noimage": ds.select_columns("label"),
        "two": ds.add_column("kind", ds["label"][:], feature=ClassLabel(num_classes=3)),
        "corrupt": Dataset.from_dict(
            {"image": [{"bytes": b"x", "path": None}] * 3, "label": [0, 1, 2]}, features=Features(ds.features)
        ),
    }
    words = {
        "noimage": "expected an image column",
        "two": "found label, kind; choose one with --label-column",
        "corrupt": "none of the 3 images could be decoded (row 0: the image cannot be decoded",
    }
    for name, dataset in cases.items():
        (tmp_path / name).mkdir()
        dataset.to_parquet(tmp_path / name / "train.parquet")
        assert words[name] in refused(
            capsys, "--dataset", tmp_path / name, "--output", tmp_path / "out", output=tmp_path / "out"
        ), name


def test_hostile_and_wrong_label_files(capsys, tmp_path, data_dir):
    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar10").symlink_to(data_dir / "cifar10")
    path = tmp_path / "data" / "CIFAR-10_human.pt"
    argv = ["--dataset", "cifar10n", "--data-dir", tmp_path / "data", "--output", tmp_path / "out"]
    torch.save({"clean_label": np.zeros(50000, np.int64), "worse_label": Hostile()}, path)
    (tmp_path / "ran").unlink(missing_ok=True)
    assert "it was not opened" in refused(capsys, *argv, output=tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    torch.save(
        {"clean_label": np.zeros(50000, np.int64), "worse_label": np.zeros(50000, np.int64)}, path, pickle_protocol=2
    )
    assert "differs from the dataset's labels in 45000 rows" in refused(capsys, *argv, output=tmp_path / "out")


def test_a_finished_run_is_not_overwritten(capsys, finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished / "out", out)
    before = (out / "curation.json").read_bytes()
    (out / "review.sqlite").write_bytes(b"decisions")
    argv = ["--dataset", finished / "kept", "--label-noise", "sym:0.3", "--output", out, *QUICK]
    assert "it holds a finished run; add --overwrite" in refused(capsys, *argv)
    assert (out / "curation.json").read_bytes() == before
    assert run(capsys, *argv, "--overwrite")[0] == 0
    assert (out / "review.sqlite").read_bytes() == b"decisions"
    assert (out / "curation.json").read_bytes() != before and not (out / "checkpoints").exists()


def test_a_strangers_checkpoints_are_left_alone(capsys, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.pt").write_text("weights")
    assert "it holds checkpoints/best.pt that no run" in refused(capsys, "--output", tmp_path, *QUICK)
    assert (tmp_path / "checkpoints" / "best.pt").read_text() == "weights"


def test_a_run_killed_while_it_moved_its_results_can_be_run_again(capsys, tmp_path):
    """It leaves .staging and some of its files, and without training (--pred-probs) no checkpoint."""
    (tmp_path / ".staging").mkdir()
    (tmp_path / "issues.csv").write_text("row")
    assert run(capsys, "--output", tmp_path, *QUICK)[0] == 0
    assert (tmp_path / "curation.json").exists() and not (tmp_path / ".staging").exists()


def test_a_run_killed_while_it_removed_its_checkpoints(capsys, tmp_path, monkeypatch):
    """It is finished: the same command says so, does the rest and ends well; another is refused as ever."""
    from curator.engine.checkpoint import Checkpoints

    argv = ["--output", tmp_path, *QUICK, "--limit-rows", "60"]

    def killed(self):
        if self.latest():
            (self.folder / "latest").unlink()
            raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "remove", killed)
        with pytest.raises(SystemExit):
            run(capsys, *argv)
    before = (tmp_path / "curation.json").read_bytes()
    assert "it holds a finished run" in refused(capsys, *argv, "--seed", "9")
    code, out, err = run(capsys, *argv)
    assert code == 0 and "nothing is trained" in err and "are flagged; " in out
    assert (tmp_path / "curation.json").read_bytes() == before
    assert not {"checkpoints", ".pending", ".ready"} & {p.name for p in tmp_path.iterdir()}
    assert "it holds a finished run" in refused(capsys, *argv)


def test_results_that_are_links(capsys, tmp_path):
    """The links are replaced; what they lead to stays as it is."""
    argv, far = ["--output", tmp_path / "out", *QUICK, "--limit-rows", "60"], tmp_path / "far"
    assert run(capsys, *argv)[0] == 0
    far.mkdir()
    for name in ("data", "report", "README.md"):
        (tmp_path / "out" / name).rename(far / name)
        (tmp_path / "out" / name).symlink_to(far / name)
    before = {p: p.read_bytes() for p in far.rglob("*") if p.is_file()}
    assert run(capsys, *argv, "--overwrite", "--seed", "9")[0] == 0
    assert {p: p.read_bytes() for p in far.rglob("*") if p.is_file()} == before
    out = tmp_path / "out"
    assert (out / "data").is_dir() and not any((out / name).is_symlink() for name in ("data", "report", "README.md"))
    assert {p.name: p.read_bytes() for p in (out / "data").iterdir()} != {p.name: before[p] for p in before}


def test_output_that_is_empty_or_among_what_is_read(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = image_folder(tmp_path / "pets", 6)
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "out" / "data").mkdir(parents=True)
    shutil.copytree(source / "train", tmp_path / "out" / "data" / "train")
    before = sorted(tmp_path.rglob("*"))
    empty = "it is empty; was a variable of the shell not set?"
    for words in (["--output", ""], ["--output="], ["--data-dir", ""], ["--verified", ""]):
        assert refused(capsys, *words, *QUICK) == f"error: {words[0].strip('=')}: {empty}"
    assert main(["publish", "", "./v"]) == 2 and empty in capsys.readouterr().err
    with pytest.raises(CuratorError, match=f"^output: {empty[:11]}"):
        curator.curate("digits", method="ce", output="")
    for dataset, output in {
        "pets": "pets", "./pets/": "pets/train/../new/deep", "link": "pets/out", "./pets": "link/out", ".": "elsewhere",
    }.items():  # fmt: skip
        assert "it is in the folder of --dataset" in refused(capsys, "--dataset", dataset, "--output", output, *QUICK)
    assert "it is in the folder of --dataset" in refused(capsys, "--dataset", ".", *QUICK)  # runs/NAME-ce
    argv = ["--dataset", "cifar10", "--data-dir", "pets", "--output", "link/out"]
    assert "it is in the folder of --data-dir" in refused(capsys, *argv, *QUICK)
    for dataset in ("out/data", "out/data/train"):
        said = refused(capsys, "--dataset", dataset, "--output", "out", "--overwrite", *QUICK)
        assert "is among the files that the run would replace" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_addresses_that_are_none(capsys):
    for words, said in {
        ("--port", "99999"): "--port 99999: expected a number from 1 to 65535",
        ("--port", "0"): "--port 0: expected a number from 1 to 65535",
        ("--port", "-1"): "--port -1: expected a number from 1 to 65535",
        ("--host", "no such host"): "--host no such host: others could then open the page",
    }.items():
        assert main(["review", "runs/none", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


@pytest.mark.parametrize("shell, code, printed", [
    ("| true", 141, ""),  # nobody reads what it prints
    ("--help | true", 141, ""),
    ("2>&1 | true", 141, ""),
    (">&- 2>&-", 0, None),
    ("2>&-", 0, "out"),
    ("> /dev/full", 1, "error: standard output: No space left on device"),
])  # fmt: skip
def test_streams_that_are_closed(tmp_path, shell, code, printed):
    """No traceback; the command goes on where only its words are lost, and no file of its own takes their place."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time; from pathlib import Path; from curator.cli import main as cli\n"
        "def command(argv):\n"
        "    time.sleep(0.3)\n"
        "    if argv: print('help'); raise SystemExit(0)\n"
        "    with open('file', 'w') as file:\n"
        "        print('said', file=sys.stderr, flush=True)\n"
        "        print('out')\n"
        "        assert file.fileno() > 2\n"
        "    return 0\n"
        "cli.COMMANDS['clean'] = command\n"
        "code = cli.main(['clean', *sys.argv[1:]])\n"
        "Path('code').write_text(str(code))\n"
        "sys.exit(code)\n"
    )
    words = f"set -o pipefail; {sys.executable} script.py {shell}"
    done = subprocess.run(
        ["bash", "-c", words], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    assert (tmp_path / "code").read_text() == str(code) and done.returncode == code
    assert printed is None or printed in done.stdout + done.stderr


def test_resume_after_an_early_stop(tmp_path, monkeypatch):
    """Stopped early, then killed while writing: the same command writes the same result."""
    from curator.result import write

    settings = {"method": "ce", "method.batch_size": 60, "epochs": 60, "early_stop": 3, "max_minutes": 60}
    straight = curator.curate(hf_dataset(), output=tmp_path / "straight", **settings)

    class Killed(BaseException):
        pass

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(write, "write_report", kill)
        with pytest.raises(Killed):
            curator.curate(hf_dataset(), output=tmp_path / "killed", **settings)
    resumed = curator.curate(hf_dataset(), output=tmp_path / "killed", **settings)
    assert resumed["clean_score"][:] == straight["clean_score"][:]


def test_a_strangers_folder_is_left_alone(capsys, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    assert "it holds README.md that no run of Curator wrote" in refused(capsys, "--output", tmp_path, *QUICK)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_output_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "it cannot be written" in refused(capsys, "--output", tmp_path / "file" / "out", *QUICK)


def test_locked(capsys, tmp_path):
    from curator.result.layout import lock

    with lock(tmp_path / "out"):
        assert "another run is writing there" in refused(capsys, "--output", tmp_path / "out", *QUICK)
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".lock"]


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount")
def test_no_space_left(capsys, tmp_path):
    """On a real full file system: too small for the result, then full in the middle of the run."""
    for size, words in (("64k", "the result needs about"), ("1500k", "the disk is full")):
        disk = tmp_path / size
        disk.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True
        ).returncode:
            pytest.skip("mounting is not allowed here")
        try:
            code, _, err = run(capsys, "--output", disk / "out", *QUICK)
            assert code == 2 and f"no space left for --output {disk / 'out'}: {words}" in err.splitlines()[-1], err
            assert not (disk / "out" / "curation.json").exists() and not (disk / "out" / "data").exists()
        finally:
            subprocess.run(["umount", disk], check=True)


def test_the_output_is_a_dataset(finished, monkeypatch):
    """With every original column, type and name, rows in source order, images embedded: its source was moved away."""
    import datasets

    source = datasets.load_dataset(str(finished / "kept"))
    out = datasets.load_dataset(str(finished / "out"))
    assert set(out) == {"train", "test"} and out["train"].features == out["test"].features
    names = ["clean_score", "selected", "corrected_label", "teacher_soft_label", "row", "typicality", "ambiguous"]
    assert out["train"].column_names == ["image", "label", "true_label", *names]
    assert {n: out["train"].features[n] for n in ("image", "label")} == dict(source["train"].features)
    assert out["train"].features["teacher_soft_label"] == datasets.List(datasets.Value("float32"), length=3)
    for split in ("train", "test"):
        raw = out[split].cast_column("image", datasets.Image(decode=False))["image"]
        kept = source[split].cast_column("image", datasets.Image(decode=False))["image"]
        assert [r["bytes"] for r in raw] == [Path(k["path"]).read_bytes() for k in kept]
        assert [r["path"] for r in raw] == [os.path.relpath(k["path"], finished / "kept") for k in kept]
        assert out[split]["row"][:] == list(range(len(out[split])))
    train = out["train"].to_dict()
    assert train["true_label"] == source["train"]["label"][:]
    assert (np.array(train["label"]) != train["true_label"]).sum() > 3
    soft = np.array(train["teacher_soft_label"])
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(soft[np.arange(30), train["label"]], train["clean_score"], atol=1e-6)
    for given, selected, corrected, p in zip(
        train["label"], train["selected"], train["corrected_label"], soft, strict=True
    ):
        assert selected == (p.argmax() == given)
        assert corrected == given if selected else corrected in (given, p.argmax())  # the guard keeps some


def test_load_dataset_sees_the_latest_run(tmp_path):
    """Same folder and sizes, other content: the cache of datasets must not give the old rows, nor to Curator itself."""
    import datasets

    for base, seed in (("a", 1), ("a", 2), ("b", 3)):
        out = curator.curate(
            hf_dataset(), method="ce", epochs=1, seed=seed, output=tmp_path / base / "out", overwrite=True
        )
        assert (
            datasets.load_dataset(str(tmp_path / base / "out"), split="train")["clean_score"][:]
            == out["clean_score"][:]
        )
    for n in (60, 90):  # a source folder with a card, whose files change
        (tmp_path / "src" / "data").mkdir(parents=True, exist_ok=True)
        hf_dataset(n).to_parquet(tmp_path / "src" / "data" / "train-0.parquet")
        (tmp_path / "src" / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files: data/*\n---\n"
        )
        assert len(curator.curate(str(tmp_path / "src"), method="ce", epochs=1, output=tmp_path / f"from{n}")) == n


def test_the_other_files(finished):
    facts = json.loads((finished / "out" / "curation.json").read_text())
    wanted = {
        "method", "recipe", "dataset", "split", "image_column", "text_column", "label_column", "n", "classes",
        "settings", "seed", "trusted", "estimated_noise_rate", "selected", "changed", "seconds", "epochs",
        "images_per_second", "mfu", "device", "threads", "versions", "source_fingerprint", "metrics", "name",
        "source", "reference_column", "command", "warnings", "findings", "quarantined", "duplicates",
        "peak_memory", "look_alikes", "ambiguous", "suspect", "picture_faults", "leaks",
    }  # fmt: skip
    assert set(facts) == wanted
    assert set(facts["metrics"]) == {
        "clean_precision", "clean_recall", "clean_f1", "noisy_precision", "noisy_recall", "noisy_f1", "auroc",
        "average_precision", "calibration_error", "wrong_above_95", "label_accuracy_before", "label_accuracy_after",
        "label_accuracy_after_all",
        "test_accuracy",
    }  # fmt: skip
    assert facts["trusted"]["count"] == 0 and facts["n"] == 30 and facts["classes"] == 3
    with open(finished / "out" / "issues.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == facts["n"] - facts["selected"]
    scores = [float(r["score"]) for r in rows]
    assert scores == sorted(scores) and all((finished / "kept" / r["file"]).is_file() for r in rows)
    report = (finished / "out" / "report" / "report.md").read_text()
    for name in ("clean_score", "reliability", "matrix", "per_class", "training", "contact_sheet"):
        assert f"({name}.png)" in report and (finished / "out" / "report" / f"{name}.png").stat().st_size > 4000


def test_card(finished):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(finished / "out" / "README.md")
    assert card.data.task_categories == ["image-classification"] and card.data.size_categories == ["n<1K"]
    assert [f["split"] for f in card.data.configs[0]["data_files"]] == ["train", "test"]
    assert "license" not in card.data.to_dict() and "not known" in card.text
    assert "label-curator clean --dataset" in card.text


def test_a_loss_that_is_not_finite(capsys, tmp_path):
    """Exit code 1: the input was fine. The epoch and the step are named, and nothing is left to continue."""
    code, _, err = run(capsys, "--output", tmp_path / "out", *QUICK, "--method.lr", "1e12", "--mixed-precision", "no")
    assert code == 1 and "error: the loss became" in err and "in epoch 0 of stage train, step" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    one_step = ["--limit-rows", "60", "--method.batch-size", "60", "--method.lr", "1e30", "--mixed-precision", "no"]
    code, _, err = run(capsys, "--output", tmp_path / "out", *QUICK, *one_step)
    assert code == 1 and "predictions stopped being numbers in epoch 0 of stage train, step 0" in err.splitlines()[-1]


def test_tracking(capsys, tmp_path):
    pytest.importorskip("tensorboard")
    assert run(capsys, "--output", tmp_path / "out", *QUICK, "--track", "tensorboard")[0] == 0
    assert list((tmp_path / "out" / "tracker").rglob("events.out.tfevents*"))


def test_the_card_tells_how_to_make_it_again(finished, capsys, tmp_path):
    import shlex

    card = (finished / "out" / "README.md").read_text()
    (line,) = [line for line in card.splitlines() if line.startswith("label-curator clean")]
    words = shlex.split(line)[2:]
    words[words.index("--dataset") + 1] = str(finished / "kept")
    assert run(capsys, *words, "--output", tmp_path / "again")[0] == 0
    a, b = (
        (base / "data" / "train-00000-of-00001.parquet").read_bytes() for base in (finished / "out", tmp_path / "again")
    )
    assert a == b


def test_dry_run_writes_nothing(capsys, tmp_path):
    code, _, err = run(capsys, "--dry-run", "--output", tmp_path / "out", "--epochs", "3")
    assert code == 0 and not (tmp_path / "out").exists()
    for words in (
        "label column 'label'",
        "'5' 200",
        "recipe    digits-promix",
        "method.epochs 20 -> 3",
        "method.warmup 12 -> 2",
        "GiB of images",
        "passes over the rows, about",
    ):
        assert words in err


def test_batches_are_smaller_where_an_epoch_would_have_few_steps(tmp_path, capsys, monkeypatch):
    """The plan says so; the same command continues with them, and the card's makes the same again."""
    import shlex

    from curator.engine.run import Run

    argv = ["--limit-rows", "60", "--method", "ce", "--epochs", "2"]
    checkpoint = Run.checkpoint

    def interrupt(self):
        checkpoint(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", interrupt)
    code, _, err = run(capsys, *argv, "--output", tmp_path / "out")
    assert code == 130 and "batch     16 rows a step instead of 128, with which an epoch had few steps (1)" in err
    monkeypatch.setattr(Run, "checkpoint", checkpoint)
    assert run(capsys, *argv, "--output", tmp_path / "out")[0] == 0
    facts = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert facts["settings"]["method.batch_size"] == 16 and "--method.batch-size 16" in facts["command"]
    words = shlex.split(facts["command"])[2:]
    assert run(capsys, *words, "--output", tmp_path / "again")[0] == 0
    name = "data/train-00000-of-00001.parquet"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["clean", "--method", "confident", "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "--label-noise" in out and "--method.folds" in out and "--flip, --no-flip" in out
    with pytest.raises(SystemExit):
        main(["clean", "--method", "ce", "--help"])
    assert "--method.folds" not in capsys.readouterr().out


def test_help_is_quick():
    """Under 4 s, or 3 s more than `import torch` on a machine where that alone takes long; once in three tries."""

    def took(*argv) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *argv], check=True, cwd=ROOT, capture_output=True)
        return time.perf_counter() - start

    def quick() -> bool:
        seconds = took("curator/clean.py", "--help")
        return seconds < 4 or seconds < took("-c", "import torch") + 3

    assert any(quick() for _ in range(3))


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"label-curator {curator.__version__}\n"


def test_the_next_step_is_a_command_of_how_this_one_was_started(capsys, monkeypatch, finished, tmp_path):
    """Its words are those of a shell; the dataset is as it was given, what the run itself was told is left out."""
    import shlex

    from curator.cli.commands import summary

    facts = json.loads((finished / "out" / "curation.json").read_text())
    given = {
        "dataset": "my pets",
        "method": "ce",
        "method.lr": 0.1,
        "flip": False,
        "output": Path("o"),
        "overwrite": True,
    }
    for started, clean, review, publish in (
        ("curator/clean.py", ["curator/clean.py"], ["app.py"], "publish"),
        (str(Path(sys.executable).with_name("label-curator")), ["clean"], ["review"], "publish"),
        ("curator/cli/__main__.py", ["-m", "curator.cli", "clean"], ["-m", "curator.cli", "review"], "publish"),
    ):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [started])
        (tmp_path / "a run-2").mkdir(exist_ok=True)
        summary(tmp_path / "a run", facts, given)
        lines = {line[:6]: shlex.split(line[8:]) for line in capsys.readouterr().out.splitlines()}
        assert lines["next: "][1:] == [*review, str(tmp_path / "a run")]
        assert lines["then: "][1 : 1 + len(clean)] == clean
        assert lines["then: "][1 + len(clean) :] == [
            "--dataset", "my pets", "--method", "ce", "--method.lr", "0.1", "--no-flip",
            "--verified", f"{tmp_path}/a run/review.sqlite", "--output", f"{tmp_path}/a run-3",
        ]  # fmt: skip
        program = lines["next: "][0]
        assert shutil.which(program) and Path(shutil.which(program)).resolve() == (
            Path(sys.executable).resolve() if program.split("/")[-1].startswith("python") else Path(started).resolve()
        )
        assert command_line(publish).endswith(publish) and "app.py" not in command_line(publish)
    summary(tmp_path / "a run", facts, {**given, "verified": "checked.csv"})
    assert "then:" not in capsys.readouterr().out  # it would lose those rows


def test_no_command(capsys):
    assert main([]) == 2 and main(["clan"]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.count("label-curator COMMAND [FLAGS]") == 2
    assert main(["--help"]) == 0
    said = capsys.readouterr()
    assert not said.err and all(f"\n  {name} " in said.out for name in COMMANDS)


def test_curate_from_python(tmp_path):
    ds = hf_dataset(60, share=0.2)
    out = curator.curate(ds, method="ce", epochs=2, output=tmp_path / "a", flip=False)
    assert len(out) == 60 and out.column_names[-7:] == [
        "clean_score",
        "selected",
        "corrected_label",
        "teacher_soft_label",
        "row",
        "typicality",
        "ambiguous",
    ]
    import datasets

    written = datasets.load_dataset(str(tmp_path / "a"), split="train")
    assert written.features == out.features and written["clean_score"][:] == out["clean_score"][:]
    with pytest.raises(CuratorError, match="unknown setting 'epoch'; did you mean 'epochs'"):
        curator.curate(ds, epoch=2)
    with pytest.raises(ValueError, match="expected a name, a folder"):
        curator.curate(3, output=tmp_path / "b")
    with pytest.raises(CuratorError, match="^method.epochs: expected at least 1"):
        curator.curate(ds, CrossEntropy(epochs=0), epochs=3)


@dataclasses.dataclass
class Collapsing(CrossEntropy):
    """Cross-entropy whose net answers with one class from an epoch on: its head's weights are wiped."""

    at: int = 2

    def __call__(self, data, run):
        for epoch, found in enumerate(super().__call__(data, run)):
            if epoch >= self.at:
                with torch.no_grad():
                    head = run.registered["nets"][0].head
                    head.weight.zero_()
                    head.bias.copy_(torch.tensor([0.0, 5, 0]))
                found = evidence(run.predict(run.registered["nets"], data.inputs).softmax(1), data)
            yield found


def test_a_collapse_is_reported(tmp_path, capsys):
    def warned(name, **settings):
        curator.curate(
            hf_dataset(60), Collapsing(lr=0.05, batch_size=16, **settings), flip=False, output=tmp_path / name
        )
        facts = json.loads((tmp_path / name / "curation.json").read_text())
        report = (tmp_path / name / "report" / "report.md").read_text()
        return facts["warnings"], report, capsys.readouterr().err

    facts, report, err = warned("a", epochs=6, at=4)
    assert len(facts) == 1 and "'class 1' for nearly all rows" in facts[0] and "ignores the other classes" in report
    assert err.count("warning   the net predicts 'class 1'") == 1  # said once, as it happens
    facts, report, err = warned("b", epochs=6, at=99)
    assert facts == [] and "Warning" not in report and "given up" not in err


def test_flag_worst_and_early_stop_and_time_limit(tmp_path):
    ds = hf_dataset(60, share=0.2)
    out = curator.curate(ds, method="ce", epochs=2, output=tmp_path / "a", flag_worst=7)
    assert sum(not s for s in out["selected"]) == 7
    curator.curate(ds, method="ce", epochs=60, early_stop=3, output=tmp_path / "b")
    assert 4 <= json.loads((tmp_path / "b" / "curation.json").read_text())["epochs"] < 60
    curator.curate(ds, method="ce", epochs=60, max_minutes=0, output=tmp_path / "c")
    assert json.loads((tmp_path / "c" / "curation.json").read_text())["epochs"] == 1


def test_pred_probs_train_nothing(tmp_path):
    ds = hf_dataset(60, share=0.2)
    probs = np.full((60, 3), 0.05)
    probs[np.arange(60), ds["true_label"][:]] = 0.9
    np.save(tmp_path / "p.npy", probs)
    out = curator.curate(ds, pred_probs=tmp_path / "p.npy", output=tmp_path / "out")
    assert out["corrected_label"][:] == ds["true_label"][:]
    out = curator.curate(ds, pred_probs=tmp_path / "p.npy", output=tmp_path / "some", limit_rows=30)
    assert [ds["true_label"][r] for r in out["row"]] == out["corrected_label"][:]


def test_other_settings_do_not_continue_a_run(tmp_path, capsys, monkeypatch):
    """An interrupted run goes on with its own settings only; the first that differs is named."""
    from curator.engine.run import Run

    argv = ["--output", tmp_path / "out", "--method", "ce", "--epochs", "3", "--limit-rows", "100"]
    checkpoint = Run.checkpoint

    def interrupt(self):
        checkpoint(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", interrupt)
    assert run(capsys, *argv)[0] == 130
    monkeypatch.setattr(Run, "checkpoint", checkpoint)
    assert "interrupted run with --seed 123, now it is 7" in refused(capsys, *argv, "--seed", 7)
    assert "--method.lr 0.1, now it is 0.2" in refused(capsys, *argv, "--method.lr", 0.2)
    assert "--limit-rows 100, now it is 101" in refused(capsys, *argv[:-1], 101)
    # What follows from a flag is not named for it: the net, the counts of epochs.
    backbone = ["--backbone", "tests.test_cli:nothing"]
    assert "run without --backbone, now it is 'tests.test_cli:nothing'" in refused(capsys, *argv, *backbone)
    assert "with --epochs 3, now it is 4" in refused(capsys, *argv[:5], 4, *argv[6:])
    assert "with --limit-rows 100, now with none" in refused(capsys, *argv[:-2])
    code, _, err = run(capsys, *argv)
    assert code == 0 and "continuing from train epoch 1" in err
    assert run(capsys, *argv, "--no-resume", "--overwrite", "--seed", 7, "--keep-checkpoints")[0] == 0
    assert (tmp_path / "out" / "checkpoints" / "latest").exists()
    assert "finished run" in refused(capsys, *argv)
    code, _, err = run(capsys, *argv, "--overwrite")
    assert code == 0 and "continuing" not in err


def test_class_names_of_strangers(tmp_path, capsys):
    """Markdown, HTML, formulas, mathematics and long names in class names: text everywhere, acting nowhere."""
    names = [
        "<img src=x onerror=alert(1)>",
        "=cmd|' /C calc'!A0",
        "$\\frac{a}{b}$ | pipe `tick`",
        "ünïcödé 猫 \u202eright",
        "x" * 10_000,
    ]
    from datasets import ClassLabel

    ds = hf_dataset(60, 5, share=0.5).remove_columns("true_label").cast_column("label", ClassLabel(names=names))
    curator.curate(ds, method="ce", epochs=1, output=tmp_path / "out")
    for file in ("README.md", "report/report.md", "report/report.html"):
        text = (tmp_path / "out" / file).read_text()
        assert "<img" not in text and len(text) < 20_000
    assert "'=cmd" in (tmp_path / "out" / "issues.csv").read_text()
    import datasets

    assert datasets.load_dataset(str(tmp_path / "out"), split="train").features["corrected_label"].names == names
