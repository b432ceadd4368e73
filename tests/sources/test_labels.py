"""Labels as people have them: columns of every type, classes that are named by numbers, names that look alike."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from curator.errors import CuratorError
from curator.sources.columns import replace_column
from curator.sources.labels import class_names, codes_of, encoded_labels
from curator.sources.table import guess_label_column
from tests.conftest import hf_dataset, load_table

LARGE, SITE = Value("large_string"), Value("string")
ACCENTS = ("caf\u00e9", "cafe\u0301")  # one text in two forms of Unicode: NFC, NFD


def labelled(values, feature) -> Dataset:
    """Rows of images with these labels, and a column that could be taken for labels."""
    rows = hf_dataset(len(values)).select_columns(["image", "label"])
    label = pa.array(values, Features({"label": feature}).arrow_schema.field("label").type)
    return replace_column(rows, "label", label, feature).add_column("site", ["north", "south"] * (len(values) // 2))


@pytest.mark.parametrize("values, feature, classes, codes", [
    ([0.0, 1.0, None, 1.0], Value("float64"), "0 1", [0, 1, 1]),
    ([0.0, 1.0, float("nan"), 1.0], Value("float32"), "0 1", [0, 1, 1]),
    ([True, False, None, True], Value("bool"), "False True", [1, 0, 1]),
    ([0, 1, None, 1], Value("uint8"), "0 1", [0, 1, 1]),
    (["a", "b", "", "a"], LARGE, "a b", [0, 1, 0]),
    (["a", "b", " \n", "a"], SITE, "a b", [0, 1, 0]),
    ([-1, 1, None, -1], Value("int64"), "-1 1", [0, 1, 0]),
    ([10, 30, -1, 20], Value("int64"), "10 20 30", [0, 2, 1]),
    ([1, 3, None, 2], Value("int64"), "0 1 2 3", [1, 3, 2]),  # a class number is the value
])  # fmt: skip
def test_an_empty_cell_is_a_missing_label(values, feature, classes, codes):
    """Whatever the column's type; it stays the label column, and its values are made of class numbers again."""
    table = load_table(labelled(values, feature), allow_quarantine=True)
    none = f"the label is {values[2]}, which stands for none: give a class a name"
    assert table.label_column == "label" and table.aside == {2: none if values[2] == -1 else "the label is missing"}
    assert table.classes == tuple(classes.split()) and table.labels.tolist() == codes
    assert table.dataset.features["label"] == feature
    assert table.encode(table.labels).to_pylist() == [v for i, v in enumerate(values) if i != 2]


@pytest.mark.parametrize("feature", [List(Value("int64")), Image(), Value("null"), Value("timestamp[s]"), {"a": SITE}])
@pytest.mark.parametrize("name", ["label", "Labels"])
def test_a_label_column_that_does_not_fit_is_not_passed_over(feature, name):
    features = Features({"image": Image(), name: feature, "site": SITE})
    with pytest.raises(
        CuratorError, match=f"column '{name}': expected class labels, .* or name another .*--label-column"
    ):
        guess_label_column(features, None, None)
    assert guess_label_column(features, "site", None) == "site"


def test_a_column_named_label_is_the_label_column():
    features = Features({"image": Image(), "label": Value("int64"), "camera": SITE, "id": Value("int64")})
    assert guess_label_column(features, None, None) == "label"
    with pytest.raises(CuratorError, match="found label, camera; choose one with --label-column"):
        guess_label_column(Features({**features, "camera": ClassLabel(names=["a", "b"])}), None, None)
    with pytest.raises(CuratorError, match="found label, labels; choose one with --label-column"):
        guess_label_column(Features({**features, "labels": SITE}), None, None)
    assert guess_label_column(Features({"cls": Value("int64"), "__key__": SITE, "__url__": SITE}), None, None) == "cls"


