"""The report: what a run found, the answer first; report.md with its plots, and report.html in one file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from curator.result.columns import least_clean, pairs
from curator.result.estimate import wrong_labels
from curator.result.findings import Findings
from curator.result.layout import ALONE, CONTACT_SHEET, REPORT
from curator.result.other_findings import other_findings
from curator.result.pages import (
    SHOWN,
    Block,
    Code,
    Heading,
    Line,
    Link,
    Name,
    Paragraph,
    Picture,
    Rows,
    Table,
    Text,
    as_html,
    as_markdown,
    percent,
)
from curator.result.plots import CONTACT, draw
from curator.sources.images import source_files
from curator.sources.texts import texts_of
from curator.text import name_of, public_command

CLASSES = 50  # in the table of classes
TEXT = 200  # characters of a text
DEFAULT = "runs"  # folder in which runs lie unless somebody says otherwise


def write_report(folder: Path, findings: Findings, output: Path) -> None:
    """Write report.md, its plots and report.html to folder/report, of a run whose folder will be output."""
    out = folder / "report"
    out.mkdir(parents=True)
    plots = draw(out, findings)
    title = (Name(findings.table.name), ", cleaned by ", Name(findings.facts["method"]))
    blocks = list(_blocks(findings, plots, output))
    (out / REPORT).write_text(as_markdown(title, blocks), encoding="utf-8")
    (out / ALONE).write_text(as_html(title, blocks, out), encoding="utf-8")


def _blocks(findings: Findings, plots: list[tuple[str, str]], output: Path) -> Iterator[Block]:
    table, columns, classes = findings.table, findings.columns, findings.table.classes
    yield from _answer(findings)
    yield from _next(findings, output)
    yield from _examples(findings, [title for file, title in plots if file == CONTACT_SHEET])
    yield from _by_class(findings)
    yield Heading("Most frequent changes")
    changes = pairs(table.labels, columns.corrected, len(classes))
    yield Table(("given", "suggested", "rows"), [(Name(classes[a]), Name(classes[b]), f"{n:,}") for a, b, n in changes])
    yield from _truth(findings)
    yield from _accuracy(findings)
    yield from _stages(findings)
    aside = [*_set_aside(findings), *_alike(findings), *other_findings(findings)]
    if aside:
        yield Rows(aside)
    for file, title in plots:
        if file != CONTACT_SHEET:
            yield Heading(title)
            yield Picture(file, title)
    yield from _made(findings)


def _answer(findings: Findings) -> Iterator[Block]:
    """How many labels are wrong, and how sure that is."""
    facts, columns = findings.facts, findings.columns
    n, flagged, trusted = facts["n"], facts["n"] - facts["selected"], facts["trusted"]["count"]
    what = f"{flagged:,} labels ({percent(flagged / n)}) are flagged, {facts['changed']:,} get a new label."
    if findings.table.truth is not None:
        wrong = int((findings.table.labels != findings.table.truth).sum())
        yield Paragraph(f"{wrong:,} of {n:,} labels ({percent(wrong / n)}) are wrong.", answer=True)
        yield Paragraph(f"That is certain: the source has the true labels. {what}")
    else:
        doubt = float(np.sum(1 - columns.clean_score.astype(np.float64)))
        found = wrong_labels(facts["method"] if _by_rule(facts) else "", n, flagged, doubt)
        about = f"About {_rough(found.about)} of {n:,} labels ({percent(found.about / n)}) are wrong"
        look = "An audit tells it of these rows, with a 95 % interval: 100 random rows, labelled on the review page."
        if found.low is None or found.high is None:
            yield Paragraph(f"{about}, by a rough count.", answer=True)
            sure = (
                f"The clean scores add up to {_rough(doubt)} wrong labels; how far off that is has not been measured."
            )
        else:
            yield Paragraph(f"{about}: between {_rough(found.low)} and {_rough(found.high)}.", answer=True)
            sure = (
                "On the datasets that the method was measured on, the truth was in this interval in 9 of 10 runs; "
                "where people confuse classes in one and the same way, more labels may be wrong."
            )
        yield Paragraph(f"{what} {sure} {look}")
    for warning in facts["warnings"]:
        yield Paragraph(("Warning: ", Name(warning, 300)), answer=True)
    if trusted:
        yield Paragraph((
            f"{trusted:,} rows are verified (", Name(str(facts["settings"]["verified"]), 200), "); the verified label "
            f"of {facts['trusted']['relabelled']:,} differs from the given one. Figures against the truth are without "
            "verified rows.",
        ))  # fmt: skip


def _by_rule(facts: dict) -> bool:
    """Whether the flags are the method's own, and not a number of rows that the user asked for."""
    return facts["settings"].get("flag_worst") is None


