"""jobs/: the script that goes on where a machine was taken away, and files for clusters that call it."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from curator.config.flags import Settings
from tests.conftest import ROOT
from tests.hub import hub  # noqa: F401

JOBS = ROOT / "jobs"
spec = importlib.util.spec_from_file_location("jobs_clean", JOBS / "clean.py")
job = importlib.util.module_from_spec(spec)
spec.loader.exec_module(job)


def half_done(work):
    """A run in the middle: one checkpoint that counts, one that is being written, features, what others can fetch."""
    for path, text in {
        "run/checkpoints/latest": "000002", "run/checkpoints/000002/state.pt": "two",
        "run/checkpoints/settings.json": "{}", "run/checkpoints/000003/state.pt": "thr", "run/.lock": "",
        "run/checkpoints/.curator-12.tmp": "x",
        "cache/label-curator/features/a.npy": "features", "cache/huggingface/x": "x", "cache/torch/y": "y",
        ".gitattributes": "",
    }.items():  # fmt: skip
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    return work


KEPT = {
    "run/checkpoints/latest": "000002", "run/checkpoints/000002/state.pt": "two", "run/checkpoints/settings.json": "{}",
    "cache/label-curator/features/a.npy": "features",
}  # fmt: skip


def held(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("where", ["me/curated-state", "folder"])
def test_the_state_is_kept_and_comes_back(tmp_path, hub, where):  # noqa: F811
    where = str(tmp_path / "state") if where == "folder" else where
    work = half_done(tmp_path / "work")
    store = job.Store(where)
    assert not store.restore(tmp_path / "first")
    store.keep(work)
    if store.folder is None:
        assert hub.repos[where].private and len(hub.repos[where].commits) == 2
        store.keep(work)
        assert len(hub.repos[where].commits) == 2  # nothing is new
        hub.fail("POST", "/commit/", 500, times=1)
    (work / "run/checkpoints/000003/state.pt").write_text("three")
    (work / "run/checkpoints/latest").write_text("000003")
    (work / "run/checkpoints/000002/state.pt").unlink()
    store.keep(work)
    (tmp_path / "next").mkdir()
    assert job.Store(where).restore(tmp_path / "next")
    wanted = {path: text for path, text in KEPT.items() if "000002" not in path}
    wanted |= {"run/checkpoints/latest": "000003", "run/checkpoints/000003/state.pt": "three"}
    assert held(tmp_path / "next") == wanted
    store.empty()
    (tmp_path / "last").mkdir()
    assert not job.Store(where).restore(tmp_path / "last") and not held(tmp_path / "last")


def test_a_state_that_everybody_could_read(hub, tmp_path):  # noqa: F811
    job.Store("me/x").restore(tmp_path)
    hub.repos["me/x"].private = False
    with pytest.raises(SystemExit, match="it is public"):
        job.Store("me/x").restore(tmp_path)


def test_the_files_for_clusters():
    """Their flags are those of the script and of clean; what they call is there."""
    head = re.search(r"# /// script\n(.*?)# ///", (JOBS / "clean.py").read_text(), re.S)[1]
    assert '"label-curator' in head
    own = {"state", "every"}
    slurm, sky = (JOBS / "clean.slurm").read_text(), yaml.safe_load((JOBS / "clean.sky.yaml").read_text())
    subprocess.run(["bash", "-n", str(JOBS / "clean.slurm")], check=True)
    for text in (slurm.split("uv run")[1].split("&\n")[0], sky["run"]):
        flags = re.findall(r"--([a-z-]+)", text.replace("//\\//--}", ""))
        assert {"state", "dataset", "push-to-hub"} <= set(flags)
        assert all(flag in own or flag.replace("-", "_") in Settings.__dataclass_fields__ for flag in flags), flags
        assert "jobs/clean.py" in text or '/jobs/clean.py"' in text


@pytest.mark.slow
def test_a_machine_that_is_taken_away(tmp_path, hub):  # noqa: F811
    """`uv run jobs/clean.py`, SIGTERM after the first checkpoint, the same again: it goes on, and pushes the result."""
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    launcher = [sys.executable]
    if not os.environ.get("CURATOR_NO_VENV"):
        wheels = tmp_path / "wheels"
        subprocess.run([sys.executable, "-m", "uv", "-q", "build", "--wheel", "-o", str(wheels), str(ROOT)], check=True)
        launcher = [sys.executable, "-m", "uv", "-q", "run", "--no-project", "--find-links", str(wheels)]
        env.pop("PYTHONPATH", None)
    words = [
        "--dataset",
        "digits",
        "--method",
        "ce",
        "--epochs",
        "40",
        "--limit-rows",
        "300",
        "--push-to-hub",
        "me/curated",
        "--every",
        "0.02",
    ]
    command = [*launcher, str(JOBS / "clean.py"), *words]
    log = open(tmp_path / "log", "w")  # noqa: SIM115
    first = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    end = time.monotonic() + 400
    while not (
        "me/curated-state" in hub.repos and any("latest" in f for f in hub.files(hub.repos["me/curated-state"]))
    ):
        assert first.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(120) == 143, (tmp_path / "log").read_text()
    kept = hub.files(hub.repos["me/curated-state"])
    assert "me/curated" not in hub.repos and "run/checkpoints/latest" in kept
    second = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500)
    assert second.returncode == 0, second.stderr
    assert "going on with the state in me/curated-state" in second.stderr and "continu" in second.stderr
    assert "curation.json" in hub.files(hub.repos["me/curated"])
    assert not hub.files(hub.repos["me/curated-state"])
