import threading

import pytest

from curator.engine import run as running
from curator.engine.pair import Pair
from tests.conftest import noisy


@pytest.mark.parametrize("apart", [False, True])
def test_both_are_called_and_errors_come_through(apart):
    pair = Pair(apart)
    assert [i for i, _ in pair(lambda i: (i, threading.get_ident()))] == [0, 1]
    assert (len({name for _, name in pair(lambda i: (i, threading.get_ident()))}) == 2) == apart
    for broken in (0, 1):
        with pytest.raises(ZeroDivisionError):
            pair(lambda i, broken=broken: 1 / (i - broken))


def test_nets_go_apart_on_features_where_there_are_two_cores(make_run, monkeypatch):
    features, _ = noisy(20, 3, kind="features")
    images, _ = noisy(20, 3)
    monkeypatch.setattr(running, "threads_per_process", lambda: 2)
    assert make_run().pair(features.inputs).pool is not None
    assert make_run().pair(images.inputs).pool is None
    assert make_run(compile=True).pair(features.inputs).pool is None
    monkeypatch.setattr(running, "threads_per_process", lambda: 1)
    assert make_run().pair(features.inputs).pool is None
