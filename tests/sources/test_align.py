"""Splits whose columns are not quite those of the curated one."""

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

from curator.sources.columns import replace_column
from tests.conftest import hf_dataset, load_table

NAMES = ["a", "b", "c"]


def split(values, feature, n=6) -> Dataset:
    rows = hf_dataset(n).select_columns(["image", "label"])
    typed = pa.array([*values] * (n // len(values)), Features({"l": feature}).arrow_schema.field("l").type)
    return replace_column(rows, "label", typed, feature)


def loaded(test, train=None, **settings):
    train = split([0, 1, 2], ClassLabel(names=NAMES)) if train is None else train
    return load_table(DatasetDict({"test": test, "train": train}), **settings)


@pytest.mark.parametrize("values, feature", [
    ([2, 0, 1], ClassLabel(names=["b", "c", "a"])),
    ([0, 1, 2], ClassLabel(names=NAMES)),
    (["a", "b", "c"], Value("string")),
    ([0, 1, 2], Value("int32")),
    ([0.0, 1.0, 2.0], Value("float32")),
])  # fmt: skip
def test_classes_are_found_by_their_names(values, feature):
    table = loaded(split(values, feature))
    assert table.notes == [] and table.others["test"].features == table.dataset.features
    assert table.others["test"]["label"][:3] == [0, 1, 2]


def test_a_class_that_only_another_split_has():
    """Its rows and their labels stay; the numbers of the other classes, too."""
    table = loaded(split([1, 0, -1], ClassLabel(names=["d", "a"])))
    assert table.classes == ("a", "b", "c", "d") and table.labels[:3].tolist() == [0, 1, 2]
    assert table.others["test"]["label"][:3] == [0, 3, None]
    assert table.dataset.features["label"].names == [*NAMES, "d"]
    assert table.notes == ["column 'label': classes of split 'test', not of 'train': 'd'"]


def test_labels_that_no_curated_row_has_are_said():
    table = loaded(split(["a", "x", ""], Value("string")), split(["a", "b", "b"], Value("string")))
    assert table.others["test"]["label"][:3] == ["a", "x", ""] and table.classes == ("a", "b")
    assert table.notes == ["split 'test': 2 rows have labels of no class, and are not scored: 'x'"]


@pytest.mark.parametrize("train, test, found", [
    (Value("int64"), Value("int32"), [0, 1, 2]), (Value("int32"), Value("int64"), [0, 1, 2]),
    (Value("large_string"), Value("string"), ["0", "1", "2"]),
    (Value("int64"), ClassLabel(names=["2", "1", "0"]), [2, 1, 0]),
    (Value("string"), ClassLabel(names=["2", "1", "0"]), ["2", "1", "0"]),
])  # fmt: skip
def test_numbers_and_texts_of_another_width(train, test, found):
    typed = [str(v) for v in range(3)] if "string" in str(getattr(train, "dtype", "")) else [0, 1, 2]
    own = [str(v) for v in range(3)] if "string" in str(test.dtype) else [0, 1, 2]
    table = loaded(split(own, test), split(typed, train))
    assert table.others["test"]["label"][:3] == found and table.others["test"].features["label"] == train


@pytest.mark.parametrize("values, feature, train", [
    ([2**40, 1, 2], Value("int64"), split([0, 1, 2], Value("int32"))),
    ([7, 1, 2], Value("int64"), None),
    ([[1], [2], [0]], List(Value("int64")), None),
    ([0, 1, 2], ClassLabel(names=["x", "y", "z"]), split([0, 1, 2], Value("int64"))),
])  # fmt: skip
def test_what_does_not_fit_is_left_out_and_said(values, feature, train):
    table = loaded(split(values, feature), train)
    (note,) = table.notes
    assert not table.others and note.startswith("split 'test' is left out: its column 'label' is ")


def test_a_split_without_rows_is_left_out():
    """The folder of the result could not be loaded with it."""
    table = loaded(split([0, 1, 2], ClassLabel(names=NAMES)).select([]))
    assert not table.others and table.notes == ["split 'test' is left out: it has no row"]


def test_columns_in_another_order_and_images_that_are_not_decoded():
    test = split([0, 1, 2], ClassLabel(names=NAMES)).select_columns(["label", "image"])
    table = loaded(test.cast_column("image", Image(decode=False)))
    assert table.others["test"].features == table.dataset.features and table.notes == []
    assert table.others["test"].column_names == table.dataset.column_names == ["image", "label"]


def test_parquet_files_that_number_their_classes_otherwise(tmp_path):
    """datasets gives all of them the names of the first."""
    split([0, 1, 2], ClassLabel(names=NAMES)).to_parquet(tmp_path / "train.parquet")
    split([0, 1, 2], ClassLabel(names=NAMES[::-1])).to_parquet(tmp_path / "test.parquet")
    table = load_table(str(tmp_path))
    assert table.others["test"]["label"][:3] == [2, 1, 0] and table.labels[:3].tolist() == [0, 1, 2]
