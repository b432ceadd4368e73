"""What a stranger's dataset says of itself: taken as it is meant, or refused in one line before anything acts on it."""

import json
import os
import time

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Value

from curator.cli.main import COMMANDS, main
from curator.errors import CuratorError
from curator.sources.metadata import require_card
from tests.conftest import hf_dataset, load_table
from tests.hub import hub  # noqa: F401

BOMB = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)
)])  # fmt: skip
ITSELF = "a: &a [*a]"


def card(yaml: str, text: str = "# Pets") -> str:
    return f"---\n{yaml}\n---\n\n{text}\n"


@pytest.fixture
def folder(tmp_path):
    """A folder of rows, and a way to give it a card."""
    made = tmp_path / "pets"
    made.mkdir()
    hf_dataset(30, 3).to_parquet(made / "train.parquet")
    return made


HOSTILE = {
    **{f"bomb in {key}": (f"{BOMB}\n{key}: *a9", "its YAML aliases") for key in ("license", "configs", "data_files")},
    "bomb in a config": (f"{BOMB}\nconfigs:\n- config_name: default\n  data_files: *a9", "its YAML aliases"),
    "long text many times": (f"a: &a {'x' * 500_000}\nb: [{', '.join(['*a'] * 20)}]", "its YAML aliases"),
    "merged": (f"{BOMB.replace('[x, x, x, x, x, x, x, x, x]', '{x: x}')}\nlicense: *a9", "its YAML aliases"),
    "itself": (f"{ITSELF}\nlicense: *a", "its YAML aliases"),
    "long": ("license: " + "x" * 2**20, "at most 1,048,576 characters of YAML"),
    "deep": ("license: " + "[" * 1500, "not readable YAML"),
    "number": ("license: " + "9" * 5000, "not readable YAML"),
    "sexagesimal": ("license: 1" + ":59" * 100_000, "not readable YAML"),
    "absolute": ("configs:\n- config_name: a\n  data_files: /etc/*", "data_files inside the dataset's own folder"),
    "above": ("configs:\n- config_name: a\n  data_files: [a.csv, ../*]", "data_files inside"),
    "of a split": (
        "configs:\n- config_name: a\n  data_files:\n  - split: train\n    path: [data/../../x/*]",
        "data_files inside",
    ),
    "data_dir": ("configs:\n- config_name: a\n  data_dir: ../other", "data_files inside"),
    "archive": ("configs:\n- config_name: a\n  data_files: zip://*.csv::/x.zip", "data_files inside"),
    "address": ("configs:\n- config_name: a\n  data_files: https://example.org/x.csv", "data_files inside"),
    "of the hub": ("configs:\n- config_name: a\n  data_files: hf://datasets/me/secret/x.csv", "data_files inside"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
def test_hostile_cards(folder, name, file):
    yaml, words = HOSTILE[name]
    (folder / file).write_text(card(yaml) if file == "README.md" else yaml)
    started = time.monotonic()
    with pytest.raises(CuratorError, match=words) as e:
        load_table(str(folder))
    assert time.monotonic() - started < 5
    assert f"--dataset {folder}: {file}: " in str(e.value) and len(str(e.value).splitlines()) == 1


def test_a_card_of_a_repository_is_looked_at_before_it_is_loaded(hub):  # noqa: F811
    """Through the real client: the bomb, and files that are none of the repository's."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("me/data", repo_type="dataset")
    for yaml, words in (
        (f"{BOMB}\nlicense: *a9", "README.md: its YAML aliases"),
        ("configs:\n- config_name: a\n  data_files: /etc/*", "README.md: expected data_files inside"),
    ):
        content = card(yaml).encode()
        api.upload_file(path_or_fileobj=content, path_in_repo="README.md", repo_id="me/data", repo_type="dataset")
        with pytest.raises(CuratorError, match=f"--dataset me/data: {words}"):
            load_table("me/data")


def test_cards_as_people_write_them(folder):
    """Aliases that PyYAML makes of what stands twice, several licenses, and a text of any kind."""
    yaml = "license: [mit, {a: 1}, cc-by-4.0]\nx: &id001 [a, b]\ny: *id001\nz: *id001\n"
    text = "# Pets\n\n\tcode \x1b[31m red\n\u202e---\n"
    (folder / "README.md").write_text(
        card(yaml + "configs:\n- config_name: default\n  data_files: ./train.parquet", text)
    )
    source = load_table(str(folder)).source
    assert source["license"] == ["mit", "cc-by-4.0"]
    assert source["text"] == "# Pets\n\n    code \\x1b[31m red\n\\u202e---"
    (folder / "README.md").write_text("no YAML, and more than that: " + "x" * 2**21)
    assert load_table(str(folder)).source["text"].startswith("no YAML")


def test_cards_that_are_no_files(folder, tmp_path):
    """A link to a file of the user's is not copied into the result's card; a pipe is not waited for."""
    (tmp_path / "secret").write_text("my secret")
    (folder / "README.md").symlink_to(tmp_path / "secret")
    assert "text" not in load_table(str(folder)).source
    os.mkfifo(folder / ".huggingface.yaml")
    with pytest.raises(CuratorError, match=r"\.huggingface\.yaml is not a file; remove it"):
        load_table(str(folder))
    big = folder / "big.md"
    with open(big, "wb") as file:
        file.truncate(2**30)
    with pytest.raises(CuratorError, match="at most 16 MiB"):
        require_card(big, "big.md")


def test_files_of_rows_that_are_elsewhere(folder, tmp_path):
    """By a link, or as a saved dataset names them; a link inside the folder is fine, and a snapshot of the Hub's."""
    hf_dataset(40, 3).to_parquet(tmp_path / "private.parquet")
    (folder / "sub").mkdir()
    (folder / "train.parquet").rename(folder / "sub" / "rows.bin")
    (folder / "train.parquet").symlink_to("sub/rows.bin")
    assert load_table(str(folder)).source_rows == 30
    (folder / "train.parquet").unlink()
    (folder / "train.parquet").symlink_to(tmp_path / "private.parquet")
    with pytest.raises(CuratorError, match=r"pets: train\.parquet leads out of the dataset's folder"):
        load_table(str(folder))
    snapshot = tmp_path / "datasets--me--data" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "datasets--me--data" / "blobs").mkdir()
    (tmp_path / "private.parquet").rename(tmp_path / "datasets--me--data" / "blobs" / "1")
    (snapshot / "train.parquet").symlink_to("../../blobs/1")
    assert load_table(str(snapshot)).source_rows == 40
    saved, other = tmp_path / "saved", tmp_path / "other"
    DatasetDict({"train": hf_dataset(30, 3)}).save_to_disk(saved)
    hf_dataset(30, 3).save_to_disk(other)
    state = json.loads((saved / "train" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../../other/data-00000-of-00001.arrow"}]
    (saved / "train" / "state.json").write_text(json.dumps(state))
    with pytest.raises(CuratorError, match="leads out of the dataset's folder"):
        load_table(str(saved))


def described(path, feature: dict) -> None:
    """A parquet file whose metadata say something of the column label."""
    rows = pa.table({"label": [0, 1, 2] * 10, "e": [[0.5, 1.0]] * 30})
    features = datasets.Features({"label": ClassLabel(names=["a", "b", "c"]), "e": datasets.List(Value("float64"))})
    info = {"info": {"features": {**features.to_dict(), "label": {"_type": "ClassLabel", **feature}}}}
    pq.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(info)}), path)


