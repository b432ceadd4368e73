"""Archives as webdataset has them, and parts of a split: what people give that is no folder of images."""

import io
import json
import tarfile

import pytest
from datasets import Dataset, DatasetDict, NamedSplit
from PIL import Image as Pil

from curator.errors import CuratorError
from tests.conftest import hf_dataset, load_table


def archive(folder, files) -> str:
    """train.tar of images, each beside files {suffix: contents}."""
    folder.mkdir()
    picture = io.BytesIO()
    Pil.new("RGB", (8, 8)).save(picture, "PNG")
    with tarfile.open(folder / "train.tar", "w") as tar:
        for i in range(4):
            for suffix, content in {"png": picture.getvalue(), **{s: c[i] for s, c in files.items()}}.items():
                entry = tarfile.TarInfo(f"{i:04d}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return str(folder)


def as_json(label) -> bytes:
    return json.dumps({"label": label, "width": 8}).encode()


@pytest.mark.parametrize("files, column, classes", [
    ({"cls": [b"0", b"1", b"0", b"1"]}, "cls", "0 1"),
    ({"txt": [b"ant\n", b"bee\n", b"ant", b"bee"]}, "txt", "ant bee"),
    ({"json": [as_json(n) for n in ("ant", "bee", "ant", "bee")]}, "label", "ant bee"),
    ({"json": [as_json(n) for n in (0, 1, 0, 1)]}, "label", "0 1"),
])  # fmt: skip
def test_labels_beside_images_in_an_archive(tmp_path, files, column, classes):
    table = load_table(archive(tmp_path / "w", files))
    assert (
        table.label_column == column and table.classes == tuple(classes.split()) and table.labels.tolist() == [0, 1] * 2
    )
    assert set(table.dataset["__url__"][:]) == {"train.tar"}
    if "json" in files:
        assert table.notes == ["the labels are field json.label, and stand in a column 'label' of their own"]
        assert table.dataset["json"][1]["width"] == 8


def test_a_field_that_is_asked_for():
    rows = hf_dataset(4).remove_columns("true_label").add_column("meta", [{"kind": k, "label": k * 2} for k in "abab"])
    table = load_table(rows, label_column="meta.kind")
    assert table.classes == ("a", "b") and table.label_column == "kind" and "meta" in table.dataset.column_names
    assert load_table(rows).label_column == "label"
    assert load_table(rows, label_column="meta.label").label_column == "meta_label"  # beside the other
    with pytest.raises(CuratorError, match="--label-column: no column 'meta.none'"):
        load_table(rows, label_column="meta.none")
    with pytest.raises(CuratorError, match="none among .*meta.kind.*name it with --label-column"):
        load_table(rows.remove_columns(["label", "meta"]).add_column("meta", [{"kind": k} for k in "abab"]))


@pytest.mark.parametrize("split, name", [
    ("train[:50%]", "train"), ("train[10:20]+test[:5]", "train_test"), ("train[:25%](pct1_dropremainder)", "train"),
    ("validation.clean", "validation.clean"), ("prüfung", "prüfung"), ("テスト", "テスト"),
])  # fmt: skip
def test_a_part_of_a_split_is_named_after_it(split, name):
    """load_dataset(..., split="train[:50%]") gives rows whose split nobody can rename."""
    rows = hf_dataset(6)
    rows._split = NamedSplit(split)
    assert load_table(rows).split == name
    with pytest.raises(CuratorError, match="rename the split"):
        load_table(DatasetDict({"train[:50%]": rows}))


def test_rows_that_were_chosen_and_shuffled_keep_their_order():
    """A dataset with an indices mapping, whose table on the disk is another one."""
    rows = hf_dataset(30).shuffle(seed=1).select(range(5, 25))
    table = load_table(DatasetDict(train=rows, test=rows.select([3, 1])))
    assert rows._indices is not None and table.labels.tolist() == rows["label"][:]
    assert table.others["test"]["label"][:] == [rows["label"][3], rows["label"][1]]
    assert isinstance(table.dataset, Dataset) and table.rows.tolist() == list(range(20))
