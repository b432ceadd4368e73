"""Progress bars: on a terminal, and in a notebook."""

from __future__ import annotations

import sys
import warnings
from typing import Any


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, whose output is no terminal and shows bars all the same."""
    ipython = sys.modules.get("IPython")  # where it is not loaded, there is no kernel
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def tqdm(*, disable: bool | None = None, **options: Any) -> Any:
    """As tqdm's own, a widget in a notebook; with disable=None it is shown on terminals and in notebooks only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets it is a bar of text, which will do
        from tqdm.auto import tqdm as bar

    return bar(disable=False if disable is None and in_notebook() else disable, **options)
