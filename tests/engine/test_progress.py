from types import SimpleNamespace

import pytest

from curator.engine import progress as module
from curator.engine.progress import Pace, progress, time_left


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when it is told to."""
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def test_the_pace_is_that_of_the_last_epochs(clock):
    """A warm-up of ten quick epochs, then slow ones: these count once they are there."""
    pace = Pace()
    assert pace.left(0.0) is None
    for share in (0.02 * e for e in range(1, 11)):
        clock.now += 1
        assert pace.left(share) == pytest.approx((1 - share) / 0.02)
        pace.mark(share)
    for share in (0.2 + 0.08 * e for e in range(1, 8)):
        clock.now += 10
        left = pace.left(share)
        pace.mark(share)
    assert left == pytest.approx((1 - share) / 0.008)
    assert [time_left(s) for s in (None, 4.2, 100, 7000)] == ["", ", 4 s left", ", 2 min left", ", 1 h 56 min left"]


def test_lines_say_the_epoch_and_the_time_that_is_left(clock, make_run):
    """The first soon, then one a minute; in a long epoch, too."""
    run, lines = make_run(), []
    entry = {"loss": 0.5, "selected": 0.75, "images_per_second": 1000.0}
    with progress(run, 4.0, 100, lambda: float(run.progress.get("train", 0)), lines.append) as bar:
        for _ in run.epochs(4):
            for _half in range(2):
                clock.now += 50
                run.count(50)
                run.steps.watch()
            bar.advance(entry)
            run.open_epoch()
    assert run.steps.watch is None
    assert lines[0] == " 12%  epoch 1 / 4, 6 min left"
    assert lines[1] == " 38%  epoch 2 / 4, 4 min left" and len(lines) == 4
