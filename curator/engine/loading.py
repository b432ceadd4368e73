"""Loading models of strangers: quietly, and whatever goes wrong as one line."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curator.errors import CuratorError


@contextmanager
def loading(name: str, instead: str) -> Iterator[None]:
    """Whatever goes wrong with the files of a backbone of that name, as one line that ends with what to do instead."""
    try:
        yield
    except (CuratorError, MemoryError):
        raise
    except Exception as e:
        why = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
        raise CuratorError(f"--backbone {name}: it cannot be loaded ({why}); {instead}") from e


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor lines nor bars of the libraries: what counts is said by us."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    bars: Any = getattr(sys.modules.get("transformers"), "logging", None)
    shown = bars is not None and bars.is_progress_bar_enabled()
    try:
        if shown:
            bars.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if shown:
            bars.enable_progress_bar()
