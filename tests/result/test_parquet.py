"""What is embedded in a result: bytes of files in the dataset's own folder, of images those that can be decoded."""

import io
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Array2D, Audio, ClassLabel, Dataset, Features, Image, LargeList, List, Pdf, Value, Video
from huggingface_hub import CommitOperationAdd, HfApi
from PIL import Image as Pil

import curator
from curator.errors import CuratorError
from curator.publish.build import publish_folder
from curator.publish.imagefolder import _suffix
from curator.result.parquet import require_space, write_parquet
from curator.sources.files import real_folders
from curator.sources.images import Access, decode_images
from curator.sources.metadata import require_own_repository
from tests.conftest import hf_dataset, load_table

SECRET = b"HF_TOKEN=hf_0123456789"
QUICK = {"method": "ce", "net": "small", "method.epochs": 1, "method.batch_size": 16, "mixed_precision": "no"}


def png(value: int = 0, size: tuple[int, int] = (12, 12)) -> bytes:
    file = io.BytesIO()
    Pil.new("L", size, value).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A dataset's folder with an image, a sound and a text that calls itself an image, and a secret beside it."""
    (tmp_path / "secret").write_bytes(SECRET)
    inner = tmp_path / "data"
    inner.mkdir()
    (inner / "a.png").write_bytes(png())
    (inner / "a.wav").write_bytes(b"RIFF sound")
    (inner / "text.png").write_bytes(b"a text")
    (inner / "cut.png").write_bytes(png()[:45])
    (inner / "link.png").symlink_to("../secret")
    os.mkfifo(inner / "fifo.png")
    return inner


def rows_of(features: Features, columns: dict) -> Dataset:
    """Rows as a parquet file has them: nothing is looked at."""
    return Dataset(pa.table(columns, schema=features.arrow_schema))


def written(dataset: Dataset, tmp_path: Path, access: Access, whole=None) -> dict[str, list]:
    write_parquet(dataset, tmp_path / "out", "train", access, whole)
    (path,) = (tmp_path / "out" / "data").iterdir()
    assert SECRET not in path.read_bytes()
    table = pq.read_table(path)
    assert table.schema.equals(dataset.features.arrow_schema)
    return table.to_pydict()


PATHS = ["{}/secret", "/proc/self/environ", "/dev/zero", "../secret", "link.png", "fifo.png", "nothing.png", "."]


@pytest.mark.parametrize("feature", [Image(), Audio(), Audio(decode=False), Video(), Pdf()], ids=repr)
def test_every_kind_of_file_lies_in_the_datasets_folder(folder, tmp_path, feature):
    """What does not keeps its name alone; a file of a kind that is not decoded here is what it is."""
    paths = [path.format(tmp_path) for path in PATHS]
    good = "a.png" if isinstance(feature, Image) else "a.wav"
    items = [{"bytes": None, "path": path} for path in (*paths, str(folder / good))]
    items += [{"bytes": b"its own", "path": "/home/ann/b"}, {"bytes": None, "path": None}, None]
    found = written(rows_of(Features(x=feature), {"x": items}), tmp_path, Access(real_folders([folder])))["x"]
    assert found[: len(paths)] == [{"bytes": None, "path": os.path.basename(path)} for path in paths]
    assert found[len(paths) :] == [
        {"bytes": (folder / good).read_bytes(), "path": good}, {"bytes": b"its own", "path": "b"},
        {"bytes": None, "path": None}, None,
    ]  # fmt: skip


