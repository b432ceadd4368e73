"""Folders of images as people have them: every file is a row, or a note says why not."""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pil

from curator.errors import CuratorError
from curator.result.issues import write_issues
from curator.sources.images import decode_images, paths
from curator.sources.table import Table
from tests.conftest import hf_dataset, load_table

PETS = [f"{name}/{i}.png" for name in ("cat", "dog") for i in (1, 2, 10)]


def put(folder: Path, *names: str) -> Path:
    """Image files, no two alike."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Pil.fromarray(np.full((4, 4, 3), i, np.uint8)).save(folder / name, "png")
    return folder


def placed(table: Table, folder: Path) -> dict[str, str | None]:
    """File -> label of the curated split's rows."""
    files = [os.path.relpath(str(path), folder) for path in paths(table.dataset, str(table.image_column))]
    labels = dict(zip(table.kept.tolist(), [table.classes[i] for i in table.labels], strict=True))
    return {file: labels.get(i) for i, file in enumerate(files)}


def by_folder(names: list[str]) -> dict[str, str]:
    return {name: name.split("/")[0] for name in sorted(names)}


def test_class_folders_are_as_datasets_has_them(tmp_path):
    """Rows, classes and their order: journals of earlier runs fit."""
    names = [
        "a b/x 1.png",
        "a/x.png",
        "a/10.png",
        "a/2.PNG",
        "A/ü.png",
        "a-b/1.png",
        "a.b/3.jpeg",
        "é/1.jpg",
        "a/y.png",
    ]
    table = load_table(str(put(tmp_path, *names)))
    (theirs,) = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), cache_dir=str(tmp_path / ".c")).values()
    assert table.dataset.features == theirs.features and table.dataset["label"][:] == theirs["label"][:]
    assert paths(table.dataset, "image") == paths(theirs, "image") and placed(table, tmp_path) == by_folder(names)


@pytest.mark.parametrize("name", ["road-test-{}", "val_{}", "train", "dev 1", "x[{}]"])
def test_names_of_splits_in_names_of_files_and_classes(tmp_path, name):
    names = [f"{kind}/{name.format(i)}{i}.png" for kind in ("cat", "train", "valid", "test tube") for i in range(3)]
    table = load_table(str(put(tmp_path, *names)))
    assert placed(table, tmp_path) == by_folder(names) and not table.others and not table.notes


def test_links_inside_the_folder(tmp_path, monkeypatch):
    """Of classes, of files, and to the folder itself; a circle is gone through once."""
    put(tmp_path / "pets", *PETS, ".store/bird/1.png")
    (tmp_path / "pets" / "bird").symlink_to(".store/bird")
    (tmp_path / "pets" / "bird" / "2.png").symlink_to("../../cat/1.png")
    (tmp_path / "pets" / "cat" / "up").symlink_to("..")
    (tmp_path / "root").symlink_to("pets")
    want = by_folder([*PETS, "bird/1.png", "bird/2.png"])
    table = load_table(str(tmp_path / "root"))
    assert placed(table, tmp_path / "root") == want
    assert ["hidden" in note for note in table.notes] == [True]
    monkeypatch.chdir(tmp_path / "pets")
    assert placed(load_table("."), tmp_path / "pets") == want
    (tmp_path / "pets" / "cow").symlink_to("cat")
    assert "cow/ is a link to cat/: its images are rows twice" in load_table("../root").notes


def test_links_out_of_the_folder(tmp_path):
    put(tmp_path / "pets", *PETS)
    put(tmp_path / "else", "bird/1.png", "bird/2.png")
    (tmp_path / "pets" / "bird").symlink_to("../else/bird")
    with pytest.raises(CuratorError, match=r"pets: bird is a link out of the dataset's folder: .* --data-dir"):
        load_table(str(tmp_path / "pets"))
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "bird").symlink_to("../else/bird")
    with pytest.raises(CuratorError, match=r"only: bird is a link out"):
        load_table(str(tmp_path / "only"))
    table = load_table(str(tmp_path / "pets"), data_dir=tmp_path / "else")
    assert placed(table, tmp_path / "pets") == by_folder([*PETS, "bird/1.png", "bird/2.png"])


def test_links_that_would_be_any_number_of_files(tmp_path):
    put(tmp_path, *PETS, "d0/1.png")
    for i in range(1, 30):
        (tmp_path / f"d{i}").mkdir()
        for j in (0, 1):
            (tmp_path / f"d{i}" / f"l{j}").symlink_to(f"../d{i - 1}")
    assert len(load_table(str(tmp_path)).ids) < 100


