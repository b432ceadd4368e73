"""What a result tells of the machine it was made on: nothing that anybody needs not know."""

import io
import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from curator.cli.main import main
from curator.result.provenance import without_places
from tests.conftest import planted_images


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A version of a run with an absolute path in every flag that takes one, on rows of an archive."""
    from PIL import Image as Pil

    base = tmp_path_factory.mktemp("anns-home")
    photos, out = base / "photos", base / "runs" / "out"
    photos.mkdir()
    images, truth = planted_images(40, 2, size=8)
    with tarfile.open(photos / "a.tar", "w") as archive:
        for i, (pixels, label) in enumerate(zip(images, truth, strict=True)):
            file = io.BytesIO()
            Pil.fromarray(pixels).save(file, "PNG")
            for suffix, content in (("png", file.getvalue()), ("cls", str(label).encode())):
                entry = tarfile.TarInfo(f"{i:04d}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    np.save(base / "probs.npy", np.eye(2, dtype=np.float32)[(truth + (truth + np.arange(40)) % 5 // 4) % 2])
    (base / "mine.yaml").write_text("method: confident\n")
    (base / "checked.csv").write_text("row,label\n0,0\n1,1\n")
    paths = {
        "dataset": photos, "data-dir": base, "output": out, "recipe": base / "mine.yaml",
        "trusted": base / "checked.csv", "pred-probs": base / "probs.npy",
    }  # fmt: skip
    assert main(["clean", *(f"--{name}={path}" for name, path in paths.items()), "--label-column", "cls"]) == 0
    for form in ("parquet", "imagefolder"):
        assert main(["publish", str(out), str(base / form), "--policy", "annotate", "--format", form]) == 0
    return base


@pytest.mark.parametrize("form", ["parquet", "imagefolder", "runs/out"])
def test_no_path_of_this_machine_goes_out(published, form):
    here = str(published.parent)
    files = [path for path in (published / form).rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert here.encode() not in path.read_bytes(), path
        if path.suffix == ".parquet":
            assert here not in str(pq.read_table(path).to_pylist()), path
    facts = json.loads((published / form / "curation.json").read_text())
    assert facts["dataset"] == facts["name"] == facts["settings"]["dataset"] == "photos"
    assert facts["settings"]["verified"] == "checked.csv" and "--verified checked.csv" in facts["command"]
    assert facts["settings"]["pred_probs"] == "probs.npy" and facts["settings"]["data_dir"] == published.name


def test_rows_of_an_archive_name_it_in_the_folder(published):
    table = pq.read_table(next((published / "parquet" / "data").iterdir()))
    assert set(table["__url__"].to_pylist()) == {"a.tar"}


def test_names_that_are_no_paths_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checked.csv").touch()
    settings = {
        "dataset": "owner/name", "backbone": "timm/resnet18", "trusted": "0.1", "label_column": "/label", "seed": 1,
        "data_dir": None, "output": "./a/b/", "recipe": "digits-promix:small", "method.ce.pred_probs": "~/p.npy",
    }  # fmt: skip
    named = {**settings, "output": "b", "method.ce.pred_probs": "p.npy"}
    assert without_places(settings) == named
    assert without_places({"trusted": "checked.csv", "data_dir": "."}) == {
        "trusted": "checked.csv", "data_dir": tmp_path.name
    }  # fmt: skip
