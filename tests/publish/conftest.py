"""A finished run with a test split and decisions of two reviewers, and a Hub on this machine."""

from contextlib import closing

import datasets
import numpy as np
import pytest
from datasets import ClassLabel

import curator
from curator.review.session import Session
from tests.conftest import hf_dataset, with_plots
from tests.hub import hub  # noqa: F401
from tests.review.serving import shown

K = 5


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run with a test split, and decisions of two reviewers on it."""
    folder = tmp_path_factory.mktemp("publish") / "out"
    rows = hf_dataset(200, K, share=0.4).cast_column("label", ClassLabel(names=[f"kind {i}" for i in range(K)]))
    rows = rows.remove_columns("true_label")
    ds = datasets.DatasetDict({"train": rows, "test": rows.select(range(30))})
    with with_plots():
        curator.curate(ds, method="ce", epochs=2, output=folder, flag_worst=80)
    for name in ("clean_score", "per_class", "training"):  # pictures that every push of a test would send
        (folder / "report" / f"{name}.png").unlink()
    session = Session([folder])
    with closing(session.journal):
        flagged = np.flatnonzero(~session.rows.selected).tolist()
        kept = np.flatnonzero(session.rows.selected).tolist()
        given = session.rows.given
        steps = [
            *([row, "keep", None] for row in flagged[:5]),
            *([row, "relabel", int(given[row] + 1) % K] for row in [*flagged[5:10], *kept[:3]]),
            *([row, "drop", None] for row in [*flagged[10:12], *kept[3:5]]),
            [flagged[12], "unsure", None],
            [kept[5], "relabel", int(given[kept[5]] + 1) % K],
        ]
        session.save({**shown(session), "steps": [{"key": "anns-step", "kind": "do", "rows": steps}]}, "ann")
        contested = [[kept[5], "keep", None]]
        session.save(
            {**shown(session, "ben"), "steps": [{"key": "bens-step", "kind": "do", "rows": contested}]},
            "ben",
        )
    return folder
