"""What tells one callable from another, so that work done with it may be used again."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def name_of_callable(call: Callable) -> str:
    """A short name: of a function its own, of an object its class's."""
    name = getattr(call, "__name__", None) or type(call).__name__
    return "lambda" if name == "<lambda>" else name


def array_hash(array: np.ndarray) -> str:
    """Hash of an array's shape, type and numbers."""
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def state_of(module: nn.Module) -> list[bytes]:
    """The code of a module's parts, and its weights by their names."""
    found = sorted({_file_of(type(m)) or type(m).__qualname__.encode() for m in module.modules()})
    for name, value in module.state_dict().items():
        found += [name.encode(), as_bytes(value) if isinstance(value, Tensor) else repr(value).encode()]
    return found


def code_of(call: Callable) -> list[bytes] | None:
    """All that can be seen of a callable; None where that does not tell it from another one.

    It does so for a module, a method of one, and a function with a name of its own whose code can be read. What a
    lambda, a function inside another, a partial one or an object with state of its own does may hang on more.
    """
    if isinstance(call, nn.Module):
        return [repr(call).encode(), *state_of(call)]
    owner = getattr(call, "__self__", None)
    if isinstance(owner, nn.Module):
        return [call.__name__.encode(), repr(owner).encode(), *state_of(owner)]
    call = inspect.unwrap(call)  # of torch.no_grad(), say
    if not inspect.isfunction(call) or call.__name__ == "<lambda>" or call.__closure__:
        return None
    code = _file_of(call)
    return None if code is None else [call.__qualname__.encode(), code]


def as_bytes(value: Tensor) -> bytes:
    """A tensor's numbers."""
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _file_of(thing: Any) -> bytes | None:
    """The file that a function or class is from; of one that was typed into a notebook, its own lines."""
    try:
        file = Path(inspect.getsourcefile(thing) or "")
        return file.read_bytes() if file.is_file() else inspect.getsource(thing).encode()
    except (OSError, TypeError):
        return None
