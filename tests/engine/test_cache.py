"""Files of a cache: whole and as expected, or not there."""

import io
import os
import zipfile

import numpy as np
import pytest

from curator.engine.cache import Unfit, keep, read_npy, read_npz, require_sound

VALUES = np.arange(12, dtype=np.float16).reshape(4, 3)
LIKE = {"a": VALUES, "b": np.zeros((2, 2, 2), bool)}


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(save=np.savez_compressed, **arrays) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


HUGE = header("{'descr': '<f2', 'fortran_order': False, 'shape': (4, %d), }\n")
WORDS = "{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}\n"
BROKEN = {
    "empty": b"",
    "nonsense": b"nonsense",
    "cut in its header": npy(VALUES)[:20],
    "cut short": npy(VALUES)[:-1],
    "longer": npy(VALUES) + b"x",
    "other width": npy(VALUES[:, :2]),
    "other rows": npy(VALUES[:2]),
    "other type": npy(VALUES.astype(np.float32)),
    "another number of axes": npy(VALUES.reshape(-1)),
    "columns first": npy(np.asfortranarray(VALUES)),
    "pickled": npy(np.array([["a", None, 3]] * 4, object)),
    "huge": header(WORDS.format("<f2", False, f"(4, {2**60})")) + bytes(24),
    "larger than any number": header(WORDS.format("<f2", False, "(4, " + "9" * 5000 + ")")),
    "negative": header(WORDS.format("<f2", False, "(-4, -3)")) + bytes(24),
    "no width": header(WORDS.format("<f2", False, "(4, 0)")),
    "code": header("{'descr': __import__('os').system('touch ran'), 'shape': (4, 3)}\n"),
    "a header of the next version": npy(VALUES).replace(b"NUMPY\x01", b"NUMPY\x02"),
}


@pytest.mark.parametrize("mapped", [False, True])
def test_arrays_are_read_as_they_were_written(tmp_path, mapped):
    np.save(tmp_path / "a.npy", VALUES)
    found = read_npy(tmp_path / "a.npy", (4, None), np.float16, mapped=mapped)
    assert found.dtype == np.float16 and np.array_equal(found, VALUES)
    assert read_npy(tmp_path / "none.npy", (4, 3), np.float16) is None


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_arrays_are_not_there(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    for mapped in (False, True):
        assert read_npy(tmp_path / "a.npy", (4, 3), np.float16, mapped=mapped) is None


def test_what_is_no_file_is_not_there(tmp_path):
    np.save(tmp_path / "real.npy", VALUES)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "real.npy")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "link", "loop", "device"):
        assert read_npy(tmp_path / name, (4, 3), np.float16) is None
        assert read_npz(tmp_path / name, LIKE) is None
    assert read_npy(tmp_path / "link", (4, 3), np.float16, mapped=True) is not None  # a run's folder may be of links
    assert read_npy(tmp_path / "pipe", (4, 3), np.float16, mapped=True) is None


def zipped(data: bytes, **options) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("a.npy", data)
        archive.writestr("b.npy", npy(LIKE["b"]))
    return file.getvalue()


SOUND = npz(**LIKE)
MIDDLE = SOUND.index(b"a.npy") + 60
ARCHIVES = {
    **{name: zipped(content) for name, content in BROKEN.items()},
    "no archive": b"PK\x03\x04 but no more",
    "an archive cut short": SOUND[:-30],
    "an archive without its first part": SOUND[40:],
    "a changed byte": SOUND[:MIDDLE] + bytes([SOUND[MIDDLE] ^ 255]) + SOUND[MIDDLE + 1 :],
    "one is missing": npz(a=VALUES),
    "packed in another way": zipped(npy(VALUES), compression=zipfile.ZIP_LZMA),
    "a bomb": zipped(npy(VALUES) + bytes(2**26), compression=zipfile.ZIP_DEFLATED),
}


def test_archives_are_read_as_they_were_written(tmp_path):
    for save in (np.savez, np.savez_compressed):
        keep(tmp_path / "new" / "a.npz", lambda file, save=save: save(file, **LIKE))
        found = read_npz(tmp_path / "new" / "a.npz", LIKE)
        assert all(np.array_equal(found[name], LIKE[name]) and found[name].flags.writeable for name in LIKE)
    assert os.listdir(tmp_path / "new") == ["a.npz"]


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_broken_archives_are_not_there(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    assert read_npz(tmp_path / "a.npz", LIKE) is None


@pytest.mark.parametrize("kind", ["file", "link", "folder", "full folder"])
def test_what_lies_in_its_place_is_replaced(tmp_path, kind):
    path, other = tmp_path / "a", tmp_path / "other"
    other.write_text("other")
    if kind == "file":
        path.write_text("old")
    elif kind == "link":
        path.symlink_to(other)
    else:
        path.mkdir()
        if kind == "full folder":
            (path / "x").write_text("x")
    keep(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and not path.is_symlink() and other.read_text() == "other"


def test_what_torch_would_believe(tmp_path):
    """A file of its own that says it holds terabytes, is packed, cut short or has a changed byte."""
    import torch

    path = tmp_path / "state.pt"
    torch.save({"x": torch.arange(1000.0)}, path)
    require_sound(path)
    whole = path.read_bytes()
    data = whole.index(torch.arange(1000.0).numpy().tobytes())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state/data.pkl", bytes(2**20))
    entry = whole.rindex(b"PK\x01\x02")
    claims = whole[: entry + 20] + (2**31).to_bytes(4, "little") * 2 + whole[entry + 28 :]
    for content in (b"", whole[:-10], whole[:100], packed.getvalue(), claims, whole[:data] + b"x" + whole[data + 1 :]):
        path.write_bytes(content)
        with pytest.raises((Unfit, OSError)):
            require_sound(path)
