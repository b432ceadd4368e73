"""Builds the inputs of the corpus: each function makes one broken or odd input in a folder and says where it is.

`python tests/corpus/make.py FOLDER` builds all of them, to look at or to try a command on.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pil

N, K, SIZE = 40, 3, 12
ODD = 5  # the row that is odd where one of N is: 2.5 %, below the share at which a run stops
RED, BLUE = (220, 20, 20), (20, 20, 220)
NAMES = ClassLabel(names=["ant", "bee", "cat"])

Build = Callable[[Path], Path]  # into a folder that is there; gives what --dataset names


# Parts


def encode(image: Pil.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(i: int, size: tuple[int, int] = (SIZE, SIZE)) -> bytes:
    """A PNG whose brightness tells its class."""
    noise = np.random.default_rng(i).integers(0, 60, (*size, 3))
    return encode(Pil.fromarray((noise + 60 * (i % K)).astype(np.uint8)))


def red(mode: str = "RGB") -> Pil.Image:
    return Pil.new("RGB", (SIZE, SIZE), RED).convert(mode)


def blue() -> Pil.Image:
    return Pil.new("RGB", (SIZE, SIZE), BLUE)


def write(folder: Path, columns: dict[str, tuple[list, object]]) -> Path:
    """A parquet file of columns name -> (values, feature); values that datasets would refuse are written, too."""
    features = Features({name: feature for name, (_, feature) in columns.items()})
    values = {name: values for name, (values, _) in columns.items()}
    pq.write_table(pa.table(values, schema=features.arrow_schema), folder / "train.parquet")
    return folder


def images(replaced: dict[int, bytes | str | None] | None = None, n: int = N) -> tuple[list, object]:
    """A column of plain images, some of them replaced; text is the path of one, None a missing one."""
    contents = [(replaced or {}).get(i, plain(i)) for i in range(n)]
    values = [{"bytes": None, "path": c} if isinstance(c, str) else {"bytes": c, "path": None} for c in contents]
    return [None if c is None else value for c, value in zip(contents, values, strict=True)], Image()


def labels(n: int = N) -> tuple[list, object]:
    return [i % K for i in range(n)], NAMES


# Builders, or functions that give one


def good(folder: Path) -> Path:
    return write(folder, {"image": images(), "label": labels()})


def pictures(*contents: Callable[[], bytes | str | None]) -> Build:
    """The encoded images in place of as many rows, from ODD on."""

    def build(folder: Path) -> Path:
        odd = {ODD + i: make() for i, make in enumerate(contents)}
        return write(folder, {"image": images(odd), "label": labels()})

    return build


def labelled(values: list, feature: object) -> Build:
    """The values as labels of the first rows, then over and over."""
    return lambda folder: write(
        folder, {"image": images(), "label": ([values[i % len(values)] for i in range(N)], feature)}
    )


def one_label(value: object, feature: object) -> Build:
    """The value as the label of row ODD."""
    usual = ["ant", "bee", "cat"] if feature == Value("string") else [0, 1, 2]
    given = [value if i == ODD else usual[i % K] for i in range(N)]
    return lambda folder: write(folder, {"image": images(), "label": (given, feature)})


def with_columns(**columns: tuple[list, object]) -> Build:
    return lambda folder: write(folder, {"image": images(), "label": labels(), **columns})


def file(name: str, content: bytes | str, build: Build = good) -> Build:
    """A file beside a dataset."""

    def both(folder: Path) -> Path:
        (folder / "rows").mkdir()
        found = build(folder / "rows")
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return found

    return both


def array(values: np.ndarray) -> Build:
    """probs.npy beside a dataset."""
    content = io.BytesIO()
    np.save(content, values, allow_pickle=True)
    return file("probs.npy", content.getvalue())


def npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, probs=np.full((N, K), 1 / K))
    return content.getvalue()


def promising_npy() -> bytes:
    """128 bytes whose header promises 10^15 rows."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000, 3), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


# Files


def empty_folder(folder: Path) -> Path:
    return folder


def empty_file(folder: Path) -> Path:
    (folder / "train.parquet").touch()
    return folder


def truncated_parquet(folder: Path) -> Path:
    path = good(folder) / "train.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    return folder


def damaged_parquet(folder: Path) -> Path:
    """Its footer is whole, its pages are not."""
    path = good(folder) / "train.parquet"
    content = bytearray(path.read_bytes())
    content[100:5000] = bytes(4900)
    path.write_bytes(content)
    return folder


def no_image_column(folder: Path) -> Path:
    return write(folder, {"label": labels()})


def no_rows(folder: Path) -> Path:
    return write(folder, {"image": ([], Image()), "label": ([], NAMES)})


def not_a_dataset(folder: Path) -> Path:
    path = folder / "rows.xlsx"
    path.write_bytes(b"PK")
    return path


