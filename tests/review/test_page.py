"""The read-only page, served for real on this machine."""

import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from datasets import ClassLabel

import curator
from curator.cli import main
from curator.evidence import CuratorError
from curator.review.page import PAGE, render
from curator.review.rows import Rows
from tests.conftest import ROOT, hf_dataset

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "${alert(1)} {{x}}",
    "a\u202eb",
    "x" * 10_000,
    "'\"><script>alert(1)</script>",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review") / "out"
    ds = hf_dataset(400, 5, share=0.5).remove_columns("true_label").cast_column("label", ClassLabel(names=HOSTILE))
    curator.curate(ds, method="ce", epochs=1, output=folder, flag_worst=150)
    return folder  # half of the labels are wrong, 150 rows are flagged


def test_order_pages_and_filter(run):
    rows = Rows(run)
    assert len(rows.order) == 150 and (rows.score[rows.order][1:] >= rows.score[rows.order][:-1]).all()
    first, number = render(rows, -1, 0)
    assert number == 1 and first.count("<figure>") == PAGE and "page 1 of 3, 150 rows" in first
    last, number = render(rows, -1, 99)
    assert number == 3 and last.count("<figure>") == 150 - 2 * PAGE
    for c in range(5):
        of_class = (rows.given[rows.order] == c).sum()
        text, _ = render(rows, c, 1)
        assert text.count("<figure>") == min(of_class, PAGE) and f"{of_class} rows" in text


def test_strangers_names_are_text(run):
    page = "".join(render(Rows(run), c, 1)[0] for c in range(5))
    assert "<img src=x" not in page and "<script" not in page and "&lt;script&gt;" in page and "x" * 100 not in page
    assert page.count("<img ") == page.count("<figure>")


def test_images_are_those_of_the_rows(run):
    import datasets

    rows = Rows(run)
    raw = datasets.load_dataset(str(run), split="train").cast_column("image", datasets.Image(decode=False))
    assert rows.images(rows.order[:5]) == [raw[int(i)]["image"]["bytes"] for i in rows.order[:5]]


def test_the_server(run):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py", str(run), "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}/"
        for _ in range(300):
            try:
                text = urllib.request.urlopen(address, timeout=5).read().decode()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.2)
        assert "Curator: out" in text and "<img src=x" not in text
        call = urllib.request.Request(
            address + "gradio_api/call/show", b'{"data": [-1, 2]}', {"Content-Type": "application/json"}
        )
        event = re.search(r'"event_id":\s*"(\w+)"', urllib.request.urlopen(call, timeout=30).read().decode()).group(1)
        grid = urllib.request.urlopen(f"{address}gradio_api/call/show/{event}", timeout=30).read().decode()
        assert "event: complete" in grid and "page 2 of 3, 150 rows" in grid
        for probe in ("file=/etc/passwd", f"file={run}/curation.json", "gradio_api/file=/etc/passwd"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(address + probe, timeout=5)
        assert main(["review", str(run), "--port", str(port)]) == 2
        listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True).stdout
        assert (
            f"0100007F:{port:04X} 00000000:0000 0A" in listening
            and f"00000000:{port:04X} 00000000:0000 0A" not in listening
        )
    finally:
        process.terminate()
        process.wait(30)


def test_no_run(tmp_path, capsys):
    with pytest.raises(CuratorError, match="expected the output folder of a finished run"):
        Rows(tmp_path)
    assert main(["review", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
