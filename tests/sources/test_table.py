import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from curator.errors import CuratorError
from curator.sources.labels import class_names, label_codes
from curator.sources.table import guess_image_column, guess_label_column
from tests.conftest import hf_dataset, image_folder, load_table


def columns(**types):
    return Features(types)


C = ClassLabel(names=["a", "b"])
S, N = Value("string"), Value("int32")


@pytest.mark.parametrize("features, wanted, expected", [
    (columns(image=Image(), label=C), None, "label"),
    (columns(image=Image(), label=C, id=N, caption=S), None, "label"),
    (columns(image=Image(), kind=S), None, "kind"),
    (columns(image=Image(), digit=N), None, "digit"),
    (columns(image=Image(), coarse=C, fine=C), "fine", "fine"),
    (columns(image=Image(), label=C, true_label=C, corrected_label=C), None, "label"),
    (columns(image=Image(), label=C, original_label=C), None, "label"),
])  # fmt: skip
def test_label_column(features, wanted, expected):
    assert guess_label_column(features, wanted, None) == expected


@pytest.mark.parametrize("features, wanted, message", [
    (columns(image=Image(), a=C, b=C), None, "found a, b; choose one with --label-column"),
    (columns(image=Image(), score=Value("float32")), None,
     "found none among image, score; name it with --label-column"),
    (columns(image=Image(), label=C), "labl", "no column 'labl'; the columns are image, label"),
])  # fmt: skip
def test_no_label_column(features, wanted, message):
    with pytest.raises(CuratorError, match=message):
        guess_label_column(features, wanted, None)


def test_image_column():
    assert guess_image_column(columns(image=Image(), label=C), None) == "image"
    with pytest.raises(CuratorError, match="expected an image column .* found none among label"):
        guess_image_column(columns(label=C), None)
    with pytest.raises(CuratorError, match="found a, b; choose one with --image-column"):
        guess_image_column(columns(a=Image(), b=Image()), None)


def test_string_and_integer_labels():
    ds = Dataset.from_dict({"s": ["dog", "cat", "dog", None], "i": [3, 0, 1, -1]})
    assert class_names(ds, "s") == ("cat", "dog")
    assert class_names(ds, "i") == ("0", "1", "2", "3")
    assert label_codes(ds, "s", ("cat", "dog")).tolist() == [1, 0, 1, -1]
    assert label_codes(ds, "i", ("0", "1", "2", "3")).tolist() == [3, 0, 1, -1]
    assert label_codes(ds.select([2, 0]), "s", ("cat", "dog")).tolist() == [1, 1]


def with_label(values, feature) -> Dataset:
    ds = hf_dataset(len(values)).select_columns("image")
    table = pa.table({"label": pa.array(values, Features({"label": feature}).arrow_schema.field("label").type)})
    from datasets import concatenate_datasets

    return concatenate_datasets([ds, Dataset(table.cast(Features({"label": feature}).arrow_schema))], axis=1)


@pytest.mark.parametrize("values, feature, row, reason", [
    ([0, 1, None, 1], C, 2, "the label is missing"),
    ([0, 1, -1, 1], C, 2, "the label is -1, which stands for none: give a class a name"),
    (["a", "b", None, "a"], S, 2, "the label is missing"), (["a", "", "b", "a"], S, 1, "the label is missing"),
    ([0, None, 1, 1], N, 1, "the label is missing"), ([0, -3, 1, 1], N, 1, "the label '-3' is not one of the classes"),
])  # fmt: skip
def test_labels_missing_or_out_of_range(values, feature, row, reason):
    with pytest.raises(CuratorError, match=rf"1 of 4 rows cannot be used \(row {row}: {reason}\).*--allow-quarantine"):
        load_table(with_label(values, feature))
    table = load_table(with_label(values, feature), allow_quarantine=True)
    assert table.aside == {row: reason} and len(table.dataset) == 4 and len(table.classes) == 2
    assert table.rows.tolist() == [i for i in range(4) if i != row] and len(table.labels) == len(table.data) == 3


def test_noise_leaves_rows_without_a_label_as_they_are():
    values = ["cat", "dog", None, "cow", "", *["cat", "dog", "cow"] * 20]
    table = load_table(with_label(values, S), label_noise="sym-other:0.5", seed=1, allow_quarantine=True)
    assert table.dataset["label"][2] is None and table.dataset["label"][4] == ""
    assert table.dataset["true_label"][2] is None and list(table.aside) == [2, 4]
    assert [table.classes[i] for i in table.labels] == table.data["label"][:]
    assert [table.classes[i] for i in table.truth] == [v for v in values if v]
    assert load_table(with_label(values, S), limit_rows=30, allow_quarantine=True).aside == {}  # they are in no sample