def test_files_in_lists_and_structs(folder, tmp_path):
    secret, own = {"bytes": None, "path": "../secret"}, {"bytes": None, "path": "a.png"}
    features = Features(
        inner={"image": Image(), "n": Value("int64")}, list=List(Image()), pair=List(Image(), length=2),
        large=LargeList(Audio(decode=False)), deep=List({"a": List(Pdf(decode=False))}), n=Value("int64"),
    )  # fmt: skip
    rows = [
        {"inner": {"image": secret, "n": 1}, "list": [secret, own, None], "pair": [own, secret], "large": [secret, own],
         "deep": [{"a": [secret, own]}, {"a": []}], "n": 1},
        {"inner": None, "list": None, "pair": [None, own], "large": [], "deep": [{"a": None}], "n": None},
        {"inner": {"image": own, "n": None}, "list": [], "pair": [own, own], "large": None, "deep": None, "n": 3},
    ]  # fmt: skip
    whole = rows_of(features, {name: [row[name] for row in rows] for name in features})
    got, kept = {"bytes": png(), "path": "a.png"}, {"bytes": None, "path": "secret"}

    def wanted(value):
        if isinstance(value, dict):
            swapped = got if value is own else kept if value is secret else None
            return swapped or {name: wanted(inner) for name, inner in value.items()}
        return [wanted(inner) for inner in value] if isinstance(value, list) else value

    for index in ([0, 1, 2], [2, 1], [1]):  # slices and rows out of order, too
        found = written(whole.select(index), tmp_path, Access(real_folders([folder])))
        assert found == {name: [wanted(rows[i][name]) for i in index] for name in features}


def test_bytes_that_were_no_image_are_not_embedded(folder, tmp_path):
    """Of a file; those that stood in the rows themselves are their own. What was decoded is not decoded again."""
    items = [{"bytes": None, "path": name} for name in ("a.png", "text.png", "cut.png", "text.png")]
    items.append({"bytes": b"a text", "path": "text.png"})
    ds, access = rows_of(Features(x=Image()), {"x": items}), Access(real_folders([folder]))
    known = "x", np.array([True, False, False, True, False])
    found = [item["bytes"] for item in written(ds, tmp_path, access, known)["x"]]
    assert found == [png(), None, None, b"a text", b"a text"]
    assert [item["bytes"] for item in written(ds, tmp_path, access)["x"]] == [png(), None, None, None, b"a text"]


def test_addresses_stay_and_are_not_fetched(folder, tmp_path):
    paths = ["https://127.0.0.1:9/a.png", "hf://datasets/a/b/c.png", "file:///etc/passwd", "zip://a.png::/etc/x.zip"]
    ds = rows_of(Features(x=Image()), {"x": [{"bytes": None, "path": path} for path in paths]})
    found = written(ds, tmp_path, Access(real_folders([folder])))["x"]
    assert found == [{"bytes": None, "path": path} for path in (*paths[:2], "passwd", "a.png")]


def test_the_size_of_a_result_is_asked_of_the_same_files(folder, tmp_path):
    """Before anything is decoded."""
    items = [{"bytes": None, "path": path.format(tmp_path)} for path in PATHS]
    require_space([rows_of(Features(x=Image()), {"x": items})], tmp_path, Access(real_folders([folder])))


# Which folder is a dataset's own


def parquet(folder: Path, path: str, n: int = 40) -> Path:
    """Rows of two classes, the first of which names a file."""
    columns = hf_dataset(n, 2).cast_column("image", Image(decode=False)).to_dict()
    columns["image"][0] = {"bytes": None, "path": path}
    features = Features(image=Image(), label=hf_dataset(4, 2).features["label"])
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({k: columns[k] for k in features}, schema=features.arrow_schema), folder / "rows.parquet")
    return folder / "rows.parquet"


def reads(table, path: Path) -> bool:
    """Whether the table's images may lie at a path."""
    ds = rows_of(Features(image=Image()), {"image": [{"bytes": None, "path": str(path)}]})
    return not decode_images(ds, "image", np.arange(1), (4, 4), 1e9, table.access).broken