@pytest.mark.parametrize("extra, words", [
    (".x/1.png", r"1 image file \(\.x/1\.png\) is left out: .*hidden"), ("cat/._1.png", "begin with a dot"),
    ("cat/1.heic", "HEIC is not read: convert"), ("logo.png", "beside the folders of the classes"),
    ("__MACOSX/cat/1.png", "hidden"), ("runs/a/curation.json runs/a/x.png", r"runs/a/x\.png.*run of Curator"),
])  # fmt: skip
def test_what_is_left_out_is_said(tmp_path, extra, words):
    table = load_table(str(put(tmp_path, *PETS, *extra.split())))
    assert placed(table, tmp_path) == by_folder(PETS)
    assert len(table.notes) == 1 and re.search(words, table.notes[0])


def test_folders_that_look_private_to_python_are_classes(tmp_path):
    names = [*PETS, "__x__/1.png", "_y/1.png"]
    table = load_table(str(put(tmp_path, *names)))
    assert placed(table, tmp_path) == by_folder(names) and not table.notes


def test_splits_beside_another_folder(tmp_path):
    names = [f"{split}/{pet}" for split in ("train", "val", "test") for pet in PETS]
    table = load_table(str(put(tmp_path, *names, "extra/1.png", "extra/2.png")))
    assert {k: len(v) for k, v in table.others.items()} == {"validation": 6, "test": 6} and len(table.ids) == 6
    assert table.notes == ["2 image files (extra/1.png, …) are left out: they lie beside test/, train/, val/"]


def test_nested_classes(tmp_path):
    names = ["Fruit/Apple/G/1.png", "Fruit/Apple/G/2.png", "Fruit/Pear/1.png", "Veg/Bean/1.png"]
    folder = str(put(tmp_path, *names))
    assert load_table(folder).classes == ("Fruit", "Veg")
    assert load_table(folder, class_level=2).classes == ("Apple", "Bean", "Pear")
    with pytest.raises(CuratorError, match="--class-level 4: no image lies in so many folders"):
        load_table(folder, class_level=4)
    for other in ("digits", datasets.Dataset.from_dict({"label": [0, 1]})):
        with pytest.raises(CuratorError, match="--class-level: it is for folders of images"):
            load_table(other, class_level=1)


FLAT = ["1.png", "2.png", "3.png", "4.png"]
WANT = dict(zip(FLAT, ("ä", "b", "ä", "None"), strict=True))


def table_text(head: str, separator: str, form: str = "{}") -> str:
    rows = [head.split(), *([form.format(file), label] for file, label in WANT.items())]
    return "".join(separator.join(row) + "\n" for row in rows)


TABLES = {
    "labels.csv": table_text("Filename Label", ",").encode(),
    "excel.csv": table_text("file klasse", ";").encode("cp1252"),
    "bom.csv": ("\ufeff" + table_text("image_path class", ";")).encode(),
    "urls.csv": table_text("url category", ",", "https://example.org/x/{}?w=1").encode(),
    "moved.tsv": table_text("path y", "\t", "C:\\photos\\{}").encode(),
    "ids.csv": table_text("id breed", ",").replace(".png", "").encode(),
    "rows.jsonl": "".join(f'{{"img": "{f}", "tag": "{label}"}}\n' for f, label in WANT.items()).encode(),
    "map.json": str(WANT).replace("'", '"').encode(),
    "metadata.csv": ("\ufeff" + table_text("file_name label", ",", ".\\{}")).encode(),
}  # fmt: skip


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_labels_in_a_table_beside_the_images(tmp_path, name, as_file):
    put(tmp_path, *FLAT)
    (tmp_path / name).write_bytes(TABLES[name])
    table = load_table(str(tmp_path / name if as_file else tmp_path))
    assert placed(table, tmp_path) == WANT and not table.notes


