"""Files and folders that are whole or not there: their names, whose they are, and what is left of killed processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

from curator.system import atomic, clear_leftovers, cores, remove, replace_folder, workspace
from tests.conftest import ROOT


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_processes_of_one_number_write_one_file(tmp_path):
    """In two containers, on one cache: each writes to a file of its own, and the last one stands."""
    path = tmp_path / "kept"
    with atomic(path) as one, atomic(path) as two:
        one.write_text("one")
        two.write_text("two")
        assert one != two and one.parent == tmp_path
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["kept"]


def test_a_name_as_long_as_names_may_be(tmp_path):
    with atomic(tmp_path / ("x" * 255)) as temporary:
        temporary.write_text("text")
    assert (tmp_path / ("x" * 255)).read_text() == "text"


def abandoned(target: Path) -> Path:
    """What a process leaves that was killed between two renames."""
    script = (
        "import os, sys; from pathlib import Path; from curator import system\n"
        "target = Path(sys.argv[1])\n"
        "system._exchange = lambda a, b: False\n"
        "os.rename = lambda a, b, rename=os.rename: rename(a, b) or os._exit(9)\n"
        "with system.workspace(target) as work:\n"
        "    (work / 'version').mkdir()\n"
        "    system.replace_folder(work / 'version', target)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(target)], cwd=ROOT).returncode == 9
    (left,) = target.parent.glob(".curator-*")
    return left


def test_what_killed_processes_left(tmp_path):
    """The version that stood comes back, beside a target of another process that is at work; strangers' files stay."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "file").write_text("old")
    left = abandoned(tmp_path / "v")
    shutil.copytree(left, tmp_path / ".curator-copied")
    assert not (tmp_path / "v").exists()
    (tmp_path / ".curator-mine").mkdir()
    (tmp_path / ".curator-mine" / "file").write_text("mine")
    (tmp_path / ".curator-empty").mkdir()
    (tmp_path / ".curator-file").write_text("mine")
    (tmp_path / ".curator-link").symlink_to(tmp_path / ".curator-mine")
    with workspace(tmp_path / "w") as work, workspace(tmp_path / "x") as other:  # each clears before it begins
        (work / "version").mkdir()
        clear_leftovers(tmp_path)
        assert (work / "version").is_dir() and other.is_dir()
        assert tree(tmp_path / "v") == {"file": "old"}
        replace_folder(work / "version", tmp_path / "w")
    assert {p.name for p in tmp_path.iterdir()} == {"v", "w", ".curator-mine", ".curator-file", ".curator-link"}
    assert tree(tmp_path / ".curator-mine") == {"file": "mine"}


@pytest.mark.parametrize("name", ["../outside", "..", ".", "", "a/b"])
def test_nothing_is_put_back_elsewhere(tmp_path, name):
    """The name of the target is read from a file that somebody else may have made."""
    inside = tmp_path / "inside"
    (inside / ".curator-x" / "old").mkdir(parents=True)
    (inside / ".curator-x" / "owner").write_text(name)
    clear_leftovers(inside)
    assert list(tmp_path.rglob("*")) == [inside]


def test_an_error_between_two_renames(tmp_path, monkeypatch):
    """The old one stands again at once."""
    target, rename = tmp_path / "v", os.rename
    target.mkdir()
    (target / "file").write_text("old")

    def refuse(a, b):
        if Path(b) == target and Path(a).name == "version":
            raise KeyboardInterrupt
        rename(a, b)

    monkeypatch.setattr("curator.system._exchange", lambda a, b: False)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(KeyboardInterrupt), workspace(target) as work:
        (work / "version").mkdir()
        replace_folder(work / "version", target)
    assert tree(tmp_path) == {"v/file": "old"} and [p.name for p in tmp_path.iterdir()] == ["v"]


def test_links_are_removed_and_not_what_they_lead_to(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("mine")
    for name, target in {"link": tmp_path / "far", "file": tmp_path / "far" / "file", "none": tmp_path / "no"}.items():
        (tmp_path / name).symlink_to(target)
        remove(tmp_path / name)
    remove(tmp_path / "nothing")
    assert [p.name for p in tmp_path.iterdir()] == ["far"] and tree(tmp_path) == {"far/file": "mine"}


def test_cores_are_those_that_joblib_counts(monkeypatch, tmp_path):
    """And no more than a container's quota, of either version of cgroups, gives."""
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    assert cores() == joblib.cpu_count()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    for version in (1, 2):
        folder = tmp_path / str(version)
        (folder / "cpu").mkdir(parents=True)
        monkeypatch.setattr("curator.system.CGROUP", folder)
        assert cores() == 8
        for quota, expected in ((50_000, 1), (100_000, 1), (250_000, 3), (900_000, 8), (-1, 8)):
            if version == 2:
                (folder / "cpu.max").write_text(f"{quota if quota > 0 else 'max'} 100000\n")
            else:
                (folder / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
                (folder / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
            assert cores() == expected
