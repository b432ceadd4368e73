"""What the page asks of the server: rows to look at, decisions to save, the audit. Plain values in, JSON values out."""

from __future__ import annotations

import csv
import io
import itertools
import sqlite3
import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curator.decisions.database import TakenKey
from curator.decisions.decision import Decision
from curator.decisions.journal import FILE, KINDS, Journal
from curator.decisions.tally import differ
from curator.errors import CuratorError
from curator.publish.policy import fixes_of
from curator.result.read import Rows
from curator.review.auditing import Auditing
from curator.review.consensus import standing
from curator.review.groups import packed
from curator.review.map import CORNERS
from curator.review.overview import Overview, numbers
from curator.review.pictures import LARGE, SMALL, decoder_of
from curator.review.publishing import Publishing
from curator.review.queue import ALIKE, DECIDED, ORDERS, SHOW, Queue, View
from curator.review.sent import checked, field, share
from curator.review.showing import NAME, SHORT, Showing, shortened
from curator.review.thumbnails import Thumbnails
from curator.sources.opening import NAMED
from curator.text import as_cell, command_line

PAGE, MOST = 64, 192  # rows of a page, and of one at most
AHEAD = 2  # pages whose pictures are made meanwhile
TOP = 9  # suggestions that keys reach
LONG = 1_000_000  # in the large view: more no browser shows
VIEWS = 64  # opened views that pages can be asked of
STEPS = 1000  # that are saved at once, at most


