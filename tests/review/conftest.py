import pytest
from datasets import ClassLabel

import curator
from tests.conftest import hf_dataset
from tests.hub import hub  # noqa: F401
from tests.review.serving import HOSTILE

PRECISION = "bf16"  # of runs whose figures tests look at: what a processor takes by itself, its kind decides


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run of 400 rows and 5 classes: half of the labels are wrong, 150 rows are flagged."""
    folder = tmp_path_factory.mktemp("review") / "out"
    data = hf_dataset(400, 5, share=0.5)
    curator.curate(data, method="ce", epochs=1, output=folder, flag_worst=150, mixed_precision=PRECISION)
    return folder


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory):
    """The same with class names that want to be more than names."""
    folder = tmp_path_factory.mktemp("review") / "hostile"
    ds = hf_dataset(400, 5, share=0.5).remove_columns("true_label").cast_column("label", ClassLabel(names=HOSTILE))
    curator.curate(ds, method="ce", epochs=1, output=folder, flag_worst=150)
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A finished run on the digits, 30 % of their labels wrong."""
    folder = tmp_path_factory.mktemp("digits") / "digits-ce"
    curator.curate("digits", method="ce", epochs=15, output=folder, mixed_precision=PRECISION)
    return folder
