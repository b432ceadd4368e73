"""Errors planted in images; that every method finds them in features is in test_contract.py."""

import pytest

from curator.methods import METHODS
from tests.methods.test_contract import plant_and_find

FAST = ("bootstrap", "mixup")  # images take ten times as long, and what differs is the nets' and the views'


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in sorted(METHODS)]
)
def test_finds_planted_errors(method, make_run):
    plant_and_find(method, "images", make_run(net="small"))
