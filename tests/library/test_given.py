from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

from curator import curate
from curator.engine.held import Held
from curator.errors import CuratorError
from curator.library.given import given_in_python
from curator.methods import METHODS
from curator.sources.files import lies_inside
from tests.conftest import hf_dataset, image_folder, load_table

LABELS = ["cat", "dog"] * 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return image_folder(tmp_path_factory.mktemp("pictures"), 12, 3)


@pytest.fixture(scope="module")
def files(folder) -> list[Path]:
    return sorted((folder / "train").glob("*/*.png"))


def table_of(dataset, **settings):
    """What load makes of what curate() was given, and its images that can be read."""
    given, rows = given_in_python(dataset, settings)
    return load_table(rows, **{k: v for k, v in given.items() if k != "dataset"})


def relative(table) -> list[str]:
    from curator.sources.files import source_file
    from curator.sources.images import paths

    return [source_file(str(path), table.access.folders) for path in paths(table.dataset, table.image_column)]


def test_a_path_is_never_a_name(monkeypatch):
    assert given_in_python(Path("digits"), {}) == ({"dataset": "./digits"}, None)
    assert given_in_python(Path("me/pictures"), {})[0]["dataset"] == "./me/pictures"
    assert given_in_python(Path("/a"), {})[0]["dataset"] == "/a"
    assert given_in_python("digits", {}) == ({"dataset": "digits"}, None)
    assert given_in_python(None, {"epochs": np.int64(3)}) == ({"epochs": 3}, None)  # a recipe may name the dataset


def test_a_list_of_files(files, folder):
    table = table_of(files, labels=LABELS)
    assert relative(table) == [f"{file.parent.name}/{file.name}" for file in files]
    assert [table.classes[code] for code in table.labels] == LABELS
    assert table.dataset[3]["image"].size == (12, 12) and table.dataset.column_names == ["image", "label"]
    arrays = table_of(np.array([str(f) for f in files]), labels=np.array(LABELS), data_dir=str(folder))
    assert relative(arrays)[0].startswith("train/kind0/") and (arrays.labels == table.labels).all()
    some = pd.Series([0, 1, None] * 4, dtype=object)
    assert table_of(pd.Series(files), labels=some, allow_quarantine=True).aside.keys() == {2, 5, 8, 11}


def test_files_with_nothing_in_common(files):
    """The paths in a result would tell where on the machine they are."""
    with pytest.raises(CuratorError, match="expected files below one folder.*name it with --data-dir"):
        given_in_python([*files, "/elsewhere/a.png"], {"labels": [*LABELS, "cat"]})
    assert given_in_python([*files, "/elsewhere/a.png"], {"labels": [*LABELS, "cat"], "data_dir": "/"})[1] is not None


@pytest.mark.parametrize("make", [pd.DataFrame, lambda columns: pa.table(columns)])
def test_tables(make, files, folder, monkeypatch):
    names = [str(file.relative_to(folder)) for file in files]
    table = table_of(make({"picture": names, "label": LABELS}), data_dir=folder)
    assert relative(table) == names and table.image_column == "picture" and table.classes == ("cat", "dog")
    monkeypatch.chdir(folder)
    assert relative(table_of(make({"picture": names, "label": LABELS}))) == names  # of the working folder
    whole = table_of(make({"picture": [str(file) for file in files], "label": LABELS}))
    assert relative(whole) == names
    if make is pd.DataFrame:
        assert relative(table_of(make({0: files, "label": LABELS}))) == names  # Path objects
    monkeypatch.chdir(folder / "test")
    outside = table_of(make({"picture": [str(file) for file in files], "label": LABELS}))
    assert not lies_inside(files[0], outside.access.folders)
    content = table_of(make({"x": [file.read_bytes() for file in files], "label": LABELS}))
    assert content.dataset[5]["x"].size == (12, 12)


def test_a_frame_that_was_filtered(files, folder):
    """Its index is no column, categories are texts, and the rows are those that are left."""
    frame = pd.DataFrame({"picture": map(str, files), "label": pd.Categorical(LABELS)})
    table = table_of(frame[frame.index % 3 > 0], data_dir=folder)
    assert table.dataset.column_names == ["picture", "label"] and len(table.labels) == 8
    with pytest.raises(CuratorError, match="^dataset: the table cannot be read: "):
        given_in_python(pd.DataFrame({"label": ["a", 1]}), {})


