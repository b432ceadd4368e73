"""How a folder of images is laid out, told from the paths of its files alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from curator.errors import CuratorError
from curator.sources.listing import counted

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}  # as datasets calls them
AND = re.compile(r"[-_ ]?(set|split|data|images?|imgs?|labels?)?$")  # what people write after the name of a split


@dataclass
class Layout:
    """Where the images of a dataset are, and what their folders say of them.

    Attributes:
        splits: split -> its files, sorted; "train" where the folders tell none.
        named: whether folders are called as splits.
        classes: file -> class; empty where the folders tell no classes.
        left_out: files that are in no split, by reason.
        notes: what the user should know of it.
    """

    splits: dict[str, list[str]]
    named: bool = False
    classes: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def split_of(name: str) -> str | None:
    """The split that a folder's or a file's name means, as `val` or `test_images`; `test tube` is none."""
    name = name.casefold()
    return SPLITS.get(name) or SPLITS.get(AND.sub("", name))


def layout_of(images: Sequence[str], level: int | None) -> Layout:
    """The layout of some files.

    Args:
        images: their paths below the dataset's folder, with forward slashes.
        level: which folders on a file's way are the classes: 1 for those in the dataset's folder, or in the folders of
            its splits. By default the first at which there are several.

    Raises:
        CuratorError: where a folder may be a split or a class, or no file lies so deep.
    """
    ways = {path: path.split("/")[:-1] for path in sorted(images)}
    depth = 0  # of folders that hold all the others: those tell nothing
    while ways and all(len(way) > depth for way in ways.values()) and len({way[depth] for way in ways.values()}) == 1:
        depth += 1
    around = next(iter(ways.values()))[:depth] if ways else []
    only = next((name for name in around if split_of(name)), "")
    splits, named, left_out = _splits(ways, depth, only)
    split_at = around.index(only) if only else depth if named else None  # where on a file's way its split stands
    at = depth + named  # where the first folders are that may be classes
    layout = Layout(splits, split_at is not None, left_out=left_out)
    kept = [path for files in splits.values() for path in files]
    if level is not None:
        _by_level(layout, {p: [name for i, name in enumerate(ways[p]) if i != split_at] for p in kept}, level)
        return layout
    classes = {path: ways[path][at] for path in kept if len(ways[path]) > at}
    if len({*classes.values()}) < 2:
        return layout
    layout.classes = classes
    _leave_out(layout, [path for path in kept if path not in classes], "they lie beside the folders of the classes")
    deeper = [path for path in classes if len(ways[path]) > at + 1]
    number = at + 1 - layout.named
    if deeper:
        inner = "/".join(ways[deeper[0]][at : at + 2])
        layout.notes.append(
            f"the classes are the folders of level {number}; folders in them, as {inner}, count as their class "
            f"(--class-level {number + 1} makes classes of them)"
        )
    elif depth and around[-1] != only:
        layout.notes.append(f"the classes are the folders in {'/'.join(ways[kept[0]][:depth])}/")
    return layout


def _splits(ways: dict[str, list[str]], at: int, only: str) -> tuple[dict[str, list[str]], bool, dict[str, list[str]]]:
    """The files by split, whether folders at a depth tell it, and what is in none.

    only: the folder with the name of a split that holds everything; "" for none.
    """
    if only:
        return {str(split_of(only)): list(ways)}, False, {}
    inside = defaultdict(list)
    for path, way in ways.items():
        inside[way[at] if len(way) > at else ""].append(path)
    meant = {name: split for name in inside if (split := split_of(name))}
    others = [name for name in inside if name and name not in meant]
    if others and meant:
        direct = [name for name in meant if any(len(ways[path]) == at + 1 for path in inside[name])]
        if len(direct) == len(meant):
            meant = {}  # classes, of trains and of what is valid
        elif not ("train" in meant.values() and len({*meant.values()}) > 1):
            name = next(name for name in meant if name not in direct)
            raise CuratorError(
                f"the folder {name}/ may be a split or a class: {others[0]}/ beside it is no split; "
                f"rename {name}/ if it is a class, or move the other folders away if it is a split"
            )
    if not meant:
        return {"train": list(ways)}, False, {}
    splits: dict[str, list[str]] = {}
    for name, split in meant.items():
        splits[split] = sorted([*splits.get(split, []), *inside[name]])
    order = [split for split in dict.fromkeys(SPLITS.values()) if split in splits]
    left_out = {f"they lie beside {'/, '.join(meant)}/": sorted(p for name in ["", *others] for p in inside[name])}
    return {split: splits[split] for split in order}, True, {why: files for why, files in left_out.items() if files}


def _by_level(layout: Layout, ways: dict[str, list[str]], level: int) -> None:
    deepest = max(ways, key=lambda path: len(ways[path]))
    if len(ways[deepest]) < level:
        raise CuratorError(
            f"--class-level {level}: no image lies in so many folders; the deepest is {deepest} "
            f"({len(ways[deepest])} without its split)"
        )
    layout.classes = {path: way[level - 1] for path, way in ways.items() if len(way) >= level}
    why = f"they lie in fewer than {level} folders (--class-level {level})"
    _leave_out(layout, [path for path in ways if path not in layout.classes], why)
    parents = defaultdict(set)
    for path, name in layout.classes.items():
        parents[name].add("/".join(ways[path][: level - 1]))
    twice = next((name for name in sorted(parents) if len(parents[name]) > 1), None)
    if twice is not None:
        first, second = sorted(parents[twice])[:2]
        layout.notes.append(f"folders of one name are one class, as {first}/{twice} and {second}/{twice}")


def _leave_out(layout: Layout, paths: list[str], why: str) -> None:
    if paths:
        gone = {*paths}
        layout.splits = {split: [p for p in files if p not in gone] for split, files in layout.splits.items()}
        layout.splits = {split: files for split, files in layout.splits.items() if files}
        layout.left_out[why] = sorted(paths)


def notes_of(left_out: dict[str, list[str]]) -> list[str]:
    """A line for each reason that image files are left out, with how many they are and where."""
    return [f"{counted(files)} left out: {why}" for why, files in left_out.items()]
