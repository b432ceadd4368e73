"""A checkpoint back into the objects that it is of: only what fits them in names, shapes and types."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# What a checkpoint holds.
STATE = {"progress": dict, "stopping": bool, "threads": int, "forgotten": list, "registered": dict}


def is_whole(state: dict[str, Any]) -> bool:
    """Whether a checkpoint holds what Run.checkpoint wrote: names, types and ranges."""
    if state.keys() != STATE.keys() or not all(type(state[name]) is kind for name, kind in STATE.items()):
        return False
    counts = [state["threads"], *state["progress"].values()]
    names = [*state["progress"], *state["registered"], *state["forgotten"]]
    return all(type(n) is int and 0 < n < 2**31 for n in counts) and all(isinstance(name, str) for name in names)


def restore(value: Any, saved: Any) -> None:
    """Give a registered value its saved state.

    Raises:
        Exception: where it does not fit; copying alone would broadcast and cast, and an optimizer takes any shape.
    """
    if isinstance(value, Tensor):
        _require_alike("", value, saved)
        value.copy_(saved)
        return
    if isinstance(value, nn.Module):
        now = value.state_dict()
        if not isinstance(saved, dict) or saved.keys() != now.keys():
            raise ValueError("it is the state of another net")
        for name, tensor in now.items():
            _require_alike(name, tensor, saved[name])
    value.load_state_dict(saved)
    if isinstance(value, torch.optim.Optimizer):
        for weights, state in value.state.items():
            for name, part in state.items():
                if isinstance(part, Tensor) and part.ndim:
                    _require_alike(name, weights, part)


def _require_alike(name: str, wanted: Any, found: Any) -> None:
    if not isinstance(wanted, Tensor) or not isinstance(found, Tensor):
        if type(wanted) is not type(found):
            raise TypeError(f"{name} is of another type")
    elif found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise ValueError(
            f"expected {name or 'it'} of shape {tuple(wanted.shape)} {wanted.dtype}, "
            f"found {tuple(found.shape)} {found.dtype}"
        )
