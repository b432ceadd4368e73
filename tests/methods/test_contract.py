"""What every method of METHODS keeps to."""

import dataclasses
import shutil
import typing
from typing import Any

import numpy as np
import pytest
import torch

from curator.engine.run import Run
from curator.errors import CuratorError
from curator.evidence import Evidence
from curator.methods import METHODS
from tests.conftest import cpu_runs, noisy

QUICK = {"epochs": 6, "batch_size": 32}
# Methods of several phases: all of them within three epochs.
PHASES: dict[str, dict[str, Any]] = {
    "promix": {"warmup": 1, "gamma_ramp": 1, "lambda_u_ramp": 2, "lga_epochs": 2, "tau": 0.9},
    "dividemix": {"batch_size": 16, "warmup_batch": 32, "warmup": 1, "lambda_u": 1.0, "loss_history": 2},
    "bootstrap": {"warmup": 1, "first_drop": 3},
    "pudistill": {
        "teacher_epochs": 3,
        "pu_epochs": 6,
        "pu_drop": 5,
        "rounds": 2,
        "classifiers": 2,
        "votes": 2,
        "teachers": 2,
        "pu_batch": 16,
        "pu_lr": 0.05,
        "first_drop": 4,
    },
    "elr": {"restart": 2, "lambda_ramp": 2},
    # SOP+; u and v grow by a factor whenever their row is seen, which here is seldom.
    "sop": {"first_drop": 2, "second_drop": 3, "rate_u": 100.0, "rate_v": 100.0, "consistency": 0.9, "balance": 0.1},
    "cpc": {"batch_size": 16, "warmup_batch": 32, "warmup": 1, "lambda_u": 1.0, "cpc_warmup": 1, "cpc_alpha": 0.5},
}


def build(name, **changes):
    settings = {**QUICK, **PHASES.get(name, {}), **changes}
    known = {field.name for field in dataclasses.fields(METHODS[name])}
    return METHODS[name](**{field: value for field, value in settings.items() if field in known})