def _rough(count: float) -> str:
    """A number of rows as exactly as an estimate is: two digits that count."""
    digits = max(0, len(str(round(count))) - 2)
    return f"{round(count, -digits):,.0f}"


def _next(findings: Findings, output: Path) -> Iterator[Block]:
    yield Heading("What to do next")
    name = name_of(str(output))  # a result says nothing of where on a machine it was made, but in the usual folder
    run = shlex.quote(f"{DEFAULT}/{name}" if output.absolute().parent.name == DEFAULT else name)
    yield Paragraph((
        "Review the flagged rows, then publish what was decided, where ", Name(run, 200), " is the folder of this run:",
    ))  # fmt: skip
    yield Code([f"{public_command('review')} {run}", f"{public_command('publish')} {run} owner/name"])
    images = findings.table.text_column is None
    shown = "issues.csv has all flagged rows, the least clean first" + (", with their files." if images else ".")
    yield Paragraph((Link("issues.csv", "../issues.csv"), shown.removeprefix("issues.csv")))


def _examples(findings: Findings, sheets: list[str]) -> Iterator[Block]:
    """The least clean rows, with what they show."""
    table, columns, classes = findings.table, findings.columns, findings.table.classes
    column = table.text_column
    worst = least_clean(columns, SHOWN if column is None else CONTACT)
    if not len(worst):
        return
    rows = table.data.select(worst)
    shown = source_files(rows, table.image_column, table.access) if column is None else texts_of(rows, column)[0]
    named, lines = any(shown), []
    for i, what in zip(worst.tolist(), shown, strict=True):
        labels = [Name(classes[table.labels[i]]), Name(classes[columns.corrected[i]])]
        line: list[Line] = [str(columns.rows[i]), f"{columns.clean_score[i]:.3f}", *labels]
        lines.append([*line, Name(what, TEXT)] if named else line)
    head = "row", "score", "given", "suggested", *(["file" if column is None else "text"] if named else [])
    sheet = [Picture(CONTACT_SHEET, title) for title in sheets]
    yield Rows([Heading("The least clean rows"), Table(head, lines), *sheet])


def _by_class(findings: Findings) -> Iterator[Block]:
    """Every class: how many of its labels are flagged, and as what they are mostly taken."""
    columns, given, classes = findings.columns, findings.table.labels, findings.table.classes
    k = len(classes)
    rows, flagged = np.bincount(given, minlength=k), np.bincount(given[~columns.selected], minlength=k)
    order = sorted(range(k), key=lambda c: (-flagged[c], -rows[c], c))[:CLASSES]
    lines = []
    for c in order:
        others = np.bincount(columns.corrected[(given == c) & (columns.corrected != c)], minlength=k)
        mostly = (Name(classes[others.argmax()]), f" ({others.max():,})") if others.any() else "–"
        share = percent(flagged[c] / rows[c]) if rows[c] else "–"
        lines.append((Name(classes[c]), f"{rows[c]:,}", f"{flagged[c]:,}", share, mostly))
    yield Heading("By class")
    if k > CLASSES:
        yield Paragraph(f"The {CLASSES} of {k:,} classes with the most flagged labels.")
    yield Table(("given class", "rows", "flagged", "share", "mostly suggested"), lines)


def _truth(findings: Findings) -> Iterator[Block]:
    found = [(name, f"{value:.4f}") for name, value in findings.facts.get("metrics", {}).items() if value is not None]
    if found:
        yield Heading("Against the truth")
        yield Table(("figure", "value"), found)


