"""The map of the review: which library lays 50,000 rows out, how long it takes, and how fast the page draws it.

    CURATOR_DATA=... python -m bench.maps        # appends the missing rows to bench/RESULTS.md

The layouts are of the frozen features of CIFAR-10N worst (the arena's run), on 50 axes, each in a process of its own;
near: how many of a row's 15 nearest by features are among its 50 nearest on the map; same class: of its 15 nearest on
the map, by the true labels. 2,000 rows are asked. umap-learn and pacmap are no dependencies: pip install them.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.runs import ROOT, finished_run, has_data, run_folder
from bench.table import Table, processor, today

HEADING = "The map, 50,000 rows of 1,280 features"
COLUMNS = ["seconds", "CPU seconds", "others' load", "near, of 15 in 50", "same class", "GiB", "date", "machine"]
SPEED = "The map on the page, 100,000 points"
SPEED_COLUMNS = ["frames a second", "painting a frame, ms", "first sight, s", "others' load", "date", "machine"]
ASKED, SECONDS = 2000, 3.0


def main() -> None:
    """Measure what has no row yet."""
    from bench.arena import cell

    name, flags = cell("worst", "posterior", 1)
    if not has_data("maps", flags):
        return
    table = Table(HEADING, COLUMNS)
    for library, (_, threads) in LIBRARIES.items():
        if library not in table:
            finished_run(name, flags)
            table.append(library, [*alone(library, run_folder(name), threads), today(), processor()])
    speed = Table(SPEED, SPEED_COLUMNS)
    for width, height in ((1280, 800), (1920, 1080)):
        window = f"Chromium {width} x {height}, no GPU"
        if window not in speed:
            speed.append(window, [*frames(width, height), today(), processor()])


def ours(points: np.ndarray) -> np.ndarray:
    """As the page makes it."""
    from curator.review.map import projected

    return projected(points)


def tsne(early: int, late: int) -> Callable[[np.ndarray], np.ndarray]:
    """t-SNE with so many iterations."""

    def lay_out(points: np.ndarray) -> np.ndarray:
        from openTSNE import TSNE

        how = TSNE(n_jobs=1, random_state=0, neighbors="approx", early_exaggeration_iter=early, n_iter=late)
        return np.asarray(how.fit(points))

    return lay_out


def umap(points: np.ndarray) -> np.ndarray:
    """UMAP as it comes."""
    from umap import UMAP

    return UMAP(random_state=0, n_jobs=1).fit_transform(points)


def pacmap(points: np.ndarray) -> np.ndarray:
    """PaCMAP as it comes."""
    from pacmap import PaCMAP

    return PaCMAP(random_state=0, apply_pca=False).fit_transform(points, init="pca")


LIBRARIES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "two principal axes": (lambda points: points[:, :2], 1),
    "umap-learn, 1 thread": (umap, 1),
    "pacmap, 1 thread": (pacmap, 1),
    "openTSNE 250 + 500, 1 thread": (tsne(250, 500), 1),
    "ours: openTSNE, 2 threads": (ours, 2),
}


def alone(library: str, folder: Path, threads: int) -> list[str]:
    """The figures of a library, measured in a process of its own."""
    words = [sys.executable, "-m", "bench.maps", library, str(folder)]
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    load = os.getloadavg()[0]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, env={**os.environ, **limits})
    found = json.loads(done.stdout.decode().splitlines()[-1])
    return [
        f"{found['seconds']:.0f}", f"{found['cpu']:.0f}", f"{load:.1f}", f"{found['near']:.3f}", f"{found['same']:.3f}",
        f"{found['memory']:.1f}",
    ]  # fmt: skip


def measure(library: str, folder: Path) -> dict[str, Any]:
    """The figures of a library: features to layout, then how good it is."""
    from sklearn.neighbors import NearestNeighbors

    from curator.result.read import Rows
    from curator.review.likeness import directions, reduced

    rows = Rows(folder)
    assert rows.features is not None and rows.truth is not None
    everything = np.arange(len(rows))
    started, before = time.perf_counter(), used()
    points = reduced(rows.features, everything)
    flat = LIBRARIES[library][0](points)
    seconds, cpu = time.perf_counter() - started, used() - before
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    asked = np.random.default_rng(1).choice(len(rows), ASKED, replace=False)
    x = directions(rows.features, everything)
    like = x[asked] @ x.T
    like[np.arange(ASKED), asked] = -2
    wanted = np.argpartition(-like, 15, 1)[:, :15]
    on_map = NearestNeighbors(n_neighbors=51).fit(flat).kneighbors(flat[asked], return_distance=False)[:, 1:]
    near = np.mean([len(np.intersect1d(a, b)) / 15 for a, b in zip(wanted, on_map, strict=True)])
    same = (rows.truth[on_map[:, :15]] == rows.truth[asked][:, None]).mean()
    return {"seconds": seconds, "cpu": cpu, "memory": memory, "near": float(near), "same": float(same)}


def used() -> float:
    """CPU seconds of this process so far."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime


def frames(width: int, height: int, n: int = 100_000) -> list[str]:
    """Frames a second while the map moves under the arrow keys, all points in view; milliseconds of one; first sight.

    The run is the made-up one of bench.review, with a made-up map of ten clouds.
    """
    from playwright.sync_api import sync_playwright

    from bench.review import TOKEN, made_up_run, served

    folder, load = made_up_run(n), os.getloadavg()[0]
    rng = np.random.default_rng(0)
    clouds = rng.random((10, 2))[rng.integers(0, 10, n)] + rng.normal(0, 0.05, (n, 2))
    clouds = (clouds - clouds.min(0)) / np.ptp(clouds, axis=0)
    np.save(folder / "map.npy", clouds.astype(np.float32))
    with served(folder) as (address, _), sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(f"{address}?token={TOKEN}")
        page.wait_for_selector("#curator [data-row]")
        started = time.perf_counter()
        page.click("[data-do=map]")
        page.wait_for_selector("canvas.cr-map[data-frames]")
        first = time.perf_counter() - started
        moved = """async (seconds) => {
            const canvas = document.querySelector("canvas.cr-map"), until = performance.now() + 1000 * seconds;
            const read = () => [Number(canvas.dataset.frames), Number(canvas.dataset.spent)];
            const [before, spent] = read(), began = performance.now();
            for (let i = 0; performance.now() < until; i++) {
                const key = ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"][i % 4];
                canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
                await new Promise((done) => requestAnimationFrame(done));
            }
            const [frames, all] = read(), count = frames - before;
            return [1000 * count / (performance.now() - began), (all - spent) / count];
        }"""
        rate, spent = page.evaluate(moved, SECONDS)
        browser.close()
    return [f"{rate:.0f}", f"{spent:.1f}", f"{first:.1f}", f"{load:.1f}"]


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