def test_features(files):
    values = np.arange(48).reshape(12, 4)
    for given in (values, torch.tensor(values), values.tolist()):
        table = table_of(None, labels=LABELS, features=given)
        assert table.image_column is None and table.dataset["features"][:] == values.tolist()
    table = table_of(hf_dataset(12), features=values)
    assert table.image_column == "image" and table.dataset.column_names[-1] == "features"
    assert table_of(files, labels=LABELS, features=values).image_column == "image"
    splits = datasets.DatasetDict(train=hf_dataset(12), test=hf_dataset(6))
    assert table_of(splits, features=values).others == {}  # which have none
    with pytest.raises(CuratorError, match="one row for each of the 12 rows of split 'train', found 11"):
        table_of(hf_dataset(12), features=values[:11])
    with pytest.raises(CuratorError, match="has a column 'features' already"):
        table_of(table.dataset, features=values)


def test_objects_are_named_by_what_they_are():
    probs = np.full((4, 2), 0.5)
    one, other = (given_in_python("digits", {"pred_probs": p})[0]["pred_probs"] for p in (probs, torch.tensor(probs)))
    assert one != given_in_python("digits", {"pred_probs": probs.T})[0]["pred_probs"] and isinstance(one, Held)
    assert (one.value == probs).all() and other.value.dtype.kind == "f"
    assert given_in_python("digits", {"pred_probs": "p.npy"})[0]["pred_probs"] == "p.npy"
    named = [given_in_python("digits", {"backbone": b})[0]["backbone"] for b in (nn.Flatten(), torch.mean, lambda x: x)]
    assert named == ["python-Flatten", "python-mean", "python-lambda"]


@pytest.mark.parametrize(
    "dataset, settings, words",
    [
        (3, {}, "expected a name, a folder, .*found int"),
        ([], {}, "found list"),
        ([1, 2], {"labels": [0, 1]}, "labels: they go with a list of files"),
        (["a.png"], {}, "needs labels"),
        (["a.png"], {"labels": [1, 2]}, "one for each of the 1 files, found 2"),
        (["a.png", "b.png"], {"labels": ["a", 1]}, "expected texts or whole numbers"),
        (None, {"labels": [1, 2]}, "expected the files or the features"),
        (None, {"features": [[1.0]]}, "features: expected the dataset whose rows these are, or labels="),
        (None, {"pred_probs": [[1.0]]}, "pred_probs: expected the dataset whose rows these are"),
        (None, {"features": [[1.0]], "labels": 5}, "labels: expected a list or an array.*found int"),
        (None, {"features": [[1.0]], "labels": "a"}, "labels: expected a list or an array.*found str"),
        ("digits", {"labels": [1, 2]}, "a dataset has its own: name them by --label-column"),
        ("digits", {"features": [1, 2]}, r"features: expected numbers of shape \(n, d\), found int64 \(2,\)"),
        ("digits", {"features": [["a"]]}, "features: expected numbers"),
        ("digits", {"features": [[1], [1, 2]]}, "features: expected an array"),
        ("digits", {"features": [[1.0]], "features_column": "x"}, "give only one"),
        ("digits", {"pred_probs": [1.0]}, "pred_probs: expected numbers"),
        ("digits", {"backbone": 3}, "--backbone: expected a name, a function or a module, found int"),
        ("digits", {"backbone": nn.Flatten}, "found type"),
        ("digits", {"verified": pd.DataFrame({"row": [1], "label": ["a"]})}, "row,label .*found DataFrame: write it"),
    ],
)
def test_what_is_refused(dataset, settings, words):
    with pytest.raises(CuratorError, match=words):
        given_in_python(dataset, settings)


def test_a_mask_is_not_lost():
    masked = np.ma.masked_array([[1.0, 2.0]], mask=[[False, True]])
    held = given_in_python(None, {"features": masked, "labels": [0]})[0]["features_column"]
    assert held.value.tolist()[0][0] == 1 and np.isnan(held.value[0, 1])


def test_features_that_are_all_alike(tmp_path):
    with pytest.raises(ValueError, match="features_column features: .* found the same in all 12 rows"):
        curate(features=np.ones((12, 4)), labels=[0, 1] * 6, output=tmp_path / "run")
    with pytest.raises(ValueError, match="found the class Linear: call it"):
        curate(features=np.eye(12), labels=[0, 1] * 6, method=METHODS["linear"], output=tmp_path / "run")
