"""The claim of `make demo`, as a user runs it."""

import json
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_promix_beats_confident_on_digits(tmp_path):
    facts = {}
    for method in ("promix", "confident"):
        started = time.monotonic()
        argv = [sys.executable, "curator/clean.py", "--method", method, "--output", str(tmp_path / method)]
        subprocess.run(argv, cwd=ROOT, check=True)
        facts[method] = json.loads((tmp_path / method / "curation.json").read_text())
        assert time.monotonic() - started < 90
    promix, confident = facts["promix"]["metrics"], facts["confident"]["metrics"]
    assert promix["noisy_f1"] > confident["noisy_f1"]
    assert promix["label_accuracy_after"] >= 0.95
    assert promix["label_accuracy_before"] == confident["label_accuracy_before"] < 0.75