def test_the_folder_of_each_kind_of_dataset(tmp_path, monkeypatch):
    for name in ("in", "beside", "hub/datasets--a--b/snapshots/1", "hub/datasets--a--c/snapshots/1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(png())
    file = parquet(tmp_path / "in", "a.png")
    (tmp_path / "root").symlink_to(tmp_path / "in")
    inside, beside = tmp_path / "in" / "a.png", tmp_path / "beside" / "a.png"
    for source in (str(file), str(tmp_path / "in"), str(tmp_path / "root")):
        table = load_table(source)
        assert reads(table, inside) and reads(table, Path("a.png")) and not reads(table, beside), source
    assert reads(load_table(str(file), data_dir=tmp_path / "beside"), beside)
    loaded = datasets.load_dataset("parquet", data_files=str(file))
    for source in (loaded, loaded["train"]):  # a stranger's file, of which nothing else is known
        table = load_table(source)
        assert not reads(table, inside) and not reads(table, beside)
        assert reads(load_table(source, data_dir=tmp_path / "in"), Path("a.png"))
    rows = loaded["train"].select(range(1, 40)).cast_column("image", Image(decode=False))
    rows.save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "a.png").write_bytes(png())
    for source in (str(tmp_path / "saved"), datasets.load_from_disk(tmp_path / "saved")):
        with monkeypatch.context() as patch:  # its rows were saved undecoded
            patch.setattr("curator.sources.load.guess_image_column", lambda *args, **kwargs: "image")
            table = load_table(source)
        assert reads(table, tmp_path / "saved" / "a.png") and not reads(table, inside)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("curator.sources.opening.read_rows", lambda *args: (loaded, False))
    table = load_table("a/b")
    assert reads(table, tmp_path / "hub/datasets--a--b/snapshots/1/a.png") and not reads(table, inside)
    assert not reads(table, tmp_path / "hub/datasets--a--c/snapshots/1/a.png")


def test_a_dataset_object_that_names_files_says_what_to_do(tmp_path):
    """And with data_dir they are read and embedded."""
    items = []
    for i in range(24):
        (tmp_path / f"{i}.png").write_bytes(png(10 * (i % 2)))
        items.append(str(tmp_path / f"{i}.png"))
    ds = Dataset.from_dict({"image": items, "label": [i % 2 for i in range(24)]}).cast_column("image", Image())
    with pytest.raises(
        CuratorError, match="outside the dataset's folder: put it there, or name its folder with data_dir"
    ):
        curator.curate(ds, output=tmp_path / "out", **QUICK)
    curator.curate(ds, output=tmp_path / "out", data_dir=str(tmp_path), **QUICK)
    (path,) = (tmp_path / "out" / "data").iterdir()
    assert all(item["bytes"] and "/" not in item["path"] for item in pq.read_table(path)["image"].to_pylist())


# What is published of a run


@pytest.mark.parametrize("name", ["report/x", "README.md", "issues.csv", "curation.json", "data", "report", "data/x"])
def test_links_out_of_a_run_are_not_published(copied, tmp_path, name):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "token").write_bytes(SECRET)
    path = copied / name
    if path.exists():
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "moved")
    else:
        path.symlink_to(tmp_path / "secret" / "token")
    with pytest.raises(CuratorError, match=f"{name}: expected a file of the run, found a link that leads out of it"):
        publish_folder(copied, tmp_path / "v", "annotate", say=print)
    assert not (tmp_path / "v").exists() and not list(tmp_path.glob(".curator-*"))


def test_a_pipe_in_a_run_is_not_waited_for(copied, tmp_path):
    (copied / "issues.csv").unlink()
    os.mkfifo(copied / "issues.csv")
    with pytest.raises(CuratorError, match=r"issues\.csv: expected a file of the run"):
        publish_folder(copied, tmp_path / "v", "annotate", say=print)


def test_links_inside_a_run_are_published_as_files(copied, tmp_path):
    (copied / "report" / "again.md").symlink_to("report.md")
    publish_folder(copied, tmp_path / "v", "annotate", say=print)
    again = tmp_path / "v" / "report" / "again.md"
    assert not again.is_symlink() and again.read_bytes() == (copied / "report" / "report.md").read_bytes()


@pytest.fixture
def copied(run, tmp_path):
    """A run that can be spoilt."""
    import shutil

    return Path(shutil.copytree(run, tmp_path / "run"))


def test_the_suffix_of_a_strangers_image(monkeypatch):
    """PostScript is not opened."""
    assert _suffix({"bytes": png(), "path": None}) == ".png" and _suffix({"bytes": b"", "path": "a.JPG"}) == ".jpg"
    assert _suffix({"bytes": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "path": None}) == ".png"


