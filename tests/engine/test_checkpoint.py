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
