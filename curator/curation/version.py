"""A curated version of a run: labels and rows by a policy, with what reviewers decided, in a folder.

    annotate   the columns of the run, labels as they were given
    relabel    label := the verified one, else the corrected one where the nets are sure, else the given one
    filter     rows that are neither selected nor verified, and dropped ones, are out

Config `default` holds all rows (those that are left, with filter), config `clean` the rows that filter keeps, with the
same labels; with annotate without those whose given label reviewers found wrong.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features

from curator.curation.card import dataset_card, own_text
from curator.curation.facts import (
    AGAIN,
    FACTS,
    MOST,
    data_files,
    open_parquet,
    read_json,
    read_small,
    reading,
    split_of,
    unreadable,
)
from curator.curation.output import QUARANTINE, ROW_GROUP, content_hash, write_json
from curator.curation.report import CONTACT_SHEET, pairs
from curator.errors import CuratorError
from curator.files import own_files
from curator.pictures import Decoder, NoPicture
from curator.review.audit import audited
from curator.review.journal import FILE, Journal
from curator.review.rows import Rows
from curator.sources.table import encoded_labels
from curator.system import as_cell, clear_leftovers, did_you_mean, open_regular, read_file, replace_folder, workspace

POLICIES = ("annotate", "relabel", "filter")
FORMATS = ("parquet", "imagefolder")
ORIGINAL = "original_label"
LONGEST = 200  # bytes of a class's folder name, of which file systems take 255
# Top level of a version, but for the splits of an imagefolder.
WRITTEN = {"README.md", "clean", "curation.json", "data", "images", "issues.csv", "labels.csv", "report"}
COPIED = ("README.md", "curation.json", "data", "issues.csv", "report", QUARANTINE)  # of a run, to a version
Say = Callable[[str], None]


@dataclass
class Version:
    """A version that is ready: its folder, and what the policy did.

    Attributes:
        rows, clean: rows of the curated split in the configs of these names.
        changed: labels that are not the given ones.
        bytes: of all files.
    """

    folder: Path
    policy: str
    facts: dict[str, Any]
    rows: int
    clean: int
    changed: int
    verified: int
    dropped: int
    bytes: int

    def files(self) -> dict[str, Path]:
        """Its files by their paths inside it."""
        return {p.relative_to(self.folder).as_posix(): p for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def describe(self) -> str:
        """One line."""
        least = self.facts["published"]["min_confidence"]
        sure = f" (nets at least {least:g} sure)" if self.policy == "relabel" else ""
        return (
            f"{self.policy}{sure}: {self.rows:,} rows, {self.changed:,} labels changed, {self.verified:,} verified and "
            f"{self.dropped:,} dropped by reviewers, {self.clean:,} rows in config clean, {self.bytes / 2**20:,.1f} MiB"
        )


@dataclass(frozen=True)
class Verdict:
    """What the policy says of the n rows."""

    labels: np.ndarray  # (n,) int32
    kept: np.ndarray  # (n,) bool: in config clean
    verified: np.ndarray  # (n,) bool
    dropped: np.ndarray  # (n,) bool


def verdict(rows: Rows, journal: Journal | None, policy: str, min_confidence: float) -> Verdict:
    """Labels and rows by the policy. Verified are the rows that the run trusted, and those that reviewers verified.

    A row on which reviewers conflict is as if nobody had looked, and not clean.
    """
    n = len(rows)
    verified, dropped, contested = (np.zeros(n, bool) for _ in range(3))
    label_of = rows.given.copy()
    found = dict(rows.trusted)
    if journal is not None:
        found |= journal.verified().labels
        contested[rows.positions(journal.conflicts())] = True
        dropped[rows.positions(journal.dropped())] = True
    places = rows.positions(list(found))
    code = {name: i for i, name in enumerate(rows.classes)}
    verified[places] = True
    label_of[places] = [code[found[int(row)]] for row in rows.row[places]]
    verified &= ~contested
    labels = label_of if policy == "filter" else rows.given.copy()
    if policy == "relabel":
        labels = np.where(verified, label_of, np.where(rows.confidence >= min_confidence, rows.suggested, rows.given))
    right = verified if policy != "annotate" else verified & (label_of == rows.given)
    kept = np.where(verified, right, rows.selected) & rows.present & ~dropped & ~contested
    return Verdict(labels.astype(np.int32), kept, verified, dropped)


@contextmanager
def prepared(
    run: Path,
    policy: str,
    *,
    min_confidence: float = 0.9,
    journal: Path | None = None,
    format: str = "parquet",
    beside: Path | None = None,
) -> Iterator[Version]:
    """A version in a temporary folder (beside the path, to be renamed to it), removed at the end of the block.

    Args:
        run: output folder of a finished run.
        policy: one of POLICIES.
        min_confidence: in [0, 1], for relabel: how sure the nets must be of a label that nobody verified.
        journal: file of the decisions; by default the run's, if it has one.
        format: one of FORMATS; an imagefolder holds config default only.
        beside: where the folder will be renamed to.

    Raises:
        CuratorError: for a folder that is no finished run, an unknown policy, a journal of other rows.
    """
    for flag, value, known in (("--policy", policy, POLICIES), ("--format", format, FORMATS)):
        if value not in known:
            raise CuratorError(
                f"{flag}: expected one of {', '.join(known)}{did_you_mean(value, known)}; found {value!r}"
            )
    if not 0 <= min_confidence <= 1:
        raise CuratorError(f"--min-confidence: expected a number from 0 to 1, found {min_confidence}")
    own_files(run, *COPIED)  # before any of them is opened
    rows = Rows(run)
    if format == "imagefolder" and rows.facts["image_column"] is None:
        raise CuratorError("--format imagefolder: the run has no images; leave the flag out")
    path = journal or run / FILE
    if journal is not None and not path.is_file():
        raise CuratorError(f"--journal {journal}: no such file")
    if beside is not None:
        beside.parent.mkdir(parents=True, exist_ok=True)
    with workspace(beside) as work:
        folder = work / "version"
        folder.mkdir()
        if path.is_file():
            with closing(Journal(path)) as opened:
                opened.require(rows.classes, rows.facts["split"], rows.digests)
                said = verdict(rows, opened, policy, min_confidence)
                people: dict[str, Any] = {
                    "reviewers": opened.reviewers(),
                    "decisions": opened.verified().counts,
                    "audits": _audits(rows, opened, said, policy),
                }
        else:
            said = verdict(rows, None, policy, min_confidence)
            people = {"reviewers": {}, "decisions": {}, "audits": []}
        if policy == "filter" and not said.kept.any():
            raise CuratorError("--policy filter: no row is left; review some rows, or choose another policy")
        _write_data(folder, rows, said, policy)
        if format == "imagefolder":
            _as_imagefolder(folder, rows, said.kept)
        inside = _inside(said, policy)
        version = Version(
            folder, policy, rows.facts, int(inside.sum()), int(said.kept.sum()),
            int((said.labels != rows.given)[inside].sum()), int(said.verified.sum()), int(said.dropped.sum()), 0,
        )  # fmt: skip
        published = {
            "policy": version.policy, "min_confidence": min_confidence, "format": format, "rows": version.rows,
            "clean": version.clean, "labels_changed": version.changed, "verified": version.verified,
            "dropped": version.dropped, **_noise(rows, said, inside), **people,
        }  # fmt: skip
        version.facts = {**rows.facts, "published": published}
        shown = rows.suggested if policy == "annotate" else said.labels
        _write_rest(folder, run, version, rows, inside, pairs(rows.given[inside], shown[inside], len(rows.classes)))
        version.bytes = sum(file.stat().st_size for file in version.files().values())
        yield version


def _inside(said: Verdict, policy: str) -> np.ndarray:
    """(n,) bool: rows of config default."""
    return said.kept if policy == "filter" else np.ones(len(said.kept), bool)


def _noise(rows: Rows, said: Verdict, inside: np.ndarray) -> dict[str, Any]:
    """Shares [before, after] of labels that nobody vouches for, and of wrong ones where the truth is known."""
    vouched, wrong = said.verified | rows.selected | (said.labels != rows.given), None
    inside = inside & rows.present
    if rows.truth is not None:
        wrong = [
            float((rows.given != rows.truth)[rows.present].mean()),
            float((said.labels != rows.truth)[inside].mean()),
        ]
    return {"vouched": [float((~rows.selected)[rows.present].mean()), float((~vouched)[inside].mean())], "wrong": wrong}


def _audits(rows: Rows, journal: Journal, said: Verdict, policy: str) -> list[dict[str, Any]]:
    """What every reviewer's audit of this run says of the given labels and of the version's."""
    found = []
    for reviewer in journal.auditors(rows.verdict):
        before, labelled = audited(rows, journal, reviewer, rows.given, rows.present)
        after, _ = audited(rows, journal, reviewer, said.labels, _inside(said, policy) & rows.present)
        if before["estimate"] is not None and after["estimate"] is not None:
            found.append({"reviewer": reviewer, "rows": labelled, "before": before, "after": after})
    return found


def _write_data(folder: Path, rows: Rows, said: Verdict, policy: str) -> None:
    """data/ and, where it differs, clean/: the run's files with the policy's labels, image bytes as they are."""
    column, split = rows.facts["label_column"], rows.facts["split"]
    (folder / "data").mkdir()
    if policy != "filter":
        (folder / "clean").mkdir()
    start = 0
    for path in data_files(rows.folder):
        curated = split_of(path) == split
        file = open_parquet(path)
        if not file.schema_arrow.equals(rows.schema, check_metadata=True):
            raise CuratorError(f"{path}: its columns are not those of split {split!r}; {AGAIN}")
        try:
            features = Features.from_arrow_schema(file.schema_arrow)
        except Exception as e:  # what the metadata of a stranger's file make it do
            raise unreadable(path, e) from e
        if policy == "relabel":
            if ORIGINAL in features:
                raise CuratorError(f"the dataset has a column {ORIGINAL}; rename it, or publish with --policy annotate")
            features[ORIGINAL] = features[column]
        schema = features.arrow_schema
        with pq.ParquetWriter(folder / "data" / path.name, schema) as writer:
            apart = curated and policy != "filter" and said.kept.any()
            clean = pq.ParquetWriter(folder / "clean" / path.name, schema) if apart else None
            try:
                for batch in batches(file, path):
                    part, kept = pa.table(batch), None
                    if curated:
                        here = slice(start, start + len(batch))
                        start, kept = here.stop, pa.array(said.kept[here])
                    if policy != "annotate":
                        original = values = part[column]
                        if curated:
                            known = said.labels[here] >= 0  # of rows that were set aside, some have no label
                            codes = np.where(known, said.labels[here], 0)
                            values = encoded_labels(codes, rows.classes, features[column])
                            values = pc.if_else(pa.array(known), values, original.combine_chunks())
                        part = part.set_column(part.column_names.index(column), column, values)
                        if policy == "relabel":
                            part = part.append_column(ORIGINAL, original)
                    part = part.cast(schema)
                    left = part.filter(kept) if kept is not None else part
                    writer.write_table(left if policy == "filter" else part)
                    if clean is not None:
                        clean.write_table(left)
            finally:
                if clean is not None:
                    clean.close()


def batches(file: pq.ParquetFile, path: Path) -> Iterator[pa.RecordBatch]:
    """A file's rows, ROW_GROUP at a time.

    Raises:
        CuratorError: where it is broken.
    """
    found = file.iter_batches(ROW_GROUP)
    while True:
        with reading(path):
            batch = next(found, None)
        if batch is None:
            return
        yield batch


def set_aside(run: Path) -> set[tuple[str, int]]:
    """(split, row) of the rows that the run could not use."""
    table = read_small(run / QUARANTINE, {"split": pa.string(), "row": pa.int64()}, 2**31)
    return set() if table is None else {(item["split"], item["row"]) for item in table.to_pylist()}


def _as_imagefolder(folder: Path, rows: Rows, clean: np.ndarray) -> None:
    """Turn data/ into images/SPLIT/CLASS/ROW.png with the original bytes, and labels.csv with the columns.

    Rows without a label (of other splits) and those that were set aside are left out.
    """
    facts, prefix = rows.facts, rows.prefix
    image, label = facts["image_column"], facts["label_column"]
    names = [prefix + name for name in ("row", "clean_score", "selected", "corrected_label")]
    below = dict(zip(rows.classes, folder_names(rows.classes), strict=True))
    aside = set_aside(rows.folder)
    of_row = {row: (int(g), bool(c)) for row, g, c in zip(rows.row.tolist(), rows.given, clean, strict=True)}
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["split", "row", "file", "label", "given", "suggested", "clean_score", "selected", "clean"])
        for path in sorted((folder / "data").iterdir()):
            split = split_of(path)
            for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP, columns=[image, label, *names]):
                part = pa.table(batch)
                labels = rows.codes(part[label]).tolist()
                values = zip(part[image].to_pylist(), *(part[name].to_pylist() for name in names), strict=True)
                for now, (item, row, score, selected, corrected) in zip(labels, values, strict=True):
                    if (split, row) in aside:
                        continue
                    if not item or item.get("bytes") is None:
                        raise CuratorError(
                            f"--format imagefolder: row {row} of split {split!r} has no image; use parquet"
                        )
                    if now < 0:
                        continue
                    target = f"images/{split}/{below[rows.classes[now]]}/{row:07d}{_suffix(item)}"
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    (folder / target).write_bytes(item["bytes"])
                    given, is_clean = of_row[row] if split == facts["split"] else (now, "")
                    texts = ["" if c is None or c < 0 else as_cell(rows.classes[c]) for c in (now, given, corrected)]
                    lines.writerow([split, row, as_cell(target), *texts, score, selected, is_clean])
    for name in ("data", "clean"):
        shutil.rmtree(folder / name, ignore_errors=True)


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder for every class: its name, with whatever has a meaning to a file system written as %XX, and unique."""
    found: list[str] = []
    for code, name in enumerate(classes):
        text = re.sub(r"[^\w .-]", lambda m: quote(m[0], safe=""), name)
        text = text.encode()[:LONGEST].decode(errors="ignore").strip(" ._")
        while not text or text.lower() in {other.lower() for other in found}:
            text = f"{text or 'class'}-{code}"
        found.append(text)
    return found


