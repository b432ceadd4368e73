"""bench/data.py in small: its pictures, its rows, and what it says of torchvision's decoder."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bench import data
from bench.table import Table
from curator.sources.pictures import Decoder


def test_a_comment_makes_another_file_of_the_same_pixels():
    picture = data.jpeg(0)
    other = data.commented(picture, "7")
    assert other != picture and 30_000 < len(picture) < 60_000
    a, b = (np.asarray(Image.open(io.BytesIO(content))) for content in (picture, other))
    assert a.shape == (375, 500, 3) and np.array_equal(a, b)


@pytest.mark.parametrize("mode, options", [
    ("RGB", {}), ("RGB", {"subsampling": 0}), ("RGB", {"progressive": True}), ("RGB", {"turned": True}), ("L", {}),
    ("CMYK", {}),
])  # fmt: skip
def test_torchvision_shows_the_pixels_that_the_tool_shows(mode, options):
    """As RESULTS.md says; it is not used because it is no quicker."""
    from torchvision.io import ImageReadMode, decode_jpeg

    exif = Image.Exif()
    exif[0x0112] = 6 if options.pop("turned", False) else 1
    file = io.BytesIO()
    Image.open(io.BytesIO(data.jpeg(1))).convert(mode).save(file, "JPEG", exif=exif, **options)
    content = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    theirs = decode_jpeg(content, ImageReadMode.RGB, apply_exif_orientation=True).permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(Decoder().rgb(file.getvalue())), theirs)


def test_rows_are_written_and_compared(tmp_path):
    table = Table(*data.WRITTEN, tmp_path / "R.md")
    data.written(tmp_path, 250, table)
    row = table.row("250 rows")
    assert float(row["copy, MB/s"]) > 0 and float(row["MB/s"]) > 0


@pytest.mark.slow
def test_a_folder_and_a_floor(tmp_path, capsys):
    data.main(["--rows", "30", "--tries", "1", "--written", "0", "--print"])
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if line.startswith("| 30 images"))
    assert all(float(cell.replace(",", "")) > 0 for cell in row.split("|")[2:9])
    assert "| torchvision decodes | " in told and "| the same |" in told
