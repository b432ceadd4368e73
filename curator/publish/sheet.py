"""A user's CSV file, of which some cells change and every other byte stays."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curator.decisions.places import Places
from curator.errors import CuratorError
from curator.sources.matching import Files
from curator.system import read_file

LARGEST = 2**30  # bytes of a CSV file
BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
SEPARATORS = ",;\t|"
LOOK = 1000  # lines by which columns are told
Span = tuple[int, int]


@dataclass
class Sheet:
    """A CSV file as it stands: its text, and where in it every cell is.

    Attributes:
        what: errors begin with it.
        lines: spans of the cells of every line that has any, quotes included.
        body: how many of them come before the rows: the header, where there is one.
    """

    path: Path
    what: str
    content: bytes
    mark: bytes  # that it begins with
    encoding: str
    text: str
    lines: list[list[Span]] = field(default_factory=list)
    separator: str = ","
    body: int = 1

    def value(self, span: Span) -> str:
        """What a cell says, without spaces around it."""
        raw = self.text[slice(*span)].strip(" ")
        return raw[1:-1].replace('""', '"') if len(raw) > 1 and raw[0] == raw[-1] == '"' else raw

    def cell(self, value: str, before: str) -> str:
        """A value as a cell, in quotes where the one before it was, or where it must be, and with its spaces."""
        bare = before.strip(" ")
        quoted = bare[:1] == '"' or value != value.strip() or re.search(f'["\r\n{re.escape(self.separator)}]', value)
        new = '"' + value.replace('"', '""') + '"' if quoted else value
        return before.replace(bare, new, 1) if bare else new

    def replaced(self, cells: dict[Span, str]) -> bytes:
        """The file with other text in some cells.

        Raises:
            CuratorError: for text that its encoding does not have.
        """
        parts, end = [], 0
        for (start, stop), raw in sorted(cells.items()):
            parts += [self.text[end:start], raw]
            end = stop
        try:
            return self.mark + "".join([*parts, self.text[end:]]).encode(self.encoding)
        except UnicodeEncodeError as e:
            odd = e.object[e.start : e.end]
            raise CuratorError(
                f"{self.what}: its encoding, {self.encoding}, has no {odd!r}; save it as UTF-8 first"
            ) from e


def read_sheet(path: Path, what: str = "", *, packed: bool = False) -> Sheet:
    """A CSV or JSON file of any of the usual encodings, not yet cut into cells.

    Args:
        path: of the file.
        what: errors begin with it; by default with --csv and the path.
        packed: whether it is compressed with gzip; the sheet is of what is in it.

    Raises:
        CuratorError: for what cannot be read.
    """
    what = what or f"--csv {path}"
    try:
        content = _unpacked(path) if packed else read_file(path, LARGEST)
    except (OSError, EOFError, zlib.error) as e:
        raise CuratorError(f"{what}: it cannot be read ({getattr(e, 'strerror', None) or e})") from e
    mark = next((mark for mark in BOMS if content.startswith(mark)), b"")
    for encoding in [BOMS[mark]] if mark else ["utf-8", "cp1252", "latin-1"]:  # Excel's, where it is none of Unicode's
        try:
            return Sheet(path, what, content, mark, encoding, content[len(mark) :].decode(encoding))
        except UnicodeDecodeError:
            continue
    raise CuratorError(f"{what}: it is no text; save it in UTF-8")


def _unpacked(path: Path) -> bytes:
    with gzip.open(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(f"it is larger than {LARGEST / 2**20:,.0f} MiB")
    return content


def require_unchanged(sheet: Sheet) -> None:
    """Refuse to replace what somebody else has written meanwhile."""
    if read_file(sheet.path, LARGEST) != sheet.content:
        raise CuratorError(f"{sheet.what}: it was changed meanwhile; run the same command again")


def cut(text: str, separator: str) -> Iterator[list[Span]]:
    """Where the cells of every line of a CSV text are; empty lines are left out."""
    cell = re.compile(rf'"(?:[^"]|"")*"[^{re.escape(separator)}\r\n]*|[^{re.escape(separator)}\r\n]*')
    line: list[Span] = []
    at = 0
    while at <= len(text):
        found = cell.match(text, at)
        assert found is not None
        line.append(found.span())
        at = found.end()
        if text[at : at + 1] == separator:
            at += 1
            continue
        if len(line) > 1 or line[0][0] < line[0][1]:
            yield line
        line = []
        at += 2 if text[at : at + 2] == "\r\n" else 1


def rows_of(places: Places, cells: Sequence[str]) -> list[list[int]]:
    """For each cell of a column the rows that it may name: by their files, else as tables that are read may name these.

    That is by paths of another machine, addresses, or names without a suffix.
    """
    files = Files(places.known)
    means = files.found(cells)
    means = means if any(means) else files.found(cells, stems=True)
    return [places.rows(cell) or (places.rows(path) if path else []) for cell, path in zip(cells, means, strict=True)]


def columns_of(sheet: Sheet, places: Places, labels: dict[int, set[str]], named: str) -> tuple[int, int]:
    """Cut the sheet into cells, and find its columns of files and of labels: by what they hold.

    Args:
        sheet: gets its lines, separator and body.
        places: rows by their files.
        labels: what a row's label may be, by row.
        named: the label column of the run, where two columns hold the same.

    Raises:
        CuratorError: where there is no such column.
    """
    for separator in SEPARATORS:
        lines = list(cut(sheet.text, separator))
        lines = lines[1:] if lines and sheet.value(lines[0][0]) == "sep=" else lines  # Excel's own line
        if len(lines) < 2 or len(lines[0]) < 2:
            continue
        sheet.lines, sheet.separator = lines, separator
        head = [sheet.value(span) for span in lines[0]]
        some = [[sheet.value(span) for span in line] for line in lines[1 : LOOK + 1]]
        rows = [rows_of(places, [line[c] if c < len(line) else "" for line in some]) for c in range(len(head))]
        hits = [sum(len(found) == 1 for found in column) for column in rows]
        file = max(range(len(head)), key=lambda c: (hits[c], -c))
        if not hits[file]:
            continue
        sheet.body = 0 if places.rows(head[file]) else 1
        pairs = [(found[0], line) for found, line in zip(rows[file], some, strict=True) if len(found) == 1]
        fits = [
            sum(c < len(line) and line[c] in labels.get(row, ()) for row, line in pairs) if c != file else 0
            for c in range(len(head))
        ]
        label = max(range(len(head)), key=lambda c: (fits[c], head[c] == named, head[c] == "label"))
        alike = [head[c] for c in range(len(head)) if fits[c] == fits[label]]
        shown = ", ".join(head)[:200]
        if 2 * fits[label] < len(pairs):
            raise CuratorError(f"{sheet.what}: none of its columns ({shown}) holds the labels of the run")
        if len(alike) > 1 and head[label] not in (named, "label"):
            raise CuratorError(
                f"{sheet.what}: the columns {', '.join(alike)[:200]} hold the same labels; name the one that is "
                "meant label"
            )
        return file, label
    raise CuratorError(
        f"{sheet.what}: no column names files of the run, as {next(iter(places.known()), 'cat/003.png')}"
    )
