"""What a method puts under a run's care: checkpoints hold its state, and some of it scores the other splits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from curator.engine.members import Members
from curator.engine.restore import restore
from curator.errors import CuratorError

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Registry:
    """Objects by name; of several methods in one run each has names of its own."""

    def __init__(self, device: torch.device, saved: dict[str, Any], forgotten: list[str]):
        self.device = device
        self.saved = saved  # the checkpoint's states of what is not registered yet
        self.forgotten = forgotten  # names that checkpoints need no more
        self._anew: set[str] = set()  # what was registered and is not in the checkpoint
        self.registered: dict[str, Any] = {}
        self.scorers: list[nn.ModuleList] = []  # ensembles that score the other splits, of every method that trained
        self._prefix = ""  # of the method at work

    def register(self, name: str, value: T, *, scores: bool = False) -> T:
        """Put the object under the checkpoint's care and give it back with its saved state, if there is one.

        Args:
            name: unique.
            value: a module (it is moved to the device), anything with state_dict and load_state_dict, or a tensor
                that is updated in place.
            scores: whether it is the ensemble, a ModuleList, whose mean prediction scores the other splits.
        """
        name = self.full_name(name)
        if name in self.registered:
            raise ValueError(f"{name!r} is registered already")
        if isinstance(value, nn.Module):
            value = placed(value, self.device)
        self.registered[name] = value
        if scores:
            self.scorers.append(cast(nn.ModuleList, value))
        if name in self.saved:
            saved = self.saved.pop(name)
            try:
                restore(value, saved)
            except Exception as e:  # whatever the value does not like about it
                raise CuratorError(
                    f"the checkpoint's {name!r} does not fit (was it written by another version?): "
                    f"{' '.join(str(e).split())[:150] or type(e).__name__}; start anew with --no-resume"
                ) from e
        else:
            self._anew.add(name)
        return value

    def forget(self, name: str) -> None:
        """Leave what is no longer needed out of the checkpoints to come."""
        name = self.full_name(name)
        del self.registered[name]
        self.forgotten.append(name)

    def require_all(self) -> None:
        """Refuse to continue with what the checkpoint does not hold, of the method at work.

        Raises:
            CuratorError: naming what is missing.
        """
        lost = {name for name in self._anew - {*self.forgotten} if name.startswith(self._prefix)}
        if lost:
            raise CuratorError(f"the checkpoint lacks {', '.join(sorted(lost))}; start anew with --no-resume")

    def state(self) -> dict[str, Any]:
        """The state of everything registered, for a checkpoint."""
        return {k: v if isinstance(v, Tensor) else v.state_dict() for k, v in self.registered.items()}

    def full_name(self, name: str) -> str:
        """The name, after those of the methods that it belongs to."""
        return self._prefix + name

    @contextmanager
    def member(self, name: str) -> Iterator[None]:
        """Inside the block, names that are registered and stages are those of one of several methods."""
        outer = self._prefix
        self._prefix = f"{outer}{name}/"
        try:
            yield
        finally:
            self._prefix = outer


def placed(net: M, device: torch.device) -> M:
    """The net on the device, channels last; stacked weights have an axis too many for that."""
    net = net.to(device)
    return net if isinstance(net, Members) else net.to(memory_format=torch.channels_last)
