"""Models of the Hub: what is fetched, pinned and said, and every way in which it goes wrong."""

import errno
import json
import sys

import datasets
import numpy as np
import pytest
import torch
from accelerate import PartialState
from huggingface_hub import constants
from PIL import Image as Pil

from curator.config.flags import Settings
from curator.engine.encoders import Backbone
from curator.engine.pretrained import load_encoder
from curator.errors import CuratorError
from curator.sources import weights
from curator.sources.backbones import open_eyes
from curator.sources.inputs import Reader
from curator.sources.weights import fetch_weights
from tests.conftest import hf_dataset, load_table
from tests.hub import hub  # noqa: F401
from tests.sources.models import timm_files, timm_model, transformers_files

CPU = torch.device("cpu")
IMAGES = torch.randint(256, (3, 3, 40, 40), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def opened(name: str, rows=None, **settings):
    said = []
    table = load_table(rows if rows is not None else hf_dataset(6))
    found = open_eyes(Settings(backbone=name, net="mlp", **settings), table, CPU, "no", said.append)
    return found, said


def test_a_model_of_timm(hub):  # noqa: F811
    """Its features are those that timm computes of images prepared as its data config says."""
    import timm
    from safetensors.torch import load

    commit = hub.serve_model("timm/tiny", {**timm_files(), "pytorch_model.bin": b"code"})
    (eye,), said = opened("timm/tiny")
    assert said == [f"backbone  timm/tiny at commit {commit[:12]}, 32 px, license apache-2.0"]
    assert eye.facts() == {"given": f"timm/tiny@{commit}", "px": 32, "id": "timm/tiny", "revision": commit,
                           "license": "apache-2.0", "permissive": True}  # fmt: skip
    assert not any(".bin" in line for line in hub.seen)
    net = timm.create_model("test_vit", num_classes=0, img_size=32).eval()
    net.load_state_dict(load(timm_model()[1]))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
    with torch.no_grad():
        wanted = net((IMAGES[..., 4:36, 4:36] / 255 - mean) / std)
    torch.testing.assert_close(eye.backbone(IMAGES), wanted, rtol=1e-4, atol=1e-4)
    assert eye.size == (12, 12)  # as they are: scaled on the device
    large = hf_dataset(4, size=80)
    (again,), _ = opened(f"timm/tiny@{commit[:40]}", large)
    assert again.size == (40, 40) and again.access.decoder.scaling.resample == Pil.Resampling.BILINEAR
    assert again.backbone.fingerprint((40, 40)) == eye.backbone.fingerprint((40, 40))
    (other,), _ = opened("timm/tiny", image_size=64)
    assert other.backbone.side == 80 and other.backbone(IMAGES).shape == wanted.shape
    assert other.backbone.fingerprint((40, 40)) != eye.backbone.fingerprint((40, 40))


@pytest.mark.parametrize("kind, width", [("vit", 16), ("dinov2", 16), ("convnext", 24), ("clip", 12), ("siglip", 16)])
def test_a_model_of_transformers(hub, kind, width):  # noqa: F811
    """Its features are those of its own processor and model."""
    import transformers

    hub.serve_model("owner/eyes", transformers_files(kind))
    (eye,), _ = opened("owner/eyes", hf_dataset(2, size=80))
    image = Pil.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8).repeat(2, 0).repeat(2, 1))
    folder = eye.weights.folder
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    net = transformers.AutoModel.from_pretrained(folder).eval()
    pixels = processor(image, return_tensors="pt")["pixel_values"].float()
    with torch.no_grad():
        if kind in ("clip", "siglip"):
            wanted = net.get_image_features(pixel_values=pixels).pooler_output
        else:
            found = net(pixels)
            wanted = found.last_hidden_state[:, 0] if kind == "vit" else found.pooler_output
    seen = image.resize(eye.size, Pil.Resampling(eye.access.decoder.scaling.resample))
    features = eye.backbone(torch.from_numpy(np.array(seen)).permute(2, 0, 1)[None])
    assert features.shape == (1, width)
    torch.testing.assert_close(features, wanted, rtol=0.02, atol=0.02)


