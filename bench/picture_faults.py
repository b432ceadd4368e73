"""Faults of pictures beside CleanVision's, on garments of which some are spoilt.

pip install 'label-curator[bench]'
CURATOR_DATA=../shared/data python -m bench.picture_faults    # a minute on a core
400 photos; 20 more for each fault are made dark, bright, blurry, one colour, long, large, or grey.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from bench.table import Table, processor, today
from curator.sources.faults import FAULTS, faults_of, measured

HEADING = "Faults of pictures beside CleanVision"
COLUMNS = [
    "planted", "found", "CleanVision", "flagged by both", "not planted: ours / CleanVision's", "date and machine",
]  # fmt: skip
THEIRS = dict(zip(FAULTS, ("dark", "light", "blurry", "low_information", "odd_aspect_ratio", "odd_size", "grayscale")))  # noqa: B905
SPOIL: dict[str, Callable[[Image.Image], Image.Image]] = {
    "dark": lambda i: i.point(lambda v: v // 6),
    "bright": lambda i: i.point(lambda v: 246 + v // 32),
    "blurry": lambda i: i.filter(ImageFilter.GaussianBlur(max(i.size) / 16)),
    "low information": lambda i: Image.new("RGB", i.size, i.getpixel((0, 0))),
    "odd aspect": lambda i: i.resize((i.width, i.width // 4)),
    "odd size": lambda i: i.resize((2 * i.width, 2 * i.height)).resize(
        (4 * i.width, 4 * i.height), Image.Resampling.BOX
    ),
    "grey": lambda i: i.convert("L").convert("RGB"),
}


def pictures(count: int = 400, each: int = 20) -> list[Image.Image]:
    """Photos, the first ones as they are."""
    from datasets import load_dataset

    rows = load_dataset(str(Path(os.environ["CURATOR_DATA"]) / "clothing"), split="train")
    picked = np.random.default_rng(0).choice(len(rows), count + each * len(FAULTS), replace=False)
    found = [rows[int(i)]["image"].convert("RGB") for i in picked]
    for place, fault in enumerate(FAULTS):
        for i in range(count + place * each, count + (place + 1) * each):
            found[i] = SPOIL[fault](found[i])
    return found


def cleanvision(images: list[Image.Image]) -> dict[str, set[int]]:
    """What CleanVision flags, by our names."""
    import datasets
    from cleanvision import Imagelab

    rows = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Imagelab(hf_dataset=rows, image_key="image")
        lab.find_issues({name: {} for name in THEIRS.values()}, n_jobs=1, verbose=False)
    return {ours: {*np.flatnonzero(lab.issues[f"is_{name}_issue"]).tolist()} for ours, name in THEIRS.items()}


def main(count: int = 400, each: int = 20) -> None:
    """Print and write a row for each fault."""
    images, table = pictures(count, each), Table(HEADING, COLUMNS)
    started = time.process_time()
    found = faults_of(np.concatenate([measured(np.asarray(i)[None], np.array([i.size])) for i in images]))
    ours, started = time.process_time() - started, time.process_time()
    theirs = cleanvision(images)
    seconds = time.process_time() - started
    machine = f"{today()}, {processor()}"
    for place, fault in enumerate(FAULTS):
        planted = {*range(count + place * each, count + (place + 1) * each)}
        a, b = {*found.get(fault, np.zeros(0, int)).tolist()}, theirs[fault]
        others = f"{len(a - planted)} / {len(b - planted)}"
        cells = [each, len(a & planted), len(b & planted), len(a & b), others]
        print(fault, *cells, flush=True)
        table.append(fault, [*map(str, cells), machine])
    speed = [f"{1000 * s / len(images):.1f} ms a picture" for s in (ours, seconds)]
    print(*speed)
    table.append("time of the processor", ["", *speed, "", "", machine])


if __name__ == "__main__":
    main()
