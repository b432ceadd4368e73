import atexit
import inspect
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Before any import of these libraries: no network, and nothing in the user's own caches.
CACHES = tempfile.mkdtemp(prefix="curator-tests-")
atexit.register(shutil.rmtree, CACHES, ignore_errors=True)
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": f"{CACHES}/hf",
    "XDG_CACHE_HOME": CACHES,
    "HYPOTHESIS_STORAGE_DIRECTORY": f"{CACHES}/hypothesis",
    "GRADIO_ANALYTICS_ENABLED": "False",
}

# A worker of pytest-xdist has a core to itself: threads of two of them on the same cores would wait for each other.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

import numpy as np
import pytest
import torch

from curator.engine.run import Run
from curator.engine.source import Features as FeatureRows
from curator.engine.source import Resident
from curator.engine.views import Views
from curator.evidence import NoisyDataset

ROOT = Path(__file__).parent.parent
BARE = find_spec("datasets") is None  # a GPU machine, where tests/test_gpu.py alone runs
# Files with the longest tests. They come first: two workers then end with short ones, and so at the same time.
LONG = (
    "test_processes.py", "review/test_browser.py", "review/test_server.py", "review/test_publish_page.py",
    "test_whole_way.py", "test_frozen.py", "test_cli.py", "methods/test_images.py", "methods/test_contract.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by file, LONG first."""
    place = {ROOT / "tests" / name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of measuring data; tests that need it skip visibly without it."""
    folder = os.environ.get("CURATOR_DATA")
    if not folder or not (Path(folder) / "cifar10").is_dir():
        pytest.skip("CURATOR_DATA does not name the measuring data")
    return Path(folder).resolve()


def planted_images(n: int, k: int, seed: int = 0, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, size, size, 3) uint8 of k easily told classes, and their true classes (n,)."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % k
    patterns = rng.integers(0, 256, (k, size, size, 3))
    images = 0.7 * patterns[truth] + 0.3 * rng.integers(0, 256, (n, size, size, 3))
    return images.astype(np.uint8), truth


def with_errors(truth: np.ndarray, k: int, share: float, seed: int = 1) -> np.ndarray:
    """Labels of which a share is moved to another class."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(truth), int(share * len(truth)), replace=False)
    labels = truth.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, k, len(wrong))) % k
    return labels


def noisy(
    n: int,
    k: int,
    labels: np.ndarray | None = None,
    *,
    kind: str = "images",
    share: float = 0.2,
    trusted=None,
    device="cpu",
    seed: int = 0,
    size: int = 8,
):
    """A planted NoisyDataset, and the truth beside it."""
    images, truth = planted_images(n, k, seed, size)
    labels = with_errors(truth, k, share, seed) if labels is None else labels
    if kind == "images":
        inputs = Resident(torch.from_numpy(images).permute(0, 3, 1, 2), device)
    else:
        rng = np.random.default_rng(seed)
        centres = rng.normal(0, 1, (k, 16))
        inputs = FeatureRows(torch.from_numpy(centres[truth] + 0.4 * rng.normal(0, 1, (n, 16))), device)
    mask = torch.zeros(n, dtype=torch.bool) if trusted is None else torch.from_numpy(trusted)
    classes = tuple(f"class {i}" for i in range(k))
    return NoisyDataset(inputs, torch.from_numpy(labels.astype(np.int64)), classes, mask, torch.arange(n)), truth


def hf_dataset(n: int = 60, k: int = 3, share: float = 0.2, size: int = 12):
    """A small image Dataset with wrong labels and its truth."""
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Pil

    images, truth = planted_images(n, k, size=size)
    names = [f"class {i}" for i in range(k)]
    features = Features({"image": Image(), "label": ClassLabel(names=names), "true_label": ClassLabel(names=names)})
    rows = {
        "image": [Pil.fromarray(i) for i in images],
        "label": with_errors(truth, k, share).tolist(),
        "true_label": truth.tolist(),
    }
    return Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="session", autouse=True)
