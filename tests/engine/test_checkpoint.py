import os

import pytest
import torch

from curator.engine.checkpoint import Checkpoints, atomic, write_text
from curator.errors import CuratorError


def test_atomic_replaces_or_leaves_alone(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    with pytest.raises(KeyError), atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["a.txt"]
    write_text(path, "two")
    assert path.read_text() == "two"


def test_save_and_load(tmp_path):
    points = Checkpoints(tmp_path / "c")
    assert points.load() is None
    for i in range(12):  # beyond 10: numbers, not names, are counted
        points.save({"i": i, "t": torch.full((2,), i)})
    assert points.load()["i"] == 11 and points.latest().name == "000011"
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["000011", "latest"]


def test_a_checkpoint_cut_short_does_not_count(tmp_path):
    points = Checkpoints(tmp_path)
    points.save({"i": 1})
    (tmp_path / "000001").mkdir()
    (tmp_path / "000001" / ".state.pt.tmp").write_bytes(b"half")
    assert points.load() == {"i": 1}
    points.save({"i": 2})
    assert points.load() == {"i": 2}


def test_a_damaged_one_is_named(tmp_path):
    points = Checkpoints(tmp_path)
    points.save({"i": 1})
    (points.latest() / "state.pt").write_bytes(b"damaged")
    with pytest.raises(CuratorError, match="state.pt cannot be read .* --no-resume"):
        points.load()


def test_checkpoints_run_no_code(tmp_path):
    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    points = Checkpoints(tmp_path)
    points.save({"i": 1})
    torch.save({"x": Hostile()}, points.latest() / "state.pt")
    with pytest.raises(CuratorError):
        points.load()
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_a_link(tmp_path):
    """To another disk, say: what is in it goes, the link stays, and so does what is not ours below our names."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "mine").write_text("mine")
    (tmp_path / "c").symlink_to(tmp_path / "scratch")
    points = Checkpoints(tmp_path / "c")
    points.save({"i": 1})
    (tmp_path / "c" / "000001").symlink_to(tmp_path / "far")
    points.save({"i": 2})
    assert points.load() == {"i": 2} and (tmp_path / "far" / "mine").exists()
    (tmp_path / "c" / "000000").symlink_to(tmp_path / "far")
    points.save({"i": 3})
    points.remove()
    assert (
        (tmp_path / "c").is_symlink() and not any((tmp_path / "c").iterdir()) and (tmp_path / "far" / "mine").exists()
    )


def test_files_of_killed_writers_are_ours_and_go(tmp_path):
    points = Checkpoints(tmp_path)
    points.save({"i": 1})
    with pytest.raises(KeyError), atomic(tmp_path / "latest") as temporary:
        (tmp_path / temporary.name).write_text("half")
        left = tmp_path / temporary.name.replace(temporary.name[9:13], "0000")
        left.write_text("half")
        raise KeyError
    assert points.foreign() == []
    points.save({"i": 2})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000001", "latest"]
    (tmp_path / ".curator-notes.tmp").write_text("mine")
    assert points.foreign() == [".curator-notes.tmp"]
