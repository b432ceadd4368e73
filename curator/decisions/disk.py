"""What kind of disk a file is on: whether several processes can share a database there."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# File systems whose memory or locks other machines, or another system's processes, do not see. fuseblk is a local disk.
APART = re.compile(
    r"fuse(\..*)?|nfs.*|cifs|smb.*|9p|virtiofs|ceph|lustre|gpfs|beegfs.*|glusterfs|afs|davfs|vboxsf|ocfs2|gfs2|"
    r"orangefs|grpcfuse|osxfs|coda|ncpfs"
)


def kind_of(path: Path) -> str:
    """Name of the file system that holds a real path, as Linux calls it; empty where the system does not tell."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        words = before.split(" ")
        if len(words) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), words[4])
        if len(point) >= longest and (path == Path(point) or Path(point) in path.parents):
            found, longest = after.split(" ")[0], len(point)  # of two on one point the later one is on top
    return found


def is_apart(path: Path) -> bool:
    """Whether a real path is on a network's disk, a bucket's mount or the like, which one process should use alone."""
    return bool(APART.fullmatch(kind_of(path)))


def has_locks(folder: Path) -> bool:
    """Whether files of a folder can be locked; tried on a file that goes again, where one can be made."""
    import fcntl

    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    except OSError:
        return True
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
