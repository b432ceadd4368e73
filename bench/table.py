"""Tables of measurements: JSON lines in bench/results/, one file a table, of which bench/RESULTS.md shows each table.

A row is a finished cell, so that a long bench resumes where it stopped; what is written between the tables stays.
"""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

from curator.system import write_text

RESULTS = Path(__file__).parent / "RESULTS.md"
PENDING = "not measured"


class Table:
    """One table under a heading; its first column names the cells, which are (cell, values by column) on the disk."""

    def __init__(self, heading: str, columns: list[str], path: Path = RESULTS):
        self.heading, self.columns, self.path = heading, columns, path
        self.file = path.parent / "results" / f"{re.sub(r'[^a-z0-9]+', '-', heading.lower())[:60].strip('-')}.jsonl"

    def __contains__(self, cell: str) -> bool:
        """Whether the cell was measured."""
        return bool(self.row(cell))

    def row(self, cell: str) -> dict[str, str]:
        """A measured cell's values by column; empty where there is none."""
        values = self.rows().get(cell, {})
        return {} if set(values.values()) <= {PENDING} else values

    def rows(self) -> dict[str, dict[str, str]]:
        """All cells, in the order in which they came."""
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        return {row.pop("cell"): row for row in map(json.loads, lines)}

    def pending(self, cell: str) -> None:
        """Say of a cell that it was not measured, unless it was."""
        if cell not in self:
            self.append(cell, [PENDING] * len(self.columns))

    def append(self, cell: str, values: list[str]) -> None:
        """Add the cell's row, or put it in the place of the one that is there, and show the table anew."""
        rows = {**self.rows(), cell: dict(zip(self.columns, values, strict=True))}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"cell": name, **row}, ensure_ascii=False) for name, row in rows.items())
        write_text(self.file, "\n".join(lines) + "\n")
        self.render()

    def render(self) -> None:
        """Show the table under its heading in the place of the one that is there; make file and section if missing."""
        rows = [["cell", *self.columns], *([name, *row.values()] for name, row in self.rows().items())]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + "---|" * len(rows[0]))
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else "# Results\n"
        before, mark, rest = text.partition(f"## {self.heading}\n")
        if not mark:
            write_text(self.path, f"{text.rstrip()}\n\n## {self.heading}\n\n" + "\n".join(lines) + "\n")
            return
        section, *others = re.split(r"(?=^## )", rest, maxsplit=1, flags=re.M)
        there = re.search(r"(?:^\|.*\n)+", section, re.M)
        start, end = there.span() if there else (len(section), len(section))
        section = section[:start] + "\n".join(lines) + "\n" + section[end:]
        write_text(self.path, before + mark + section + "".join(others))


def put_section(page: Path, heading: str, *parts: str) -> None:
    """Put a section of these paragraphs and tables into the page, in the place of the one that is there."""
    before, _, rest = page.read_text(encoding="utf-8").partition(f"## {heading}\n")
    _, mark, after = rest.partition("\n## ")
    section = "\n\n".join([f"## {heading}", *parts])
    write_text(page, f"{before.rstrip()}\n\n{section}\n{mark}{after}".rstrip() + "\n")


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
