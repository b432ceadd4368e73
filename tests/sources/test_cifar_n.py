import pickle

import numpy as np
import pytest
import torch

from curator.errors import CuratorError
from curator.sources.cifar_n import align, find_file, read_labels


def save(path, content):
    torch.save(content, path, pickle_protocol=2)
    return path


def test_the_published_file(data_dir):
    path = find_file("cifar10n", data_dir)
    content = read_labels(path)
    clean = content["clean_label"]
    wrong = {key: int((content[key] != clean).sum()) for key in content if key != "clean_label"}
    assert wrong == {
        "aggre_label": 4505,
        "random_label1": 8617,
        "random_label2": 9061,
        "random_label3": 8820,
        "worse_label": 20104,
    }
    assert np.bincount(content["worse_label"]).tolist() == [5309, 6053, 5342, 4673, 4040, 5668, 4203, 5273, 4629, 4810]


def test_small_file_of_the_same_layout(tmp_path):
    clean = np.arange(50) % 10
    path = save(tmp_path / "CIFAR-100_human.pt", {"clean_label": clean, "noisy_label": (clean + 1) % 10})
    content = read_labels(path)
    assert align(content, "noisy_label", clean, 10, path).tolist() == ((clean + 1) % 10).tolist()


def test_blocks_in_another_order_are_aligned(tmp_path):
    rng = np.random.default_rng(0)
    clean, noisy = rng.integers(0, 10, 50), rng.integers(0, 10, 50)
    path = save(tmp_path / "x.pt", {"clean_label": clean, "noisy_label": noisy})
    order = np.arange(50).reshape(5, 10)[[3, 0, 4, 1, 2]].reshape(-1)
    assert align(read_labels(path), "noisy_label", clean[order], 10, path).tolist() == noisy[order].tolist()


def test_what_cannot_be_aligned_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 10, 50)
    path = save(tmp_path / "x.pt", {"clean_label": clean, "noisy_label": clean})
    other = clean.copy()
    other[[7, 31]] = (other[[7, 31]] + 1) % 10
    with pytest.raises(CuratorError, match="differs from the dataset's labels in 2 rows"):
        align(read_labels(path), "noisy_label", other, 10, path)


@pytest.mark.parametrize("noisy, what", [
    (np.zeros(49, np.int64), "shape"), (np.full(50, 10), "from 10 to 10"), (np.full(50, -1), "from -1"),
    (np.zeros(50), "float64"), (None, "random_label"),
])  # fmt: skip
def test_wrong_arrays_are_refused(tmp_path, noisy, what):
    clean = np.arange(50) % 10
    content = {"clean_label": clean} | ({} if noisy is None else {"random_label": noisy})
    with pytest.raises(CuratorError, match=what):
        align(content, "random_label", clean, 10, tmp_path)


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("writer", ["torch", "torch-old", "pickle"])
def test_a_pickle_with_code_does_not_run(tmp_path, writer):
    path, target = tmp_path / "CIFAR-10_human.pt", tmp_path / "ran"
    content = {"clean_label": np.arange(5), "worse_label": Hostile(target)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    target.unlink(missing_ok=True)  # writing calls nothing, but be sure
    with pytest.raises(CuratorError, match="it was not opened"):
        read_labels(path)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 broken", b"\x80\x02."])
def test_broken_files_are_refused(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(CuratorError, match="it was not opened"):
        read_labels(path)


def test_other_content_is_refused(tmp_path):
    with pytest.raises(CuratorError, match="found the keys a"):
        read_labels(save(tmp_path / "x.pt", {"a": np.zeros(3, np.int64)}))
    with pytest.raises(CuratorError, match="found list"):
        read_labels(save(tmp_path / "y.pt", [1, 2]))


def test_missing_file(tmp_path):
    with pytest.raises(CuratorError, match=r"CIFAR-10_human.pt in it or below, found none"):
        find_file("cifar10n", tmp_path)


def test_download_is_checked(tmp_path, monkeypatch):
    """From a real server on this machine: a file with another md5 is not kept."""
    import http.server
    import threading

    from curator.sources import cifar_n

    (tmp_path / "CIFAR-10_human.pt").write_bytes(b"something else")
    handler = lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=str(tmp_path))  # noqa: E731
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(cifar_n, "URL", f"http://127.0.0.1:{server.server_port}/{{}}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(CuratorError, match="not the file that was published"):
        find_file("cifar10n", None)
    server.shutdown()
    server.server_close()
    with pytest.raises(CuratorError, match="could not download"):
        find_file("cifar10n", None)
    assert not list((tmp_path / "cache").rglob("*.pt"))


def test_what_is_no_file_or_a_large_one(tmp_path):
    """A pipe would be waited for, and a file of any size read."""
    import os

    os.mkfifo(tmp_path / "CIFAR-10_human.pt")
    with pytest.raises(CuratorError, match="found none"):
        find_file("cifar10n", tmp_path)
    with open(tmp_path / "large.pt", "wb") as file:
        file.truncate(2**34)
    with pytest.raises(CuratorError, match="expected a CIFAR-N label file, of 2 MB; found 17,179,869,184 bytes"):
        read_labels(tmp_path / "large.pt")
