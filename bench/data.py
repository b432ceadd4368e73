"""Data in and out: a folder of JPEGs to features against decoding alone, and a million rows written against a copy.

    python -m bench.data                    # both, about 6 minutes on 2 idle cores; appends to bench/RESULTS.md
    python -m bench.data --rows 5000 --written 50000 --print     # a try, only printed

Features: JPEGs of 500 x 375 in ten folders of classes, an encoder that only sleeps 1 ms an image batch, everything from
the folder to the features in a process of its own (its start apart), its cache empty. The floor is `datasets` with
Pillow, which list the same folder and decode every image, in a process a core; another besides scales them to the 224
pixels that the encoder reads, as Pillow does for the tool, too. All take turns, twice; the best counts.
Memory is the peak of the process, at all rows and at a tenth of them. 1,000 different pictures are written over and
over, each with a comment of its own, since making them takes longer than decoding.

Writing: a split with images of 4 KiB that are bytes in a file of Arrow, as the result is written, against a copy of
that file, both until they are on the disk; every image of the result is compared with the source's. Memory is what the
process has of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

from bench.table import RESULTS, Table, processor, today
from curator.system import cores

ROOT = Path(__file__).resolve().parent.parent
SIZE, SIDE, CLASSES, DIFFERENT = (500, 375), 224, 10, 1000
PICTURE = 4096  # bytes of an image of the rows that are written
BLOCK = 10_000  # rows that are made, and compared, at once
FEATURES = "A folder of JPEGs of 500 x 375 to features, an encoder of 1 ms", [
    "images/s", "decoding alone, images/s", "share", "decoding and scaling, images/s", "share of that",
    "peak MiB at a tenth", "peak MiB", "date", "machine",
]  # fmt: skip
COSTS = "A JPEG of 500 x 375, piece by piece", ["ms of a core", "pixels", "date", "machine"]
WRITTEN = "Rows with images of 4 KiB written, against a copy of the file", [
    "GB", "MB/s", "copy, MB/s", "seconds", "own memory at most, MiB", "date", "machine",
]  # fmt: skip


def encoder(images: Any) -> Any:
    """Features (b, 8) of uint8 images (b, 3, h, w), after 1 ms."""
    time.sleep(0.001)
    return images[:, :, :8, 0].float().mean(1)


def jpeg(seed: int) -> bytes:
    """A picture of about 40 kB: a few shapes of colour, and texture."""
    from PIL import Image

    rng = np.random.default_rng(seed)

    def scaled(w: int, h: int, spread: int) -> np.ndarray:
        small = Image.fromarray(rng.integers(128 - spread, 128 + spread, (h, w, 3), dtype=np.uint8))
        return np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC), np.float32)

    pixels = 0.85 * scaled(8, 6, 127) + 0.15 * scaled(160, 120, 127)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def commented(content: bytes, text: str) -> bytes:
    """A JPEG with a comment, after its start."""
    comment = text.encode()
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]


def make_folder(folder: Path, n: int) -> None:
    """So many JPEGs in folders of classes."""
    with ThreadPoolExecutor(cores()) as pool:
        pictures = list(pool.map(jpeg, range(min(n, DIFFERENT))))
    for c in range(CLASSES):
        (folder / f"class {c}").mkdir(parents=True)
    for i in range(n):
        name = folder / f"class {i % CLASSES}" / f"{i:07d}.jpg"
        name.write_bytes(commented(pictures[i % len(pictures)], str(i)))


# In processes of their own


def to_features(folder: Path) -> None:
    """The folder to features; prints seconds, images and peak memory."""
    from curator.config.resolve import resolve
    from curator.sources.load import load
    from curator.sources.read import read

    given = {
        "dataset": str(folder),
        "backbone": "bench.data:encoder",
        "method": "linear",
        "output": str(folder) + "-run",
    }
    resolved = resolve(given)
    import torchvision  # noqa: F401 (what takes seconds to import is not timed)

    started = now()
    reading = read(resolved, load(resolved.settings))
    told(started, len(reading.data))


def decoded(folder: Path, scaled: bool = False) -> None:
    """What `datasets` decodes of the folder with Pillow, in as many processes as there are cores.

    scaled: to the squares that an encoder reads, as the tool cuts them.
    """
    from datasets import load_dataset
    from PIL import ImageOps
    from PIL.Image import Resampling

    started = now()
    rows = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(folder) + "-cache")
    children = []
    for core in range(cores()):
        if not (child := os.fork()):
            for row in rows.shard(cores(), core, contiguous=True):
                image = row["image"].convert("RGB")
                np.asarray(ImageOps.fit(image, (SIDE, SIDE), Resampling.BICUBIC) if scaled else image)
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    told(started, len(rows))


def now() -> np.ndarray:
    """Seconds, and processor seconds of this process and those that it waited for."""
    return np.array([time.perf_counter(), sum(os.times()[:4])])


def told(started: np.ndarray, n: int) -> None:
    """Print what the parent reads."""
    (seconds, processor), peak = now() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "processor": processor, "images": n, "peak": peak}))


def alone(job: str, folder: Path) -> dict[str, float]:
    """What a job of JOBS tells from a process of its own, whose caches are new."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
        env = {**os.environ, "XDG_CACHE_HOME": cache, "HF_HOME": cache, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-m", "bench.data", job, str(folder)]
        done = subprocess.run(words, env=env, check=True, capture_output=True, text=True)
    shutil.rmtree(f"{folder}-cache", ignore_errors=True)
    return json.loads(done.stdout.splitlines()[-1])


JOBS: dict[str, Callable[[Path], None]] = {
    "to-features": to_features, "decoded": decoded, "scaled": partial(decoded, scaled=True),
}  # fmt: skip


# The tables


def features(at: Path, n: int, tries: int, table: Table) -> None:
    """The row of the folder."""
    make_folder(at / "all", n)
    make_folder(at / "tenth", max(CLASSES, n // 10))
    found: dict[str, list[dict[str, float]]] = {job: [] for job in JOBS}
    small = alone("to-features", at / "tenth")
    for _ in range(tries):
        for job in JOBS:
            found[job].append(alone(job, at / "all"))
            print(job, found[job][-1], flush=True)
    ours, floor, scaled = (max(one["images"] / one["seconds"] for one in found[job]) for job in JOBS)
    peaks = [f"{one['peak'] / 2**20:,.0f}" for one in (small, found["to-features"][0])]
    table.append(f"{n:,} images", [
        f"{ours:,.0f}", f"{floor:,.0f}", f"{ours / floor:.2f}", f"{scaled:,.0f}", f"{ours / scaled:.2f}", *peaks,
        today(), processor(),
    ])  # fmt: skip


def costs(table: Table) -> None:
    """What an image costs a core, piece by piece, and what torchvision and torch would make of the same pieces."""
    import torch
    from PIL import Image, ImageOps
    from PIL.Image import Resampling
    from torchvision.io import ImageReadMode, decode_jpeg

    from bench.floor import best
    from curator.sources.faults import measured
    from curator.sources.pictures import Scaling

    files = [jpeg(i) for i in range(20)]
    tensors = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    whole = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    stack = np.stack([Scaling()(image, (SIDE, SIDE)) for image in whole])
    own = np.array([image.size for image in whole])
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] for image in whole]
    size = (SIDE * SIZE[0] // SIZE[1], SIDE)  # of all of it, since Pillow alone cuts between pixels

    def read(tensor: torch.Tensor) -> torch.Tensor:
        return decode_jpeg(tensor, ImageReadMode.RGB, apply_exif_orientation=True)

    def scaled(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(image, size[::-1], mode="bicubic", antialias=True)

    theirs = [np.asarray(image.resize(size, Resampling.BICUBIC), int) for image in whole]
    off = [np.abs(scaled(a)[0].permute(1, 2, 0).numpy() - b) for a, b in zip(pixels, theirs, strict=True)]
    same = all(
        np.array_equal(read(t).permute(1, 2, 0).numpy(), np.asarray(image))
        for t, image in zip(tensors, whole, strict=True)
    )
    works: dict[str, tuple[Callable[[int], object], str]] = {
        "Pillow decodes": (lambda i: Image.open(io.BytesIO(files[i])).convert("RGB"), "are the tool's"),
        "torchvision decodes": (lambda i: read(tensors[i]), "the same" if same else "others"),
        "torchvision decodes, to Pillow's image": (
            lambda i: Image.fromarray(read(tensors[i]).permute(1, 2, 0).contiguous().numpy()), "as above",
        ),
        "Pillow scales the centre to 224 px": (
            lambda i: ImageOps.fit(whole[i], (SIDE, SIDE), Resampling.BICUBIC), "–",
        ),
        "Pillow scales all of it": (lambda i: whole[i].resize(size, Resampling.BICUBIC), ""),
        "torch scales all of it": (
            lambda i: scaled(pixels[i]),
            f"{np.mean(np.stack(off) > 0):.2%} differ, by up to {max(map(np.max, off))}",
        ),
        "the tool scales the centre to 224 px": (
            lambda i: Scaling()(whole[i], (SIDE, SIDE)), "are the tool's; see what torch scales",
        ),
        "the tool measures faults, 20 at once": (lambda i: measured(stack, own) if i == 0 else None, ""),
    }  # fmt: skip
    for name, (work, shown) in works.items():
        seconds = best(partial(lambda work: [work(i) for i in range(len(files))], work), 10) / len(files)
        table.append(name, [f"{1000 * seconds:.2f}", shown or "–", today(), processor()])


class Held:
    """The most memory of its own that this process has had since; pages of mapped files are none of it."""

    def __init__(self) -> None:
        self.most, self.ended = 0, Event()
        self.thread = Thread(target=self.watch)
        self.thread.start()

    def now(self) -> int:
        """Bytes at this moment."""
        return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) * 1024

    def watch(self) -> None:
        """Look ten times a second."""
        while not self.ended.wait(0.1):
            self.most = max(self.most, self.now())

    def end(self) -> int:
        """Bytes at most."""
        self.ended.set()
        self.thread.join()
        return self.most


def synced(folder: Path) -> None:
    """Wait until the files of a folder are on the disk."""
    for file in folder.iterdir():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())


def written(at: Path, n: int, table: Table) -> None:
    """The row of the writer."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Dataset, Features, Image, Value

    from curator.result.parquet import write_parquet
    from curator.sources.images import NO_FILES

    kinds = Features({"image": Image(), "label": ClassLabel(num_classes=CLASSES), "clean_score": Value("float32")})
    noise = np.random.default_rng(0).integers(0, 256, 2**22, dtype=np.uint8).tobytes()

    def rows(start: int) -> pa.Table:
        places = [(i * 7919) % (2**22 - PICTURE) for i in range(start, min(start + BLOCK, n))]
        blobs = [{"bytes": noise[p : p + PICTURE], "path": f"{start + i}.jpg"} for i, p in enumerate(places)]
        return pa.table({
            "image": blobs, "label": [p % CLASSES for p in places], "clean_score": [p / 2**22 for p in places],
        }).cast(kinds.arrow_schema)  # fmt: skip

    source, copy, out = at / "rows.arrow", at / "copy", at / "out"
    with pa.ipc.new_stream(source, kinds.arrow_schema) as writer:
        for start in range(0, n, BLOCK):
            writer.write_table(rows(start), max_chunksize=1000)
    dataset, size = Dataset.from_file(str(source)), source.stat().st_size / 1e6
    os.sync()
    copy.mkdir()
    started = time.perf_counter()
    shutil.copy(source, copy)
    synced(copy)
    copying = time.perf_counter() - started
    shutil.rmtree(copy)
    held, started = Held(), time.perf_counter()
    write_parquet(dataset, out, "train", NO_FILES, ("image", np.ones(n, bool)))
    synced(out / "data")
    writing, most = time.perf_counter() - started, held.end()
    start = 0
    for file in sorted((out / "data").iterdir()):
        for batch in pq.ParquetFile(file).iter_batches(BLOCK, columns=["image"]):
            theirs = dataset.with_format("arrow")[start : start + len(batch)]["image"].combine_chunks()
            start += len(batch)
            assert all(batch["image"].field(i).equals(theirs.field(i)) for i in (0, 1)), start
    assert start == n
    table.append(f"{n:,} rows", [
        f"{size / 1000:.1f}", f"{size / writing:,.0f}", f"{size / copying:,.0f}", f"{writing:.0f}",
        f"{most / 2**20:,.0f}", today(), processor(),
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Measure both."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in JOBS:
        JOBS[words[0]](Path(words[1]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--tries", type=int, default=2)
    parser.add_argument("--written", type=int, default=1_000_000)
    parser.add_argument("--print", action="store_true", help="print the rows instead of appending them")
    flags = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        at = Path(folder)
        results = at / "R.md" if flags.print else RESULTS
        if flags.rows:
            costs(Table(*COSTS, results))
            features(at, flags.rows, flags.tries, Table(*FEATURES, results))
        if flags.written:
            written(at, flags.written, Table(*WRITTEN, results))
        if flags.print:
            print(results.read_text())


if __name__ == "__main__":
    main()