def test_float_labels_and_one_class():
    with pytest.raises(CuratorError, match="label: expected class labels, .*, found decimals as 0.5; choose another"):
        load_table(with_label([0.0, 0.5], Value("float64")))
    with pytest.raises(CuratorError, match="two classes or more"):
        load_table(with_label(["a", "a"], S))


def test_injected_noise_keeps_types_and_order():
    ds = with_label(["cat", "dog", "cow"] * 20, S)
    table = load_table(ds, label_noise="sym-other:0.5", seed=1)
    assert table.dataset.column_names == ["image", "label", "true_label"]
    assert table.dataset.features["label"] == S
    assert table.classes == ("cat", "cow", "dog") and table.dataset["true_label"][:3] == [0, 2, 1]
    assert [table.classes[i] for i in table.labels] == table.dataset["label"][:]
    assert (table.labels != table.truth).sum() == 30
    assert table.dataset[0]["image"].tobytes() == ds[0]["image"].tobytes()


def test_noise_over_a_known_truth_is_refused():
    with pytest.raises(CuratorError, match="the true labels are known \(column 'true_label'\)"):
        load_table(hf_dataset(), label_noise="sym:0.5")


def test_reference_is_found_and_checked():
    assert load_table(hf_dataset()).reference_column == "true_label"
    with pytest.raises(CuratorError, match="--reference-column: no column 'truth'"):
        load_table(hf_dataset(), reference_column="truth")
    with pytest.raises(CuratorError, match="--reference-column label: it is the label column"):
        load_table(hf_dataset(), reference_column="label", label_column="label")


@pytest.mark.parametrize("values, feature", [([1, 1, 1], N), ([1, 1, 1], C), (["a", "a", None], S)])
def test_labels_of_one_class(values, feature):
    with pytest.raises(CuratorError, match="expected labels of two classes or more, found"):
        load_table(with_label(values, feature), allow_quarantine=True)


def test_a_reference_with_its_classes_in_another_order():
    ds = hf_dataset().remove_columns("true_label")
    other = ClassLabel(names=["class 2", "class 0", "class 1"])
    ds = ds.add_column("gt", [other.str2int(f"class {i}") for i in ds["label"]], feature=other)
    table = load_table(ds, label_column="label", reference_column="gt")
    assert table.truth.tolist() == table.labels.tolist()
    with pytest.raises(CuratorError, match=r"the true labels are known \(column 'gt'\)"):
        load_table(ds, label_column="label", reference_column="gt", label_noise="sym:0.5")
    with pytest.raises(CuratorError, match="--reference-column image: expected class labels"):
        load_table(ds, label_column="label", reference_column="image")
    with pytest.raises(CuratorError, match="--image-column label: expected a column of type Image"):
        load_table(ds, label_column="label", image_column="label")


@pytest.mark.parametrize("values, feature", [(range(3_000_000, 3_000_030), N), ([f"photo {i}" for i in range(30)], S)])
def test_ids_are_not_labels(values, feature):
    with pytest.raises(CuratorError, match="classes for 30 rows look like ids, not labels"):
        load_table(with_label(list(values), feature))


def test_formats_of_the_source_do_not_matter():
    ds = hf_dataset()
    for variant in (ds.with_format("torch"), ds.with_format("numpy"), ds.cast_column("image", Image(decode=False))):
        assert load_table(variant).labels.tolist() == ds["label"][:]


def test_splits_with_columns_of_ours_and_others():
    ds = hf_dataset().add_column("selected", [7] * 60)
    splits = DatasetDict(train=ds, test=ds.select(range(9)), odd=ds.remove_columns("true_label"))
    table = load_table(splits, column_prefix="new_")
    assert table.others["test"]["selected"][:] == [7] * 9
    assert list(table.others) == ["test"] and table.notes == [
        "split 'odd' is left out: its columns differ (true_label)"
    ]
    with pytest.raises(CuratorError, match="add --overwrite-columns"):
        load_table(splits)


def test_splits(tmp_path):
    folder = str(image_folder(tmp_path))
    table = load_table(folder)
    assert table.split == "train" and set(table.others) == {"test"} and table.name == tmp_path.name
    assert load_table(folder, split="test").split == "test"
    with pytest.raises(CuratorError, match="no split 'val'; the splits are train, test"):
        load_table(folder, split="val")


def test_other_splits_get_the_truth_too(tmp_path):
    table = load_table(str(image_folder(tmp_path)), label_noise="sym:0.5", seed=1)
    test = table.others["test"]
    assert test.features == table.dataset.features
    assert test["true_label"][:] == test["label"][:]