def _suffix(item: dict[str, Any]) -> str:
    """The image's own file type, that of its name if it has one."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    suffix = Path(item.get("path") or "").suffix.lower()
    if suffix in ImageFolder.EXTENSIONS:
        return suffix
    try:
        return f".{Decoder().look(item['bytes']).format.lower()}"
    except NoPicture:
        return ".png"


def _copy_findings(run: Path, folder: Path, left: set[int] | None) -> None:
    """report/ and issues.csv of the run; where only some rows are left, without pictures or names of the others."""
    for path in own_files(run, "report"):
        target = folder / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    issues = run / "issues.csv"
    with reading(issues), open_regular(issues) as content, io.TextIOWrapper(content, "utf-8", newline="") as file:
        head, *lines = list(csv.reader(file))
        numbers = [int(line[0]) for line in lines]
    if left is not None:
        lines = [line for number, line in zip(numbers, lines, strict=True) if number in left]
        (folder / "report" / CONTACT_SHEET).unlink(missing_ok=True)
        report = Path("report", "report.md")
        with reading(run / report):
            text = read_file(run / report, MOST).decode()
        (folder / report).write_text(
            re.sub(rf"## [^\n]*\n\n!\[[^\n]*\]\({CONTACT_SHEET}\)\n\n", "", text), encoding="utf-8"
        )
    with open(folder / "issues.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *lines])


def _write_rest(
    folder: Path, run: Path, version: Version, rows: Rows, inside: np.ndarray, changes: list[tuple[int, int, int]]
) -> None:
    write_json(folder / "curation.json", version.facts)
    _copy_findings(run, folder, None if inside.all() else set(rows.row[inside].tolist()))
    data = folder / ("data" if (folder / "data").exists() else "images")
    splits = sorted({split_of(p) if p.is_file() else p.name for p in data.iterdir()})
    with reading(run / "README.md"):
        own = own_text(read_file(run / "README.md", MOST).decode())
    card = dataset_card(version.facts, rows.classes, changes, splits, content_hash(data), own)
    (folder / "README.md").write_text(card, encoding="utf-8")


def publish_folder(
    run: Path, target: Path, policy: str, *, overwrite: bool = False, say: Say, **options: Any
) -> Version:
    """Write a version to a local folder, all or nothing; an older version is replaced with overwrite only.

    Where the target is a link to a folder, that folder is meant.
    """
    target = target.resolve()
    clear_leftovers(target.parent)  # perhaps the version that stands there is among them
    require_free(target, overwrite)
    with prepared(run, policy, beside=target, **options) as version:
        require_free(target, overwrite)  # it may not be what it was before the version was made
        replace_folder(version.folder, target)
        version.folder = target
        say(version.describe())
        say(f"written to {target}")
    return version


def require_free(target: Path, overwrite: bool) -> None:
    """Refuse a folder that holds anything but, with overwrite, an older version."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    ours = _is_version(target)
    if not ours or not overwrite:
        raise CuratorError(
            f"{target} {'holds a version; add --overwrite, or ' if ours else 'is not empty; '}name another folder"
        )


def _is_version(folder: Path) -> bool:
    """Whether a folder holds what publish_folder wrote, and nothing else: a run, say, is none."""
    try:
        facts = read_json(folder / FACTS)
    except (OSError, ValueError):
        return False
    return "published" in facts and {path.name for path in folder.iterdir()} <= WRITTEN