@pytest.mark.parametrize("feature, words", [
    ({"names": [["a"], "b", "c"]}, r"column 'label': class 0: expected a name, found \['a'\]"),
    ({"names": [None, "b", "c"]}, "class 0: expected a name, found None"),
    ({"names": ["a", 2, "c"]}, "class 1: expected a name, found 2"),
    ({"names": ["\ud800", "b", "c"]}, r"class 0: expected a name that can be written as UTF-8, found '\\ud800'"),
    ({"names": ["x" * 10**6, "b", "c"]}, "class 0: expected a name of at most 10,000 characters, found 1,000,000"),
    ({"names": "abc"}, "expected a list of at most 100,000 class names, found abc"),
    ({"names": {"0": "a"}}, "could not be loaded"),
    ({"names": ["a", "a", "c"]}, "Some label names are duplicated"),
    ({"names": [[1], "[1]", "c"]}, "duplicated"),
    ({"names_file": "/etc/passwd"}, "could not be loaded"),
    ({"num_classes": 10**12}, "could not be loaded"),
])  # fmt: skip
def test_class_names_in_metadata(tmp_path, feature, words):
    (tmp_path / "rows").mkdir()
    described(tmp_path / "rows" / "train.parquet", feature)
    with pytest.raises(CuratorError, match=words):
        load_table(str(tmp_path / "rows"), features_only=True)


