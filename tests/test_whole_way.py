"""A new user's whole way: the demo's run, decisions, a version, and training on it."""

import shutil

import datasets
import numpy as np
import pytest
import torch

from curator.cli.main import main
from tests.hub import hub  # noqa: F401


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's run, of fewer epochs."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    assert main(["clean", "--method.epochs", "5", "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("target", ["folder", "hub"])
def test_from_the_demo_to_training(target, demo, hub, tmp_path, capsys):  # noqa: F811
    run, decided = shutil.copytree(demo, tmp_path / "run"), tmp_path / "ann.csv"
    rows = datasets.load_dataset(str(run), split="train").with_format("numpy")[:]
    first = np.argsort(rows["clean_score"], kind="stable")[:30]
    decided.write_text("row,label\n" + "".join(f"{rows['row'][i]},{rows['true_label'][i]}\n" for i in first))
    assert main(["import", str(run), str(decided)]) == 0
    where = str(tmp_path / "curated") if target == "folder" else "me/digits-curated"
    assert main(["publish", str(run), where]) == 0
    assert main(["diff", str(run), where]) == 0
    assert "labels      0 of" not in capsys.readouterr().out

    data = datasets.load_dataset(where, split="train")
    labels = data.with_format("numpy")["label"][:]
    assert (labels[first] == rows["true_label"][first]).all()
    assert data["original_label"][:] == rows["label"].tolist()
    assert (labels == rows["true_label"]).mean() > (rows["label"] == rows["true_label"]).mean()

    # One epoch, as anybody would train on a dataset of the Hub; on clean rows only, tested on all.
    def tensors(part: datasets.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
        images = np.stack([np.asarray(image, np.float32) for image in part["image"]])
        return torch.from_numpy(images).flatten(1) / 255, torch.tensor(part["label"][:])

    clean = datasets.load_dataset(where, "clean", split="train")
    images, classes = tensors(clean)
    torch.manual_seed(0)
    net = torch.nn.Linear(images.shape[1], 10)
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for batch in torch.randperm(len(images)).split(16):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(images[batch]), classes[batch]).backward()
        optimiser.step()
    everything, _ = tensors(data)
    guess = net(everything).argmax(1).numpy()
    assert (guess == rows["true_label"]).mean() > 0.8