def tree(folder: Path, odd: bytes | None = None, name: str = "0005.png") -> Path:
    """An imagefolder; one file of it has other content."""
    for i in range(N):
        path = folder / NAMES.names[i % K] / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plain(i))
    if odd is not None:
        (folder / "cat" / "0005.png").unlink()
        (folder / "cat" / name).write_bytes(odd)
    return folder


def text_as_png(folder: Path) -> Path:
    return tree(folder, b"I am not an image\n")


def jpeg_named_png(folder: Path) -> Path:
    return tree(folder, encode(red(), "JPEG"))


def upper_case_extension(folder: Path) -> Path:
    return tree(folder, encode(red(), "JPEG"), "0005.JPG")


def other_files_between(folder: Path) -> Path:
    """What file managers and editors leave."""
    tree(folder)
    (folder / "ant" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "ant" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "bee" / "notes.txt").write_text("to do")
    return folder


def dangling_symlink(folder: Path) -> Path:
    tree(folder)
    (folder / "cat" / "0005.png").unlink()
    (folder / "cat" / "0005.png").symlink_to(folder / "nowhere.png")
    return folder


def loop_of_symlinks(folder: Path) -> Path:
    tree(folder)
    (folder / "cat" / "again").symlink_to(folder)
    return folder


def unreadable_folder(folder: Path) -> Path:
    tree(folder)
    (folder / "cat").chmod(0)
    return folder


def spaces_and_unicode(folder: Path) -> Path:
    inner = folder / "my photos, 猫 & 'dogs' #1 100%"
    inner.mkdir()
    return good(inner)


def long_name(length: int) -> Build:
    def build(folder: Path) -> Path:
        inner = folder / ("n" * length)
        inner.mkdir()
        return good(inner)

    return build


def saved_splits(*names: str) -> Build:
    """A DatasetDict as save_to_disk writes it, whose splits are renamed by hand."""

    def build(folder: Path) -> Path:
        inner = folder / "saved"
        rows = Dataset.from_parquet(str(good(folder) / "train.parquet"), cache_dir=str(folder / "cache"))
        for name in names:
            rows.save_to_disk(inner / name)
        (inner / "dataset_dict.json").write_text(json.dumps({"splits": list(names)}))
        return inner

    return build


def name_of_bytes(folder: Path) -> Path:
    """A file name that is no UTF-8."""
    tree(folder)
    os.rename(os.fsencode(folder / "cat" / "0005.png"), os.fsencode(folder / "cat") + b"/\xff.png")
    return folder


def listed_but_missing(folder: Path) -> Path:
    """metadata.csv of an imagefolder names a file that is not there."""
    for i in range(N):
        if i != ODD:
            (folder / f"{i:02d}.png").write_bytes(plain(i))
    lines = [f"{i:02d}.png,{NAMES.names[i % K]}" for i in range(N)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines, ""]))
    return folder


def only_html(folder: Path) -> Path:
    return write(folder, {"image": images(dict.fromkeys(range(N), html())), "label": labels()})


def two_splits(test: Build) -> Build:
    """A good train split and another test split."""

    def build(folder: Path) -> Path:
        (test(folder) / "train.parquet").rename(folder / "test.parquet")
        return good(folder)

    return build


# Images


def gray() -> bytes:
    return encode(Pil.new("L", (SIZE, SIZE), 100))


def palette(**options) -> Callable[[], bytes]:
    return lambda: encode(red().quantize(4), **options)


def rgba(alpha: int) -> Callable[[], bytes]:
    return lambda: encode(Pil.new("RGBA", (SIZE, SIZE), (*RED, alpha)))


def gray_alpha() -> bytes:
    return encode(Pil.new("LA", (SIZE, SIZE), (100, 255)))


def cmyk() -> bytes:
    return encode(red("CMYK"), "JPEG")


def sixteen_bit() -> bytes:
    """A ramp over the full range."""
    ramp = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    return encode(Pil.fromarray(ramp))