def test_labels_that_are_no_text(tmp_path):
    raw = pa.array([b"\xff\xfe", b"ok"] * 15)
    broken = pa.Array.from_buffers(pa.string(), 30, raw.cast(pa.binary()).buffers())
    pq.write_table(pa.table({"label": broken, "e": [[0.5]] * 30}), tmp_path / "train.parquet")
    with pytest.raises(CuratorError, match="--label-column label: expected UTF-8 text"):
        load_table(str(tmp_path), features_only=True)
    long = Dataset.from_dict({"label": ["x" * 20_000, "b"] * 15})
    with pytest.raises(CuratorError, match="--label-column label: class 1: expected a name of at most 10,000"):
        load_table(long, features_only=True)


@pytest.mark.parametrize("as_file", [False, True])
def test_rows_that_do_not_fit_the_memory(tmp_path, monkeypatch, as_file):
    """A million of them in a few kB; there is room for half."""
    monkeypatch.setattr("curator.sources.metadata.free_memory", lambda: 8 * 500_000)
    for n, fits in ((400_000, True), (10**6, False)):
        path = tmp_path / str(n) / "train.parquet"
        path.parent.mkdir()
        pq.write_table(pa.table({"label": np.arange(n) // (n // 4)}), path)
        assert path.stat().st_size < 20_000
        dataset = str(path if as_file else path.parent)
        if fits:
            assert load_table(dataset, features_only=True).source_rows == n
        else:
            with pytest.raises(
                CuratorError, match=r"train\.parquet: 1,000,000 rows that must be read at once take 0\.0"
            ):
                load_table(dataset, features_only=True)


def test_two_columns_of_one_name(tmp_path, capsys):
    schema = pa.schema([pa.field("label", pa.int64())] * 2)
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table([[0, 1] * 15, [1, 0] * 15], schema=schema), tmp_path / "in" / "train.parquet")
    words = ["clean", "--dataset", str(tmp_path / "in"), "--features-column", "e", "--output", str(tmp_path / "o")]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("train.parquet has two columns 'label'; rename one")


def test_no_name_of_a_stranger_acts_on_the_terminal(tmp_path, capsys):
    """In columns, classes and files: through the plan, an error, and the end of a run."""
    act, folder = "\x1b]0;x\x07\x9b2J\u202e", tmp_path / "rows\x1b[2J"
    names = [f"a{act}", f"b{act}"]
    rng = np.random.default_rng(0)
    rows = {f"e{act}": rng.normal(size=(40, 4)).tolist(), f"l{act}": [0, 1] * 20}
    ds = Dataset.from_dict(rows).cast_column(f"l{act}", ClassLabel(names=names))
    folder.mkdir()
    ds.to_parquet(folder / "train.parquet")
    argv = ["clean", "--dataset", str(folder), "--output", str(tmp_path / f"out{act}"), "--method", "linear"]
    assert main([*argv, "--features-column", f"e{act}"]) == 0
    assert main(["diff", str(tmp_path / f"out{act}"), str(tmp_path / f"out{act}")]) == 0
    assert main([*argv, "--features-column", f"l{act}", "--overwrite"]) == 2
    assert main([*argv, "--label-column", f"x{act}", "--features-column", "x", "--overwrite"]) == 2
    shown = "".join(capsys.readouterr())
    assert not [c for c in shown if not c.isprintable() and c not in "\n\r"], shown
    for file in ("README.md", "report/report.md"):
        text = (tmp_path / f"out{act}" / file).read_text()
        assert not [c for c in text if not c.isprintable() and c != "\n"]


def test_a_fault_of_ours_is_printed_safely(monkeypatch, capsys):
    def broken(argv):
        raise KeyError("\x1b[2J"[:4] + argv[0])

    monkeypatch.setitem(COMMANDS, "diff", broken)
    assert main(["diff", "\x1b"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "\x1b" not in err
