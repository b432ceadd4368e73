"""Settings of the method that --method auto picks when the rows are read."""

from __future__ import annotations

import dataclasses
from typing import Any

from curator.config.flags import DataFlags, hints
from curator.config.resolve import Resolved, resolve

# What has been read when the method is picked, and how: no recipe of that method changes it.
READ = (*hints(DataFlags), "net", "pretrained", "backbone", "features_column")


def settle(asked: Resolved, picked: dict[str, Any]) -> Resolved:
    """The settings with a method picked, as if it had been named, by its own recipe.

    Args:
        asked: what held before.
        picked: "method", its name, and what else is noted of the pick.
    """
    read = {name: getattr(asked.settings, name) for name in READ}
    named = {k: v for k, v in read.items() if v is not None}
    found = resolve({**asked.named, **named, "method": picked["method"]})
    found.settings = dataclasses.replace(found.settings, **read)
    found.named, found.given, found.asked, found.picked = asked.named, asked.given, asked, picked
    return found
