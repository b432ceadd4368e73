"""What a reviewer waits for and sees: the first answer, the rows, photos of 20 megapixels, rows on one screen.

    python -m bench.review_page       # appends the missing rows to bench/RESULTS.md

The runs are made of noise, without training (`confident` on made-up probabilities); app.py serves each in a process of
its own, and a Chromium of 1280 x 800 pixels looks at it. Nothing else should run meanwhile.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np

import curator
from bench.review import TOKEN
from bench.runs import ROOT, run_folder
from bench.table import Table, processor, today

RUNS = {"50,000 rows of 32 px": (50_000, (32, 32)), "12 photos of 20 megapixels": (12, (5472, 3648))}
COLUMNS = [
    "start to an answer, s", "start to the rows, s", "a row large, s", "its whole picture, s",
    "rows on a screen, usual size", "smallest size", "date", "machine",
]  # fmt: skip


def main() -> None:
    """Measure the runs that have no row yet."""
    table = Table("The review page: what a reviewer waits for", COLUMNS)
    for name, (n, size) in RUNS.items():
        if name not in table:
            table.append(name, [*measured(made_up(n, size)), today(), processor()])


def made_up(n: int, size: tuple[int, int]) -> Path:
    """A finished run of n rows in ten classes; at most 500 pictures, over and over."""
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Pil

    folder = run_folder(f"review page {n}")
    if (folder / "curation.json").exists():
        return folder
    rng, images = np.random.default_rng(0), []
    for i in range(min(n, 500)):
        file = io.BytesIO()
        small = Pil.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8))
        small.resize(size, Pil.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        images.append({"bytes": file.getvalue(), "path": f"{i}.jpg"})
    features = Features({"image": Image(), "label": ClassLabel(names=[f"class {i}" for i in range(10)])})
    rows = {"image": [images[i % len(images)] for i in range(n)], "label": rng.integers(0, 10, n)}
    probs = folder.with_name(f"{folder.name}.npy")
    probs.parent.mkdir(parents=True, exist_ok=True)
    np.save(probs, rng.dirichlet(np.full(10, 0.3), n).astype(np.float32))
    shutil.rmtree(folder, ignore_errors=True)
    curator.curate(Dataset.from_dict(rows, features), method="confident", pred_probs=probs, output=folder)
    return folder


def measured(folder: Path) -> list[str]:
    """The figures of a row."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    address, chromium = f"http://127.0.0.1:{port}/?token={TOKEN}", shutil.which("chromium")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        started = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "app.py", str(folder), "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL,
            env={**os.environ, "CURATOR_TOKEN": TOKEN},
        )  # fmt: skip
        try:
            answer = first_answer(address) - started
            page.goto(address)
            page.wait_for_selector(".cr-card img")
            rows = time.perf_counter() - started
            usual = whole_cards(page)
            begun = time.perf_counter()
            page.keyboard.press("Space")
            page.wait_for_selector(".cr-compare")
            page.wait_for_function("document.querySelector('.cr-large-picture img').complete")
            large = time.perf_counter() - begun
            begun = time.perf_counter()
            page.keyboard.press("z")
            page.wait_for_selector(".cr-head [role=status]:has-text('pixels')")
            whole = time.perf_counter() - begun
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
            page.fill("input[name=size]", "60")
            page.wait_for_selector(".cr-tiny .cr-card")
            page.wait_for_timeout(1000)
            smallest = whole_cards(page)
        finally:
            server.terminate()
            server.wait(30)
            browser.close()
    return [*(f"{seconds:.2f}" for seconds in (answer, rows, large, whole)), str(usual), str(smallest)]


def first_answer(address: str) -> float:
    """When the server has given its first page."""
    while True:
        try:
            urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(address, timeout=60).read()
            return time.perf_counter()
        except OSError:
            time.sleep(0.01)


def whole_cards(page) -> int:
    """Rows whose picture and labels are seen."""
    return page.eval_on_selector_all(
        ".cr-labels", "all => all.filter((n) => n.getBoundingClientRect().bottom <= window.innerHeight).length"
    )


if __name__ == "__main__":
    main()
