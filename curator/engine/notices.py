"""What a method has to say to its user."""

from __future__ import annotations

from typing import Any

from curator.text import Log


class Notices:
    """Lines that are shown at once, warnings that also stand in the result, and findings that stand there only."""

    def __init__(self, say: Log):
        self.say = say
        self.warnings: list[str] = []
        self.findings: dict[str, Any] = {}  # of the whole dataset, as JSON values

    def warn(self, text: str) -> None:
        """Say now what may spoil the result, and again with it; a resumed run has to warn anew."""
        self.warnings.append(text)
        self.say(f"warning   {text}")

    def add_findings(self, **values: Any) -> None:
        """Put JSON values into the result, by name."""
        self.findings |= values
