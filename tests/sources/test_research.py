"""Tiny copies of the papers' datasets, laid out as they are handed out."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image as Pil

from curator.cli.main import main
from curator.config.resolve import resolve
from curator.curate import curate
from curator.errors import CuratorError
from curator.sources.research import ANIMALS, CLOTHES, PAPERS
from tests.conftest import load_table, planted_images


def image(path: Path, label: int = 0, serial: int = 0) -> None:
    """A JPEG of 8 x 8 px that shows its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = planted_images(60, 14, size=8)[0][label % 14 + 14 * (serial % 4)]
    Pil.fromarray(pixels).save(path, "JPEG", quality=95)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def animal10n(folder: Path, each: int = 2) -> Path:
    for i in range(10 * each):
        image(folder / "training" / f"{i % 10}_{100 + i}.jpg", i % 10, i // 10)
    for i in range(10):
        image(folder / "testing" / f"{i}_{i}.jpg", i)
    (folder / "testing" / "._0_0.jpg").touch()  # as macOS unpacks
    return folder


CLEAN_TRAIN = [f"images/0/1{i}/{i},7.jpg" for i in range(3)]


def clothing1m(folder: Path, lists: str = ".") -> Path:
    """20 noisy rows, the last of which are in reverse order; 3 verified ones, the last of which is a noisy one, too."""
    noisy = [f"images/{i % 10}/00/{i},{2 * i}.jpg" for i in (*range(15), *range(19, 14, -1))]
    clean = [*CLEAN_TRAIN[:2], noisy[4]]
    parts = {
        "clean_train": clean,
        "clean_val": ["images/3/v.jpg"],
        "clean_test": ["images/4/t0.jpg", "images/4/t1.jpg"],
    }
    held = [key for keys in parts.values() for key in keys]
    at = folder / lists
    text(at / "noisy_label_kv.txt", *(f"{key} {i % 14}" for i, key in enumerate(noisy)))
    text(at / "clean_label_kv.txt", *(f"{key} {13 - i}" for i, key in enumerate(held)))
    for part, keys in {"noisy_train": noisy, **parts}.items():
        text(at / f"{part}_key_list.txt", *keys)
    for i, key in enumerate({*noisy, *held}):
        image(folder / key, i)
    return folder


SYNSETS = [f"n{i:08d} thing {i}, thing" for i in range(48)] + [
    "n00000048 crane",
    "n00000049 crane, bird",
    "n00000050 x",
]


def webvision(folder: Path) -> Path:
    keys = {f"google/q{i:04d}/{name}.jpg": i for i in (1, 49, 50, 999) for name in ("b", "a")}
    text(folder / "info" / "train_filelist_google.txt", *(f"{key} {i}" for key, i in keys.items()))
    text(folder / "info" / "val_filelist.txt", "val2.jpg 49", "val1.jpg 51", "val0.jpg 3")
    text(folder / "info" / "synsets.txt", *SYNSETS)
    for key, i in {**keys, "val_images_256/val2.jpg": 49, "val_images_256/val0.jpg": 3}.items():
        image(folder / key, i)
    return folder


def tiny_imagenet(folder: Path) -> Path:
    wnids = ["n3", "n1", "n2"]
    text(folder / "wnids.txt", *wnids)
    text(folder / "words.txt", "n9\tbus", "n1\tcat, house cat", "n2\tcrane", "n3\tcrane, bird")
    for i, wnid in enumerate(wnids):
        for number in (10, 2):
            image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", i)
        text(folder / "train" / wnid / f"{wnid}_boxes.txt", f"{wnid}_10.JPEG\t0\t0\t8\t8")
    text(folder / "val" / "val_annotations.txt", "val_1.JPEG\tn3\t0\t0\t62\t62", "val_0.JPEG\tn1\t1\t1\t9\t9")
    image(folder / "val" / "images" / "val_0.JPEG")
    image(folder / "val" / "images" / "val_1.JPEG")
    image(folder / "test" / "images" / "test_0.JPEG")
    return folder


MAKE = {"animal10n": animal10n, "clothing1m": clothing1m, "webvision": webvision, "tiny-imagenet": tiny_imagenet}


def files(dataset: datasets.Dataset, folder: Path) -> list[str]:
    """Where the images lie, below the folder; none of them holds its bytes."""
    rows = dataset.cast_column("image", datasets.Image(decode=False))["image"][:]
    assert all(row["bytes"] is None for row in rows)
    return [str(Path(row["path"]).relative_to(folder)) for row in rows]


def test_animal10n(tmp_path):
    table = load_table("animal10n", data_dir=animal10n(tmp_path))
    assert (table.name, table.split, list(table.others)) == ("animal10n", "train", ["test"])
    assert table.classes == ANIMALS and table.truth is None and table.source == {"id": "ANIMAL-10N"}
    assert files(table.dataset, tmp_path)[:3] == ["training/0_100.jpg", "training/0_110.jpg", "training/1_101.jpg"]
    assert table.labels.tolist() == [i // 2 for i in range(20)]
    assert table.others["test"]["label"][:] == list(range(10))
    assert table.dataset[0]["image"].size == (8, 8)


@pytest.mark.parametrize("where", ["animal10n", "raw_image_ver/raw_image", "."])
@pytest.mark.parametrize("name", list(MAKE))
def test_the_folder_or_one_around_it(tmp_path, name, where):
    (tmp_path / "another").mkdir()
    MAKE[name](tmp_path / where.replace("animal10n", name))
    splits = load_table(name, data_dir=tmp_path)
    assert len(splits.dataset) and splits.dataset[0]["image"].size == (8, 8)
    for other in splits.others.values():
        assert other.features == splits.dataset.features and other[0]["image"].size == (8, 8)


@pytest.mark.parametrize("lists", [".", "annotations"])
def test_clothing1m(tmp_path, lists):
    folder = clothing1m(tmp_path, lists)
    table = load_table("clothing1m", data_dir=folder, trusted="verified")
    assert table.classes == CLOTHES and list(table.others) == ["validation", "test"]
    # The list's order, then the verified rows; the one of both lists stands in the first, with its clean label.
    assert files(table.dataset, folder)[14:] == [
        *(f"images/{i % 10}/00/{i},{2 * i}.jpg" for i in (14, 19, 18, 17, 16, 15)),
        *CLEAN_TRAIN[:2],
    ]
    given = [i % 14 for i in range(20)]
    assert table.labels.tolist() == [*given[:4], 11, *given[5:], 13, 12]
    assert np.flatnonzero(table.trusted).tolist() == [4, 20, 21] and table.dataset["verified"][4:6] == [True, False]
    assert table.others["validation"]["label"][:] == [10] and table.others["test"]["label"][:] == [9, 8]
    assert table.others["test"]["verified"][:] == [True, True]

    noisy = load_table("clothing1m", data_dir=folder, config_name="noisy")
    assert noisy.labels.tolist() == given and not any(noisy.dataset["verified"][:])
    assert list(noisy.others) == ["validation", "test"]


def test_clothing1m_with_its_own_names(tmp_path):
    text(clothing1m(tmp_path, "annotations") / "category_names_eng.txt", *(f"kind {i}" for i in range(14)))
    assert load_table("clothing1m", data_dir=tmp_path).classes[:2] == ("kind 0", "kind 1")


def test_webvision(tmp_path):
    table = load_table("webvision", data_dir=webvision(tmp_path))
    assert len(table.classes) == 50
    assert table.classes[0] == "thing 0" and table.classes[48:] == ("crane (n00000048)", "crane (n00000049)")
    assert files(table.dataset, tmp_path) == [f"google/q{i:04d}/{name}.jpg" for i in (1, 49) for name in ("b", "a")]
    assert table.labels.tolist() == [1, 1, 49, 49] and list(table.others) == ["validation"]
    assert files(table.others["validation"], tmp_path) == ["val_images_256/val2.jpg", "val_images_256/val0.jpg"]
    assert table.others["validation"]["label"][:] == [49, 3]


def test_webvision_resized_and_without_synsets(tmp_path):
    webvision(tmp_path)
    (tmp_path / "google_resized_256").mkdir()
    (tmp_path / "google").rename(tmp_path / "google_resized_256" / "google")
    (tmp_path / "info" / "synsets.txt").unlink()
    table = load_table("webvision", data_dir=tmp_path)
    assert table.classes == tuple(str(i) for i in range(50))
    assert files(table.dataset, tmp_path)[0] == "google_resized_256/google/q0001/b.jpg"


def test_webvision_with_imagenet_in_folders(tmp_path):
    webvision(tmp_path)
    for i in range(50):
        image(tmp_path / "imagenet" / "val" / f"n{i:08d}" / f"{i}.JPEG")
    image(tmp_path / "imagenet" / "val" / "n00000050" / "50.JPEG")
    table = load_table("webvision", data_dir=tmp_path)
    assert list(table.others) == ["validation", "imagenet"]
    assert table.others["imagenet"]["label"][:] == list(range(50))
    assert files(table.others["imagenet"], tmp_path)[1] == "imagenet/val/n00000001/1.JPEG"
    (tmp_path / "info" / "synsets.txt").unlink()
    with pytest.raises(CuratorError, match=r"^--data-dir: expected the list \S+synsets.txt \(No such file"):
        load_table("webvision", data_dir=tmp_path)


@pytest.mark.parametrize("outer", [".", "imagenet"])
def test_webvision_with_imagenet_as_kaggle_has_it(tmp_path, outer):
    webvision(tmp_path)
    folder = tmp_path / outer / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    for name in ("v1", "v2", "v3"):
        image(folder / f"{name}.JPEG")
    boxes = {"v3": "n00000007 1 2 3 4 ", "v1": "n00000049 1 2 3 4 n00000049 5 6 7 8 ", "v2": "n00000050 1 2 3 4 "}
    solution = tmp_path / outer / "LOC_val_solution.csv"
    text(solution, "ImageId,PredictionString", *(f"{name},{box}" for name, box in boxes.items()))
    found = load_table("webvision", data_dir=tmp_path).others["imagenet"]
    assert [Path(f).name for f in files(found, tmp_path)] == ["v1.JPEG", "v3.JPEG"] and found["label"][:] == [49, 7]
    solution.unlink()
    with pytest.raises(CuratorError, match=r"^--data-dir: expected the list \S+LOC_val_solution.csv \(No such file"):
        load_table("webvision", data_dir=tmp_path)


def test_tiny_imagenet(tmp_path):
    table = load_table("tiny-imagenet", data_dir=tiny_imagenet(tmp_path))
    assert table.classes == ("cat", "crane (n2)", "crane (n3)")  # in the order of their wnids
    assert files(table.dataset, tmp_path)[:3] == [
        "train/n1/images/n1_10.JPEG",
        "train/n1/images/n1_2.JPEG",
        "train/n2/images/n2_10.JPEG",
    ]
    assert table.labels.tolist() == [0, 0, 1, 1, 2, 2] and list(table.others) == ["validation"]
    assert files(table.others["validation"], tmp_path) == ["val/images/val_1.JPEG", "val/images/val_0.JPEG"]
    assert table.others["validation"]["label"][:] == [2, 0]


@pytest.mark.parametrize("name", list(PAPERS))
def test_without_its_files(tmp_path, name):
    with pytest.raises(CuratorError) as nowhere:
        load_table(name)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(CuratorError) as elsewhere:
        load_table(name, data_dir=tmp_path)
    assert str(nowhere.value).startswith(f"--data-dir: {name} is not downloaded by Curator: get it from ")
    assert str(elsewhere.value).startswith(f"--data-dir {tmp_path}: expected {PAPERS[name].title}, that is ")
    assert "found holiday.jpg; get it from" in str(elsewhere.value)
    for error in (nowhere, elsewhere):
        assert "\n" not in str(error.value) and PAPERS[name].home in str(error.value)
        assert PAPERS[name].layout in str(error.value)


@pytest.mark.parametrize("name, gone, message", [
    ("animal10n", "testing/0_0.jpg", None),
    ("clothing1m", "clean_label_kv.txt", r"expected the list \S+clean_label_kv.txt \(No such file or directory\)"),
    ("clothing1m", "clean_train_key_list.txt", r"expected the list \S+clean_train_key_list.txt \(No such file"),
    ("clothing1m", "images/0/00/0,0.jpg", r"no image \S+images/0/00/0,0.jpg, the first on the list; unpack the"),
    ("webvision", "info/val_filelist.txt", r"expected the list \S+val_filelist.txt \(No such file or directory\)"),
    ("webvision", "val_images_256/val2.jpg", r"no image \S+val_images_256/val2.jpg, the first on the list"),
    ("tiny-imagenet", "words.txt", r"expected the list \S+words.txt \(No such file or directory\); unpack it there"),
    ("tiny-imagenet", "train/n2/images", r"expected a folder of images \S+train/n2/images \(No such file"),
    ("tiny-imagenet", "val/val_annotations.txt", r"expected the list \S+val_annotations.txt \(No such file"),
    ("tiny-imagenet", "val/images/val_1.JPEG", r"no image \S+val/images/val_1.JPEG, the first on the list"),
])  # fmt: skip
def test_a_part_is_missing(tmp_path, name, gone, message):
    MAKE[name](tmp_path)
    path = tmp_path / gone
    path.rename(tmp_path / "elsewhere")
    if message is None:  # a folder's images are what it holds
        assert len(load_table(name, data_dir=tmp_path).others["test"]) == 9
        return
    with pytest.raises(CuratorError, match=f"^--data-dir: {message}"):
        load_table(name, data_dir=tmp_path)


@pytest.mark.parametrize("name, file, line, message", [
    ("clothing1m", "noisy_label_kv.txt", "images/1.jpg shirt",
     r"\S+: expected lines of a file and a class number, found 'images/1.jpg shirt'"),
    ("clothing1m", "noisy_label_kv.txt", "images/1.jpg", r"\S+: expected lines of a file and a class number, found"),
    ("clothing1m", "noisy_label_kv.txt", "images/0/00/0,0.jpg 14", r"\S+0,0.jpg: expected a label among the 14 classes,"
     " found 14; the lists and the images do not match"),
    ("clothing1m", "clean_test_key_list.txt", "images/9.jpg", r"\S+9.jpg: expected a label among the 14 classes"),
    ("clothing1m", "category_names_eng.txt", "Shirt", "expected one name for every class, found T-Shirt, Shirt, Kni"),
    ("webvision", "info/val_filelist.txt", "val7.jpg -1", r"\S+: expected lines of a file and a class number, found"),
    ("tiny-imagenet", "val/val_annotations.txt", "val_2.JPEG\tn9\t0", r"\S+val_2.JPEG: expected a label among the 3"),
    ("tiny-imagenet", "val/val_annotations.txt", "val_2.JPEG", r"\S+val_2.JPEG: expected a label among the 3 classes"),
])  # fmt: skip
def test_lists_that_are_wrong(tmp_path, name, file, line, message):
    MAKE[name](tmp_path)
    path = tmp_path / file
    before = path.read_text() if path.exists() else "".join(f"{c}\n" for c in CLOTHES[:13])
    path.write_text(before + line + "\n")
    with pytest.raises(CuratorError, match=f"^--data-dir: {message}"):
        load_table(name, data_dir=tmp_path)


def test_other_wrong_files(tmp_path):
    image(animal10n(tmp_path / "a") / "training" / "wolf.jpg")
    with pytest.raises(CuratorError, match=r"training/wolf.jpg: expected a label among the 10 classes, found none"):
        load_table("animal10n", data_dir=tmp_path)
    (tmp_path / "a" / "training" / "wolf.jpg").unlink()
    for path in (tmp_path / "a" / "testing").iterdir():
        path.unlink()
    with pytest.raises(
        CuratorError, match=r"^--data-dir \S+/a: split 'test' has no images; expected the folders train"
    ):
        load_table("animal10n", data_dir=tmp_path)
    (tiny_imagenet(tmp_path / "t") / "words.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CuratorError, match=r"words.txt \(it is no UTF-8 text\)"):
        load_table("tiny-imagenet", data_dir=tmp_path)


def test_configurations(tmp_path):
    with pytest.raises(CuratorError, match="^--config-name: expected noisy for clothing1m, found 'clean'; or leave it"):
        load_table("clothing1m", data_dir=clothing1m(tmp_path), config_name="clean")
    with pytest.raises(CuratorError, match="^--config-name: webvision has none, found 'mini'; or leave it out"):
        load_table("webvision", data_dir=tmp_path, config_name="mini")


def test_recipes_take_the_rows_of_their_papers():
    rows = {m: resolve({"dataset": "clothing1m", "method": m}).settings for m in ("promix", "dividemix", "cpc")}
    assert {s.config_name for s in rows.values()} == {"noisy"}
    assert resolve({"recipe": "clothing1m-augdmix"}).settings.config_name == "noisy"
    pudistill = resolve({"dataset": "clothing1m", "method": "pudistill"}).settings
    assert (pudistill.config_name, pudistill.verified) == (None, "verified")


def test_one_epoch_by_the_command(tmp_path, no_gpu, capsys):
    out = tmp_path / "out"
    flags = ["--net", "small", "--image-size", "16", "--epochs", "1", "--method", "ce", "--output", str(out)]
    data = ["--dataset", "animal10n", "--data-dir", str(animal10n(tmp_path / "data" / "ANIMAL-10N", each=4))]
    assert main(["clean", *data, *flags]) == 0
    (tmp_path / "data").rename(tmp_path / "gone")  # the result holds its images
    rows = datasets.load_dataset(str(out), split="train")
    assert rows["label"][:] == [i // 4 for i in range(40)] and rows[0]["image"].size == (8, 8)
    assert json.loads((out / "curation.json").read_text())["source"] == {"id": "ANIMAL-10N"}
    assert len(datasets.load_dataset(str(out), split="test")) == 10
    assert main(["clean", "--dataset", "animal10n", *flags, "--overwrite"]) == 2
    assert "--data-dir: animal10n is not downloaded by Curator: get it from" in capsys.readouterr().err


def test_verified_rows_of_clothing1m_are_kept(tmp_path, no_gpu):
    settings = {"net": "small", "image_size": 16, "epochs": 1, "output": tmp_path / "out"}
    folder = clothing1m(tmp_path / "data", "annotations")
    rows = curate("clothing1m", "ce", data_dir=folder, trusted="verified", **settings).with_format("numpy")[:]
    verified = rows["verified"]
    assert np.flatnonzero(verified).tolist() == [4, 20, 21] and rows["selected"][verified].all()
    assert (rows["corrected_label"] == rows["label"])[verified].all() and (rows["clean_score"][verified] == 1).all()
