"""Journals on disks that no two processes can share: a network's, a bucket's mount, one without shared memory."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from curator.decisions import disk
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from tests.conftest import ROOT
from tests.decisions.steps import FACTS, do, labels, turn
from tests.decisions.test_database import LOST

MOUNTS = r"""27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:25 / /data rw shared:7 - fuse.hf-mount bucket rw
31 27 0:26 / /da rw - tmpfs tmpfs rw
32 27 0:27 / /home\040of/ann rw - nfs4 server:/ann rw
33 30 0:28 / /data/local rw - ext4 /dev/vdb rw
34 27 0:29 / /mnt/stick rw - fuseblk /dev/sdb rw
35 27 0:30 / /mnt/two rw - nfs a:/ rw
36 35 0:31 / /mnt/two rw - overlay overlay rw
what the system may add one day
"""


def test_what_disk_a_file_is_on(tmp_path, monkeypatch):
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(disk, "MOUNTS", tmp_path / "mounts")
    for path, kind, apart in (
        ("/data/review.sqlite", "fuse.hf-mount", True),
        ("/data", "fuse.hf-mount", True),
        ("/database/x", "ext4", False),
        ("/home of/ann/runs/x", "nfs4", True),
        ("/data/local/x", "ext4", False),
        ("/mnt/stick/x", "fuseblk", False),
        ("/mnt/two/x", "overlay", False),
    ):
        assert (disk.kind_of(type(tmp_path)(path)), disk.is_apart(type(tmp_path)(path))) == (kind, apart), path
    monkeypatch.setattr(disk, "MOUNTS", tmp_path / "none")
    assert disk.kind_of(tmp_path) == "" and not disk.is_apart(tmp_path)


@pytest.fixture(params=["a network's disk", "no shared memory", "no locks"])
def apart(request, monkeypatch):
    """A disk that two cannot share: the system says so, or SQLite finds out."""
    if request.param == "no shared memory":  # one of SQLite's own ways to a disk that has none
        connect = sqlite3.connect
        monkeypatch.setattr(
            sqlite3, "connect", lambda to, **how: connect(f"{to}&vfs=unix-dotfile" if "?" in str(to) else to, **how)
        )
    else:
        monkeypatch.setattr(disk, "is_apart", lambda path: True)
        monkeypatch.setattr(disk, "has_locks", lambda folder: request.param != "no locks")
    monkeypatch.setattr("curator.decisions.database.WAIT", (0.2, 0.2))
    return request.param


def test_one_process_has_it_alone(tmp_path, apart):
    path = tmp_path / "j.sqlite"
    with closing(Journal(path, FACTS)) as journal:
        journal.save([do("1", (1, "keep", "cat")), do("2", (2, "drop", None)), turn("3", "undo")], "ann")
        assert journal._db.alone and journal._db.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
        assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        made = {p.name: p.stat().st_size for p in tmp_path.iterdir() if p.is_file()}
        assert made.pop("j.sqlite") and not any(made.values())
        if apart != "no locks":
            for facts in (FACTS, None):
                with pytest.raises(CuratorError, match="another process has it open"):
                    Journal(path, facts)
        journal._db.copy(tmp_path / "copy.sqlite")
        journal.save([turn("4", "redo")], "ann")
        assert labels(journal) == {1: ("keep", "cat"), 2: ("drop", None)}
    with closing(Journal(tmp_path / "copy.sqlite")) as copy:
        assert labels(copy) == {1: ("keep", "cat")} and copy.history("ann") == (["1"], ["2"])
    with closing(Journal(path)) as again:
        assert labels(again) == {1: ("keep", "cat"), 2: ("drop", None)}


def test_a_journal_of_a_local_disk_comes_along(tmp_path, monkeypatch):
    """As of a run that is copied to a bucket, and back."""
    path = tmp_path / "j.sqlite"
    with closing(Journal(path, FACTS)) as journal:
        journal.save([do("1", (1, "keep", "cat"))], "ann")
    with monkeypatch.context() as patch:
        patch.setattr(disk, "is_apart", lambda path: True)
        with closing(Journal(path, FACTS)) as journal:
            journal.save([do("2", (2, "keep", "cat"))], "ann")
    with closing(Journal(path, FACTS)) as journal:
        assert not journal._db.alone and journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert set(labels(journal)) == {1, 2}


@pytest.mark.parametrize("how", [how for how in LOST if "-wal" not in how and "-shm" not in how])
def test_what_is_not_there_is_not_saved_there_either(tmp_path, monkeypatch, how):
    monkeypatch.setattr(disk, "is_apart", lambda path: True)
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "j.sqlite"
    with closing(Journal(path, FACTS)) as journal:
        journal.save([do(f"step-{i}", *[(row, "keep", "cat") for row in range(200)]) for i in range(9)], "ann")
        journal.save([do("before", (20, "keep", "cat"))], "ann")
        journal._db.execute("SELECT count(*) FROM decisions").fetchone()
        before = os.stat(path).st_mtime_ns
        if how == "copied over":  # another connection may not read it
            backup = tmp_path / "backup"
            journal._db.copy(backup)
            with closing(sqlite3.connect(backup)) as to:
                to.execute("DELETE FROM decisions WHERE id < 500")
                to.commit()
            path.write_bytes(backup.read_bytes())
        else:
            LOST[how](path)
        assert how != "copied over" or os.stat(path).st_mtime_ns != before
        for _ in range(2):
            with pytest.raises(CuratorError, match="removed, replaced or cut"):
                journal.save([do("after", (21, "keep", "cat"))], "ann")


def test_a_time_that_the_disk_sets_later_is_no_loss(tmp_path, monkeypatch):
    """As bucket mounts do when they have uploaded the file."""
    monkeypatch.setattr(disk, "is_apart", lambda path: True)
    with closing(Journal(tmp_path / "j.sqlite", FACTS)) as journal:
        for i in range(3):
            journal.save([do(str(i), (i, "keep", "cat"))], "ann")
            os.utime(tmp_path / "j.sqlite")
        assert len(labels(journal)) == 3


WRITER = """
import sqlite3, sys
from pathlib import Path
from curator.decisions import disk
from curator.decisions.journal import Journal
connect = sqlite3.connect
if sys.argv[2] == "no locks":
    sqlite3.connect = lambda to, **how: connect(f"{to}&vfs=unix-none" if "?" in str(to) else to, **how)
