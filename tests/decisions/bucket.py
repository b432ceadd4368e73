"""A file system in user space, as a bucket's mount is one: its files lie in a folder elsewhere, no memory is shared.

python bucket.py FOLDER MOUNTPOINT: mounts it (as root, on Linux), prints "ready", and serves it until its stdin ends.
It speaks the kernel's FUSE protocol, 7.31, as far as SQLite needs it: a flat folder of regular files.
"""

import ctypes
import errno
import os
import select
import struct
import sys
from pathlib import Path

LOOKUP, FORGET, GETATTR, SETATTR, UNLINK, OPEN, READ, WRITE, RELEASE, FSYNC = 1, 2, 3, 4, 10, 14, 15, 16, 18, 20
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, FSYNCDIR, ACCESS, CREATE, INTERRUPT, BATCH = (
    25,
    26,
    27,
    28,
    29,
    30,
    34,
    35,
    36,
    42,
)
DIRECT, SIZE, LARGEST, ROOT, DETACH = 1, 8, 1 << 16, 1, 2
OPENED = struct.Struct("<QIi")


class Bucket:
    """Names and numbers of files, and what the kernel asks of them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names = {ROOT: ""}

    def node(self, name: str) -> int:
        found = next((node for node, known in self.names.items() if known == name), None)
        if found is None:
            found = max(self.names) + 1
            self.names[found] = name
        return found

    def attributes(self, node: int) -> bytes:
        s = os.stat(self.folder / self.names[node])
        times = [int(t) for ns in (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns) for t in divmod(ns, 10**9)]
        return struct.pack(
            "<6Q10I", node, s.st_size, s.st_blocks, *times[::2], *times[1::2], s.st_mode, 1, 0, 0, 0, 4096, 0
        )

    def entry(self, name: str) -> bytes:
        node = self.node(name)
        return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + self.attributes(node)

    def answer(self, kind: int, node: int, body: bytes) -> bytes:
        path = self.folder / self.names.get(node, "")
        if kind == INIT:
            return struct.pack("<4I2H2I2H2IH22x", 7, 31, 0, 0, 16, 12, LARGEST, 1, 0, 0, 0, 0, 0)
        if kind == LOOKUP:
            return self.entry(body.rstrip(b"\0").decode())
        if kind == SETATTR:
            valid, _, _, size = struct.unpack_from("<IIQQ", body)
            if valid & SIZE:
                os.truncate(path, size)
        if kind in (GETATTR, SETATTR):
            return struct.pack("<Q2I", 0, 0, 0) + self.attributes(node)
        if kind == CREATE:
            name = body[16:].rstrip(b"\0").decode()
            (self.folder / name).touch()
            return self.entry(name) + OPENED.pack(0, DIRECT, 0)
        if kind in (OPEN, OPENDIR):
            return OPENED.pack(0, DIRECT if kind == OPEN else 0, 0)
        if kind == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            with open(path, "rb") as file:
                file.seek(offset)
                return file.read(size)
        if kind == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            with open(path, "r+b") as file:
                file.seek(offset)
                file.write(body[40 : 40 + size])
            return struct.pack("<II", size, 0)
        if kind == UNLINK:
            name = body.rstrip(b"\0").decode()
            gone = self.node(name)  # it may still be open: it has another name until the end
            self.names[gone] = f".gone-{gone}"
            os.rename(self.folder / name, self.folder / self.names[gone])
        elif kind not in (RELEASE, FSYNC, FLUSH, READDIR, RELEASEDIR, FSYNCDIR, ACCESS):
            raise OSError(errno.ENOSYS, "not needed")
        return b""


def main(folder: str, point: str) -> None:
    libc, device = ctypes.CDLL(None, use_errno=True), os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"bucket", point.encode(), b"fuse.bucket", 0, options):
        sys.exit(os.strerror(ctypes.get_errno()))
    bucket = Bucket(Path(folder))
    print("ready", flush=True)
    try:
        while True:
            ready, _, _ = select.select([device, 0], [], [])
            if 0 in ready:
                return
            request = os.read(device, LARGEST + 8192)
            _, kind, unique, node = struct.unpack_from("<IIQQ", request)
            if kind in (FORGET, BATCH, INTERRUPT):
                continue
            try:
                body, error = bucket.answer(kind, node, request[40:]), 0
            except (OSError, KeyError) as e:
                body, error = b"", getattr(e, "errno", None) or errno.EIO
            os.write(device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)
    finally:
        libc.umount2(point.encode(), DETACH)


if __name__ == "__main__":
    main(*sys.argv[1:])