@pytest.mark.parametrize("named", ["../other/rows.parquet", "{}/other/rows.parquet", "file://{}/other/*", "link"])
def test_a_dataset_does_not_name_rows_of_others(tmp_path, named):
    """In its card, or by a link: they would be published as its own."""
    parquet(tmp_path / "other", "a.png")
    (tmp_path / "in").mkdir()
    if named == "link":
        (tmp_path / "in" / "rows.parquet").symlink_to(tmp_path / "other" / "rows.parquet")
    else:
        card = f"---\nconfigs:\n- config_name: default\n  data_files: {named.format(tmp_path)}\n---\n"
        (tmp_path / "in" / "README.md").write_text(card)
    with pytest.raises(CuratorError, match="rows.parquet leads out of the dataset's folder|expected data_files inside"):
        load_table(str(tmp_path / "in"))


def test_a_saved_dataset_does_not_name_rows_of_others(tmp_path):
    for name in ("in", "other"):
        hf_dataset(6).save_to_disk(tmp_path / name)
    state = json.loads((tmp_path / "in" / "state.json").read_text())
    state["_data_files"][0]["filename"] = "../other/" + state["_data_files"][0]["filename"]
    (tmp_path / "in" / "state.json").write_text(json.dumps(state))
    with pytest.raises(CuratorError, match="leads out of the dataset's folder"):
        load_table(str(tmp_path / "in"))


@pytest.mark.parametrize(
    "file", ["/etc/rows.json", "hf://datasets/me/private@1/rows.parquet", "http://127.0.0.1/x.json"]
)
def test_a_dataset_of_the_hub_has_its_own_files_alone(file):
    with pytest.raises(CuratorError, match="--dataset a/b: .* is not one of its files"):
        require_own_repository(["hf://datasets/a/b@1/x.parquet", file], "a/b")


def test_a_folder_of_images_on_the_hub(hub, tmp_path):
    """Its images lie in the Hub's cache; a card there names no rows of this machine."""
    api, operations = HfApi(), []
    api.create_repo("me/pics", repo_type="dataset")
    for name in ("cat", "dog"):
        for i in range(3):
            operations.append(CommitOperationAdd(f"train/{name}/{i}.png", png(10 * i)))
    api.create_commit("me/pics", operations, commit_message="pictures", repo_type="dataset")
    table = load_table("me/pics")
    found = decode_images(table.data, "image", table.rows, (4, 4), 1e9, table.access)
    assert len(table.rows) == 6 and not found.broken and found.images[:, 0, 0, 0].tolist() == [0, 10, 20] * 2
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {parquet(tmp_path / 'other', 'a.png')}\n---\n"
    operations = [CommitOperationAdd("README.md", card.encode())]
    api.create_commit("me/pics", operations, commit_message="card", repo_type="dataset")
    with pytest.raises(CuratorError, match="--dataset me/pics: .*expected data_files inside"):
        load_table("me/pics")