def test_classes_that_are_named_by_numbers_are_said():
    table = load_table(labelled([10, 20, 30, 10], Value("int32")))
    assert table.notes == ["the labels 10, 20, 30 are the names of the classes, which corrected_label numbers from 0"]
    assert load_table(labelled([0, 1, 2, 2], Value("int32"))).notes == []


def test_names_that_look_alike_are_one_class_and_said():
    """The column itself stays as it is; a class has the only spelling there is, but for blanks."""
    nfc, nfd = ACCENTS
    table = load_table(labelled([nfc, nfd, "ant\n", "ant", nfd, "ant"], SITE))
    assert table.classes == ("ant", nfc) and table.labels.tolist() == [1, 1, 0, 0, 1, 0]
    assert table.dataset["label"][:3] == [nfc, nfd, "ant\n"]
    (note,) = table.notes
    assert note == r"labels that differ but in blanks or in the form of Unicode are one class: 'ant\n', 'cafe\u0301'"
    assert load_table(labelled([nfd, "b"], SITE)).classes == ("b", nfd)
    with pytest.raises(CuratorError, match="two classes or more"):
        load_table(labelled([nfd, nfc], SITE))


def test_names_of_a_class_label_that_look_alike_are_refused():
    for names in (ACCENTS, ("a", "a ")):
        with pytest.raises(CuratorError, match=r"are one text, but for blanks .* \(NFC, NFD\); rename one"):
            load_table(labelled([0, 1], ClassLabel(names=[*names])))


def test_values_are_names_where_names_look_like_numbers():
    """Of a column of integers beside classes 01 and 02; elsewhere an integer is a class number."""
    values = pa.chunked_array([[1, 2], [2, 3, None]])
    assert codes_of(values, ["01", "02"]).tolist() == [0, 1, 1, -1, -1]
    assert codes_of(values, ["a", "b", "c"]).tolist() == [1, 2, 2, -1, -1]
    assert codes_of(values, ["a", "b", "c"], ["c", "b", "a", "x"]).tolist() == [1, 0, 0, -1, -1]
    assert codes_of(pa.chunked_array([["1", "01", "02 "]]), ["01", "02"]).tolist() == [-1, 0, 1]
    assert codes_of(pa.chunked_array([[2**64 - 1, 1]], pa.uint64()), ["0", "1"]).tolist() == [-1, 1]
    assert codes_of(pa.chunked_array([], pa.int64()), ["0", "1"]).tolist() == []


def test_a_thousand_names_of_which_three_are_used():
    table = load_table(labelled([7, 999, 500, 7], ClassLabel(names=[f"n{i}" for i in range(1000)])))
    assert len(table.classes) == 1000 and table.labels.tolist() == [7, 999, 500, 7]


def test_categories_of_pandas_are_labels():
    found = Dataset.from_pandas(pd.DataFrame({"label": pd.Categorical(["x", "y", None, "x"])}))
    rows = hf_dataset(4).select_columns("image").add_column("label", ["a"] * 4)
    values = found.with_format("arrow")[:]["label"]
    table = load_table(replace_column(rows, "label", values, found.features["label"]), allow_quarantine=True)
    assert table.classes == ("x", "y") and table.labels.tolist() == [0, 1, 0] and list(table.aside) == [2]


def test_every_type_takes_its_labels_back():
    for feature, classes in ((SITE, ["a", "b"]), (Value("bool"), ["False", "True"]), (Value("float32"), ["10", "90"]),
                             (Value("int8"), ["-1", "1"]), (ClassLabel(names=["x", "y"]), ["x", "y"])):  # fmt: skip
        values = pa.chunked_array([encoded_labels(np.array([1, 0, 1]), classes, feature)])
        assert values.type == feature.pa_type
        assert codes_of(values, classes, getattr(feature, "names", None)).tolist() == [1, 0, 1]
        assert class_names(Dataset.from_dict({"l": values.to_pylist()}, Features({"l": feature})), "l") == tuple(
            classes
        )
