"""A dataset that changes: while it is read, or into one that looks the same from outside."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import curator
from curator.config.resolve import resolve
from curator.curate import execute
from curator.errors import CuratorError, RunFailed
from curator.sources.images import decode_images, reader_of
from tests.conftest import image_folder, load_table


def replaced(file: Path, content: bytes) -> None:
    """Other content in the same file, of the same size and time."""
    before = file.stat()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def with_bit(file: Path) -> bytes:
    """The content with one bit turned in its end mark, which Pillow does not mind."""
    content = file.read_bytes()
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize("as_file", [False, True])
def test_rows_of_the_same_size_and_time(tmp_path, as_file):
    """Overwritten in place, and by another file of that name."""
    place = tmp_path / "rows" / "train.parquet"
    place.parent.mkdir()

    def content(labels: list[int]) -> bytes:
        pq.write_table(pa.table({"label": labels, "e": [[0.5]] * 30}), tmp_path / "other", compression="none")
        return (tmp_path / "other").read_bytes()

    def read() -> list[int]:
        return load_table(str(place if as_file else place.parent), features_only=True).labels.tolist()

    one, two, three = ([c] + [0, 1] * 14 + [1 - c] for c in (0, 1, 0))
    three = [1] + [1, 0] * 14 + [0]
    place.write_bytes(content(one))
    assert read() == one
    replaced(place, content(two))
    assert read() == two
    before = place.stat()
    content(three)
    os.utime(tmp_path / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(tmp_path / "other", place)
    assert (place.stat().st_size, place.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert read() == three


def test_an_image_that_is_another_one_now(tmp_path):
    table = load_table(str(image_folder(tmp_path / "pets", 6)))
    rows, files = np.arange(6), sorted((tmp_path / "pets" / "train").rglob("*.png"))
    seen = decode_images(table.dataset, "image", rows, (12, 12), 0, table.access)
    read = reader_of(table.dataset, "image", rows, (12, 12), seen.hashes, table.access)
    assert read(torch.tensor([5, 1])).shape == (2, 3, 12, 12)
    replaced(files[5], with_bit(files[5]))
    files[1].unlink()
    assert read(torch.tensor([0, 2])).shape == (2, 3, 12, 12)
    for row in (1, 5):
        with pytest.raises(RunFailed, match=f"column 'image': row {row}: the image differs from the one read at"):
            read(torch.tensor([0, row]))


@pytest.mark.parametrize("split, budget", [("train", 0), ("train", 1), ("test", 1)])
def test_a_run_does_not_go_on_with_other_images(tmp_path, split, budget):
    """Streamed, it ends at once; held in memory, when its images are to be written. Nothing is put out, and resuming
    says the same."""
    out = tmp_path / "out"
    image_folder(tmp_path / "pets")
    file = sorted((tmp_path / "pets" / split).rglob("*.png"))[3]
    given = {
        "dataset": str(tmp_path / "pets"), "method": "ce", "epochs": 1, "output": out, "memory_budget": budget,
        "net": "small",
    }  # fmt: skip

    def change(line: str) -> None:
        if line.startswith("schedule"):
            replaced(file, with_bit(file))

    with pytest.raises(RunFailed, match="row 3: the image differs from the one read at the start"):
        execute(resolve(given), say=change)
    assert not (out / "curation.json").exists() and not (out / "data").exists()
    if split == "train" and (out / "checkpoints").exists():
        with pytest.raises(CuratorError, match="the dataset changed since its run was interrupted"):
            execute(resolve(given))
        assert len(curator.curate(**{**given, "resume": False})) == 30