def _accuracy(findings: Findings) -> Iterator[Block]:
    """The other splits, where they were scored while the nets trained."""
    splits = findings.facts.get("accuracy", {})
    if not splits:
        return
    rows = [(f"{split}, {name}", found) for split, by in splits.items() for name, found in by.items()]
    epochs = sorted({epoch for _, found in rows for epoch in found["epochs"]})[-SHOWN:]
    by_epoch = [dict(zip(found["epochs"], found["by_epoch"], strict=True)) for _, found in rows]
    yield Heading("Accuracy of the nets on other splits")
    lines = []
    for name, found in rows:
        best = (f"{found['best']:.4f}", str(found["best_epoch"]))
        lines.append((Name(name), f"{found['last']:.4f}", *best, f"{found['mean_of_last_10']:.4f}"))
    yield Table(("split", "last", "best", "at epoch", "mean of the last 10"), lines)
    cells = [[f"{found[epoch]:.4f}" if epoch in found else "" for found in by_epoch] for epoch in epochs]
    heads: list[Text] = ["epoch", *(Name(name) for name, _ in rows)]
    yield Table(heads, [(str(epoch), *row) for epoch, row in zip(epochs, cells, strict=True)])
    yield Paragraph("The last epochs that were scored; curation.json has all of them.")


def _stages(findings: Findings) -> Iterator[Block]:
    """What a method hands from stage to stage, where the truth is known."""
    for stage, parts in findings.facts.get("stages", {}).items():
        yield Heading((Name(stage.capitalize()),))
        yield Table(
            ("", "rows", "right"),
            [
                (Name(name), f"{found['rows']:,}", "" if found["right"] is None else str(found["right"]))
                for name, found in parts.items()
            ],
        )


def _set_aside(findings: Findings) -> Iterator[Heading | Paragraph | Table]:
    """Rows that no method could read."""
    aside = findings.quarantine
    if aside:
        yield Heading("Rows set aside")
        yield Paragraph(f"{len(aside):,} rows could not be used (quarantine.parquet has all of them).")
        yield Table(
            ("split", "row", "file", "reason"),
            [
                (Name(a["split"]), str(a["row"]), Name(a.get("file", ""), 120), Name(a["reason"], 150))
                for a in aside[:SHOWN]
            ],
        )


def _alike(findings: Findings) -> Iterator[Heading | Paragraph | Table]:
    """Images or texts that are there more than once, with different labels."""
    alike, given, classes = findings.duplicates, findings.table.labels, findings.table.classes
    count = len(np.unique(alike.groups))
    if not count:
        return
    lines = []
    for group in range(min(SHOWN, count)):
        of_group = np.flatnonzero(alike.groups == group)
        here, files = alike.positions[of_group], [findings.alike_files[i] for i in of_group[:SHOWN]]
        cells: list[str | Name] = []
        for row, file in zip(findings.columns.rows[here[:SHOWN]], files, strict=True):
            cells.append(", " * bool(cells) + str(row))
            cells += [" (", Name(file, 120), ")"] if file else []
        labels = ", ".join(sorted({classes[c] for c in given[here]}))
        lines.append((cells, Name(labels, 120), "near" if alike.near[of_group[0]] else "exact"))
    yield Heading(f"The same {'image' if findings.table.text_column is None else 'text'}, different labels")
    where = "(duplicates.parquet; on the page: show duplicates)"
    yield Paragraph(f"{len(alike.positions):,} rows in {count:,} groups {where}.")
    yield Table(("rows", "given labels", "match"), lines)


def _made(findings: Findings) -> Iterator[Block]:
    facts = findings.facts
    yield Heading("How it was made")
    if picked := facts.get("findings", {}).get("auto"):
        yield Paragraph((Name(facts["method"]), " was picked by --method auto: ", Name(picked["why"], 300), "."))
    yield Paragraph((
        "By ", Name(facts["method"]), f" in {facts['seconds']:,.0f} s on ", Name(str(facts["device"])),
        "; all settings, versions and figures are in ", Link("curation.json", "../curation.json"), ". Again:",
    ))  # fmt: skip
    yield Paragraph(Name(facts["command"], 1000))