def test_a_table_and_its_images_apart(tmp_path):
    """--data-dir is what paths of a table are relative to."""
    put(tmp_path / "images", *FLAT)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_bytes(TABLES["labels.csv"])
    pq.write_table(pa.table({"path": FLAT, "label": list(WANT.values())}), tmp_path / "tables" / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        table = load_table(str(tmp_path / "tables" / name), data_dir=tmp_path / "images")
        assert placed(table, tmp_path / "images") == WANT
    put(tmp_path / "tables", *FLAT)  # those beside it come first
    beside = load_table(str(tmp_path / "tables" / "t.csv"), data_dir=tmp_path / "images")
    assert placed(beside, tmp_path / "tables") == WANT
    for name in FLAT:
        (tmp_path / "tables" / name).unlink()
    with pytest.raises(CuratorError, match="No such file.*beside the dataset's tables, or in --data-dir"):
        table = load_table(str(tmp_path / "tables" / "t.csv"))
        decode_images(table.data, "Filename", table.rows, None, 1e9, table.access)


def test_a_table_without_labels_beside_one_with_labels(tmp_path):
    put(tmp_path, *FLAT)
    (tmp_path / "labels.csv").write_bytes(TABLES["labels.csv"])
    (tmp_path / "sizes.csv").write_text("file,width\n" + "".join(f"{name},4\n" for name in FLAT))
    assert placed(load_table(str(tmp_path)), tmp_path) == WANT


def test_what_is_said_of_other_columns_and_other_names(tmp_path):
    put(tmp_path / "flat", *FLAT)
    (tmp_path / "flat" / "t.csv").write_text("file,breed,species\n" + "".join(f"{f},b{f[0]},x{f[0]}\n" for f in FLAT))
    for dataset in (tmp_path / "flat", tmp_path / "flat" / "t.csv"):
        table = load_table(str(dataset))
        assert table.label_column == "species" and "species; breed may be, too: --label-column" in table.notes[0]
        assert not load_table(str(dataset), label_column="breed").notes
    names = [f"{name}/{i}.png" for name in ("01", "02") for i in range(3)]
    put(tmp_path / "numbers", *names)
    (tmp_path / "numbers" / "t.csv").write_text("file,label\n" + "".join(f"{n},{n[1]}\n" for n in names))
    assert placed(load_table(str(tmp_path / "numbers")), tmp_path / "numbers") == by_folder(
        names
    )  # pandas made 1 of 01
    put(tmp_path / "telephone", "cat/1.heic", "dog/2.HEIC")
    with pytest.raises(CuratorError, match=r"no image in it .*: 2 image files \(cat/1.heic, .* HEIC is not read"):
        load_table(str(tmp_path / "telephone"))


@pytest.mark.parametrize("column", ["rating", "label"])
def test_numbers_are_no_names_of_images_that_happen_to_be_there(tmp_path, column):
    """Plots beside a table of texts: few files for many rows, or what is called label."""
    put(tmp_path, "plots/1.png", "plots/2.png")
    cells = "".join(f"word {i} of many,{1 + i % 2}\n" for i in range(8))
    (tmp_path / "t.csv").write_text(f"text,{column}\n{cells}")
    table = load_table(
        str(tmp_path / "t.csv"), text_column="text", label_column=column, backbone="own", allow_quarantine=True
    )
    assert table.image_column is None and table.label_column == column
    assert table.dataset[column] == [1, 2] * 4


def test_a_parquet_file_of_paths(tmp_path):
    put(tmp_path, *FLAT)
    pq.write_table(pa.table({"path": FLAT, "label": list(WANT.values())}), tmp_path / "rows.parquet")
    for dataset in (tmp_path, tmp_path / "rows.parquet"):
        assert placed(load_table(str(dataset)), tmp_path) == WANT


def test_rows_and_files_of_a_table_that_do_not_fit(tmp_path):
    put(tmp_path, *FLAT)
    (tmp_path / "labels.csv").write_text("file,label\n1.png,a\n2.png,b\n3.png,\nlost.png,a\n/else/5.png,b\n")
    table = load_table(str(tmp_path), allow_quarantine=True)
    assert table.notes == ["1 image file (4.png) is left out: labels.csv names them in no row"]
    assert table.aside == {2: "the label is missing"} and len(table.ids) == 5  # the lost ones are seen later


def test_a_table_is_no_link_to_a_file_elsewhere(tmp_path):
    put(tmp_path / "pets", *FLAT)
    (tmp_path / "secret.csv").write_text("file,label\n1.png,token\n2.png,b\n")
    (tmp_path / "pets" / "labels.csv").symlink_to("../secret.csv")
    os.mkfifo(tmp_path / "pets" / "pipe.csv")
    with pytest.raises(CuratorError, match=r"labels\.csv leads out of the dataset's folder"):
        load_table(str(tmp_path / "pets"))


def test_splits_by_tables_and_by_folders(tmp_path):
    """As Kaggle has them: the same names in train/ and test/."""
    put(tmp_path, *(f"{split}/{name}" for split in ("train", "test") for name in FLAT))
    (tmp_path / "train.csv").write_bytes(TABLES["ids.csv"])
    (tmp_path / "sample_submission.csv").write_text("id,breed\n1,b\n2,b\n")
    table = load_table(str(tmp_path))
    assert placed(table, tmp_path) == {f"train/{name}": label for name, label in WANT.items()}
    assert table.notes == ["4 image files (test/1.png, …) are left out: train.csv names them in no row"]
    (tmp_path / "test_labels.csv").write_bytes(TABLES["ids.csv"])
    assert load_table(str(tmp_path)).others["test"]["breed"][:] == list(WANT.values())
    shutil.move(tmp_path / "train", tmp_path / "images")
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(CuratorError, match=r"test_labels\.csv and train\.csv both name images/1\.png; keep one"):
        load_table(str(tmp_path))


def test_metadata_of_each_split(tmp_path):
    put(tmp_path, *(f"{split}/{name}" for split in ("train", "test") for name in FLAT))
    for split in ("train", "test"):
        (tmp_path / split / "metadata.csv").write_bytes(TABLES["metadata.csv"])
    table = load_table(str(tmp_path))
    assert placed(table, tmp_path) == {f"train/{name}": label for name, label in WANT.items()}
    assert [Path(str(path)).parent.name for path in paths(table.others["test"], "image")] == ["test"] * 4


def with_metadata(folder: Path, column: str, values: list[str]) -> str:
    text = "".join(f"{name},{value}\n" for name, value in zip(PETS, values, strict=False))
    (folder / "metadata.csv").write_text(f"file_name,{column}\n{text}")
    return str(folder)


def test_class_folders_with_metadata_of_something_else(tmp_path):
    folder = with_metadata(put(tmp_path, *PETS), "camera", ["canon", "nikon"] * 3)
    table = load_table(folder)
    assert placed(table, tmp_path) == by_folder(PETS) and table.dataset["camera"][:2] == ["canon", "nikon"]
    assert "names of the folders" in table.notes[0] and "metadata.csv (camera)" in table.notes[0]
    assert load_table(folder, label_column="camera").classes == ("canon", "nikon")


@pytest.mark.parametrize("values", [["None", "NA", "None"] * 2, ["null", "", "nan", "null", "nan", "null"]])
def test_metadata_say_the_labels(tmp_path, values):
    folder = with_metadata(put(tmp_path, *PETS, "cat/more.png"), "label", values)
    table = load_table(folder, allow_quarantine=True)
    assert placed(table, tmp_path) == {name: value or None for name, value in zip(PETS, values, strict=True)}
    assert table.classes == tuple(sorted({*values} - {""}))
    assert any("cat/more.png" in note for note in table.notes)
    assert load_table(folder, class_level=1).classes == ("cat", "dog")


def test_labels_that_are_in_shards(tmp_path):
    put(tmp_path, "images/000/1.png", "images/000/2.png", "images/001/3.png")
    (tmp_path / "labels.csv").write_text("file,label\n1.png,cat\n2.png,dog\n3.png,cat\n")
    table = load_table(str(tmp_path))
    assert [*placed(table, tmp_path).values()] == ["cat", "dog", "cat"] and "--class-level 1" in table.notes[0]
    put(tmp_path / "same", *PETS)
    (tmp_path / "same" / "all.csv").write_text("file,label\n" + "".join(f"{p},{p[:3]}\n" for p in PETS))
    (tmp_path / "same" / "verified.csv").write_text("file,label\ncat/1.png,dog\n")
    (tmp_path / "same" / "a_few.csv").write_text("file,label\ncat/1.png,young\ncat/2.png,old\n")
    assert placed(load_table(str(tmp_path / "same")), tmp_path / "same") == by_folder(PETS)


@pytest.mark.parametrize("names", [FLAT, [f"train/{n}" for n in FLAT] + ["test/1.png"], [f"cat/{n}" for n in FLAT]])
def test_no_labels(tmp_path, names):
    with pytest.raises(CuratorError, match=r"saw \d images in .*one folder per class, or add a table"):
        load_table(str(put(tmp_path, *names)))


@pytest.mark.parametrize("name", ["photos [2024]", "set [2]", "csv", "audio", "a*b?", "digits"])
@pytest.mark.parametrize("images", [True, False])
def test_the_folder_is_the_one_that_is_named(tmp_path, monkeypatch, name, images):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / name, *PETS)
    if not images:
        for place, label in ((tmp_path / name, "here"), (tmp_path / "set 2", "sibling")):
            place.mkdir(exist_ok=True)
            content = [(tmp_path / name / pet).read_bytes() for pet in PETS]
            pq.write_table(pa.table({"image": content, "label": [label, "b"] * 3}), place / "train.parquet")
        shutil.rmtree(tmp_path / name / "cat")
        shutil.rmtree(tmp_path / name / "dog")
    want = ("cat", "dog") if images else ("b", "here")
    assert load_table(f"./{name}").classes == want
    assert load_table(f"./{name}").classes == want  # what datasets has put into the cache by then is none of the files
    if name != "digits":
        assert load_table(name).classes == want
    else:
        digits = datasets.DatasetDict(train=hf_dataset(6).remove_columns("true_label"))
        monkeypatch.setattr("curator.sources.opening._digits", lambda: digits)
        table = load_table(name)
        assert (
            table.classes == ("class 0", "class 1", "class 2")
            and "folder of that name here is --dataset ./digits" in table.notes[0]
        )


