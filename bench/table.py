"""Tables in bench/RESULTS.md that grow by one row a finished cell, so that a long bench resumes where it stopped."""

from __future__ import annotations

import datetime
from pathlib import Path

from curator.system import write_text

RESULTS = Path(__file__).parent / "RESULTS.md"
PENDING = "not measured"


class Table:
    """One table under a heading; a cell's name is the first column of its row."""

    def __init__(self, heading: str, columns: list[str], path: Path = RESULTS):
        self.heading, self.columns, self.path = heading, columns, path

    def __contains__(self, cell: str) -> bool:
        """Whether the cell was measured."""
        unmeasured = " | ".join([f"| {cell}", *[PENDING] * len(self.columns)]) + " |"
        return any(line.startswith(f"| {cell} |") and line != unmeasured for line in self._section())

    def row(self, cell: str) -> dict[str, str]:
        """A measured cell's values by column; empty where there is none."""
        for line in self._section() if cell in self else ():
            if line.startswith(f"| {cell} |"):
                return dict(zip(self.columns, line.strip("| ").split(" | ")[1:], strict=True))
        return {}

    def pending(self, cell: str) -> None:
        """Say of a cell that it was not measured, unless it was."""
        if cell not in self:
            self.append(cell, [PENDING] * len(self.columns))

    def append(self, cell: str, values: list[str]) -> None:
        """Add the cell's row, or put it in the place of the one that is there; make file and section where missing."""
        lines = self.path.read_text().splitlines() if self.path.exists() else ["# Results", ""]
        row = "| " + " | ".join([cell, *values]) + " |"
        there = [line for line in self._section() if line.startswith(f"| {cell} |")]
        if there:
            start = lines.index(f"## {self.heading}")
            lines[lines.index(there[0], start)] = row
        elif f"## {self.heading}" not in lines:
            head = ["| " + " | ".join(["cell", *self.columns]) + " |", "|" + "---|" * (len(self.columns) + 1)]
            lines += ["", f"## {self.heading}", "", *head, row, ""]
        else:
            at = lines.index(f"## {self.heading}") + 1
            while at < len(lines) and not lines[at].startswith("|"):
                at += 1
            while at < len(lines) and lines[at].startswith("|"):
                at += 1
            lines.insert(at, row)
        write_text(self.path, "\n".join(lines).rstrip() + "\n")

    def _section(self) -> list[str]:
        if not self.path.exists():
            return []
        _, _, rest = self.path.read_text().partition(f"## {self.heading}\n")
        return rest.partition("\n## ")[0].splitlines()


def today() -> str:
    """The date of a measurement."""
    return datetime.date.today().isoformat()


def processor() -> str:
    """The processor's name, its cores and its bf16 instructions, as Linux tells them."""
    import os

    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "CPU")
    bf16 = " ".join(flag for flag in ("amx_bf16", "avx512_bf16") if flag in info)
    return f"{name}, {len(os.sched_getaffinity(0))} cores{f', {bf16}' if bf16 else ''}"
