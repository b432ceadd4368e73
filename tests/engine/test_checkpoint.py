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


def zeros(path):
    path.write_bytes(b"")


def folder(path):
    path.unlink()
    path.mkdir()


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def link(path):
    path.unlink()
    path.symlink_to(path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def changed(path):
    content = path.read_bytes()
    at = content.index(torch.arange(100.0).numpy().tobytes())
    path.write_bytes(content[:at] + b"\xff\xff" + content[at + 2 :])


def binary(path):
    path.write_bytes(bytes(range(256)))


def nothing(path):
    path.unlink()


# The pointer is a number, of which no part is broken; without it there is no checkpoint.
BROKEN = [("latest", spoil) for spoil in (zeros, folder, pipe, link, binary)]
BROKEN += [("state.pt", spoil) for spoil in (zeros, folder, pipe, link, binary, cut, changed, nothing)]


@pytest.mark.parametrize(("name", "spoil"), BROKEN)
def test_what_is_broken_is_said_in_a_line_and_can_be_started_anew(tmp_path, name, spoil):
    points = Checkpoints(tmp_path / "c")
    points.save({"t": torch.arange(100.0)})
    spoil(points.folder / "latest" if name == "latest" else points.latest() / "state.pt")
    with pytest.raises(CuratorError, match="start anew with --no-resume") as e:
        points.load()
    assert "\n" not in str(e.value)
    points.remove()  # --no-resume
    assert points.load() is None
    points.save({"t": torch.ones(1)})
    assert points.load() == {"t": torch.ones(1)}


def test_another_name_in_the_pointer_leads_nowhere(tmp_path):
    points = Checkpoints(tmp_path / "c")
    points.save({"i": 1})
    for name in ("../../etc", "/etc/passwd", "0", "1" * 2000, "000000\n000001"):
        (points.folder / "latest").write_text(name)
        with pytest.raises(CuratorError, match="--no-resume"):
            points.load()
