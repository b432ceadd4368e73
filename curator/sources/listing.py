"""What lies below a dataset's folder: every image file and every table, links inside it followed; and what is left out.

`datasets` lists a folder by patterns, which leave files out without a word. Here each image file is in the list or in a
reason why it is not.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from datasets.packaged_modules.imagefolder.imagefolder import IMAGE_EXTENSIONS

from curator.errors import CuratorError
from curator.sources.files import lies_inside, whole_of
from curator.system import OURS

# Suffixes of images; what one holds is looked at when it is read.
IMAGES = frozenset(IMAGE_EXTENSIONS) - {".mpg", ".mpeg", ".im"} | {".avif", ".dib", ".pnm"}
UNREAD = {
    ".heic", ".heif", ".svg", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".jxl", ".exr", ".hdr",
    ".dcm",
}  # fmt: skip
TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"}
ROWS = {".arrow", ".tar", ".zip", ".gz"}  # what datasets reads itself
DICTIONARIES = {"dataset_infos.json", "dataset_info.json", "config.json", "state.json", "dataset_dict.json"}
MOST = 20_000_000  # files and folders: links may make any number of few
RUN = "curation.json"  # the mark of a run's folder


@dataclass
class Listing:
    """Paths relative to the folder, with forward slashes, sorted.

    Attributes:
        images: files with a suffix of IMAGES.
        tables: files with a suffix of TABLES that may be tables of rows.
        rows: other files that `datasets` may read rows from.
        left_out: files of images by the reason why they are not among the images.
        twice: folders that are links to others of the list, with these.
        outside: links to folders elsewhere, which may not be read.
    """

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    twice: list[tuple[str, str]] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def counted(files: list[str]) -> str:
    """How many image files, and where the first is: "3 image files (cat/a.heic, …) are"."""
    one = len(files) == 1
    return f"{len(files):,} image file{'' if one else 's'} ({files[0]}{'' if one else ', …'}) {'is' if one else 'are'}"


def listing(folder: Path, outside: Iterable[Path] = (), *, strict: bool = True) -> Listing:
    """List a dataset's folder.

    Args:
        folder: links to folders that lie in it are followed, but not those in what a link leads to.
        outside: other folders that links may lead to (--data-dir).
        strict: whether all of it is the dataset's; else folders that may not be read are left out.

    Raises:
        CuratorError: where strict, for a folder that cannot be read; for more files than any dataset has.
    """
    own = (whole_of(folder), *(whole_of(other) for other in outside))
    found, count, seen = Listing(), 0, dict[str, str]()

    def walk(path: str, below: str, above: tuple[str, ...], linked: bool) -> None:
        nonlocal count
        here = os.path.realpath(path)
        if here in above:  # a link upwards: what it leads to is listed already
            return
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as e:
            if not strict:
                return
            raise CuratorError(f"{below or folder}: the folder cannot be read ({e.strerror}); allow it") from e
        if seen.setdefault(here, below) != below:
            found.twice.append((below, seen[here]) if linked else (seen[here], below))
        count += len(entries)
        if count > MOST:
            raise CuratorError(f"{folder}: more than {MOST:,} files, or links to folders that hold each other")
        if below and any(entry.name == RUN for entry in entries):
            found.left_out["they are of a run of Curator"] += _images_of(entries, below)
            return
        for entry in entries:
            name = below + entry.name
            if entry.name.startswith(OURS):
                continue
            if not is_text(entry.name):
                inner = _below(entry.path, name + "/") if entry.is_dir() else _images_of([entry], below)
                found.left_out["their names are no UTF-8 text: rename them"] += inner
                continue
            # Of a link alone the system is asked again, not of a million files.
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)):
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    found.left_out["their folder is hidden"] += _below(entry.path, name + "/")
                elif entry.is_symlink() and not lies_inside(entry.path, own):
                    found.outside.append(name)
                elif entry.is_symlink() and linked:
                    found.left_out["a link inside a linked folder is not followed"] += _below(entry.path, name + "/")
                else:
                    walk(entry.path, name + "/", (*above, here), linked or entry.is_symlink())
                continue
            suffix = PurePosixPath(entry.name).suffix.lower()
            if entry.name.startswith("."):
                if suffix in IMAGES:
                    found.left_out["their names begin with a dot"].append(name)
            elif suffix in IMAGES:
                found.images.append(name)
            elif suffix in UNREAD:
                found.left_out[f"{suffix[1:].upper()} is not read: convert them to PNG or JPEG"].append(name)
            elif not os.path.isfile(entry.path):  # a pipe would be waited for
                continue
            elif suffix in TABLES and entry.name not in DICTIONARIES:
                found.tables.append(name)
            elif suffix in ROWS:
                found.rows.append(name)

    walk(str(folder), "", (), False)
    for paths in (found.images, found.tables, found.rows):
        paths.sort()
    found.left_out = {why: sorted(paths) for why, paths in found.left_out.items() if paths}
    return found


def is_text(name: str) -> bool:
    """Whether a name can stand in a column of text."""
    try:
        name.encode()
        return True
    except UnicodeEncodeError:
        return False


def _images_of(entries: Iterable[os.DirEntry], below: str) -> list[str]:
    return [below + entry.name for entry in entries if PurePosixPath(entry.name).suffix.lower() in IMAGES]


def _below(path: str, below: str) -> list[str]:
    """Image files in a folder that is left out; links are not followed."""
    found = []
    for base, _, names in os.walk(path):
        inner = os.path.relpath(base, path)
        head = below if inner == "." else f"{below}{inner}/"
        found += [head + name for name in names if PurePosixPath(name).suffix.lower() in IMAGES]
    return found
