"""The result in Python: a Dataset that shows in a notebook what was found."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from curator.errors import CuratorError
from curator.library.words import as_keywords
from curator.result.facts import read_facts
from curator.result.read import Rows
from curator.review.pictures import data_address, decoder_of
from curator.text import command_line, printable

WORST, SIDE = 12, 96  # rows that are shown, and pixels a side of their pictures


class Curated(Dataset):
    """The curated split, with the folder of its run.

    What map, select and the like make of it is a Dataset, or has these attributes as well, but shows no summary.

    Attributes:
        output: the folder, absolute.
        facts: what curation.json said of the run there.
    """

    output: Path
    facts: dict[str, Any]
    _shown: str  # the fingerprint of the rows that the summary is of

    @classmethod
    def of(cls, dataset: Dataset, output: Path) -> Curated:
        """The rows of a run that is finished in the folder."""
        found = cls(
            dataset.data, info=dataset.info, split=dataset.split, indices_table=dataset._indices,
            fingerprint=dataset._fingerprint,
        )  # fmt: skip
        found.output = output.resolve()
        found.facts, found._shown = read_facts(found.output), found._fingerprint
        return found

    def _repr_html_(self) -> str | None:
        """Counts, the worst rows with their pictures, and what to do next; None where these are no longer the run's."""
        if self._fingerprint != self._shown:
            return None
        try:
            run = Rows(self.output)
            return summary_html(run) if run.facts == self.facts else None
        except (CuratorError, OSError):
            return None


def summary_html(run: Rows) -> str:
    """A run as a piece of HTML in which nothing of the dataset is markup."""
    facts, flagged = run.facts, np.flatnonzero(~run.selected)
    counts = {
        "rows": facts["n"],
        "flagged": len(flagged),
        "get a new label": facts["changed"],
        "verified": facts["trusted"]["count"],
        "could not be used": facts.get("quarantined", 0),
    }
    cells = "".join(
        f"<td style='text-align:left;padding-right:2em'><b>{count:,}</b> {name}</td>"
        for name, count in counts.items()
        if count or name in ("rows", "flagged")
    )
    warnings = "".join(f"<p>warning: {_text(as_keywords(str(line)))}</p>" for line in facts.get("warnings", ()))
    worst = flagged[np.argsort(run.score[flagged], kind="stable")[:WORST]]
    shown = zip(worst, run.images(worst), run.texts(worst), strict=True)
    pictures = "".join(_figure(run, int(p), image, file or text) for p, (image, file), text in shown)
    head = f"{facts['name']}, {facts['method']}"
    return (
        f"<div><p><b>{_text(head)}</b></p><table><tr>{cells}</tr></table>{warnings}"
        f"<div style='display:flex;flex-wrap:wrap'>{pictures}</div>"
        f"<p>next: <code>{_text(command_line('review', run.folder))}</code></p></div>"
    )


def _figure(run: Rows, position: int, image: bytes, file: str) -> str:
    """A row: picture, file or text, labels and score."""
    address = data_address(image, SIDE, decoder_of(run.facts))
    picture = f"<img src='{escape(address)}' alt='' style='max-width:{SIDE}px;max-height:{SIDE}px'>" if address else ""
    given, suggested = (run.classes[code] for code in (run.given[position], run.suggested[position]))
    row = f"row {run.row[position]}, {run.score[position]:.2f}"
    lines = [row, *[file] * bool(file), f"{given} → {suggested}" if given != suggested else given]
    text = "<br>".join(_text(line if len(line) <= 60 else f"{line[:57]}...") for line in lines)
    style = f"margin:4px;width:{SIDE + 40}px;font-size:smaller"
    return f"<figure style='{style}'>{picture}<figcaption>{text}</figcaption></figure>"


def _text(value: str) -> str:
    """A stranger's text, that acts neither on a page nor on what it is copied to."""
    return escape(printable(value))