def test_several_configurations(tmp_path):
    put(tmp_path, *PETS)
    card = "---\nconfigs:\n- config_name: a\n  data_files: '*/1*.png'\n- config_name: b\n  data_files: '*/2.png'\n---\n"
    (tmp_path / "README.md").write_text(card)
    for config in (None, "c"):
        with pytest.raises(CuratorError, match=r"several configurations, \['a', 'b'\]; choose one with --config-name"):
            load_table(str(tmp_path), config_name=config)
    table = load_table(str(tmp_path), config_name="a")
    assert table.classes == ("cat", "dog") and len(table.ids) == 4
    assert table.notes[0].startswith("2 image files (cat/2.png, …) are left out: the dataset's card")


def test_rows_and_images_in_one_folder(tmp_path):
    put(tmp_path, *PETS[:2])
    content = [(tmp_path / pet).read_bytes() for pet in PETS[:2]] * 3
    pq.write_table(pa.table({"image": content, "label": ["a", "b"] * 3}), tmp_path / "train.parquet")
    try:
        table = load_table(str(tmp_path))
        assert len(table.ids) == 6 and "left out: the rows are those of train.parquet" in table.notes[0]
    except CuratorError as e:
        assert "saw 2 images and files of rows (train.parquet)" in str(e)


def test_a_path_that_finds_the_file(tmp_path):
    """In issues.csv."""

    class Findings:
        table = load_table(str(put(tmp_path / "pets", *PETS)))

        class columns:
            ambiguous = None
            selected, clean_score = np.arange(6) != 3, np.linspace(0, 1, 6)
            rows, corrected = np.arange(6), np.zeros(6, int)

    write_issues(tmp_path / "issues.csv", Findings)
    assert (tmp_path / "issues.csv").read_text().splitlines()[1] == "3,dog/1.png,dog,cat,0.600000,"