def turned() -> bytes:
    """Red on the left; its EXIF says to turn it by 90 degrees, so that red is on top."""
    image = blue()
    image.paste(RED, (0, 0, SIZE // 2, SIZE))
    exif = Pil.Exif()
    exif[0x0112] = 6
    return encode(image, "JPEG", quality=95, exif=exif)


def broken_exif() -> bytes:
    return encode(red(), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")


def frames(kind: str) -> Callable[[], bytes]:
    """Red first, then blue."""
    return lambda: encode(red(), kind, save_all=True, append_images=[blue(), blue()])


def still(kind: str, **options) -> Callable[[], bytes]:
    return lambda: encode(red(), kind, **options)


def sized(*size: int) -> Callable[[], bytes]:
    return lambda: plain(ODD, size[::-1])


def cut_jpeg() -> bytes:
    return encode(Pil.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")[:900]


def html() -> bytes:
    return b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def nothing() -> bytes:
    return b""


def missing() -> None:
    return None


def listed(path: str) -> Build:
    """Row ODD is the file of a path; odd.png lies beside the rows."""

    def build(folder: Path) -> Path:
        (folder / "odd.png").write_bytes(plain(ODD))
        return write(folder, {"image": images({ODD: path}), "label": labels()})

    return build


def environment() -> str:
    """Which holds tokens."""
    return "/proc/self/environ"


def zeros() -> str:
    return "/dev/zero"


def pipe(folder: Path) -> Path:
    """Who opens it waits until somebody writes."""
    os.mkfifo(folder / "pipe.png")
    return write(folder, {"image": images({ODD: "pipe.png"}), "label": labels()})


def link(target: str) -> Build:
    """An imagefolder; the first of its cats, which is row 27, is a link."""

    def build(folder: Path) -> Path:
        tree(folder)
        (folder / "cat" / "0002.png").unlink()
        (folder / "cat" / "0002.png").symlink_to(target)
        return folder

    return build


def postscript() -> bytes:
    """A program for Ghostscript that never ends."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"


def canvas() -> bytes:
    """A GIF of 35 bytes that declares 13,000 x 13,000 pixels."""
    size = struct.pack("<HH", 13_000, 13_000)
    return b"GIF89a" + size + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0" + size + b"\0\x02\x02\x44\x01\0;"


def elsewhere() -> str:
    """Nothing of the network is fetched because a file says so."""
    return "http://127.0.0.1:9/x.png"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb() -> bytes:
    """A PNG of 100 bytes whose header promises 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0")) + _chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A small PNG with a text chunk that unpacks to 4 MB."""
    content = b"Comment\0\0" + zlib.compress(bytes(4_000_000))
    image = encode(red())
    return image[:33] + _chunk(b"zTXt", content) + image[33:]


# Recipes

ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)  # 3.5 thousand million words, should anybody print them


# Checkpoints: what is done to the folder of an interrupted run


def state_file(checkpoints: Path) -> Path:
    return checkpoints / (checkpoints / "latest").read_text() / "state.pt"


def cut_state(checkpoints: Path) -> None:
    path = state_file(checkpoints)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def hostile_state(checkpoints: Path) -> None:
    path = state_file(checkpoints)
    torch.save({"progress": {}, "registered": Hostile(checkpoints.parent.parent / "ran")}, path)


def state(content: object) -> Callable[[Path], None]:
    return lambda checkpoints: torch.save(content, state_file(checkpoints))


def other_shapes(checkpoints: Path) -> None:
    path = state_file(checkpoints)
    saved = torch.load(path, weights_only=True)
    saved["registered"]["logits"] = torch.zeros(3, 3)
    torch.save(saved, path)


def replaced(name: str, content: bytes) -> Callable[[Path], None]:
    def replace(checkpoints: Path) -> None:
        (checkpoints / name).write_bytes(content)

    return replace


def removed(name: str) -> Callable[[Path], None]:
    def remove(checkpoints: Path) -> None:
        (checkpoints / name).unlink()

    return remove


def latest_is_a_folder(checkpoints: Path) -> None:
    (checkpoints / "latest").unlink()
    (checkpoints / "latest").mkdir()


# Files of labels


class Hostile:
    """What a pickle with code holds: read by pickle, it makes the file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def small_cifar(write_labels: Callable[[Path], None]) -> Build:
    """The layout of --data-dir for cifar10n, with 50 images."""

    def build(folder: Path) -> Path:
        (folder / "cifar10").mkdir()
        digits = ([i % 10 for i in range(50)], ClassLabel(names=[f"c{i}" for i in range(10)]))
        write(folder / "cifar10", {"img": images(n=50), "label": digits})
        write_labels(folder / "CIFAR-10_human.pt")
        return Path("cifar10n")

    return build


def cifar_labels(path: Path) -> None:
    truth = np.arange(50) % 10
    torch.save({"clean_label": truth, "worse_label": (truth + 1) % 10}, path, pickle_protocol=2)


def cut_labels(path: Path) -> None:
    cifar_labels(path)
    path.write_bytes(path.read_bytes()[:300])


def hostile_labels(path: Path) -> None:
    target = path.parent / "ran"
    path.write_bytes(pickle.dumps({"clean_label": np.arange(50) % 10, "worse_label": Hostile(target)}, protocol=2))
    target.unlink(missing_ok=True)


def features_with(value: object) -> Build:
    """A column of embeddings of which one row's is odd."""
    rows: list = [[float(i % K), 1.0 + i / N] for i in range(N)]
    rows[ODD] = value
    return lambda folder: write(folder, {"embedding": (rows, List(Value("float32"))), "label": labels()})


def main() -> None:
    """Build all inputs of the table beside this file."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.corpus.test_corpus import CASES

    for case in CASES:
        folder = Path(sys.argv[1]) / case.name
        os.makedirs(folder)
        print(folder.name, *case.argv(folder))


if __name__ == "__main__":
    main()
