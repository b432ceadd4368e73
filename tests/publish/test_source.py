"""A pull request to the dataset that a run was made of: label cells change and nothing else."""

import io
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Image
from huggingface_hub import CommitOperationAdd, HfApi

import curator
from curator.cli.main import main
from curator.review.session import Session
from tests.conftest import hf_dataset
from tests.review.serving import shown

FILES = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"]
NAMES = ["cat", "dog | <b>", "fox"]


def rows():
    return hf_dataset(60, 3, 0.3).remove_columns("true_label").cast_column("label", ClassLabel(names=NAMES))


def parquet(part) -> bytes:
    """As the owner has written it: other row groups, another compression, and a column that no Curator knows."""
    table = part.cast_column("image", Image(decode=False)).with_format("arrow")[:]
    table = table.append_column("note", pa.array([f"n{i}" for i in range(len(table))], pa.large_string()))
    table = table.replace_schema_metadata({**(part.features.arrow_schema.metadata or {}), b"mine": b"kept"})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=7, compression={"label": "GZIP"}, use_dictionary=["note"])
    return out.getvalue()


def upload(files: dict[str, bytes]) -> None:
    HfApi().create_repo("me/source", repo_type="dataset", exist_ok=True)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    HfApi().create_commit("me/source", operations, commit_message="rows", repo_type="dataset")


def decide(folder, *acts, key: str = "anns-step"):
    session = Session([folder])
    with closing(session.journal):
        step = {"key": key, "kind": "do", "rows": list(acts)}
        assert session.save({**shown(session), "steps": [step]}, "ann")["saved"]
        return session.rows


def content(hub, at: str) -> dict[str, bytes]:
    repo = hub.repos["me/source"]
    return {path: hub.objects[oid] for path, oid in repo.commits[repo.find(at)].items()}


def test_label_cells_of_parquet(hub, tmp_path, capsys):
    ds = rows()
    before = {f: parquet(ds.select(part)) for f, part in zip(FILES, (range(40), range(40, 60), range(9)), strict=True)}
    upload(before)
    out = tmp_path / "out"
    curator.curate("me/source", method="ce", epochs=1, flag_worst=20, seed=1, output=out)
    argv = ["publish", str(out), "me/source", "--create-pr"]
    assert main(argv) == 2 and "nobody has given a row another label" in capsys.readouterr().err
    given = ds["label"]
    changes = {i: (given[i] + 1) % 3 for i in (0, 8, 39)}
    run = decide(out, *([i, "relabel", c] for i, c in changes.items()), [41, "drop", None], [42, "keep", None])
    assert main([*argv, "--dry-run"]) == 0
    assert "3 labels in 1 of 2 files" in capsys.readouterr().err and not hub.repos["me/source"].pulls
    assert main(argv) == 0 and "pull request: http" in capsys.readouterr().err
    after = content(hub, "refs/pr/1")
    assert {path for path in before if after[path] != before[path]} == {FILES[0]} and after.keys() == before.keys()
    old, new = (pq.ParquetFile(io.BytesIO(files[FILES[0]])) for files in (before, after))
    assert new.schema_arrow.equals(old.schema_arrow, check_metadata=True)
    groups = [[f.metadata.row_group(i).num_rows for i in range(f.metadata.num_row_groups)] for f in (old, new)]
    assert groups[0] == groups[1] == [7, 7, 7, 7, 7, 5]
    for name in old.schema_arrow.names:
        was, now = old.read([name]).column(0).to_pylist(), new.read([name]).column(0).to_pylist()
        assert [i for i in range(40) if was[i] != now[i]] == ([*changes] if name == "label" else []), name
    assert {i: new.read(["label"]).column(0)[i].as_py() for i in changes} == changes
    kinds = [
        {c["path_in_schema"]: c["compression"] for c in f.metadata.row_group(0).to_dict()["columns"]}
        for f in (old, new)
    ]
    assert kinds[0] == kinds[1]

    repo = hub.repos["me/source"]
    (text,), ((number, pictures),) = repo.descriptions, repo.comments
    assert "3 of 60 labels (5.0 %) of split train" in text and "| ann | 3 |" in text and "drop 1 rows" in text
    assert "## The first 3 changed rows" in text and text.count("dog \\| &lt;b&gt;") >= 2 and "<b>" not in text
    assert number == 1 and pictures.count("![row ") == 3 and "| ann |" in pictures
    address = pictures.partition("(")[2].partition(")")[0]
    commit, _, path = address.partition("/resolve/")[2].partition("/")
    assert content(hub, commit)[path][:3] == b"\xff\xd8\xff" and path == ".label-curator/0.jpg"

    # With the method's own labels too, where it is asked for.
    sure = int(((run.confidence >= 0.5) & (run.suggested != run.given)).sum())
    assert main([*argv, "--min-confidence", "0.5"]) == 0
    text = repo.descriptions[-1]
    assert ("nobody: the method alone was sure" in text) == (sure > 0)

    # The source has moved on: a label, and a picture.
    moved = {**before, FILES[0]: parquet(ds.select([1, *range(1, 40)]))}
    labels = np.array(given)
    upload({FILES[0]: moved[FILES[0]]})
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "row 0 " in said and "it has changed since the run was made" in said
    assert (labels[0] != labels[1]) == ("another label" in said)
    assert len(repo.descriptions) == 2


def test_folders_of_classes(hub, tmp_path, capsys):
    from tests.conftest import image_folder

    folder = image_folder(tmp_path / "pics", 18, 3)
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    upload({p.relative_to(folder).as_posix(): p.read_bytes() for p in paths})
    out = tmp_path / "out"
    curator.curate("me/source", method="ce", epochs=1, flag_worst=5, output=out)
    with closing(Session([out]).journal) as journal:
        rows = Session([out]).rows
        names = rows.classes
        other = next(c for c in range(3) if c != rows.given[4])
        journal.save([{"key": "anns-step", "kind": "do", "rows": [(4, "relabel", names[other])]}], "ann")
    before = content(hub, "main")
    assert main(["publish", str(out), "me/source", "--create-pr"]) == 0
    after = content(hub, "refs/pr/1")
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    (old,), (now,) = gone, new
    assert after[now] == before[old] and now.split("/")[-3] == old.split("/")[-3] == "train"
    assert (old.split("/")[-2], now.split("/")[-2]) == (names[rows.given[4]], names[other])
    assert main(["publish", str(out), "me/source", "--create-pr", "--branch", "b"]) == 2
    assert "--branch" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["me/other", "somebody/source"])
def test_another_repository_gets_a_version(small_run, name, capsys):
    from curator.publish.source import is_source

    assert not is_source(small_run, name)
