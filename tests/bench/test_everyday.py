"""The bench of ordinary datasets: its noise, a cell and its tables; the measuring itself is bench/everyday.py."""

import json

import numpy as np
import pytest

from bench import everyday, everyday_sets
from bench.table import processor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of the bench in an empty folder."""
    monkeypatch.setattr(everyday_sets, "run_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(everyday, "LINES", tmp_path / "everyday.jsonl")
    monkeypatch.setattr(everyday, "RESULTS", tmp_path / "RESULTS.md")
    everyday_sets.features.cache_clear()
    yield tmp_path
    everyday_sets.features.cache_clear()


def test_noise_is_what_it_says(folder, monkeypatch):
    monkeypatch.setitem(everyday_sets.SETS, "digits", lambda: (everyday_sets.tumours()[0], np.arange(569) % 3))
    monkeypatch.setattr(everyday_sets, "NUMBERS", ("digits", "tumours"))
    truth = everyday_sets.features("digits", "numbers")[1]
    for noise, rate in (("none", 0), ("sym 15 %", 0.15), ("sym 40 %", 0.4), ("alike 30 %", 0.3)):
        given = everyday_sets.noisy_labels("digits", noise, 1)
        assert (given != truth).mean() == pytest.approx(rate, abs=0.002), noise
        assert np.array_equal(given, everyday_sets.noisy_labels("digits", noise, 1))
        other = everyday_sets.noisy_labels("digits", noise, 2)
        assert rate == 0 or not np.array_equal(given, other)
    alike = everyday_sets.noisy_labels("digits", "alike 30 %", 1)
    for c in range(3):  # to one other class only
        assert len(np.unique(alike[(truth == c) & (alike != truth)])) == 1
    one_way = everyday_sets.noisy_labels("digits", "one-way 40 %", 1)
    rates = [(one_way[truth == c] != c).mean() for c in range(3)]
    assert rates[1] == 0 and rates[::2] == pytest.approx([0.4, 0.4], abs=0.06)


def test_cells_are_of_all_sets_and_two_seeds():
    found = list(everyday.cells())
    assert len(found) == len(set(found)) and {cell.set for cell in found} == set(everyday_sets.SETS)
    assert {cell.seed for cell in found} == {1, 2}
    assert {cell.noise for cell in found if cell.set == "CIFAR"} >= {"none", "sym 15 %", "alike 30 %", "human worst"}


def test_a_cell_and_the_tables(folder, monkeypatch):
    """Two methods on one set, from the rows to the Markdown; a second rendering changes nothing."""
    monkeypatch.setattr(everyday, "SETS", ("tumours",))
    everyday.work(["linear", "k-NN", "posterior"], 0, 1)
    rows = [json.loads(line) for line in everyday.LINES.read_text().splitlines()]
    assert len(rows) == 5 * 2 * 4  # noises, seeds, methods
    everyday.work(["linear", "k-NN"], 0, 1)
    assert len(everyday.LINES.read_text().splitlines()) == len(rows)  # what is there is not measured again
    row = next(r for r in rows if (r["method"], r["noise"], r["seed"]) == ("posterior", "sym 15 %", 1))
    assert row["auroc"] > 0.95 and row["label_accuracy_after"] > row["label_accuracy_before"] == pytest.approx(
        0.851, abs=1e-3
    )
    assert sum(count for count, _ in row["reliability"]) == 569 and len(row["by_size"]) == 3
    everyday.RESULTS.write_text("# Results\n\n## Before\n\ntext\n\n## After\n\nmore\n")
    everyday.render()
    first = everyday.RESULTS.read_text()
    everyday.render()
    assert everyday.RESULTS.read_text() == first
    assert "## Before\n\ntext" in first and "## After\n\nmore" in first
    assert f"`bench/everyday.py`, {processor()}, " in first and ": 5 cells (a set, its features, a noise)" in first
    assert "| `posterior` (default) |" in first and "| `promix` | not measured |" in first
    assert "tumours, numbers, sym 15 % (0.851)" in first
