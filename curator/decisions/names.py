"""Class names as files of people, spreadsheets and other tools write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from curator.decisions.pairs import Cell
from curator.text import did_you_mean, from_cell

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?")


def plain(text: str) -> str:
    """Text without what nobody sees: blanks around it, and the form in which Unicode writes its accents."""
    return unicodedata.normalize("NFC", text).strip()


def value_of(text: str) -> Decimal | None:
    """The number that a text writes; None where it writes none."""
    text = text.strip()
    return Decimal(text) if NUMBER.fullmatch(text) else None


class Classes:
    """The k classes of a dataset, found by what a file says of them.

    Where a name looks like a number, a number is never a position among the classes: pandas and spreadsheets make 1 of
    the name 01, so that only its value tells which class is meant.

    Attributes:
        number: class number by name.
        numeric: whether a name looks like a number.
    """

    def __init__(self, names: Sequence[str]):
        self.names = names
        self.number = {name: code for code, name in enumerate(names)}
        self._plain: dict[str, list[int]] = {}
        self._value: dict[Decimal, list[int]] = {}
        for code, name in enumerate(names):
            self._plain.setdefault(plain(name), []).append(code)
            if (value := value_of(name)) is not None:
                self._value.setdefault(value, []).append(code)
        self.numeric = bool(self._value)

    def code(self, label: object) -> int | None:
        """The class of a name, or of a class number where no name looks like one; None for anything else."""
        found = self.named(label)
        return self.numbered(label) if found is None and not self.numeric else found

    def named(self, label: object) -> int | None:
        """The class of a name; None for anything else, and where a number may be one of several names."""
        if label is None or label != label:  # a missing value, or not a number
            return None
        text = str(label)
        # Of a CSV file 'x is first what as_cell made of x; an older one, or another's, may have it as it is.
        for name in (from_cell(text), text) if isinstance(label, Cell) else (text, from_cell(text)):
            if name in self.number:
                return None if self.twins(label) else self.number[name]
        value = value_of(text)
        same = self._plain.get(plain(text), []) or ([] if value is None else self._value.get(value, []))
        return same[0] if len(same) == 1 else None

    def written(self, text: str) -> int | None:
        """The class of a name as it was written, but for what nobody sees; None for anything else."""
        same = self._plain.get(plain(text), [])
        return self.number.get(text, same[0] if len(same) == 1 else None)

    def twins(self, label: object) -> list[str]:
        """Names of one value, each of which may have become this label where a program took it for a number."""
        text = str(label).strip()
        found = self._value.get(value, []) if (value := value_of(text)) is not None else []
        if len(found) < 2 or (type(label) is str and text in self.number):  # text of parquet is as it was written
            return []
        as_programs_write = re.fullmatch("-?(0|[1-9][0-9]*)", text) or text == repr(float(text))
        return [self.names[code] for code in found] if as_programs_write else []

    def numbered(self, label: object) -> int | None:
        """The class of a class number."""
        if not re.fullmatch("[0-9]{1,9}", text := str(label)):
            return None
        return int(text) if int(text) < len(self.names) else None

    def why_not(self, label: object) -> str:
        """What to say of a label that is not a class."""
        if twins := self.twins(label):
            return (
                f"which may be any of the classes {', '.join(map(repr, twins[:5]))}; give the names as text in parquet"
            )
        if self.numeric and self.numbered(label) is not None:
            return "which is not a class: where names of classes are numbers, a label is a name and no class number"
        return f"which is not a class{did_you_mean(str(label), self.number)}"
