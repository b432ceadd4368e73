"""A machine that fails: a full disk, a folder that is read-only, a full GPU, a clock that jumps back."""

import errno
import itertools
import json
import shutil
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import curator
from curator.cli.main import main
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.methods.ce import CrossEntropy
from tests.conftest import hf_dataset
from tests.corpus import make
from tests.corpus.test_corpus import QUICK, tree


@pytest.fixture
def flags(tmp_path):
    """Of a quick run, from the command's name on."""
    (tmp_path / "in").mkdir()
    return ["clean", "--dataset", str(make.good(tmp_path / "in")), *QUICK[:2], "--method.epochs", "3", *QUICK[4:]]


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_at_a_checkpoint(flags, tmp_path, capsys, monkeypatch):
    """The checkpoint before stands, and the same command goes on from it to the same result."""
    save, calls = torch.save, itertools.count()
    argv = [*flags, "--output", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda *args: full() if next(calls) else save(*args))
        assert main(argv) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: no space left for --output {tmp_path / 'out'}: the disk is full"), line
    left = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out" / "checkpoints").rglob("*"))
    assert [name for name in left if not name.startswith("checkpoints/000001")] == [
        "checkpoints/000000", "checkpoints/000000/state.pt", "checkpoints/latest", "checkpoints/settings.json",
    ]  # fmt: skip
    assert not list((tmp_path / "out").rglob("*.tmp")) and not (tmp_path / "out" / "data").exists()
    assert main(argv) == 0 and "continuing from train epoch 1" in capsys.readouterr().err
    assert main([*flags, "--output", str(tmp_path / "straight")]) == 0
    assert tree(tmp_path / "out" / "data").values() and list(tree(tmp_path / "out" / "data").values()) == list(
        tree(tmp_path / "straight" / "data").values()
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_is_full_at_the_result(flags, tmp_path, capsys, monkeypatch, overwrite):
    """An older result stays whole, a new one is not there; the same command writes it without training again."""
    argv, out = [*flags, "--output", str(tmp_path / "out")], tmp_path / "out"
    if overwrite:
        assert main(argv) == 0
        argv += ["--overwrite", "--seed", "9"]
    before = tree(out)
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        assert main(argv) == 2
    assert "error: no space left for --output" in capsys.readouterr().err.splitlines()[-1]
    after = {path: content for path, content in tree(out).items() if "checkpoints" not in path}
    assert after == before
    assert main(argv) == 0 and "continuing from train epoch 3" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount")
def test_a_read_only_output_folder(flags, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for out in (disk, disk / "deep" / "out"):
            assert main([*flags, "--output", str(out)]) == 2
            line = capsys.readouterr().err.splitlines()[-1]
            assert f"--output {out}: it cannot be written (Read-only file system); choose another folder" in line
    finally:
        subprocess.run(["umount", disk], check=True)


@dataclass
class Hungry(CrossEntropy):
    """Asks for more memory than the GPU has, from an epoch on."""

    at: int = 0

    def __call__(self, data, run):
        for epoch, found in enumerate(super().__call__(data, run)):
            if epoch == self.at:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ...")
            yield found


@pytest.mark.parametrize("method, words", [
    (Hungry(batch_size=128), "try method.batch_size = 64$"),
    (Hungry(batch_size=2), "try a smaller net or image_size$"),
    (Hungry(batch_size=10, at=1), "try method.batch_size = 5 with resume=False$"),
])  # fmt: skip
def test_a_gpu_whose_memory_is_full(flags, tmp_path, method, words):
    with pytest.raises(CuratorError, match="has not enough free memory: " + words) as e:
        curator.curate(hf_dataset(40), method, output=tmp_path / "out")
    assert e.value.exit_code == 2 and "\n" not in str(e.value)
    assert (tmp_path / "out").exists() == (method.at > 0)  # the checkpoint of an epoch, or nothing


def test_a_gpu_that_is_full_before_the_training(flags, tmp_path, monkeypatch):
    def measure(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("curator.train.expected_seconds", measure)
    with pytest.raises(CuratorError, match=r"try method.batch_size = 64$"):
        curator.curate(hf_dataset(40), CrossEntropy(), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@dataclass
class Greedy(CrossEntropy):
    """Asks for more memory than any machine has."""

    of: str = "torch"

    def __call__(self, data, run):
        yield from super().__call__(data, run)
        torch.empty(10**16, dtype=torch.uint8) if self.of == "torch" else np.empty(10**16, np.uint8)


@pytest.mark.parametrize("of", ["torch", "numpy"])
def test_a_machine_whose_memory_is_full(flags, tmp_path, of):
    with pytest.raises(CuratorError, match="this machine has not enough free memory: .* memory_budget") as e:
        curator.curate(hf_dataset(40), Greedy(batch_size=20, epochs=1, of=of), output=tmp_path / "out")
    assert e.value.exit_code == 1 and "\n" not in str(e.value)
    assert (tmp_path / "out" / "checkpoints" / "latest").exists()


def test_a_clock_that_jumps_back(flags, tmp_path, monkeypatch):
    """Durations are measured by clocks that cannot, and decisions are in the order in which they were made."""
    now = itertools.count(2e9, -3600)
    monkeypatch.setattr(time, "time", lambda: next(now))
    argv = [*flags, "--output", str(tmp_path / "out"), "--max-minutes", "5"]
    assert main(argv) == 0
    facts = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert facts["seconds"] >= 0 and facts["images_per_second"] > 0 and facts["epochs"] == 3
    years = itertools.count(2040, -1)
    monkeypatch.setattr("curator.decisions.journal.timestamp", lambda: f"{next(years)}-01-01T00:00:00.000+00:00")
    path = tmp_path / "review.sqlite"
    with closing(Journal(path, {"classes": ["a", "b"], "dataset": "x", "split": "train"})) as journal:
        for key, label in enumerate(["a", "b", "a", "b"]):
            journal.save([{"key": str(key), "kind": "do", "rows": [(0, "relabel", label)]}], "ann")
        journal.save([{"key": "undo", "kind": "undo"}], "ann")
        assert journal.decision(0, "ann").label == "a"
    with closing(Journal(path)) as journal:
        assert journal.decision(0, "ann").label == "a"
