"""A curated version of a run: labels and rows by a policy, with what reviewers decided, in a folder."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.audit import audited
from curator.publish.imagefolder import FORMATS, as_imagefolder, batches
from curator.publish.leaks import leaks_of, without
from curator.publish.policy import POLICIES, Verdict, decisions, inside_default, require_share, verdict
from curator.publish.remarks import remark_columns
from curator.result.card import dataset_card, own_text
from curator.result.columns import pairs
from curator.result.facts import (
    AGAIN,
    FACTS,
    MOST,
    data_files,
    open_parquet,
    read_json,
    reading,
    split_of,
    unreadable,
)
from curator.result.layout import ALONE, CONTACT_SHEET, QUARANTINE, REPORT, content_hash, write_json
from curator.result.pages import ROWS, ROWS_END
from curator.result.parquet import WRITER
from curator.result.read import Rows
from curator.sources.files import own_files
from curator.sources.labels import encoded_labels
from curator.sources.table import ORIGINAL
from curator.system import clear_leftovers, open_regular, read_file, replace_folder, workspace
from curator.text import Log, did_you_mean

# Top level of a version, but for the splits of an imagefolder.
ALSO = "also"  # of the second right labels
WRITTEN = {"README.md", "clean", FACTS, "data", "images", "issues.csv", "labels.csv", "report"}
COPIED = ("README.md", FACTS, "data", "issues.csv", "report", QUARANTINE)  # of a run, to a version


@dataclass
class Version:
    """A version that is ready: its folder, and what the policy did.

    Attributes:
        rows, clean: rows of the curated split in the configs of these names.
        changed: labels that are not the given ones.
        bytes: of all files.
        unlabelled: rows of other splits that are in no class's folder of an imagefolder, and so left out.
        leaks: rows that were left out since they stand in the training split; None where they were not asked for.
        gone: splits of which no row is left.
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
    unlabelled: int = 0
    leaks: int | None = None
    gone: tuple[str, ...] = ()

    def files(self) -> dict[str, Path]:
        """Its files by their paths inside it."""
        return {p.relative_to(self.folder).as_posix(): p for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def describe(self) -> str:
        """One line."""
        least = self.facts["published"]["min_confidence"]
        sure = f" (nets at least {least:g} sure)" if self.policy == "relabel" else ""
        left = f"; left out: {self.unlabelled:,} rows of other splits without a label" if self.unlabelled else ""
        left += f"; left out: {self.leaks:,} rows that stand in the training split" if self.leaks is not None else ""
        left += f", which are all of {', '.join(self.gone)}" if self.gone else ""
        size = f"{self.bytes / 2**20:,.1f} MiB{left}"
        return (
            f"{self.policy}{sure}: {self.rows:,} rows, {self.changed:,} labels changed, {self.verified:,} verified and "
            f"{self.dropped:,} dropped by reviewers, {self.clean:,} rows in config clean, {size}"
        )


@contextmanager
def prepared(
    run: Path,
    policy: str,
    *,
    min_confidence: float = 0.9,
    journal: Path | None = None,
    format: str = "parquet",
    drop_leaks: bool = False,
    beside: Path | None = None,
) -> Iterator[Version]:
    """A version in a temporary folder (beside the path, to be renamed to it), removed at the end of the block.

    Args:
        run: output folder of a finished run.
        policy: one of POLICIES.
        min_confidence: in [0, 1], for relabel: how sure the nets must be of a label that nobody verified.
        journal: file of the decisions; by default the run's, if it has one.
        format: one of FORMATS; an imagefolder holds config default only.
        drop_leaks: leave out rows of other splits that stand in the training split.
        beside: where the folder will be renamed to.

    Raises:
        CuratorError: for a folder that is no finished run, an unknown policy, a journal of other rows.
    """
    for flag, value, known in (("--policy", policy, POLICIES), ("--format", format, FORMATS)):
        if value not in known:
            raise CuratorError(
                f"{flag}: expected one of {', '.join(known)}{did_you_mean(value, known)}; found {value!r}"
            )
    require_share(min_confidence)
    own_files(run, *COPIED)  # before any of them is opened
    rows = Rows(run)
    if format == "imagefolder" and rows.facts["image_column"] is None:
        raise CuratorError("--format imagefolder: the run has no images; leave the flag out")
    leaks = leaks_of(rows) if drop_leaks else {}
    people: dict[str, Any] = {"reviewers": {}, "decisions": {}, "audits": []}
    remarks: dict[int, tuple[str, list[str]]] = {}
    with decisions(rows, journal) as opened:
        said = without(verdict(rows, opened, policy, min_confidence), rows, leaks)
        if opened is not None:
            remarks = opened.remarks.columns()
            people = {
                "reviewers": opened.reviewers(),
                "decisions": opened.verified().counts,
                "audits": _audits(rows, opened, said, policy),
            }
    if not (inside := inside_default(said, policy)).any():
        if policy == "filter":
            raise CuratorError("--policy filter: no row is left; review some rows, or choose another policy")
        raise CuratorError(f"--drop-leaks: no row of split {rows.facts['split']!r} is left; leave the flag out")
    if beside is not None:
        beside.parent.mkdir(parents=True, exist_ok=True)
    with workspace(beside) as work:
        folder = work / "version"
        folder.mkdir()
        remarked = remark_columns(rows, remarks)
        _write_data(folder, rows, said, policy, remarked, leaks)
        before, after = (
            {split_of(path) for path in paths} for paths in (data_files(rows.folder), (folder / "data").iterdir())
        )
        unlabelled = as_imagefolder(folder, rows, said.kept, [*remarked]) if format == "imagefolder" else 0
        version = Version(
            folder, policy, rows.facts, int(inside.sum()), int(said.kept.sum()),
            int((said.labels != rows.given)[inside].sum()), int(said.verified.sum()), int(said.dropped.sum()), 0,
            unlabelled, sum(map(len, leaks.values())) if drop_leaks else None, tuple(sorted(before - after)),
        )  # fmt: skip
        published = {
            "policy": version.policy, "min_confidence": min_confidence, "format": format, "rows": version.rows,
            "clean": version.clean, "labels_changed": version.changed, "verified": version.verified,
            "dropped": version.dropped, "leaks_dropped": version.leaks, "also": int((said.also >= 0)[inside].sum()),
            **_noise(rows, said, inside), **people,
        }  # fmt: skip
        version.facts = {**rows.facts, "published": published}
        shown = rows.suggested if policy == "annotate" else said.labels
        _write_rest(folder, run, version, rows, inside, pairs(rows.given[inside], shown[inside], len(rows.classes)))
        version.bytes = sum(file.stat().st_size for file in version.files().values())
        yield version


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
    for reviewer in journal.audits.reviewers(rows.verdict):
        before, labelled = audited(rows, journal, reviewer, rows.given, rows.present)
        after, _ = audited(rows, journal, reviewer, said.labels, inside_default(said, policy) & rows.present)
        if before["estimate"] is not None and after["estimate"] is not None:
            found.append({"reviewer": reviewer, "rows": labelled, "before": before, "after": after})
    return found


def _write_data(
    folder: Path,
    rows: Rows,
    said: Verdict,
    policy: str,
    remarked: dict[str, pa.Array],
    leaks: dict[str, np.ndarray],
) -> None:
    """data/ and, where it differs, clean/: the run's files with the policy's labels, image bytes as they are.

    Columns of what people remarked stand at the end; of other splits they are empty. Rows of `leaks`, by split, are
    left out. A file is left out, too, if it would have no row: `datasets` reads none like that.
    """
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
        second = rows.prefix + ALSO if (said.also >= 0).any() else None
        if second is not None:
            if second in features:
                raise CuratorError(
                    f"the dataset has a column {second}, and reviewers found second right labels; rename it"
                )
            features[second] = features[column]
        features |= Features.from_arrow_schema(pa.schema([(name, of.type) for name, of in remarked.items()]))
        schema = features.arrow_schema
        with pq.ParquetWriter(folder / "data" / path.name, schema, **WRITER) as writer:
            apart = curated and policy != "filter" and said.kept.any()
            clean = pq.ParquetWriter(folder / "clean" / path.name, schema, **WRITER) if apart else None
            try:
                for batch in batches(file, path):
                    part, kept, here = pa.table(batch), None, slice(0, 0)
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
                    if second is not None:
                        codes = said.also[here] if curated else np.full(len(batch), -1)
                        values = encoded_labels(np.maximum(codes, 0), rows.classes, features[column])
                        part = part.append_column(
                            second, pc.if_else(pa.array(codes >= 0), values, pa.scalar(None, values.type))
                        )
                    for name, of in remarked.items():
                        part = part.append_column(name, of[here] if curated else pa.nulls(len(part), of.type))
                    part = part.cast(schema)
                    left = part.filter(kept) if kept is not None else part
                    part, left = (_not_among(t, rows.prefix + "row", leaks.get(split_of(path))) for t in (part, left))
                    writer.write_table(left if policy == "filter" else part)
                    if clean is not None:
                        clean.write_table(left)
            finally:
                if clean is not None:
                    clean.close()
        for made in (folder / "data" / path.name, folder / "clean" / path.name):
            if made.exists() and not pq.read_metadata(made).num_rows:
                made.unlink()


def _not_among(table: pa.Table, column: str, ids: np.ndarray | None) -> pa.Table:
    """The rows of a table without those of some ids."""
    return table if ids is None else table.filter(pa.array(~np.isin(table[column].to_numpy(), ids)))


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
        for name in (CONTACT_SHEET, ALONE):
            (folder / "report" / name).unlink(missing_ok=True)
        report = Path("report", REPORT)
        with reading(run / report):
            text = read_file(run / report, MOST).decode()
        without = re.sub(f"{re.escape(ROWS)}.*?{re.escape(ROWS_END)}\n\n", "", text, flags=re.DOTALL)
        (folder / report).write_text(without, encoding="utf-8")
    with open(folder / "issues.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *lines])


def _write_rest(
    folder: Path, run: Path, version: Version, rows: Rows, inside: np.ndarray, changes: list[tuple[int, int, int]]
) -> None:
    write_json(folder / FACTS, version.facts)
    _copy_findings(run, folder, None if inside.all() else set(rows.row[inside].tolist()))
    data = folder / ("data" if (folder / "data").exists() else "images")
    splits = sorted({split_of(p) if p.is_file() else p.name for p in data.iterdir()})
    with reading(run / "README.md"):
        own = own_text(read_file(run / "README.md", MOST).decode())
    content = content_hash(folder, "data", "clean", "images")
    card = dataset_card(version.facts, rows.classes, changes, splits, content, own)
    (folder / "README.md").write_text(card, encoding="utf-8")


def publish_folder(
    run: Path, target: Path, policy: str, *, overwrite: bool = False, say: Log, **options: Any
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
