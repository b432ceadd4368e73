"""The bench of sets drawn at random: what is drawn, its noise and its table; bench/drawn.py itself measures."""

import json

import numpy as np
import pytest

from bench import drawn


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two pools of made pictures, a few numbers of sets, and an empty page."""
    random = np.random.default_rng(0)
    truth = np.arange(800) % 10
    seen = (3 * np.eye(10, 64)[truth] + random.standard_normal((800, 64))).astype(np.float32)
    pixels = random.integers(0, 256, (800, 3, 16, 16)).astype(np.uint8)
    found = {"truth": truth, "lite0": seen, "lite2": seen[:, ::-1].copy(), "pixels": pixels}
    monkeypatch.setattr(drawn, "pool", lambda name: found)
    monkeypatch.setattr(drawn, "COUNT", 2)
    monkeypatch.setattr(drawn, "LINES", tmp_path / "drawn.jsonl")
    monkeypatch.setattr(drawn, "RESULTS", tmp_path / "RESULTS.md")
    drawn.finished.cache_clear()
    yield found
    drawn.finished.cache_clear()


def test_what_is_drawn(small):
    """The same set from the same number; every kind comes, of labels that all have rows."""
    kinds = set()
    for number in range(60):
        about, x, given, truth = drawn.drawn(number)
        assert len(x) == len(given) == len(truth) == about["rows"] and x.isfinite().all()
        assert set(truth) == set(range(about["classes"])) and set(given) <= set(truth)
        assert about["noise"] != "none" or np.array_equal(given, truth)
        kinds |= {about["noise"], about["features"]}
    assert kinds == {*drawn.NOISES, "lite0", "lite2", "components", "pixels"}
    again = drawn.drawn(59)
    assert again[0] == about and np.array_equal(again[2], given)


@pytest.mark.parametrize("noise", [noise for noise in drawn.NOISES if noise != "none"])
def test_noise_is_what_it_says(small, noise):
    truth = small["truth"]
    given = drawn.noisy(truth, noise, 0.3, small, 5)
    wrong = given != truth
    pairs = {(int(a), int(b)) for a, b in zip(truth[wrong], given[wrong], strict=True)}
    if noise in ("random", "next", "alike", "by image"):
        assert wrong.mean() == pytest.approx(0.3, abs=0.05)
    if noise in ("next", "one way"):
        assert all(b == (a + 1) % 10 for a, b in pairs) and len(pairs) == (10 if noise == "next" else 1)
    if noise == "bin":
        assert len({b for _, b in pairs}) == 1 and len(pairs) == 9
    if noise == "alike":
        assert len(pairs) == 10
    assert wrong.any() and np.array_equal(given, drawn.noisy(truth, noise, 0.3, small, 5))


def test_sets_and_their_table(small):
    drawn.work(0, 1)
    lines = [json.loads(line) for line in drawn.LINES.read_text().splitlines()]
    assert [line["number"] for line in lines] == [10_000, 10_001]
    assert all(set(line["methods"]) == {"posterior", "linear", "cleanlab", "k-NN"} for line in lines)
    drawn.finished.cache_clear()
    drawn.work(0, 1)  # what is there is not measured again
    assert len(drawn.LINES.read_text().splitlines()) == 2
    drawn.RESULTS.write_text("# Results\n\n## Before\n\ntext\n\n## After\n\nmore\n")
    drawn.render()
    first = drawn.RESULTS.read_text()
    drawn.render()
    assert drawn.RESULTS.read_text() == first and "## Before\n\ntext" in first and "## After\n\nmore" in first
    noisy = [line for line in lines if line["right"] < 1]
    accuracy = np.mean([line["methods"]["k-NN"]["label_accuracy_after"] for line in noisy])
    assert f"| all | {len(noisy)} |" in first and f"{accuracy:.3f}".lstrip("0") in first
