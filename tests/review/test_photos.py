"""Photos with planted errors, from the encoder to the page; README's picture is made here."""

import os
from pathlib import Path

import datasets
import numpy as np
import pytest

import curator
from tests.conftest import with_errors
from tests.review.serving import browsing, ready, saved, serving


@pytest.mark.slow
def test_wrong_labels_of_photos_are_on_the_first_page(data_dir, tmp_path):
    """CURATOR_PICTURES=docs python -m pytest -m slow tests/review/test_photos.py: docs/photos.jpg."""
    pytest.importorskip("efficientnet_lite_pytorch")
    if not (data_dir / "clothing").is_dir():
        pytest.skip("CURATOR_DATA has no photos of garments")
    photos = datasets.load_dataset(str(data_dir / "clothing"), split="train").shuffle(seed=1).select(range(500))
    truth = np.array(photos["label"])
    wrong = with_errors(truth, photos.features["label"].num_classes, 0.1)
    feature = photos.features["label"]
    photos = photos.remove_columns("label").add_column("label", wrong.tolist()).cast_column("label", feature)
    settings = {
        "backbone": "bench.backbones:efficientnet_lite0",
        "method.strength": 0.003,
        "method.rounds": 0,
        "method.folds": 3,
        "output": tmp_path / "garments",
    }
    curated = curator.curate(photos, image_column="image", label_column="label", **settings)
    with browsing() as page, serving(tmp_path / "garments", "--reviewer", "ann") as server:
        ready(page, server.address)
        page.wait_for_function(
            "[...document.querySelectorAll('.cr-card img')].slice(0, 14).every((i) => i.naturalWidth)"
        )
        rows = page.eval_on_selector_all(".cr-card", "cards => cards.map((c) => Number(c.dataset.row))")
        assert np.mean(wrong[rows[:40]] != truth[rows[:40]]) > 0.6
        suggested = np.array(curated["corrected_label"])
        for row in rows[:9]:
            page.keyboard.press("Enter" if suggested[row] == truth[row] else "k" if wrong[row] == truth[row] else "u")
        saved(page)
        if folder := os.environ.get("CURATOR_PICTURES"):
            page.evaluate("window.scrollTo(0, 0)")
            page.wait_for_timeout(500)
            page.screenshot(path=Path(folder) / "photos.jpg", type="jpeg", quality=82)