def no_default_backbone():
    """Runs of this process on folders and Datasets train from scratch: they are quick, and need no weights."""
    with pytest.MonkeyPatch.context() as patch:
        if not BARE:
            patch.setattr("curator.config.defaults.BACKBONE", None)
        yield


@contextmanager
def with_plots() -> Iterator[None]:
    """Inside, runs of this process draw their plots and measure their speed, as users have it."""
    from curator.methods.timing import expected_seconds
    from curator.result.plots import draw

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curator.result.report.draw", draw)
        patch.setattr("curator.train.expected_seconds", expected_seconds)
        yield


@pytest.fixture(scope="session", autouse=True)
def without_plots():
    """Runs of this process draw no plots and measure no speed, which would take most of the time of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        if not BARE:
            patch.setattr("curator.result.report.draw", lambda *args: [])
            patch.setattr("curator.train.expected_seconds", lambda *args: 1.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def made_once():
    """What every run and command of this process would make anew, and is the same: a tenth of the time of all tests.

    That is the compiled template of cards, the source of the classes that hold flags, certificates of the machine.
    """
    find, find_of_class = inspect.findsource, cache(inspect.findsource)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspect.findsource", lambda of: find_of_class(of) if isinstance(of, type) else find(of))
        patch.setattr("ssl.create_default_context", cache(ssl.create_default_context))
        if not BARE:
            from jinja2 import Environment

            patch.setattr(Environment, "from_string", cache(Environment.from_string))
        yield


def load_table(dataset, *, features_only: bool = False, trusted=None, **settings):
    """The table of a name, folder or Dataset under some settings; features_only: rows without images will do."""
    from curator.config.flags import Settings
    from curator.sources.load import load

    named = isinstance(dataset, str)
    given = {"seed": 0, "net": "small", "verified": trusted, **settings}
    given |= {"features_column": "features"} if features_only else {}
    return load(Settings(dataset=dataset if named else "dataset", **given), None if named else dataset, float("inf"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A finished run of 40 rows, of which two are trusted and two alike."""
    import curator

    folder = tmp_path_factory.mktemp("small")
    data = hf_dataset(40, 3).select([*range(39), 0])
    labels = data["label"][:]
    labels[39] = (labels[0] + 1) % 3
    data = data.remove_columns("label").add_column("label", labels, feature=hf_dataset(3).features["label"])
    (folder / "trusted.csv").write_text(f"row,label\n3,{labels[3]}\n4,{(labels[4] + 1) % 3}\n")
    curator.curate(
        data, method="ce", epochs=1, output=folder / "run", verified=str(folder / "trusted.csv"),
        reference_column="true_label",
    )  # fmt: skip
    assert (folder / "run" / "trusted.parquet").exists() and (folder / "run" / "duplicates.parquet").exists()
    return folder / "run"


@contextmanager
def without_gpu() -> Iterator[None]:
    """The machine as one without an accelerator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curator.engine.hardware.no_accelerator", lambda: True)
        yield


@contextmanager
def cpu_runs() -> Iterator[Callable[..., Run]]:
    """Makes runs on the CPU with one thread, so that tests are quick and alike everywhere."""
    before = torch.get_num_threads()
    with without_gpu():
        yield lambda **settings: Run(
            **{"seed": 7, "mixed_precision": "no", "threads": 1, "views": Views(flip=False), **settings}
        )
    torch.set_num_threads(before)


@pytest.fixture
def no_gpu():
    """The test as on a machine without an accelerator."""
    with without_gpu():
        yield


@pytest.fixture
def make_run():
    """As cpu_runs gives them."""
    with cpu_runs() as make:
        yield make


def image_folder(folder: Path, n: int = 30, k: int = 3, size: int = 12) -> Path:
    """An imagefolder train/NAME/i.png and test/NAME/i.png."""
    from PIL import Image as Pil

    for split, seed, count in (("train", 0, n), ("test", 5, max(k, n // 3))):
        images, truth = planted_images(count, k, seed=0 if split == "train" else seed, size=size)
        for i, (pixels, c) in enumerate(zip(images, truth, strict=True)):
            path = folder / split / f"kind{c}" / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pil.fromarray(pixels).save(path)
    return folder