def test_images_of_metadata_with_several_images_a_row(tmp_path):
    """datasets reads these."""
    put(tmp_path, *FLAT)
    (tmp_path / "metadata.csv").write_text("left_file_name,right_file_name,label\n1.png,2.png,a\n3.png,4.png,b\n")
    table = load_table(str(tmp_path), image_column="left")
    assert Counter(type(f).__name__ for f in table.dataset.features.values()) == {"Image": 2, "Value": 1}


def test_csv_files_in_a_folder_are_read_as_one_alone(tmp_path):
    """Pandas, which datasets asks, would make one class of 01 and 1, and no label of None."""
    (tmp_path / "one").mkdir()
    text = "text;label\n" + "".join(f"word {i};{label}\n" for i, label in enumerate(["01", "1", "None"] * 4))
    (tmp_path / "one" / "train.csv").write_text(text)
    for dataset in (tmp_path / "one", tmp_path / "one" / "train.csv"):
        table = load_table(str(dataset), text_column="text", label_column="label", backbone="own")
        assert table.classes == ("01", "1", "None") and table.dataset["label"] == ["01", "1", "None"] * 4
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train-0.csv").write_text("text,n,label\na,1,1\nb,,2\n")
    (tmp_path / "two" / "train-1.csv").write_text("text,n,label\nc,,02\nd,,2\n")
    table = load_table(str(tmp_path / "two"), text_column="text", label_column="label", backbone="own")
    assert table.dataset["label"] == ["1", "2", "02", "2"] and table.dataset["n"] == [1, None, None, None]
