"""Paths of files tell splits and classes."""

import pytest

from curator.errors import CuratorError
from curator.sources.layout import layout_of, split_of


def told(images: str, level: int | None = None) -> tuple[dict[str, int], set[str], list[str]]:
    """Rows of each split, the classes, and what is left out."""
    layout = layout_of(images.split(), level)
    left_out = sorted(path for paths in layout.left_out.values() for path in paths)
    assert sorted([*left_out, *(p for files in layout.splits.values() for p in files)]) == sorted(images.split())
    return {split: len(files) for split, files in layout.splits.items()}, {*layout.classes.values()}, left_out


@pytest.mark.parametrize("images, splits, classes, left_out", [
    ("cat/1.png cat/2.png dog/1.png", {"train": 3}, {"cat", "dog"}, []),
    ("cat/road-test-1.png dog/val_1.png", {"train": 2}, {"cat", "dog"}, []),
    ("cat/1.png dog/1.png train/1.png valid/1.png", {"train": 4}, {"cat", "dog", "train", "valid"}, []),
    ("cat/1.png test-tube/1.png", {"train": 2}, {"cat", "test-tube"}, []),
    ("train/cat/1.png train/dog/1.png val/cat/1.png test/dog/1.png",
     {"train": 2, "validation": 1, "test": 1}, {"cat", "dog"}, []),
    ("Training/cat/1.png test_images/dog/1.png", {"train": 1, "test": 1}, {"cat", "dog"}, []),
    ("in/all/cat/1.png in/all/dog/1.png", {"train": 2}, {"cat", "dog"}, []),
    ("test/cat/1.png test/dog/1.png", {"test": 2}, {"cat", "dog"}, []),
    ("cat/2021/1.png cat/2.png dog/3.png", {"train": 3}, {"cat", "dog"}, []),
    ("Fruit/Apple/G/1.png Fruit/Pear/1.png Veg/Bean/1.png", {"train": 3}, {"Fruit", "Veg"}, []),
    ("cat/1.png dog/1.png logo.png", {"train": 2}, {"cat", "dog"}, ["logo.png"]),
    ("train/cat/1.png test/dog/1.png extra/cat/1.png 9.png", {"train": 1, "test": 1}, {"cat", "dog"},
     ["9.png", "extra/cat/1.png"]),
    ("1.png 2.png", {"train": 2}, set(), []),
    ("train/1.png test/1.png", {"train": 1, "test": 1}, set(), []),
    ("only/1.png only/2.png", {"train": 2}, set(), []),
])  # fmt: skip
def test_layouts(images, splits, classes, left_out):
    assert told(images) == (splits, classes, left_out)


FRUIT = "Fruit/Apple/G/1.png Fruit/Apple/G/2.png Fruit/Pear/W/1.png"


def test_the_level_of_the_classes():
    assert told(FRUIT)[1] == {"Apple", "Pear"} == told(FRUIT, 2)[1]
    assert told(f"{FRUIT} Veg/Bean/3.png")[1] == {"Fruit", "Veg"} == told(f"{FRUIT} Veg/Bean/3.png", 1)[1]
    assert told(f"{FRUIT} Veg/Bean/3.png", 3) == ({"train": 3}, {"G", "W"}, ["Veg/Bean/3.png"])
    splits = " ".join(f"{split}/{path}" for split in ("train", "val") for path in FRUIT.split())
    assert told(splits, 2) == ({"train": 3, "validation": 3}, {"Apple", "Pear"}, [])
    assert told("train/only/cat/1.png train/only/dog/1.png", 2)[1] == {"cat", "dog"}
    with pytest.raises(
        CuratorError, match=r"--class-level 4: no image lies in so many folders; .* Fruit/Apple/G/1.png"
    ):
        told(FRUIT, 4)


def test_what_may_be_meant_otherwise_is_said():
    (note,) = layout_of(["cat/2021/1.png", "dog/1.png"], None).notes
    assert "level 1" in note and "cat/2021" in note and "--class-level 2" in note
    (note,) = layout_of(["a/red/1.png", "b/red/1.png", "b/blue/1.png"], 2).notes
    assert "a/red and b/red" in note
    with pytest.raises(CuratorError, match="train/ may be a split or a class: zoo/ beside it"):
        told("train/cat/1.png zoo/1.png")


def test_names_of_splits():
    assert [split_of(name) for name in ("Val", "test_set", "train-images", "trainset", "dev")] == [
        "validation", "test", "train", "train", "validation",
    ]  # fmt: skip
    assert not any(split_of(name) for name in ("test tube", "trainer", "values", "valid2", "contest", "images", ""))