facts = {"classes": ["cat", "dog"], "dataset": "pets", "split": "train"}
for turn in sys.stdin:
    journal = Journal(Path(sys.argv[1]), facts)
    assert journal._db.alone
    i = 0
    while True:
        key = f"{turn.strip()}-{i}"
        journal.save([{"key": key, "kind": "do", "rows": [(i * 7 + j, "relabel", "dog") for j in range(7)]}], "ann")
        print(key, flush=True)
        i += 1
"""


@pytest.fixture
def bucket(tmp_path):
    """A mount in user space; the system's own word on it, and nothing put in its place."""
    if sys.platform != "linux" or os.geteuid() or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("mounting asks for root and /dev/fuse")
    for name in ("held", "mount"):
        (tmp_path / name).mkdir()
    argv = [sys.executable, str(ROOT / "tests/decisions/bucket.py"), str(tmp_path / "held"), str(tmp_path / "mount")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "ready\n"
        yield tmp_path / "mount"
        server.stdin.close()
        assert server.wait(30) == 0


@pytest.mark.slow
def test_a_real_mount_in_user_space(bucket):
    """SQLite's WAL cannot be had there, and the journal knows; what it wrote is in the bucket's own file."""
    with closing(sqlite3.connect(bucket / "wal.sqlite")) as db, pytest.raises(sqlite3.OperationalError):
        db.execute("CREATE TABLE x (a)")
        if db.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",):
            db.execute("INSERT INTO x VALUES (1)")
        raise sqlite3.OperationalError("no WAL")
    assert disk.kind_of(bucket / "j.sqlite") == "fuse.bucket"
    with closing(Journal(bucket / "j.sqlite", FACTS)) as journal:
        assert journal._db.alone
        journal.save([do("1", (1, "keep", "cat"))], "ann")
        with journal.readable() as path, closing(Journal(path)) as copy:
            assert labels(copy) == {1: ("keep", "cat")}
    with closing(Journal(bucket.parent / "held" / "j.sqlite", FACTS)) as held:
        assert not held._db.alone and labels(held) == {1: ("keep", "cat")}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["no locks", "a mount in user space"])
def test_killed_twenty_times(tmp_path, request, where):
    """kill -9 while it saves, on a disk without shared memory: whole steps, and all that were saved."""
    folder = tmp_path if where == "no locks" else request.getfixturevalue("bucket")
    path, said = folder / "j.sqlite", []
    for turn_ in range(20):
        argv = [sys.executable, "-c", WRITER, str(path), where]
        with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdin.write(f"turn-{turn_}\n")
            process.stdin.flush()
            said.append(process.stdout.readline().strip())  # it is at work now
            time.sleep(0.01 + 0.013 * turn_)
            process.send_signal(signal.SIGKILL)
            said += [line.strip() for line in process.stdout if line.endswith("\n")]
        with closing(Journal(path)) as journal:  # what was left in the middle of writing is taken back
            there = {key for (key,) in journal._db.execute("SELECT key FROM steps")}
            assert there >= set(said) and len(there) <= len(said) + turn_ + 1
            assert len(journal.log(0)) == 7 * len(there)
    assert len(said) >= 20
