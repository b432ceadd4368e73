"""Where the labels of a CSV or JSON text stand: cells that change while every other byte stays."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curator.errors import CuratorError
from curator.publish.files import INSTEAD
from curator.publish.sheet import Sheet, Span, cut

BLANK = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Labels:
    """The labels of a text file.

    Attributes:
        sheet: the file.
        spans: where the label of each row is, quotes included; None where its line is too short to have one.
        json: whether they are JSON; else they are CSV.
    """

    sheet: Sheet
    spans: list[Span | None]
    json: bool

    def raw(self, span: Span) -> str:
        """A label as it is written, quotes and escapes included, without spaces around it."""
        return self.sheet.text[slice(*span)].strip(" ")

    def replaced(self, labels: Mapping[int, str]) -> bytes:
        """The file in which some rows, by their places, have other labels, which are as they are written.

        Raises:
            CuratorError: where a row has no label, or the file's encoding does not have a text.
        """
        cells = {}
        for at, new in labels.items():
            span = self.spans[at]
            if span is None or not self.raw(span):
                raise CuratorError(f"{self.sheet.what}: its row {at} has no label; {INSTEAD}")
            cells[span] = self.sheet.text[slice(*span)].replace(self.raw(span), new, 1)
        return self.sheet.replaced(cells)

    def written(self, name: str, number: int | None, others: Collection[str]) -> str:
        """How a class is written that no row has yet: as the other classes are.

        Args:
            name: of the class.
            number: the class number, where the column may hold these instead of names.
            others: how other classes are written.
        """
        like = next(iter(others), "")
        numbers = others and all(re.fullmatch('"?[0-9]+"?', said) for said in others)
        name = str(number) if number is not None and numbers else name
        if not self.json:
            return self.sheet.cell(name, like)
        if like.startswith('"'):
            return json.dumps(name, ensure_ascii=all(said.isascii() for said in others))
        return name.lower() if like in ("true", "false") else name


def label_cells(sheet: Sheet, form: str, column: str, separator: str = ",", names: Sequence[str] = ()) -> Labels:
    """Find the labels of a file.

    Args:
        sheet: the file.
        form: "csv" or "json".
        column: its name in the first line, or the key of every object of JSON lines or of a list.
        separator: between cells of CSV.
        names: of the columns of CSV without such a line.

    Raises:
        CuratorError: where it has no such column, or two.
    """
    sheet.separator = separator
    if form == "csv":
        return Labels(sheet, _csv(sheet, column, names), json=False)
    try:
        return Labels(sheet, _json(sheet.text, column), json=True)
    except (ValueError, IndexError, RecursionError) as e:
        raise CuratorError(f"{sheet.what}: expected objects of one row each; {INSTEAD}") from e


def _csv(sheet: Sheet, column: str, names: Sequence[str]) -> list[Span | None]:
    """As pandas cuts a text, whose lines of blanks are no rows."""
    text = sheet.text
    lines = (
        line for line in cut(text, sheet.separator) if len(line) > 1 or text[slice(*line[0])].strip(" \t")
    )  # fmt: skip
    said = [(name, name) for name in names] or [(text[slice(*span)], sheet.value(span)) for span in next(lines, [])]
    found = [i for i, name in enumerate(said) if column in name]
    if len(found) != 1:
        raise CuratorError(
            f"{sheet.what}: expected one column {column!r} in its first line, found {len(found)}; {INSTEAD}"
        )
    return [line[found[0]] if found[0] < len(line) else None for line in lines]


def _json(text: str, key: str) -> list[Span | None]:
    """The values of a key; of an object that has it twice the last, as the readers take it."""
    read, found = json.JSONDecoder().raw_decode, list[Span | None]()

    def after(at: int) -> int:
        """Behind the blanks, and a comma, that begin somewhere."""
        at = _end(text, at)
        return _end(text, at + 1) if text[at : at + 1] == "," else at

    at = _end(text, 0)
    at = _end(text, at + (text[at : at + 1] == "["))
    while at < len(text) and text[at] != "]":
        if text[at] != "{":
            raise ValueError("no object")
        span, at = None, _end(text, at + 1)
        while text[at] != "}":
            name, at = read(text, at)
            start = _end(text, _end(text, at) + 1)  # behind the colon
            _, end = read(text, start)
            span = (start, end) if name == key else span
            at = after(end)
        found.append(span)
        at = after(at + 1)
    return found


def _end(text: str, at: int) -> int:
    """Where blanks that begin somewhere end."""
    return BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too


def spellings(files: Iterable[Labels], codes: np.ndarray) -> dict[int, str]:
    """How the files write each class that they have, as they do most often.

    Args:
        files: their labels, in the order of the rows.
        codes: (n,) class numbers of the rows, -1 where there is none.
    """
    spans = ((labels, span) for labels in files for span in labels.spans)
    counts: dict[int, Counter[str]] = {}
    for (labels, span), code in zip(spans, codes.tolist(), strict=True):
        if span is not None and code >= 0:
            counts.setdefault(code, Counter())[labels.raw(span)] += 1
    return {code: count.most_common(1)[0][0] for code, count in counts.items()}
