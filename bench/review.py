"""The review at scale: time to open, turn a page and save, and memory, with 50,000 and 1,000,000 rows.

    python -m bench.review       # appends the missing rows to bench/RESULTS.md

The runs are made up (2,000 noisy 32 x 32 images over and over, ten classes, random scores) but written by the code that
writes real ones. app.py serves them in a process of its own; figures are medians of what a client waits for over HTTP,
and, where Chromium and playwright are there, what a reviewer waits for after pressing N.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import decisions, maps
from bench.runs import ROOT, run_folder
from bench.table import Table, processor, today

SIZES = {"50,000 rows": 50_000, "1,000,000 rows": 1_000_000}
CLASSES = tuple(f"class {i}" for i in range(10))
FLAGGED = 0.4
TOKEN = "a-token-for-the-bench"
COLUMNS = [
    "start to first page, s", "of it the run's files, s", "slowest order, s", "page of 64, ms (worst)",
    "in Chromium, ms", "save a decision, ms", "save 64, ms", "memory, MiB", "date", "machine",
]  # fmt: skip


def main() -> None:
    """Measure the sizes that have no row yet; then the map, and the decisions that groups save."""
    table = Table("The review page", COLUMNS)
    for name, n in SIZES.items():
        if name not in table:
            folder = made_up_run(n)
            table.append(name, [*measured(folder, n), today(), processor()])
    maps.main()
    decisions.main()


def made_up_run(n: int) -> Path:
    """An output folder with n rows; made once."""
    import numpy as np
    import pyarrow as pa
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Pil

    import curator
    from curator.result.columns import Columns, add_columns
    from curator.result.layout import write_json
    from curator.result.parquet import write_parquet

    folder = run_folder(f"review {n}")
    if (folder / "curation.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    images = []
    for i in range(2000):
        file = io.BytesIO()
        smooth = Pil.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).resize(
            (32, 32), Pil.Resampling.BICUBIC
        )
        pixels = np.asarray(smooth) + rng.normal(0, 6, (32, 32, 3))
        Pil.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": f"{i}.png"})
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pieces = [pa.array(images[: min(2000, n - start)], kind) for start in range(0, n, 2000)]
    given, soft = rng.integers(0, 10, n), rng.dirichlet(np.full(10, 0.3), n).astype(np.float32)
    features = Features({"image": Image(), "label": ClassLabel(names=list(CLASSES))})
    rows = pa.table({"image": pa.chunked_array(pieces), "label": given}).cast(features.arrow_schema)
    selected = rng.random(n) > FLAGGED
    columns = Columns(
        soft[np.arange(n), given],
        selected,
        np.where(selected, given, soft.argmax(1)),
        soft,
        np.arange(n),
        np.ones(n, bool),
        np.full(n, np.nan, np.float32),
    )
    folder.mkdir(parents=True)
    write_parquet(add_columns(Dataset(rows, fingerprint=f"made-up-{n}"), columns, CLASSES), folder, "train")
    np.save(folder / "features.npy", rng.normal(0, 1, (n, 128)).astype(np.float16))
    facts = {
        "split": "train", "image_column": "image", "label_column": "label", "dataset": "made-up", "method": "none",
        "name": "made-up", "recipe": None, "command": "", "seed": 0, "source": {}, "settings": {}, "n": n,
        "classes": len(CLASSES), "selected": int(selected.sum()), "changed": int((~selected).sum()),
        "estimated_noise_rate": FLAGGED, "trusted": {"count": 0}, "versions": {"label-curator": curator.__version__},
    }  # fmt: skip
    write_json(folder / "curation.json", facts)
    return folder


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The page of a run in a process of its own: its address, without the token, and the process."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "app.py", str(folder), "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "CURATOR_TOKEN": TOKEN},
    )
    try:
        client(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}/", server
    finally:
        server.terminate()
        server.wait(30)


def measured(folder: Path, n: int) -> list[str]:
    """The figures of a row."""
    for name in ("review.sqlite", "review.sqlite-wal", "review.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    script = f"import time; t = time.perf_counter(); from pathlib import Path; from curator.review.session import Session; s = Session([Path({str(folder)!r})]); s.page({{'token': s.open({{}}, 'a')['token'], 'number': 0}}, 'a'); print(time.perf_counter() - t)"  # fmt: skip # noqa: E501
    files = float(subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True).stdout)
    started = time.perf_counter()
    with served(folder) as (address, server):
        ask = client(address)
        opened, hello = ask("open"), ask("hello")
        me = {name: hello[name] for name in ("reviewer", "journal", "run")}
        ask("page", token=opened["token"], number=0)
        start = time.perf_counter() - started
        orders = [timed(lambda order=order: ask("open", order=order)) for order in ask("hello")["orders"]]
        numbers = [i * (opened["pages"] // 50) for i in range(50)]
        pages = [timed(lambda i=i: ask("page", token=opened["token"], number=i)) for i in numbers]
        saves = [timed(lambda i=i: ask("save", **me, steps=[step([i])])) for i in range(100)]
        bulk = [timed(lambda i=i: ask("save", **me, steps=[step(range(64 * i, 64 * i + 64))])) for i in range(2, 22)]
        ask("detail", row=5)
        memory = next(line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if "VmHWM" in line)
        seen = in_chromium(address)
    ms = [f"{1000 * statistics.median(values):.0f}" for values in (pages, saves, bulk)]
    return [
        f"{start:.1f}", f"{files:.1f}", f"{max(orders):.2f}", f"{ms[0]} ({1000 * max(pages):.0f})", seen, ms[1], ms[2],
        f"{int(memory.split()[1]) / 1024:,.0f}",
    ]  # fmt: skip


def step(rows) -> dict[str, Any]:
    """A decision on rows as the page sends it."""
    return {"key": uuid.uuid4().hex, "kind": "do", "rows": [[row, "keep", None] for row in rows]}


def timed(work) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def client(address: str):
    """A function that asks the page's server, as soon as it answers."""
    while True:
        try:
            # opening the address with the token sets the cookie that every call needs
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            browser.open(f"{address}?token={TOKEN}", timeout=60).read()
            break
        except OSError:
            time.sleep(0.05)

    def ask(what: str, **data) -> dict[str, Any]:
        body = json.dumps({**data, "what": what}).encode()
        request = urllib.request.Request(f"{address}ask", body, {"Content-Type": "application/json"})
        with browser.open(request, timeout=120) as answer:
            return json.load(answer)

    while True:  # the server answers before it has read the run
        try:
            ask("hello")
            return ask
        except OSError:
            time.sleep(0.05)


def in_chromium(address: str) -> str:
    """Milliseconds from pressing N to the pictures of the next page; the median of 20 pages."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return "not measured"
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{address}?token={TOKEN}")
        page.wait_for_selector("#curator [data-row]")
        waits = []
        for number in range(2, 22):
            page.wait_for_timeout(50)  # somebody who looks at a page for 50 ms only
            started = time.perf_counter()
            page.keyboard.press("n")
            page.wait_for_function(
                f"document.querySelector('.cr-pages').textContent.startsWith('page {number} ') && "
                "[...document.querySelectorAll('.cr-card img')].every((i) => i.complete || i.loading === 'lazy')"
            )
            waits.append(time.perf_counter() - started)
        browser.close()
    return f"{1000 * statistics.median(waits):.0f}"


if __name__ == "__main__":
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    main()
