"""A dataset of strangers names files: which of them are read."""

import os
import socket
import time
from pathlib import Path

import pytest

from curator.errors import CuratorError
from curator.sources.files import (
    OUTSIDE,
    Refused,
    beside,
    own_files,
    read_inside,
    real_folders,
    source_file,
    whole_of,
)


@pytest.fixture
def folder(tmp_path):
    """A dataset's folder with one file, and a secret beside it."""
    (tmp_path / "secret").write_text("token")
    inner = tmp_path / "data"
    (inner / "cat").mkdir(parents=True)
    (inner / "cat" / "a.png").write_bytes(b"inside")
    return inner


def test_files_inside_are_read(folder, tmp_path):
    """By an absolute or a relative path, through links that stay inside, and through one to the folder itself."""
    (folder / "link.png").symlink_to("cat/a.png")
    (folder / "dog").symlink_to(folder / "cat")
    (tmp_path / "root").symlink_to(folder)
    for path in (folder / "cat" / "a.png", "cat/a.png", "cat/../cat/a.png", "link.png", "dog/a.png",
                 tmp_path / "root" / "dog" / "a.png"):  # fmt: skip
        assert read_inside(str(path), real_folders([folder])) == b"inside"
        assert read_inside(str(path), real_folders([tmp_path / "root"])) == b"inside"


@pytest.mark.parametrize(
    "path",
    ["/proc/self/environ", "/dev/zero", "/etc/passwd", "../secret", "cat/../../secret", "{folder}/../secret",
     "{folder}2/x", "link", "up/secret", "loop", "..", "/no/such/file", "/dev/stdin"],
)  # fmt: skip
def test_files_outside_are_not(folder, path):
    (folder / "link").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("/proc/self/environ")
    with pytest.raises(Refused, match=f"^{OUTSIDE}$"):
        read_inside(path.format(folder=folder), real_folders([folder]))


def test_the_working_folder_does_not_count(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(Refused, match="No such file"):
        read_inside("secret", real_folders([folder]))
    with pytest.raises(Refused, match=OUTSIDE):  # of a dataset that has no folder
        read_inside("secret", ())


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.png", "file:///etc/passwd", "file://{folder}/cat/a.png",
                                     "hf://datasets/a/b/c.png", "zip://a.png::/etc/x.zip"])  # fmt: skip
def test_addresses_are_not_followed(folder, address):
    with pytest.raises(Refused, match="archive" if "::" in address else "address"):
        read_inside(address.format(folder=folder), real_folders([folder]))


def test_what_is_no_regular_file_is_never_opened(folder, monkeypatch):
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(folder)  # a socket's path may not be long
        listening.bind("socket")
    monkeypatch.setattr(os, "open", lambda *args: pytest.fail("it was opened"))
    for name in ("fifo", "socket", "cat", "."):
        with pytest.raises(Refused, match="no regular file"):
            read_inside(name, real_folders([folder]))


def test_a_file_that_is_replaced_while_it_is_looked_at(folder, tmp_path, monkeypatch):
    """By a FIFO, which nobody waits for, and by a link, which is not followed."""
    really, path = os.open, folder / "cat" / "a.png"

    def swap(make):
        def opened(*args):
            path.unlink()
            make()
            return really(*args)

        return opened

    for make in (lambda: os.mkfifo(path), lambda: path.symlink_to(tmp_path / "secret")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", swap(make))
            started = time.monotonic()
            with pytest.raises(Refused):
                read_inside(str(path), real_folders([folder]))
            assert time.monotonic() - started < 5


def test_odd_paths_are_refused(folder):
    for path in ("a\0b", "x" * 5000, "cat/a.png/b", "", "loop"):
        (folder / "loop").unlink(missing_ok=True)
        (folder / "loop").symlink_to("loop")
        with pytest.raises(Refused, match=r"^its (file cannot be read|path is that)"):
            read_inside(path, real_folders([folder]))


def test_a_file_of_holes_takes_no_memory(folder):
    with open(folder / "holes.png", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(Refused, match="its file has 1,048,576 MiB, more than 2,048"):
        read_inside("holes.png", real_folders([folder]))


def test_a_single_file_in_the_home_folder_opens_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "sets").mkdir(parents=True)
    assert beside(tmp_path / "home" / "rows.parquet") == beside(tmp_path / "rows.parquet") == []
    assert beside(tmp_path / "home" / "sets" / "rows.parquet") == [str(tmp_path / "home" / "sets")]


def test_a_snapshot_of_the_hub_is_links_into_its_repository(tmp_path):
    repository = tmp_path / "hub" / "datasets--a--b"
    snapshot = repository / "snapshots" / "1234"
    (snapshot / "cat").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "ff").write_bytes(b"inside")
    (snapshot / "cat" / "a.png").symlink_to("../../../blobs/ff")
    assert whole_of(snapshot) == whole_of(snapshot / "cat") == str(repository)
    assert read_inside(str(snapshot / "cat" / "a.png"), (whole_of(snapshot),)) == b"inside"
    assert whole_of(tmp_path) == str(tmp_path)


def test_a_file_is_called_by_its_place_in_the_folder(folder, tmp_path):
    """Through links, too, by the names on its way; of any other file the name alone is told."""
    (folder / "dog").symlink_to("cat")
    (tmp_path / "root").symlink_to(folder)
    (tmp_path / "way").symlink_to(folder / "cat")
    folders = real_folders([folder])
    assert source_file(str(folder / "cat" / "a.png"), folders) == source_file("./cat//a.png", folders) == "cat/a.png"
    assert source_file(str(tmp_path / "root" / "dog" / "a.png"), folders) == "dog/a.png"
    assert source_file(str(tmp_path / "way" / "a.png"), folders) == "cat/a.png"
    for path in ("/home/ann/cats/a.png", f"{folder}/../cats/a.png", f"{folder}2/a.png", "../ann/a.png", "cat/../a.png",
                 "zip://in/a.png::/home/ann/cats.zip", "file:///home/ann/a.png", "/home/ann\0/a.png"):  # fmt: skip
        assert source_file(path, folders) == "a.png"
    assert source_file(str(folder / "cat" / "std::map.png"), folders) == "cat/std::map.png"  # no archive
    assert source_file("https://example.org/x/a.png", folders) == "https://example.org/x/a.png"
    assert source_file(str(folder / "a.png"), ()) == "a.png"
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    assert source_file(str(snapshot / "cat" / "a.png"), (whole_of(snapshot),)) == "cat/a.png"


def test_files_of_a_run(folder, tmp_path):
    """Those of the names that are there, in folders, too; links inside are fine."""
    (folder / "again.png").symlink_to("cat/a.png")
    assert own_files(folder, "again.png", "cat", "nothing") == [folder / "again.png", folder / "cat" / "a.png"]
    for make in (
        lambda path: path.symlink_to(tmp_path / "secret"),
        lambda path: path.symlink_to(tmp_path),
        lambda path: path.symlink_to("/nowhere"),
        os.mkfifo,
    ):
        path = Path(folder / "cat" / "odd")
        make(path)
        with pytest.raises(CuratorError, match=r"cat/odd: expected a file of the run"):
            own_files(folder, "cat")
        path.unlink()
    (folder / "whole").symlink_to(tmp_path)
    with pytest.raises(CuratorError, match=r"data/whole: expected a file of the run"):
        own_files(folder, "whole")