def fit(name, data, truth):
    """The data as the method takes it: pudistill needs verified rows of every class."""
    if name != "pudistill":
        return data
    trusted, count = data.trusted.clone(), max(6, len(data) // (8 * len(data.classes)))
    for c in range(len(data.classes)):
        trusted[torch.from_numpy((truth == c).nonzero()[0][:count])] = True
    labels = torch.where(trusted & ~data.trusted, torch.from_numpy(truth), data.labels)
    return dataclasses.replace(data, labels=labels, trusted=trusted)


def result(name, data, run, **changes):
    for found in build(name, **changes)(data, run):  # noqa: B007 (the last one is the result)
        run.close_epoch()
        run.checkpoint()
    return found.check(data)


# Methods of many steps: on features one takes a tenth of the time. Tests of their own train them on images.
ON_FEATURES = ("confident", "cpc", "pudistill")


def small(name, *planted, **settings):
    """The method's data of few rows, their truth, and the net for them."""
    kind, net = ("features", "mlp") if name in ON_FEATURES else ("images", "small")
    data, truth = noisy(*planted, kind=kind, **settings)
    return fit(name, data, truth), net


@pytest.fixture(params=sorted(METHODS), scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def straight(name, tmp_path_factory):
    """The data and the net, what three epochs find, and the checkpoints as they were after each epoch."""
    (data, net), folder, copies = small(name, 60, 3), tmp_path_factory.mktemp(name), []
    with cpu_runs() as make:
        run = make(net=net, checkpoints=folder / "now")
        for found in build(name, epochs=3)(data, run):  # noqa: B007 (the last one is the result)
            run.close_epoch()
            run.checkpoint()
            copies.append(shutil.copytree(folder / "now", folder / f"after {len(copies) + 1}"))
    return data, net, found.check(data), copies


def equal(one: Evidence, two: Evidence) -> dict[str, bool]:
    """By field."""
    pairs = {field.name: (getattr(one, field.name), getattr(two, field.name)) for field in dataclasses.fields(one)}
    return {name: a is b is None or torch.equal(a, b) for name, (a, b) in pairs.items()}


def plant_and_find(name: str, kind: str, run: Run) -> None:
    """Of wrong labels nine of ten are found, few others beside them, and most get their class."""
    data, truth = noisy(600, 3, kind=kind)
    data = fit(name, data, truth)
    found = result(name, data, run, lr=0.05, epochs=4)
    wrong = data.labels.numpy() != truth
    flagged = ~found.selected.numpy()
    f1 = 2 * (wrong & flagged).sum() / (wrong.sum() + flagged.sum())
    assert f1 > 0.85, f1
    assert (found.corrected.numpy() == truth).mean() > 0.93
    assert found.clean_score[wrong].mean() < found.clean_score[~wrong].mean() - 0.3


def test_finds_planted_errors(name, make_run):
    plant_and_find(name, "features", make_run(net="mlp"))


def test_same_seed_same_result(name, straight, make_run):
    data, net, first, _ = straight
    again, other = (result(name, data, make_run(net=net, seed=seed), epochs=3) for seed in (7, 2))
    assert all(equal(again, first).values())  # with checkpoints and without
    assert not torch.equal(other.probs, first.probs)


def test_stop_and_resume_equals_straight_through(name, straight, make_run):
    data, net, whole, copies = straight
    assert len(copies) >= 3
    for after, checkpoints in enumerate(copies[:3], 1):
        resumed = result(name, data, make_run(net=net, checkpoints=checkpoints), epochs=3)
        assert all(equal(resumed, whole).values()), (after, equal(resumed, whole))


def hard(*planted, **settings):
    """Rows of features: what is hard is in the labels, and a step on them takes a tenth of the time."""
    return noisy(*planted, kind="features", **settings)


HARD = {
    "all clean": lambda: hard(60, 3, share=0),
    "all one class": lambda: hard(60, 3, np.zeros(60, np.int64)),
    "a class with one row": lambda: hard(60, 3, np.r_[np.arange(59) % 2, 2]),
    "k = 2": lambda: hard(60, 2),
    "k = 200": lambda: hard(220, 200),
    "classes without rows": lambda: hard(60, 20, np.arange(60) % 7),
    "n smaller than a batch": lambda: hard(20, 3),
    "nine of ten labels wrong": lambda: hard(120, 10, share=0.9),
    "fully selected": lambda: hard(60, 3, share=0, trusted=np.ones(60, bool)),
}


@pytest.mark.filterwarnings("ignore::UserWarning:cleanlab")
@pytest.mark.parametrize("case", sorted(HARD))
def test_hard_inputs(name, case, make_run):
    data, truth = HARD[case]()
    data = fit(name, data, truth)
    if name == "pudistill" and len(data.classes) == 200:  # most have one row
        with pytest.raises(CuratorError, match="expected at least 2 of every class"):
            result(name, data, make_run(net="mlp"), epochs=3)
        return
    found = result(name, data, make_run(net="mlp"), epochs=3)  # check(): shapes, finite, in range
    assert torch.equal(found.corrected[found.selected], data.labels[found.selected])


def test_trusted_labels_are_kept(name, make_run):
    trusted = np.arange(90) % 3 == 0
    data, net = small(name, 90, 3, share=0.4, trusted=trusted)
    found = result(name, data, make_run(net=net), epochs=3)
    assert torch.equal(found.corrected[data.trusted], data.labels[data.trusted])
    assert found.selected[data.trusted].all() and (found.clean_score[data.trusted] == 1).all()


def test_every_yield_is_evidence_and_stopping_ends_it(name, make_run):
    data, net = small(name, 60, 3)
    run, yields = make_run(net=net), 0
    for found in build(name, epochs=50)(data, run):
        found.check(data)
        run.close_epoch()
        yields += 1
        if yields >= 3:
            run.stop()
    assert yields <= 5


def test_nets_are_registered_for_the_other_splits(name, make_run):
    data, net = small(name, 60, 3)
    run = make_run(net=net)
    result(name, data, run, epochs=1)
    (nets,) = run.scorers
    assert run.predict(nets, data.inputs).shape == (60, 3)


def test_every_hyperparameter_is_documented(name):
    from tyro._docstrings import get_field_docstring

    cls = METHODS[name]
    for field in dataclasses.fields(cls):
        text = get_field_docstring(cls, field.name, ())
        assert text and text[0].isupper() and text.rstrip().endswith("."), field
    assert cls.__doc__ and cls().total_epochs(10) > 0


def test_epochs_are_typed(name):
    from curator.methods.fields import counts_epochs

    assert counts_epochs(typing.get_type_hints(METHODS[name], include_extras=True)["epochs"])


def test_large_nets_train_longer(name):
    small, large = (
        {"epochs": METHODS[name]().epochs, **defaults}
        for defaults in (METHODS[name].small_net, METHODS[name].large_net)
    )
    assert small["epochs"] < large["epochs"]
    for defaults in (small, large):
        METHODS[name](**defaults)
