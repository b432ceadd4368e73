"""Objects of Python in the place of a flag's text."""

from __future__ import annotations

from typing import Any


class Held(str):
    """A text that stands for an object wherever a run's settings are compared or written, and carries it.

    So an array or a net goes the way of any other setting. No two objects that give other results may have one text,
    unless what is read of them enters the identity of the run by itself.
    """

    __slots__ = ("value",)
    value: Any

    def __new__(cls, text: str, value: Any):
        """The text with the object."""
        self = super().__new__(cls, text)
        self.value = value
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Held:
        return self  # settings are copied when they are written down; the object is not