def test_it_is_pinned_and_goes_on_without_the_hub(hub, monkeypatch):  # noqa: F811
    """Another commit is another backbone; what is cached serves offline, at the commit that it has."""
    first = hub.serve_model("timm/tiny", timm_files())
    old = fetch_weights("timm/tiny")
    second = hub.serve_model("timm/tiny", timm_files(seed=1))
    assert fetch_weights(f"timm/tiny@{first}") == old and fetch_weights("timm/tiny").commit == second
    prints = [Backbone("x", CPU, "no", load_encoder(fetch_weights(f"timm/tiny@{c}").folder, "x")).fingerprint((8, 8))
              for c in (first, second)]  # fmt: skip
    assert prints[0] != prints[1]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_weights("timm/tiny").commit == second and fetch_weights(f"timm/tiny@{first}").commit == first
    with pytest.raises(
        CuratorError, match="auto .the default., timm/vit.*not in the cache.*cannot be reached: go online"
    ):
        opened("auto")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for status in (503, 0):  # it answers, but not that; the connection is cut
        hub.faults.clear()
        hub.fail("GET", "/api/models", status, times=100)
        assert fetch_weights("timm/tiny").commit == second


@pytest.mark.parametrize("license, shown, free", [
    ("mit", "mit", True), ("cc-by-nc-4.0", "cc-by-nc-4.0", False), (None, None, False),
    ("other\nlicense_name: apple-amlr", "apple-amlr", False), ("dinov3-license", "dinov3-license", False),
    ("[mit, x]", "mit, x", False), ("&a [*a, *a", None, False),
])  # fmt: skip
def test_licenses(hub, license, shown, free):  # noqa: F811
    hub.serve_model("timm/tiny", timm_files(license))
    found = fetch_weights("timm/tiny")
    assert (found.license, found.free) == (shown, free)
    assert free or f"are under {shown or 'a license that its card does not name'}" in found.warning()


def changed(**values):
    """The files of a tiny model whose config.json says something else."""
    files = timm_files()
    return files | {"config.json": json.dumps({**json.loads(files["config.json"]), **values}).encode()}


def pickled(**more):
    return {k: v for k, v in timm_files().items() if k != "model.safetensors"} | more


def texts(**more):
    return transformers_files("bert") | more


SHARDS = {"model-00001-of-00002.safetensors": b"x", "model.safetensors.index.json": b"{}"}
PROCESSOR = "preprocessor_config.json"
NO_EYE = "expected an encoder of images, found a bert model"
BROKEN = {
    "nothing": (lambda: {"x": b""}, "a repository without config.json"),
    "pickled": (lambda: pickled(**{"a.bin": b"x"}), "safetensors, found a.bin: no others are read"),
    "part of the shards": (lambda: pickled(**SHARDS), "expected weights in model.safetensors, found none"),
    "no JSON": (lambda: {**timm_files(), "config.json": b"{"}, "its config.json is none"),
    "no object": (lambda: {**timm_files(), "config.json": b"[]"}, "its config.json is no object"),
    "a newer timm": (lambda: changed(architecture="vit9"), "has no architecture 'vit9': pip install -U timm"),
    "another file": (lambda: changed(model_args={"checkpoint_path": "/etc/passwd"}), "sets checkpoint_path, which"),
    "damaged": (lambda: {**timm_files(), "model.safetensors": b"\0" * 100}, "are damaged"),
    "of another net": (lambda: {**timm_files(), "model.safetensors": timm_model("test_resnet")[1]}, "cannot be loaded"),
    "its own code": (lambda: {**timm_files(), "config.json": b'{"auto_map": {"AutoModel": "a.B"}}'}, "its own code"),
    "a newer transformers": (lambda: {**timm_files(), "config.json": b'{"model_type": "new"}'}, "transformers .'new'"),
    "texts": (texts, NO_EYE),
    "texts, with a processor": (lambda: texts(**{PROCESSOR: transformers_files("vit")[PROCESSOR]}), NO_EYE),
}  # fmt: skip


