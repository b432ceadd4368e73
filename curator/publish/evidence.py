"""What a pull request says for itself: how many labels, found and decided how, and the rows that change."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.audit import audited
from curator.publish.policy import Fix
from curator.result.columns import pairs
from curator.result.facts import RANGES
from curator.result.pages import Block, Code, Heading, Line, Name, Paragraph, Table, as_markdown, percent
from curator.result.read import Rows
from curator.sources.pictures import Decoder, NoPicture

SHOWN = 50  # rows in the table
MEMORY = 2**30  # bytes that an image may take while it is decoded
SIDE = 96  # pixels of a thumbnail
TEXT = 160  # characters of a text
FOLDER = ".label-curator"


@dataclass
class Evidence:
    """The rows that change, and who said so.

    Attributes:
        changes: of the rows; none has the label None.
        deciders: row -> who gave it its label.
        dropped: rows that reviewers dropped, which stay in the source.
    """

    rows: Rows
    changes: list[Fix]
    deciders: dict[int, str]
    dropped: int
    journal: Journal | None


def description(found: Evidence) -> str:
    """The pull request's text, in Markdown."""
    n = len(found.changes)
    return as_markdown(f"{n:,} labels corrected", _blocks(found)).partition("\n")[2].strip() + "\n"


def comment(found: Evidence, repo: str, commit: str, pictures: dict[int, bytes]) -> str:
    """The table of changed rows with their pictures, which lie in a commit of the pull request."""
    from huggingface_hub import constants

    root = f"{constants.ENDPOINT}/datasets/{repo}/resolve/{commit}/{FOLDER}"
    shown = [fix for fix in found.changes[:SHOWN] if fix.row in pictures]
    lines = [(f"![row {fix.row}]({root}/{fix.row}.jpg)", *_cells(found, fix)) for fix in shown]
    said = Paragraph(f"The first {len(lines):,} of {len(found.changes):,} changed rows.")
    head = "picture", "row", "given", "new", "decided by"
    return as_markdown("", [said, Table(head, lines)]).partition("\n")[2].strip() + "\n"


def thumbnails(found: Evidence) -> dict[int, bytes]:
    """Row -> JPEG of the first changed rows; none of rows without a picture that can be shown."""
    from PIL.Image import Resampling

    rows, out = found.rows, {}
    if rows.facts["image_column"] is None:
        return {}
    spans = {kind: (low, high) for kind, (low, high) in rows.facts.get(RANGES, {}).items()}
    decoder = Decoder(MEMORY, spans or None)
    shown = found.changes[:SHOWN]
    for fix, (content, _) in zip(shown, rows.images(np.array([fix.at for fix in shown])), strict=True):
        with suppress(NoPicture):
            picture = decoder.rgb(content, near=SIDE)
            scale = SIDE / max(picture.size)
            size = tuple(max(1, round(side * scale)) for side in picture.size)
            small = picture.resize(size, Resampling.NEAREST if scale > 2 else Resampling.BILINEAR)
            file = io.BytesIO()
            small.save(file, "JPEG", quality=85)
            out[fix.row] = file.getvalue()
    return out


def _blocks(found: Evidence) -> Iterator[Block]:
    rows, facts, changes = found.rows, found.rows.facts, found.changes
    n, by = len(changes), Counter(found.deciders.values())
    column = Name(facts["label_column"])
    yield Paragraph((
        f"{n:,} of {facts['n']:,} labels ({percent(n / facts['n'])}) of split ", Name(facts["split"]), ", column ",
        column, ", are changed. Nothing else is: rows, order, types and contents stay as they are.",
    ))  # fmt: skip
    flagged = facts["n"] - facts["selected"]
    yield Paragraph((
        f"Found with label-curator {facts['versions']['label-curator']} (method ", Name(facts["method"]), f"), which "
        f"flagged {flagged:,} labels ({percent(flagged / facts['n'])}); then decided one by one:",
    ))  # fmt: skip
    people = Counter({who: count for who, count in by.items() if not who.startswith("the method")})
    sure = n - people.total()
    lines: list[tuple[Line, ...]] = [(Name(who), f"{count:,}") for who, count in people.most_common(20)]
    lines += [("nobody: the method alone was sure", f"{sure:,}")] if sure else []
    yield Table(("decided by", "labels"), lines)
    if found.dropped:
        yield Paragraph(f"Reviewers would also drop {found.dropped:,} rows; they stay.")
    yield from _audits(found)
    yield Heading("Most frequent changes")
    given, new = np.array([fix.given for fix in changes]), np.array([int(fix.label or 0) for fix in changes])
    names = rows.classes
    yield Table(
        ("given", "new", "rows"),
        [(Name(names[a]), Name(names[b]), f"{count:,}") for a, b, count in pairs(given, new, len(names))],
    )
    yield Heading(f"The first {min(n, SHOWN):,} changed rows")
    shown, texts = changes[:SHOWN], facts.get("text_column") is not None
    places = np.array([fix.at for fix in shown])
    extra = rows.texts(places) if texts else [fix.file for fix in shown]
    named = any(extra)
    yield Table(
        ("row", "given", "new", "decided by", *(["text" if texts else "file"] if named else [])),
        [(*_cells(found, fix), *([Name(what, TEXT)] if named else [])) for fix, what in zip(shown, extra, strict=True)],
    )
    yield Paragraph("The run again:")
    yield Code([" ".join(facts["command"].split())[:1000].replace("`", "'")])


def _cells(found: Evidence, fix: Fix) -> tuple[Line, ...]:
    names = found.rows.classes
    return str(fix.row), Name(names[fix.given]), Name(names[int(fix.label or 0)]), Name(found.deciders[fix.row])


def _audits(found: Evidence) -> Iterator[Block]:
    """What blind audits say of the labels before and after."""
    rows, journal = found.rows, found.journal
    if journal is None:
        return
    after = rows.given.copy()
    after[[fix.at for fix in found.changes]] = [int(fix.label or 0) for fix in found.changes]
    lines: list[tuple[Line, ...]] = []
    for who in journal.audits.reviewers(rows.verdict):
        with suppress(CuratorError):
            before, labelled = audited(rows, journal, who, rows.given, rows.present)
            now, _ = audited(rows, journal, who, after, rows.present)
            if before["estimate"] is not None and now["estimate"] is not None:
                lines.append((Name(who), f"{labelled:,}", _rate(before), _rate(now)))
    if lines:
        yield Heading("Wrong labels, by an audit")
        yield Paragraph("Random rows, labelled without a look at the given or the new label; 95 % intervals.")
        yield Table(("auditor", "rows", "wrong before", "wrong after"), lines)


def _rate(found: dict[str, Any]) -> str:
    return f"{percent(found['estimate'])} ({percent(found['low'])} to {percent(found['high'])})"