@pytest.mark.parametrize("features_column", [None, "x"])
def test_nothing_of_a_secret_is_in_a_result_or_a_version(tmp_path, features_column):
    """Not by an image that is looked at or not, by another column, or by a link; with a row of it set aside."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to("../secret")
    columns = hf_dataset(40, 2).cast_column("image", Image(decode=False)).to_dict()
    paths = ["/proc/self/environ", str(tmp_path / "secret"), "link.png"]
    thefts = [{"bytes": None, "path": paths[i % 3]} for i in range(40)]
    columns["image"][5], columns["image"][6] = thefts[0], thefts[2]
    features = Features(
        image=Image(), label=hf_dataset(4, 2).features["label"], back=Image(), sound=Audio(), film=Video(),
        many=List(Pdf()), x=List(Value("float32")),
    )  # fmt: skip
    columns |= {"back": thefts, "sound": thefts, "film": thefts, "many": [thefts[:3]] * 40}
    columns["x"] = np.random.default_rng(0).normal(size=(40, 3)).tolist()
    pq.write_table(
        pa.table({k: columns[k] for k in features}, schema=features.arrow_schema), tmp_path / "in" / "rows.parquet"
    )
    settings = {**QUICK, "net": "mlp" if features_column else "small", "image_column": "image"}
    curator.curate(str(tmp_path / "in"), output=tmp_path / "out", features_column=features_column, **settings)
    publish_folder(tmp_path / "out", tmp_path / "v", "annotate", say=print)
    environment = Path("/proc/self/environ").read_bytes()[:40]
    files = [path for name in ("out", "v") for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        assert SECRET not in path.read_bytes() and environment not in path.read_bytes(), path
        if path.suffix == ".parquet" and path.parent.name == "data":
            rows = pq.read_table(path)
            assert [item["bytes"] is None for item in rows["image"].to_pylist()] == [i in (5, 6) for i in range(40)]
            assert {item["path"] for item in rows["sound"].to_pylist()} == {"environ", "secret", "link.png"}
            assert {item["bytes"] for name in ("back", "sound", "film") for item in rows[name].to_pylist()} == {None}
    aside = tmp_path / "out" / "quarantine.parquet"
    assert aside.exists() != bool(features_column)
    if aside.exists():
        found = pq.read_table(aside).to_pylist()
        assert [row["row"] for row in found] == [5, 6] and all("outside" in row["reason"] for row in found)


def test_columns_of_every_type_stay_as_they_are(tmp_path):
    """Written by a run and read by load_dataset, nulls among them."""
    import datetime
    import decimal

    now = datetime.datetime(2024, 2, 29, 12, 30, 1, 5)
    values = {
        **{f"int{b}": ([1, None], Value(f"int{b}")) for b in (8, 16, 32, 64)},
        **{f"uint{b}": ([2**b - 1, None], Value(f"uint{b}")) for b in (8, 16, 32, 64)},
        **{f"float{b}": ([0.5, None], Value(f"float{b}")) for b in (16, 32, 64)},
        "bool": ([True, None], Value("bool")), "null": ([None, None], Value("null")),
        "string": (["é\n", None], Value("string")), "large_string": (["", None], Value("large_string")),
        "binary": ([b"\0", None], Value("binary")), "large_binary": ([b"x", None], Value("large_binary")),
        "date32": ([now.date(), None], Value("date32")), "time": ([now.time(), None], Value("time64[us]")),
        "timestamp": ([now, None], Value("timestamp[us]")),
        "zone": ([now.replace(tzinfo=datetime.UTC), None], Value("timestamp[ms, tz=UTC]")),
        "duration": ([datetime.timedelta(seconds=3), None], Value("duration[ms]")),
        "decimal": ([decimal.Decimal("1.23"), None], Value("decimal128(10, 2)")),
        "list": ([[1, 2], []], List(Value("int16"))), "fixed": ([[1, 2], None], List(Value("int16"), length=2)),
        "large_list": ([["a"], None], LargeList(Value("string"))), "struct": ([{"a": 1}, None], {"a": Value("int8")}),
        "array": ([[[1, 2]], [[3, 4]]], Array2D((1, 2), "int32")),
        "names": ([1, None], ClassLabel(names=["b", "a"])), "listed": ([[0], []], List(ClassLabel(names=["x", "y"]))),
    }  # fmt: skip
    features = Features({name: feature for name, (_, feature) in values.items()})
    columns = {
        name: pa.array(v, features.arrow_schema.field(name).type) if name != "array" else None
        for name, (v, _) in values.items()
    }
    rows = Dataset.from_dict({"array": values["array"][0]}, features=Features({"array": features["array"]}))
    columns["array"] = rows.with_format("arrow")[:]["array"].combine_chunks()
    made = Dataset(pa.table(columns, schema=features.arrow_schema))
    write_parquet(made, tmp_path, "train")
    back = datasets.load_dataset(str(tmp_path), split="train")
    assert back.features == made.features and back.column_names == made.column_names
    assert back.with_format("arrow")[:].equals(made.with_format("arrow")[:])