@pytest.mark.parametrize("files, words", BROKEN.values(), ids=BROKEN)
def test_repositories_that_do_not_fit(hub, files, words):  # noqa: F811
    hub.serve_model("owner/odd", files())
    whole = f"^--backbone owner/odd: .*({words}).*(another --backbone|check the name)"
    with pytest.raises(CuratorError, match=whole) as e:
        opened("owner/odd")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name, words", [
    ("owner/none", "the Hub has no model 'owner/none': check the name, log in"),
    ("owner/secret", "the Hub has no model 'owner/secret'"),
    ("owner/gated", "accept the conditions at https://huggingface.co/owner/gated and log in"),
    ("timm/tiny@v9", "no such branch, tag or commit"),
    ("timm/tiny/deep", "expected owner/name or owner/name@revision"),
    ("timm/tiny+timm/tiny", "expected different backbones"), ("timm/tiny+", "expected different backbones"),
])  # fmt: skip
def test_names(hub, name, words):  # noqa: F811
    hub.serve_model("timm/tiny", timm_files())
    hub.serve_model("owner/secret", timm_files(), private=True)
    hub.serve_model("owner/gated", timm_files(), gated=True)
    with pytest.raises(CuratorError, match=words):
        opened(name)


def test_no_space(hub, monkeypatch):  # noqa: F811
    hub.serve_model("timm/tiny", timm_files())
    with monkeypatch.context() as patch:
        patch.setattr(weights.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
        with pytest.raises(CuratorError, match="no space for its weights in .*GiB are needed.*HF_HOME"):
            fetch_weights("timm/tiny")

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(CuratorError, match="no space for its weights in .*No space left"):
        fetch_weights("timm/tiny")


def test_without_transformers(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CuratorError, match=r"not installed: pip install 'label-curator\[transformers\]'"):
        load_encoder(tmp_path, "owner/eyes")


def test_an_answer_that_is_cut(hub):  # noqa: F811
    hub.serve_model("timm/tiny", timm_files())
    hub.fail("GET", r"/resolve/.*config.json", 500, times=20)
    with pytest.raises(CuratorError, match="--backbone timm/tiny: its weights could not be fetched|cannot be reached"):
        fetch_weights("timm/tiny")


def test_two_backbones_side_by_side(hub):  # noqa: F811
    """Every feature has mean 0 and deviation 1 over the rows of the run; other rows are scaled alike."""
    hub.serve_model("timm/a", timm_files())
    hub.serve_model("timm/b", timm_files(architecture="test_resnet"))
    columns = hf_dataset(30).cast_column("image", datasets.Image(decode=False)).to_dict()
    columns["image"][4] = {"bytes": b"no image", "path": None}
    table = load_table(datasets.Dataset.from_dict(columns, features=hf_dataset(4).features))
    reader = Reader(Settings(backbone="timm/a + timm/b", net="mlp"), table, "no", PartialState(cpu=True), print)
    both = reader(table.data, table.rows, float("inf"))
    features = both.source(CPU).features
    widths = [eye.backbone(IMAGES).shape[1] for eye in reader.eyes]
    assert features.shape == (29, sum(widths)) and list(both.broken) == [4] and len(both.hashes) == 29
    torch.testing.assert_close(features.mean(0), torch.zeros(sum(widths)), atol=1e-4, rtol=0)
    varied = features.std(0, unbiased=False)
    assert (varied[:64] - 1).abs().max() < 1e-3  # of the other net some are constant
    assert all(abs(one - 1) < 1e-3 or one < 1e-3 for one in varied.tolist())
    part = reader(table.data.select(range(5, 9)), np.arange(5, 9), float("inf"))
    torch.testing.assert_close(part.source(CPU).features, features[4:8], atol=0.05, rtol=0.05)
    assert reader.fingerprint == "+".join(eye.fingerprint for eye in reader.eyes)
