"""Images in plain columns of tables, and files that cells mean."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value

from curator.errors import CuratorError
from curator.sources.images import paths
from curator.sources.matching import Files
from curator.sources.tables import rows_of
from tests.conftest import hf_dataset, load_table
from tests.forks import FORKS

PNG = [item["bytes"] for item in hf_dataset(4).cast_column("image", Image(decode=False))["image"]]
NAMES = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/3.png"]


@pytest.fixture
def folder(tmp_path):
    for name, content in zip(NAMES, PNG, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


COLUMNS = {
    "bytes": pa.array(PNG), "large": pa.array(PNG, pa.large_binary()), "view": pa.array(PNG, pa.binary_view()),
    "bytes and path": pa.array([{"bytes": b, "path": ""} for b in PNG]),
    "path and large bytes": pa.array([{"path": None, "bytes": b} for b in PNG],
                                     pa.struct({"path": pa.large_string(), "bytes": pa.large_binary()})),
    "only bytes": pa.array([{"bytes": b} for b in PNG]), "paths": pa.array(NAMES),
    "large paths": pa.array(NAMES, pa.large_string()), "path views": pa.array(NAMES, pa.string_view()),
    "a dictionary": pa.array(NAMES).dictionary_encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_images_in_plain_columns(folder, kind):
    """As pandas, polars and DuckDB write them; the others stay as they are."""
    label = pa.array(["a", "b", "a", None]).dictionary_encode()
    table = pa.table({"id": pa.array([1, 2, 3, 4], pa.uint8()), "picture": COLUMNS[kind], "label": label})
    rows = rows_of(table, folder)
    assert rows.features == Features({"id": Value("uint8"), "picture": Image(), "label": Value("string")})
    assert [np.asarray(image).shape for image in rows["picture"]] == [(12, 12, 3)] * 4
    assert rows["label"][:] == ["a", "b", "a", None]
    named = "path" in kind.split()[0] or kind in ("large paths", "a dictionary")
    assert not named or paths(rows, "picture")[0] in (str(folder / NAMES[0]), None)


def test_a_column_that_is_missing_values_and_in_chunks():
    table = pa.table({"x": pa.chunked_array([PNG[:1], [], [None, b"no image"]])})
    assert rows_of(table, None).cast_column("x", Image(decode=False))["x"][:] == [
        {"bytes": PNG[0], "path": None}, None, {"bytes": b"no image", "path": None},
    ]  # fmt: skip


def test_what_is_no_image_stays():
    rows = rows_of(
        pa.table({"blob": [b"\x00" * 30] * 4, "text": ["a.png is", "b", "c", "d"], "s": [{"path": "x"}] * 4}), None
    )
    assert rows.features == Features({"blob": Value("binary"), "text": Value("string"), "s": {"path": Value("string")}})
    both = hf_dataset(4).add_column("path", NAMES)
    assert rows_of(both.data.table, None).features["path"] == Value("string")


@pytest.fixture
def unicode_split(tmp_path):
    """With brackets, for which links are made, and a pandas categorical."""
    file = tmp_path / "in [1]" / "data" / "größe-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"image": PNG, "label": pa.array(["a", "b", "a", "b"]).dictionary_encode()}), file)
    return str(tmp_path / "in [1]")


def look(folder: str) -> tuple:
    table = load_table(folder)
    return table.split, table.classes, len(table.ids)


def test_split_names_of_any_letters(unicode_split):
    assert look(unicode_split) == ("größe", ("a", "b"), 4)


@pytest.mark.slow
def test_two_runs_at_once_on_a_cold_cache(unicode_split):
    with FORKS.Pool(2) as pool:
        assert pool.map(look, [unicode_split] * 2) == [("größe", ("a", "b"), 4)] * 2


@pytest.mark.parametrize("as_file", [True, False])
def test_parquet_as_others_write_it(folder, as_file):
    (folder / "rows").mkdir()
    file = folder / "rows" / "train.parquet"
    pq.write_table(pa.table({"image": PNG * 3, "label": ["a", "b", "a"] * 4}), file)
    table = load_table(str(file if as_file else file.parent))
    assert table.classes == ("a", "b") and isinstance(table.dataset.features["image"], Image)
    split = load_table(
        Dataset(pa.table({"image": PNG * 3, "label": ["a", "b", "a"] * 4})).shuffle(seed=1).select(range(9))
    )
    assert len(split.dataset) == 9 and split.dataset["image"][0].size == (12, 12)


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_without_rows(folder, kind, as_file):
    file = folder / "rows" / f"train.{kind}"
    file.parent.mkdir()
    empty = pa.table({"image": pa.array([], pa.string()), "label": pa.array([], pa.string())})
    pq.write_table(empty, file) if kind == "parquet" else file.write_text("image,label\n")
    name = "rows" if kind == "csv" and not as_file else file.name
    with pytest.raises(CuratorError, match=f"^--dataset .*: {name} has no rows"):
        load_table(str(file if as_file else file.parent))


@pytest.mark.parametrize("cells, means", [
    (["cat/1.png", "./cat/2.png", "cat\\2.png"], ["cat/1.png", "cat/2.png", "cat/2.png"]),
    (["/content/drive/cat/1.png", "C:\\data\\dog\\1.png"], ["cat/1.png", "dog/1.png"]),
    (["https://example.org/x/2.png?size=3#a", "s3://b/dog/1.png"], ["cat/2.png", "dog/1.png"]),
    (["1.png", "3.png", "9.png", None, ""], [None, "dog/3.png", None, None, None]),
    (["x/3.png", "y/3.png"], [None, None]),  # one file cannot be both
    (["dog/3.png", "old/3.png"], ["dog/3.png", None]), (["../cat/1.png", "\0"], ["cat/1.png", None]),
])  # fmt: skip
@pytest.mark.parametrize("listed", [True, False])
def test_files_that_cells_mean(folder, cells, means, listed):
    assert Files(lambda: NAMES, None if listed else folder).found(cells) == means


def test_cells_without_a_suffix_and_names_of_other_letters():
    assert Files(lambda: NAMES).found(["3", "1", "2"], stems=True) == ["dog/3.png", None, "cat/2.png"]
    assert Files(lambda: NAMES).found(["1", "2"], "cat/", stems=True) == ["cat/1.png", "cat/2.png"]
    assert Files(lambda: ["a\u0308.png"]).found(["\u00e4.png"]) == ["a\u0308.png"]


def test_nothing_is_listed_where_all_files_are_there(folder):
    assert Files(lambda: pytest.fail("listed"), folder).found(NAMES) == NAMES
