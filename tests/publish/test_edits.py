"""Labels edited in a published version on the Hub come back to the run."""

import io
import shutil
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, hf_hub_download

from curator.cli.main import main
from curator.decisions.journal import Journal
from curator.publish.edits import is_version

FILE = "data/train-00000-of-00001.parquet"


def edit(repo: str, changes: dict[int, int], **options) -> dict[int, int]:
    """What the viewer does: some cells of a file are others, in a commit; the labels that stood there."""
    table = pq.read_table(hf_hub_download(repo, FILE, repo_type="dataset"))
    labels = table["label"].to_pylist()
    before = {row: labels[row] for row in changes}
    for row, label in changes.items():
        labels[row] = label
    place = table.column_names.index("label")
    out = io.BytesIO()
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(labels, pa.int64())), out)
    HfApi().upload_file(path_or_fileobj=out.getvalue(), path_in_repo=FILE, repo_id=repo, repo_type="dataset", **options)
    return before


def test_edits_come_back_once(run, hub, tmp_path, capsys):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    (copied / "review.sqlite").unlink()  # nobody has decided anything
    argv = ["import", str(copied), "me/curated"]
    assert main(argv) == 2 and "me/curated" in capsys.readouterr().err  # it is not there
    assert main(["publish", str(copied), "me/curated", "--policy", "annotate"]) == 0
    assert main(["publish", str(copied), "me/curated", "--policy", "relabel", "--min-confidence", "0"]) == 0
    assert main(argv) == 2 and "no label differs from the version that was pushed" in capsys.readouterr().err
    table = pq.read_table(hf_hub_download("me/curated", FILE, repo_type="dataset")).to_pydict()
    given, now = table["original_label"], table["label"]
    changed = next(i for i in range(200) if given[i] != now[i])
    same = next(i for i in range(200) if given[i] == now[i])
    before = edit("me/curated", {changed: given[changed], same: (given[same] + 1) % 5})
    assert before == {changed: now[changed], same: now[same]}
    for _ in range(2):
        assert main(argv) == 0 and "1 rows kept, 1 relabelled" in capsys.readouterr().out
    with closing(Journal(copied / "review.sqlite")) as journal:
        said = {row: (d.action, d.label) for row in journal.log(0) if (d := journal.decision(row, "me/curated"))}
        assert said == {changed: ("keep", f"kind {given[changed]}"), same: ("relabel", f"kind {(given[same] + 1) % 5}")}
        assert len(journal.log(0)) == 2  # the second time there was nothing new
    edit("me/curated", {same: 0 if given[same] else 2}, create_pr=True)
    assert main([*argv[:2], "me/curated@refs/pr/1", "--reviewer", "eve"]) == 0
    repo = hub.repos["me/curated"]
    repo.tags.clear()
    assert main(argv) == 2 and "no tag of me/curated has the same curation.json" in capsys.readouterr().err


def test_a_version_of_other_rows(run, small_run, hub, capsys):
    assert main(["publish", str(small_run), "me/small", "--policy", "annotate"]) == 0
    assert main(["import", str(run), "me/small@v1"]) == 2
    assert "it is a version of other rows" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "expected"), [
    ("me/data", True), ("me/data@v1", True), ("me/data@refs/pr/1", True), ("decisions.csv", False), ("data", False),
    ("sub/decisions.csv", False), ("./me/data", False), ("/me/data", False), ("a/b/c", False),
])  # fmt: skip
def test_what_is_a_version(name, expected):
    assert is_version(name) == expected
