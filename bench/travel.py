"""What travels to a GPU machine and back in parts, since a call carries 64 MiB: images, and checkpoints."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curator.engine.checkpoint import Checkpoints
from curator.sources.cifar_n import FILES
from curator.system import write_text

PART = 15 * 2**20  # bytes of a part of a checkpoint
PACK = 36 * 2**20  # bytes of images in a packed part
LABELS = FILES["cifar10n"][0]


def pack(data: Path, out: Path) -> None:
    """Write the images of data/cifar10 (parquet, encoded as they are) and the label file into folders of out."""
    import pyarrow.parquet as pq

    def rows() -> Iterable[tuple[str, bytes, int]]:
        for split in ("train", "test"):
            for file in sorted((data / "cifar10").rglob(f"{split}-*.parquet")):
                table = pq.read_table(file, columns=["image", "label"])
                for image, label in zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True):
                    yield split, image["bytes"], label

    pack_rows(rows(), out)
    shutil.copy(next(data.rglob(LABELS)), out / "0" / LABELS)


def pack_rows(rows: Iterable[tuple[str, bytes, int]], out: Path) -> None:
    """Write rows of (split, encoded image, label) into folders of out."""
    part, size = 0, 0
    held: list[tuple[str, bytes, int]] = []

    def flush() -> None:
        nonlocal part, size, held
        folder = out / str(part)
        folder.mkdir(parents=True, exist_ok=True)
        for split in {s for s, _, _ in held}:
            blobs = [blob for s, blob, _ in held if s == split]
            np.savez(
                folder / f"{split}.npz",
                blob=np.frombuffer(b"".join(blobs), np.uint8),
                offsets=np.cumsum([0, *map(len, blobs)]),
                labels=np.array([label for s, _, label in held if s == split]),
            )
        print(folder, f"{size / 2**20:.1f} MiB of images")
        part, size, held = part + 1, 0, []

    for row in rows:
        if size + len(row[1]) > PACK:
            flush()
        held.append(row)
        size += len(row[1])
    flush()


def make_up(out: Path, n: int, classes: int = 10) -> None:
    """Pack n images that tell their class, with a third of the labels wrong, to try a bench out."""
    from PIL import Image

    rng = np.random.default_rng(0)
    truth, patterns = np.arange(n) % classes, rng.integers(0, 128, (classes, 32, 32, 3))

    def encoded(label: int) -> bytes:
        file = io.BytesIO()
        pixels = patterns[label] + rng.integers(0, 128, (32, 32, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    pack_rows(((split, encoded(c), c) for split in ("train", "test") for c in truth.tolist()), out)
    given = np.where(rng.random(n) < 1 / 3, rng.integers(0, classes, n), truth)
    torch.save({"clean_label": truth, "worse_label": given}, out / "0" / LABELS, pickle_protocol=2)


def unpack(folder: Path, split: str) -> tuple[torch.Tensor, np.ndarray]:
    """Images (n, 3, h, w) uint8 and labels (n,) of all parts."""
    from PIL import Image

    images: list[np.ndarray] = []
    labels = []
    for path in sorted(folder.glob(f"*/{split}.npz"), key=lambda p: int(p.parent.name)):
        with np.load(path) as part:
            blob, offsets = part["blob"].tobytes(), part["offsets"]
            labels.append(part["labels"])
        pieces = [blob[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        with ThreadPoolExecutor() as pool:
            images += pool.map(lambda piece: np.asarray(Image.open(io.BytesIO(piece)).convert("RGB")), pieces)
    if not images:
        raise SystemExit(f"{folder}: expected packed parts */{split}.npz, found none; make them with 'gpu.py pack'")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), np.concatenate(labels)


# Checkpoints in parts


def split(state: Path, out: Path, first: int, count: int) -> None:
    """Write parts [first, first + count) of the state's checkpoint, each with what is needed to join them."""
    latest = Checkpoints(state / "checkpoints").latest()
    if latest is None:
        raise SystemExit(f"{state}: expected a checkpoint, found none")
    content = (latest / "state.pt").read_bytes()
    chosen = state / "epochs.json"
    parts = -(-len(content) // PART)
    head = {
        "parts": parts,
        "digest": hashlib.sha256(content).hexdigest(),
        "epochs": json.loads(chosen.read_text()) if chosen.exists() else None,
    }
    out.mkdir(parents=True, exist_ok=True)
    for i in range(first, min(first + count, parts)):
        np.savez(
            out / f"part-{i:03d}.npz",
            data=np.frombuffer(content[i * PART : (i + 1) * PART], np.uint8),
            head=np.frombuffer(json.dumps(head | {"part": i}).encode(), np.uint8),
        )
    print(f"parts {first} to {min(first + count, parts) - 1} of {parts}")


def join(folder: Path, state: Path) -> None:
    """Put the parts below a folder together into a checkpoint of the state."""
    parts: dict[int, bytes] = {}
    head: dict[str, Any] = {}
    for path in sorted(folder.rglob("part-*.npz")):
        with np.load(path) as part:
            head = json.loads(part["head"].tobytes())
            parts[head["part"]] = part["data"].tobytes()
    missing = sorted(set(range(head.get("parts", 1))) - set(parts))
    if missing:
        raise SystemExit(f"{folder}: parts {missing} are missing")
    content = b"".join(parts[i] for i in sorted(parts))
    if hashlib.sha256(content).hexdigest() != head["digest"]:
        raise SystemExit(f"{folder}: the parts are of different checkpoints")
    target = state / "checkpoints" / "000000"
    target.mkdir(parents=True, exist_ok=True)
    (target / "state.pt").write_bytes(content)
    if head["epochs"] is not None:
        write_text(state / "epochs.json", json.dumps(head["epochs"]))
    write_text(state / "checkpoints" / "latest", target.name)
    print(f"{len(parts)} parts joined in {target}")