class Session(Showing, Overview, Auditing):
    """Runs of one source, opened for any number of reviewers, and their journal.

    Publishing writes with the server's files and token: only the publisher may, or everybody where there is none. Where
    each row is to be decided by several people (overlap, of the accounts), nobody sees what others say of a row before
    saying something of it; the adjudicators, or everybody where there are none, rule on those that conflict.

    Raises:
        CuratorError: when a folder is no finished run, or the runs or the journal do not belong together.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        journal: Path | None = None,
        publisher: str | None = None,
        *,
        overlap: int = 1,
        accounts: Sequence[str] = (),
        adjudicators: Sequence[str] = (),
    ):
        self.runs = [Rows(folder) for folder in folders]
        self.rows = self.runs[0]
        self.journal = Journal(journal or self.rows.folder / FILE, self.rows.facts_for_a_journal())
        self.journal.require(self.rows.classes, self.rows.facts["split"], self.rows.digests)
        self.queue = Queue(self.runs, self.journal, overlap, accounts)
        self.overlap, self.adjudicators = overlap, adjudicators
        self.publisher, self._publishing = publisher, Publishing(self.rows, self.journal)
        self.decoder = decoder_of(self.rows.facts)
        self.thumbnails = Thumbnails(self.rows, self.decoder)
        self.code = {name: i for i, name in enumerate(self.rows.classes)}
        self._views: OrderedDict[str, tuple[np.ndarray, np.ndarray]] = OrderedDict()  # positions, where pages begin
        self._number = itertools.count()
        self._lock = threading.Lock()

    def hello(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """What the page needs to begin."""
        names = [run.folder.resolve().name for run in self.runs]
        return {
            "name": names[0],
            "runs": names,
            "method": self.rows.facts["method"],
            "rows": int(self.rows.present.sum()),
            "classes": [name[:NAME] for name in self.rows.classes],
            "orders": [
                name
                for name in ORDERS
                if {"disagreement": len(self.runs) > 1, "column": self.queue.metadata.names}.get(name, True)
            ],
            "show": SHOW,
            "decided": [name for name in DECIDED if name != "owed" or self.overlap > 1],
            "overlap": self.overlap,
            "rules": self._rules(reviewer),
            "journal": self.journal.facts["id"],
            "run": self.rows.verdict,
            "reviewer": reviewer,
            "publishes": self.publisher in (None, reviewer),
            "accounts": self.publisher is not None,
            "images": self.rows.facts["image_column"] is not None,
            "texts": self.rows.facts.get("text_column") is not None,
            "features": self.rows.features is not None,
            "words": self.queue.words.model is not None,
            "leaks": (self.rows.facts.get("leaks") or {}).get("rows", 0),
            "history": self.journal.history(reviewer),
            "counts": self.counts(reviewer),
            "columns": self.queue.metadata.names,
            "splits": list(self.queue.suspects.elsewhere),
            **self.people_and_tags(),
            "source": self.rows.facts["source"].get("id"),
            "again": self._again(),
        }

    def _again(self) -> str:
        """The next run's command; a run has of a folder its name alone, and where files lie is nobody's who logs in."""
        facts, journal = self.rows.facts, self.journal.path
        known = facts["dataset"] in NAMED or facts["source"].get("id")
        dataset = facts["dataset"] if known else f"PATH/TO/{facts['dataset']}"
        method = facts["method"].replace("+", ",")
        flags = ["--dataset", dataset, "--ensemble" if "," in method else "--method", method]
        seen_by = ("features_column", "backbone", "net") if facts["dataset"] not in NAMED else ()
        by = next((name for name in seen_by if facts["settings"].get(name)), None)  # what the first run saw rows with
        if by is not None and not (by == "net" and facts.get("text_column")):
            flags += [f"--{by.replace('_', '-')}", str(facts["settings"][by])]
        mine = self.publisher is None
        flags += ["--verified", str(journal if mine else journal.name)]
        folder = self.rows.folder
        return command_line("clean", *flags, "--output", f"{folder if mine else folder.name}-2")

    def counts(self, reviewer: str) -> dict[str, Any]:
        """How far the review is."""
        flagged = self.rows.flagged
        owed = {"owed": int((self.queue.owed(reviewer) & flagged).sum())} if self.overlap > 1 else {}
        return {
            **owed,
            "flagged": int(flagged.sum()),
            "mine": int((self.queue.decided(reviewer) & flagged).sum()),
            "anybody": int((self.queue.decided(None) & flagged).sum()),
            "groups": self.queue.left(reviewer),
        }

    # Looking

    def open(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Open a view (the fields of View): its token, rows and pages."""
        classes = {name: field(data, name, int, None) for name in ("given", "suggested")}
        names = "order", "show", "decided", "by", "tag", "column", "has", "split", "words"
        texts = {name: field(data, name, str, getattr(View, name)) for name in names}
        area, like = numbers(data, "area", 2 * CORNERS), numbers(data, "like", ALIKE)
        view = View(**texts, **classes, low=share(data, "low"), high=share(data, "high"), area=area, like=like)
        size = field(data, "size", int, PAGE)
        if not 1 <= size <= MOST:
            raise CuratorError(f"size: expected 1 to {MOST} rows of a page, found {size}")
        self.journal.sync()
        if view.by is not None and view.by not in self.journal.reviewers():
            raise CuratorError(f"by: no reviewer {view.by[:60]!r}")
        found = self.queue.open(view, reviewer)
        starts = np.append(np.arange(0, max(1, len(found)), size), len(found))
        if view.grouped:
            starts = packed(self.queue.groups[found], size)
        with self._lock:
            token = f"{next(self._number)}-{uuid.uuid4().hex}"
            self._views[token] = found, starts
            while len(self._views) > VIEWS:
                self._views.popitem(last=False)
        return {
            "token": token, "total": len(found), "pages": len(starts) - 1, "size": size, "grouped": view.grouped,
            "counts": self.counts(reviewer),
        }  # fmt: skip

    def page(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """The rows of a page (numbered from 0) of an opened view; "gone" where the server does not know it any more."""
        token, number = field(data, "token", str), field(data, "number", int)
        with self._lock:
            if token not in self._views:
                return {"gone": True}
            found, starts = self._views[token]
            self._views.move_to_end(token)
        self.journal.sync()
        at, last = self.journal.last, len(starts) - 1
        here, after, end = (starts[min(number + more, last)] for more in (0, 1, 1 + AHEAD))
        cards = self.cards(found[here:after], reviewer)
        self.thumbnails.ahead(found[after:end])
        return {"cards": cards, "at": at}

    def cards(
        self, positions: np.ndarray, reviewer: str, side: int = SMALL, most: int = SHORT, top: int = TOP
    ) -> list[dict[str, Any]]:
        """What is shown of rows at positions."""
        positions = np.asarray(positions, np.int64)
        rows, soft = self.rows, self.rows.soft(positions)
        likeliest = np.argsort(-soft, axis=1, kind="stable")[:, :top]
        cards = []
        for i, position in enumerate(positions.tolist()):
            cards.append(
                {
                    "row": int(rows.row[position]),
                    "given": int(rows.given[position]),
                    "suggested": int(rows.suggested[position]),
                    "selected": bool(rows.selected[position]),
                    "score": float(rows.score[position]),
                    "group": self.queue.group(position),
                    "top": [[int(c), float(soft[i, c])] for c in likeliest[i]],
                    "remarks": self.remarks_on(int(rows.row[position])),
                    "said": [*self.held_back(position), *self.queue.suspects.said(position)],
                    **self.decided(int(rows.row[position]), reviewer),
                    "runs": [
                        {"suggested": int(run.suggested[position]), "score": float(run.score[position])}
                        for run in self.runs[1:]
                    ],
                }
            )
        shown = zip(cards, self.thumbnails.of(positions, side), rows.texts(positions), strict=True)
        for card, (image, file), text in shown:
            card |= {
                "image": image,
                "file": file[:NAME],
                "text": shortened(text, most),
            }
        return cards

    def decided(self, row: int, reviewer: str) -> dict[str, Any]:
        """The reviewer's decision on a row and those of the others, where they do not sway the reviewer's."""
        of_row = self.journal.of_row(row)
        blind = self.overlap > 1 and not (self._rules(reviewer) and differ(of_row.values()))
        mine = of_row.pop(reviewer, None)
        shown = {} if blind and mine is None else of_row
        others = [{"reviewer": name[:NAME], **self._decision(d)} for name, d in sorted(shown.items())]
        return {"mine": self._decision(mine) if mine else None, "others": others}

    def _rules(self, reviewer: str) -> bool:
        """Whether the reviewer may rule on rows of which others say different things."""
        return not self.adjudicators or reviewer in self.adjudicators

    def _decision(self, made: Decision) -> dict[str, Any]:
        label = made.label if made.also is None else made.also  # of two right ones the second
        said = {"action": made.action, "label": self.code.get(label) if label is not None else None}
        return {**said, "ruling": True} if self.journal.rules(made) else said

    def detail(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """A row large, with the nearest rows of its given and its suggested class."""
        row = field(data, "row", int)
        position = self.rows.position(row)
        if position is None:
            raise CuratorError(f"no row {row}")
        self.journal.sync()
        at = self.journal.last
        (card,) = self.cards(np.array([position]), reviewer, LARGE, LONG, len(self.rows.classes))
        card["at"] = at
        card["story"] = self.story(row)
        card["values"] = self.values_at(position)
        card["near"] = [
            {"label": label, "cards": self.near(position, label)}
            for label in dict.fromkeys((card["given"], card["suggested"]))
        ]
        return card

    def matrix(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Rows by (given, suggested), the most frequent first."""
        return {"pairs": self.queue.pairs(View(show=field(data, "show", str, "flagged")).show)}

    def people(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Who decided how many rows, how far they agree, and what the verified rows would be: see standing."""
        self.journal.sync()
        owed = {name: int((self.queue.owed(name) & self.rows.flagged).sum()) for name in self.queue.accounts}
        return {**standing(self.rows, self.journal), "owed": owed if self.overlap > 1 else {}}

    def export(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Write the decisions and the verified rows beside the journal."""
        files = self.journal.export(self.journal.path.absolute().parent, self.rows.files_of)
        return {"files": [str(path) for path in files]}

    def fixed(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """The rows to which people gave another label, as a CSV text: file, row, given, label."""
        self.journal.sync()
        fixes, names = fixes_of(self.rows, self.journal), self.rows.classes
        lines = [
            (as_cell(fix.file), fix.row, as_cell(names[fix.given]), as_cell(names[fix.label]))
            for fix in fixes if fix.label is not None
        ]  # fmt: skip
        text = io.StringIO()
        csv.writer(text).writerows([("file", "row", "given", "label"), *lines])
        return {"csv": text.getvalue(), "rows": len(lines)}

    # Deciding

    def save(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Append the steps that the page sends, in order; they are on the disk when this returns.

        Steps that no page of this run would send are "refused", and keep no other from being saved; nor do those whose
        key is "taken" by another step, which the page sends again with another key. "at" is the last decision that the
        answer knows of: of two answers about a row the one with the larger is the newer.

        Raises:
            CuratorError: nothing was saved; the page tries again.
        """
        self._require_page(data, reviewer)
        sent = field(data, "steps", list)
        if len(sent) > STEPS:
            raise CuratorError(f"steps: expected at most {STEPS:,} at once, found {len(sent):,}")
        steps, refused, taken = [], [], []
        for step in sent:
            try:
                steps.append(checked(step, self.rows, self._rules(reviewer)))
            except CuratorError:
                refused.append(step.get("key") if isinstance(step, dict) else None)
        try:
            for step in [step for step in steps if step["kind"] == "audit"]:
                of = step["audit"], step["row"], step["label"]
                try:
                    if not self.journal.audits.save_label(*of, reviewer, step["key"]):
                        refused.append(step["key"])
                except TakenKey as e:
                    taken.append(e.key)
            for step in [step for step in steps if step["kind"] == "remark"]:
                try:
                    self.journal.remarks.save(step["row"], step["note"], step["tags"], reviewer, step["key"])
                except TakenKey as e:
                    taken.append(e.key)
            with self.journal.lock:
                while True:
                    rest = [step for step in steps if step["kind"] in KINDS and step["key"] not in taken]
                    try:
                        decided = self.journal.save(rest, reviewer)
                        break
                    except TakenKey as e:
                        taken.append(e.key)
                at, history = self.journal.last, self.journal.history(reviewer)
        except sqlite3.Error as e:
            raise CuratorError(f"{self.journal.path.name} cannot be written ({e})") from e
        states = {str(row): self._decision(made) if made else None for row, made in decided.items()}
        saved = [step["key"] for step in steps if step["key"] not in (*refused, *taken)]
        return {
            "saved": saved, "refused": refused, "taken": taken, "rows": states, "at": at, "history": history,
            "counts": self.counts(reviewer),
        }  # fmt: skip

    def _require_page(self, data: dict[str, Any], reviewer: str) -> None:
        """Refuse what was meant for another run, or comes from a page that somebody else has logged in on."""
        if data.get("reviewer") != reviewer:
            raise CuratorError(f"you are logged in as {reviewer[:NAME]} now: reload the page")
        if (data.get("journal"), data.get("run")) != (self.journal.facts["id"], self.rows.verdict):
            raise CuratorError("another run is served here now: reload the page")

    # Publishing

    def publish(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Begin to publish a version of the first run (the flags of `label-curator publish`): how far it is."""
        self._require_publisher(reviewer)
        self._require_page(data, reviewer)
        self._publishing.start(data)
        return self._publishing.state()

    def publishing(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """How far it is."""
        self._require_publisher(reviewer)
        return self._publishing.state()

    def _require_publisher(self, reviewer: str) -> None:
        if self.publisher not in (None, reviewer):
            raise CuratorError("publish: only the first account of --auth may; ask whom it belongs to")

    # The audit, whose sample and result are in auditing.py

    def pictures(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Images and texts of rows and nothing else: the audit is blind."""
        asked = [field({"row": row}, "row", int) for row in field(data, "rows", list)[:PAGE]]
        positions = self.rows.positions(asked)
        addresses = [image for image, _ in self.thumbnails.of(positions, LARGE // 2)]
        ids = [str(row) for row in self.rows.row[positions].tolist()]
        shown = {"images": dict(zip(ids, addresses, strict=True))}
        if self.rows.facts.get("text_column") is not None:
            texts = (shortened(text, LONG) for text in self.rows.texts(positions))
            shown["texts"] = dict(zip(ids, texts, strict=True))
        return shown
