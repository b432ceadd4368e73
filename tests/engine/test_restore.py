"""A checkpoint that does not fit what it is of is refused in a line."""

import pytest
import torch

from curator.errors import CuratorError


def registered(run):
    net = run.register("net", torch.nn.Linear(3, 2))
    optimizer = run.register("optimizer", torch.optim.SGD(net.parameters(), 0.1, momentum=0.9))
    table = run.register("table", torch.zeros(4))
    return net, optimizer, table


SPOILT = {
    "nothing": lambda s: s.clear(),
    "no threads": lambda s: s.pop("threads"),
    "no progress": lambda s: s.pop("progress"),
    "no registered values": lambda s: s.pop("registered"),
    "more than it holds": lambda s: s.update(more=1),
    "threads that are none": lambda s: s.update(threads=0),
    "threads as text": lambda s: s.update(threads="4"),
    "progress as a list": lambda s: s.update(progress=["train"]),
    "progress that is no number": lambda s: s["progress"].update(train=None),
    "progress below zero": lambda s: s["progress"].update(train=-5),
    "progress that is true": lambda s: s["progress"].update(train=True),
    "stopping as text": lambda s: s.update(stopping="no"),
    "values as a list": lambda s: s.update(registered=[]),
    "a net's missing weight": lambda s: s["registered"]["net"].pop("bias"),
    "a net's other shape": lambda s: s["registered"]["net"].update(bias=torch.zeros(1)),
    "a net's other type": lambda s: s["registered"]["net"].update(bias=torch.zeros(2, dtype=torch.int64)),
    "a net that is a list": lambda s: s["registered"].update(net=[1]),
    "a net that is missing": lambda s: s["registered"].pop("net"),
    "a table's other shape": lambda s: s["registered"].update(table=torch.zeros(1)),
    "a table's other type": lambda s: s["registered"].update(table=torch.zeros(4, dtype=torch.float64)),
    "a table that is none": lambda s: s["registered"].update(table=None),
    "a table that is missing": lambda s: s["registered"].pop("table"),
    "an optimizer's other shape": lambda s: s["registered"]["optimizer"]["state"][0].update(
        momentum_buffer=torch.zeros(7)
    ),
    "an optimizer without groups": lambda s: s["registered"]["optimizer"].pop("param_groups"),
    "an optimizer that is a number": lambda s: s["registered"].update(optimizer=5),
}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_checkpoint_of_another_shape_is_refused_in_a_line(make_run, tmp_path, spoil, finished):
    """Never a traceback, nor a net that begins anew in the middle of its training."""
    run = make_run(checkpoints=tmp_path)
    net, optimizer, table = registered(run)
    for epoch in run.epochs(3):
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        run.checkpoint()
        if epoch == 1 and not finished:
            break
    state = torch.load(next(tmp_path.glob("*/state.pt")), weights_only=True)
    spoil(state)
    torch.save(state, next(tmp_path.glob("*/state.pt")))
    with pytest.raises(CuratorError, match="start anew with --no-resume") as e:
        again = make_run(checkpoints=tmp_path)
        registered(again)
        list(again.epochs(3))
    assert "\n" not in str(e.value)


def test_what_was_forgotten_is_not_missed(make_run, tmp_path):
    run = make_run(checkpoints=tmp_path)
    run.register("first", torch.zeros(2))
    for stage in ("a", "b"):
        for _ in run.epochs(1, stage):
            run.checkpoint()
        if stage == "a":
            run.forget("first")
    again = make_run(checkpoints=tmp_path)
    again.register("first", torch.zeros(2))
    assert list(again.epochs(1, "a")) == [] and list(again.epochs(2, "b")) == [1]
