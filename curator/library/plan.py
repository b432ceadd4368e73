"""What a run would do, and how long it would take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from curator.text import Log


@dataclass(frozen=True, repr=False)
class Plan:
    """What a dry run found; printed, it is the lines that the command prints.

    Attributes:
        rows, classes: how many.
        method: its name.
        recipe: its name and variants; None where the defaults hold.
        net: what is trained.
        backbone: what makes frozen features of the images; None where nothing does.
        epochs: of the method.
        images_per_second: of training, as measured; 0 where nothing trains.
        seconds: of training, without the features of a backbone.
        memory: bytes that the rows take, as images or features.
        warnings: what the user should know.
        text: the lines.
    """

    rows: int
    classes: int
    method: str
    recipe: str | None
    net: str
    backbone: str | None
    epochs: int
    images_per_second: float
    seconds: float
    memory: int
    warnings: tuple[str, ...] = ()
    text: str = ""

    def of(self, lines: list[str]) -> Plan:
        """The plan with its lines, of which notes and warnings are its warnings."""
        marked = [line.split(maxsplit=1) for line in lines if line.startswith(("note ", "warning "))]
        return replace(self, text="\n".join(lines), warnings=tuple(words[-1] for words in marked))

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def recorded(say: Log) -> tuple[list[str], Log]:
    """What says a line, and the list of the lines that it has said."""
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        say(line)

    return lines, tell
