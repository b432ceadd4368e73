"""bench/gpu.py and bench/step.py with tiny settings: slices resume, checkpoints travel, rows are appended once."""

import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import gpu, gpu_slice, travel
from bench.step import table as step_table
from tests.conftest import planted_images, with_errors


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What CURATOR_DATA holds, in small: parquet files of CIFAR-10 and the label file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("data")
    (folder / "cifar10").mkdir()
    for split, n, seed in (("train", 96, 0), ("test", 20, 0)):
        images, truth = planted_images(n, 10, seed, size=32)
        blobs = []
        for pixels in images:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            blobs.append({"bytes": file.getvalue(), "path": None})
        pq.write_table(pa.table({"image": blobs, "label": truth}), folder / "cifar10" / f"{split}-00000.parquet")
        if split == "train":
            labels = {"clean_label": truth, "worse_label": with_errors(truth, 10, 0.3)}
            torch.save(labels, folder / "CIFAR-10_human.pt", pickle_protocol=2)
    return folder


@pytest.fixture
def packed(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(travel, "PACK", 150_000)
    monkeypatch.setattr(travel, "PART", 300_000)
    gpu.main(["pack", str(source), str(tmp_path / "packed")])
    capsys.readouterr()
    return tmp_path / "packed"


def test_images_travel_in_parts(packed):
    assert len(list(packed.glob("*/train.npz"))) > 1
    images, labels = travel.unpack(packed, "train")
    wanted, truth = planted_images(96, 10, 0, size=32)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), wanted) and np.array_equal(labels, truth)
    assert len(travel.unpack(packed, "test")[1]) == 20


def test_slices_and_parts_end_like_one_run(packed, tmp_path, capsys):
    """Four slices of one epoch, each on another machine, against one run."""
    threads = torch.get_num_threads()

    def train(state, minutes):
        gpu.main(
            ["--results", str(tmp_path / f"{state}.md"), "--net", "small", "--batch", "16", "train", "fast",
             "--epochs", "4", "--every", "1", "--minutes", minutes,
             "--data", str(packed), "--state", str(tmp_path / state)]
        )  # fmt: skip
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        return lines

    straight = train("straight", "10")
    assert [line["epoch"] for line in straight] == [1, 2, 3, 4]
    slices = []
    for i in range(4):
        slices += train(f"machine{i}", "0")
        parts = tmp_path / f"parts{i}"
        state = tmp_path / f"machine{i}" / "fast"
        gpu.main(["split", str(state), str(parts / "a"), "--count", "2"])
        gpu.main(["split", str(state), str(parts / "b"), "--first", "2", "--count", "99"])
        assert max(p.stat().st_size for p in parts.rglob("*.npz")) < travel.PART + 2000
        gpu.main(["join", str(parts), str(tmp_path / f"machine{i + 1}" / "fast")])
    for a, b in zip(slices, straight, strict=True):
        for key in ("epoch", "of", "test_accuracy", "clean", "noisy_f1", "loss"):
            assert a[key] == b[key], key
    assert slices[-1]["minutes"] > slices[0]["minutes"]
    assert "| fast schedule, small | 4 of 4 |" in (tmp_path / "straight.md").read_text()
    assert gpu.fast_settings(256, 50_000)["batch_size"] == 1000  # all steps of one size
    torch.set_num_threads(threads)


def test_missing_parts_are_named(packed, tmp_path, capsys):
    state = tmp_path / "state" / "short"
    (state / "checkpoints" / "000003").mkdir(parents=True)
    (state / "checkpoints" / "000003" / "state.pt").write_bytes(bytes(range(256)) * 4000)
    (state / "checkpoints" / "latest").write_text("000003")
    gpu.main(["split", str(state), str(tmp_path / "parts"), "--count", "9"])
    (tmp_path / "parts" / "part-001.npz").unlink()
    with pytest.raises(SystemExit, match=r"parts \[1\] are missing"):
        gpu.main(["join", str(tmp_path / "parts"), str(tmp_path / "new")])
    with pytest.raises(SystemExit, match="found none; make them with"):
        travel.unpack(tmp_path / "parts", "train")
    shutil.rmtree(tmp_path / "parts")


@pytest.mark.slow
def test_the_step_bench(tmp_path, capsys):
    threads = torch.get_num_threads()
    results = tmp_path / "R.md"
    argv = ["--results", str(results), "--net", "small", "--batch", "8", "step"]
    gpu.main(argv)
    before = results.read_bytes()
    gpu.main(argv)  # every row is there: nothing is measured again
    assert results.read_bytes() == before
    rows = [line for line in results.read_text().splitlines() if line.startswith("| small, batch 8")]
    wanted = 8 if torch.cuda.is_available() else 4
    assert len(rows) == wanted and all(float(row.split("|")[4]) > 0 for row in rows)
    torch.set_num_threads(threads)