def test_sample_and_long_tail():
    table = load_table(hf_dataset(300), limit_rows=30, seed=3)
    assert len(table.dataset) == len(table.labels) == 30
    assert (np.diff(table.rows) > 0).all()
    assert table.dataset["label"][:] == table.labels.tolist() and table.dataset["true_label"][:] == table.truth.tolist()
    assert np.bincount(load_table(hf_dataset(300), imbalance=4, seed=3).truth).tolist() == [100, 50, 25]


@pytest.mark.parametrize("kind", ["idn", "idn-class"])
def test_instance_dependent_noise_reads_the_images(kind):
    ds = hf_dataset(200).remove_columns("true_label")
    table = load_table(ds, label_noise=f"{kind}:0.4", seed=3, image_size=16)
    assert 0.25 < (table.labels != table.truth).mean() < 0.55


def test_columns_of_ours_in_the_source():
    ds = hf_dataset().add_column("selected", [True] * 60)
    with pytest.raises(CuratorError, match=r"\(selected\): add --overwrite-columns"):
        load_table(ds)
    assert "selected" not in load_table(ds, overwrite_columns=True).dataset.column_names
    assert "selected" in load_table(ds, column_prefix="new_").dataset.column_names


@pytest.mark.parametrize("name, message", [
    ("digitz", "is not a named dataset .* did you mean 'digits'"),
    ("./no/such/folder", "no folder ./no/such/folder"),
    ("/no/such/folder", "no folder /no/such/folder"),
    (7, "expected a name, a folder, a Dataset"),
])  # fmt: skip
def test_unknown_dataset(name, message):
    with pytest.raises(CuratorError, match=message):
        load_table(name)


def test_hub_without_network_says_so():
    with pytest.raises(
        CuratorError, match="--dataset owner/name: it could not be loaded .* check the name and the network"
    ):
        load_table("owner/name")


def test_empty_folder_and_other_files(tmp_path):
    with pytest.raises(CuratorError, match="could not be loaded"):
        load_table(str(tmp_path))
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(CuratorError, match="expected a folder, or a .parquet, .csv or .jsonl file"):
        load_table(str(tmp_path / "x.txt"))


def test_parquet_folder_file_and_saved_dataset(tmp_path):
    ds = hf_dataset()
    (tmp_path / "p").mkdir()
    ds.to_parquet(tmp_path / "p" / "train.parquet")
    ds.save_to_disk(tmp_path / "s")
    for path in (tmp_path / "p", tmp_path / "p" / "train.parquet", tmp_path / "s"):
        assert load_table(str(path)).labels.tolist() == ds["label"][:]


def test_named_datasets(data_dir):
    for name, key in (("cifar10n", "worst"), ("cifar10", None)):
        table = load_table(name, data_dir=data_dir)
        assert len(table.labels) == 50000 and set(table.others) == {"test"} and table.classes[6] == "frog"
        if key:
            assert (table.labels == table.truth).mean() == pytest.approx(0.59792)
    assert (
        load_table("cifar10n", data_dir=data_dir, label_noise="aggre", limit_rows=100).reference_column == "true_label"
    )
    with pytest.raises(CuratorError, match="expected one of worst, aggre, rand1, rand2, rand3, sym:RATE"):
        load_table("cifar10n", data_dir=data_dir, label_noise="worse")


def test_cifar100n_of_small_files(tmp_path):
    """The layout of the Hub's CIFAR-100, and a label file in the order of the batches."""
    import torch

    fine = np.random.default_rng(0).permutation(np.arange(500) % 100)
    images = hf_dataset(500)["image"][:]
    features = Features(
        {"img": Image(), "fine_label": ClassLabel(num_classes=100), "coarse_label": ClassLabel(num_classes=20)}
    )
    ds = Dataset.from_dict(
        {"img": images, "fine_label": fine.tolist(), "coarse_label": (fine // 5).tolist()}, features=features
    )
    (tmp_path / "cifar100").mkdir()
    ds.to_parquet(tmp_path / "cifar100" / "train-00000-of-00001.parquet")
    (tmp_path / "labels").mkdir()
    noisy = np.where(np.arange(500) % 5 == 0, (fine + 1) % 100, fine)
    torch.save(
        {"clean_label": fine, "noisy_label": noisy}, tmp_path / "labels" / "CIFAR-100_human.pt", pickle_protocol=2
    )
    table = load_table("cifar100n", data_dir=tmp_path)
    assert table.image_column == "img" and table.label_column == "fine_label"
    assert table.labels.tolist() == noisy.tolist() and table.truth.tolist() == fine.tolist()
    assert load_table("cifar100", data_dir=tmp_path).truth is None