def test_rows_that_no_gpu_has_measured(tmp_path):
    """They are marked, a measured row takes their place, and nothing is marked twice."""
    results = tmp_path / "R.md"
    gpu_slice.main(["--results", str(results), "--pending"])
    text = results.read_text()
    assert (
        text.count("| not measured | not measured |") >= 8 and "| published schedule, resnet18 | not measured" in text
    )
    table = gpu.table_of_runs(results)
    assert "short schedule, resnet18" not in table
    table.append("short schedule, resnet18", ["90 of 90", *["1"] * 9])
    gpu_slice.main(["--results", str(results), "--pending"])
    assert "short schedule, resnet18" in table
    assert results.read_text().splitlines() == [
        line if not line.startswith("| short schedule") else "| short schedule, resnet18 | 90 of 90" + " | 1" * 9 + " |"
        for line in text.splitlines()
    ]


@pytest.mark.slow
def test_an_epoch_of_every_method(tmp_path):
    results = tmp_path / "R.md"
    argv = ["--results", str(results), "--net", "small", "methods", "--rows", "128"]
    gpu.main(argv)
    before = results.read_bytes()
    gpu.main(argv)  # every row is there
    assert results.read_bytes() == before
    rows = [line for line in results.read_text().splitlines() if line.startswith("| small, 128 rows")]
    assert len(rows) == len(gpu.METHOD_CELLS) + len(gpu.RECORDED) and all(
        float(row.split("|")[4].replace(",", "")) > 0 for row in rows
    )


def test_the_quickest_way_that_this_machine_has_shown(tmp_path):
    """What compiling takes counts; rows of another machine do not."""
    s = gpu_slice.Slice(tmp_path / "R.md", 0.0, net="small", batch=16, rows=96)
    table = step_table(s.results)

    def row(way, seconds, machine):
        name = gpu_slice.cell_name("small", s.fast_batch, torch.cuda.is_available(), f"fast, {way}")
        table.append(name, ["1", str(seconds), "1", "1", "1", "today", machine, "torch"])

    assert gpu_slice.quickest(s, 8) == "recorded"
    row("recorded", 1.0, gpu_slice.machine())
    row("recorded, compiled", 0.8, gpu_slice.machine())
    row("recorded, two streams", 0.1, "another")
    assert gpu_slice.quickest(s, 8) == "recorded, compiled" and gpu_slice.quickest(s, 4) == "recorded"


def test_what_breaks_in_a_slice_is_told_and_the_rest_goes_on(tmp_path, monkeypatch):
    done = []
    monkeypatch.setitem(gpu_slice.PARTS, "step", lambda s, until: 1 // 0)
    monkeypatch.setitem(gpu_slice.PARTS, "hours", lambda s, until: done.append(until))
    s = gpu_slice.Slice(tmp_path / "R.md", time.monotonic() + 60)
    lines = list(gpu_slice.run(s, ["step", "hours"]))
    assert "step: BROKE" in lines[0] and "ZeroDivisionError" in lines[0] and len(done) == 1
    s.ends = 0.0
    assert list(gpu_slice.run(s, ["hours"])) == ["hours: no time is left"] and len(done) == 1


def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    child = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import os, subprocess, sys; os.chdir({str(tmp_path)!r}); subprocess.run([sys.executable, '-c', {child!r}])"
    process = gpu_slice.begun("-c", code)
    for _ in range(500):
        if (tmp_path / "child").exists() and (tmp_path / "child").read_text():
            break
        time.sleep(0.02)
    assert not gpu_slice.ended(process, time.monotonic()) and process.returncode == -9
    pid = int((tmp_path / "child").read_text())
    for _ in range(500):  # it is gone, or waits for being told so
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(") ")[2][0] == "Z":
            break
        time.sleep(0.02)
    else:
        raise AssertionError("the child lives")
    assert gpu_slice.ended(gpu_slice.begun("-c", ""), time.monotonic() + 30)


@pytest.mark.slow
def test_all_parts_of_a_slice_in_tiny_sizes(capsys, monkeypatch):
    threads = torch.get_num_threads()
    gpu_slice.main(["--cpu-smoke", "--minutes", "15"])
    told = capsys.readouterr().out
    assert "BROKE" not in told and "| fast schedule, small | 4 of 4 |" in told
    assert all(f"{part}: " in told for part in gpu_slice.PARTS) and "| tests/test_gpu.py |" in told
    torch.set_num_threads(threads)
