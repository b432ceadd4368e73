"""The commands: their flags, and what they call."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from curator.cli.parse import parse, read_flags
from curator.errors import CuratorError
from curator.system import is_main
from curator.text import command_line, printable, say


def clean(argv: list[str]) -> int:
    """Find wrong labels in a dataset, and write it with new columns: score, selection, corrected label."""
    given = parse(argv)
    from curator.config.resolve import resolve
    from curator.curate import execute
    from curator.library.plan import Plan

    done = execute(resolve(given), noise_given="label_noise" in given)
    if not isinstance(done, Plan) and is_main():
        summary(done.output, done.facts, given)
    return 0


# Flags that the next round does not take over.
OF_THIS_RUN = ("output", "overwrite", "resume", "verified", "push_to_hub", "public", "dry_run")


@dataclasses.dataclass
class Review:
    """Review the flagged labels of a finished run in the browser."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Output folder of the run. Further runs of the same rows show where the runs disagree."""
    host: str = "127.0.0.1"
    """Address to serve on; any address other than this machine's own needs --auth or --auth-file."""
    port: int = 7860
    """Port to serve on. Without accounts the printed address contains a token, new at each start; the environment
    variable CURATOR_TOKEN sets it."""
    auth: tuple[str, ...] = ()
    """NAME:PASSWORD of everyone who may log in; decisions are stored under their names. Only the first may publish.
    Other users of this machine can see a command line: use --auth-file or the environment variable CURATOR_AUTH (one
    per line) to keep passwords private."""
    auth_file: Path | None = None
    """File with one NAME:PASSWORD per line, instead of --auth."""
    reviewer: str | None = None
    """Name under which decisions are stored, without --auth. Default: the user's name."""
    journal: Path | None = None
    """File with the decisions. Default: review.sqlite in the folder of the first run."""
    overlap: int = 1
    """People who are to decide each row: everyone sees the rows still owed, and not what others said of them."""
    adjudicator: tuple[str, ...] = ()
    """Accounts that settle the rows on which people conflict. Default: the first account."""


def review(argv: list[str]) -> int:
    """Review the flagged labels of a finished run in the browser."""
    flags = read_flags(Review, argv, command_line("review"))
    from curator.review.page import launch

    if not flags.runs:
        example = command_line("review", "runs/digits-promix")
        raise CuratorError(f"expected the output folder of a run, as in: {example}")
    try:
        launch(
            flags.runs,
            host=flags.host,
            port=flags.port,
            auth=flags.auth,
            auth_file=flags.auth_file,
            reviewer=flags.reviewer,
            journal=flags.journal,
            overlap=flags.overlap,
            adjudicator=flags.adjudicator,
        )
    except (OSError, UnicodeError) as e:
        raise CuratorError(
            f"--host {flags.host} --port {flags.port}: the page cannot be served there ({e}); choose an address of "
            "this machine and a free port"
        ) from e
    return 0


@dataclasses.dataclass
class Publish:
    """Write a curated version of a finished run to a folder, or push it to the Hub."""

    run: tyro.conf.Positional[Path]
    """Output folder of the run."""
    target: tyro.conf.Positional[str]
    """A Hub repository (owner/name), or a folder: it begins with ./ or /, or exists already."""
    policy: str = "relabel"
    """annotate (add the columns only), relabel (replace given labels by verified and confident ones), or filter (drop
    rows that are neither selected nor verified)."""
    min_confidence: float | None = None
    """With relabel: minimum confidence, 0 to 1, for a label that nobody verified. Default: 0.9; in a pull request to
    the dataset that the run was made of, only labels that people verified."""
    journal: Path | None = None
    """File with the decisions. Default: review.sqlite in the run's folder."""
    format: str = "parquet"
    """Format of a folder: parquet, or imagefolder (images/SPLIT/CLASS with the original bytes and names, and
    labels.csv)."""
    drop_leaks: bool = False
    """Leave out rows of other splits (test, say) that stand in the training split too, as the run found them
    (lookalikes.parquet)."""
    public: bool = False
    """Make a new repository public instead of private."""
    branch: str | None = None
    """Branch to push to, instead of main."""
    create_pr: bool = False
    """Open a pull request; this needs no write access. With relabel, to the dataset that the run was made of, it
    changes labels in its own files and nothing else, and shows the changed rows."""
    tag: str | None = None
    """Tag for the version. Default: v1, v2, ..."""
    overwrite: bool = False
    """Replace an earlier version in a local folder."""
    dry_run: bool = False
    """Print how many rows, labels and bytes would change, then exit."""


def publish(argv: list[str]) -> int:
    """Write a curated version of a finished run to a folder, or push it to the Hub."""
    flags = read_flags(Publish, argv, command_line("publish"))
    from curator.publish import hub as publishing

    options = {name: value for name, value in vars(flags).items() if name not in ("run", "target", "policy")}
    publishing.publish(flags.run, flags.target, flags.policy, say=say, **options)
    return 0


@dataclasses.dataclass
class Diff:
    """Show what changed between two runs or versions of the same rows."""

    a: tyro.conf.Positional[str]
    """Folder of a run or version, or a version on the Hub: owner/name or owner/name@v1."""
    b: tyro.conf.Positional[str]
    """The run or version to compare with."""
    csv: Path | None = None
    """CSV file to write all differing rows to."""


def diff(argv: list[str]) -> int:
    """Show what changed between two runs or versions of the same rows."""
    flags = read_flags(Diff, argv, command_line("diff"))
    from curator.publish.diff import difference

    found = difference(flags.a, flags.b)
    for line in found.text().split("\n"):
        print(printable(line))
    if flags.csv is not None:
        try:
            print(f"{found.write_csv(flags.csv):,} rows written to {printable(str(flags.csv))}")
        except (OSError, ValueError) as e:
            raise CuratorError(f"--csv {flags.csv}: it cannot be written ({e})") from e
    return 0


@dataclasses.dataclass
class Import:
    """Add decisions made elsewhere to the review of a run, as one step of their reviewer."""

    run: tyro.conf.Positional[Path]
    """Output folder of the run."""
    file: tyro.conf.Positional[str]
    """CSV or parquet file: row,label or file,label (verified labels; file: the path in the dataset's folder), or
    cleanlab's table of label issues, which are relabelled to its predicted labels. Or owner/name@revision: a version on
    the Hub whose labels somebody has edited since it was published."""
    reviewer: str | None = None
    """Name under which the decisions are stored; on the page only this reviewer can undo them. Default: the file's
    name, cleanlab, or owner/name."""
    journal: Path | None = None
    """File with the decisions. Default: review.sqlite in the run's folder."""


def import_(argv: list[str]) -> int:
    """Add decisions made elsewhere to the review of a run."""
    flags = read_flags(Import, argv, command_line("import"))
    from curator.publish.edits import is_version
    from curator.review.imports import import_decisions, import_edits

    try:
        if is_version(flags.file):
            done = import_edits(flags.run, flags.file, flags.reviewer, flags.journal)
        else:
            done = import_decisions(flags.run, Path(flags.file), flags.reviewer, flags.journal)
    except OSError as e:
        raise CuratorError(f"import {flags.file}: it cannot be read ({e.strerror})") from e
    print(f"{done['keep']:,} rows kept, {done['relabel']:,} relabelled; as decisions they count as verified")
    return 0


@dataclasses.dataclass
class Apply:
    """Carry verified labels into your own folder or CSV file. Without --yes it only says what would be done."""

    run: tyro.conf.Positional[Path]
    """Output folder of the run."""
    move: bool = False
    """Move image files to the folder of their class, and dropped ones to the folder NAME-dropped beside the dataset's
    (the default)."""
    csv: Path | None = None
    """CSV file with a column of files and one of labels, whose labels are to change instead."""
    folder: Path | None = None
    """Folder of the dataset. Default: the one that the run was made of, on this machine."""
    min_confidence: float | None = None
    """Also labels that nobody verified, of this confidence or more, 0 to 1."""
    journal: Path | None = None
    """File with the decisions. Default: review.sqlite in the run's folder."""
    undo: bool = False
    """Take back what was applied."""
    yes: bool = False
    """Do it."""


def apply(argv: list[str]) -> int:
    """Carry verified labels into your own folder or CSV file."""
    flags = read_flags(Apply, argv, command_line("apply"))
    from curator.publish.apply import apply_moves
    from curator.publish.relabel import apply_csv

    if flags.csv is not None and (flags.move or flags.folder is not None):
        raise CuratorError("--csv changes labels in a table and moves no files; leave out --move and --folder")
    options = {name: getattr(flags, name) for name in ("min_confidence", "journal", "undo", "yes")}
    try:
        if flags.csv is not None:
            apply_csv(flags.run, flags.csv, **options, say=lambda line: print(printable(line)))
        else:
            apply_moves(flags.run, flags.folder, **options, say=lambda line: print(printable(line)))
    except OSError as e:
        if e.filename is None:  # perhaps of standard output, which main() tells
            raise
        raise CuratorError(
            f"apply {flags.run}: {e.filename}: {e.strerror or e}; run the same command again, or --undo"
        ) from e
    return 0


def summary(output: Path, facts: dict[str, Any], given: dict[str, Any]) -> None:
    """What was found, where it is and what to do next."""
    shown = printable(str(output))
    flagged = facts["n"] - facts["selected"]
    print(f"\n{flagged:,} of {facts['n']:,} labels ({flagged / facts['n']:.1%}) are flagged; ", end="")
    print(f"{facts['changed']:,} get a new label", end="")
    trusted = facts["trusted"]["count"]
    print(f"; {trusted:,} rows were verified" if trusted else "")
    if "noisy_f1" in facts.get("metrics", {}):
        text = (
            "against the truth: precision {noisy_precision:.3f}, recall {noisy_recall:.3f}, F1 {noisy_f1:.3f} for "
            "wrong labels; label accuracy {label_accuracy_before:.3f} before, {label_accuracy_after:.3f} after"
        )
        print(text.format(**facts["metrics"]))
    if facts["quarantined"]:
        print(f"{facts['quarantined']:,} rows could not be used: {shown}/quarantine.parquet says why")
    if facts["duplicates"]["groups"]:
        count = facts["duplicates"]["groups"]
        kind = "images" if facts.get("text_column") is None else "texts"
        print(f"{count:,} groups of near-identical {kind} have different labels: {shown}/duplicates.parquet")
    for line in suspects(facts):
        print(f"{line}: {shown}/report/report.md")
    for warning in facts["warnings"]:
        print(f"warning: {printable(warning)}")
    print(f"result: {shown}/    findings: {shown}/report/report.md    flagged rows: {shown}/issues.csv")
    print(f"next:   {command_line('review', output)}")
    if "verified" not in given:  # the review does not hold what was verified before
        print(f"then:   {command_line('clean', *again(given, output))}")


def suspects(facts: dict[str, Any]) -> list[str]:
    """What else may be wrong with the rows, a line each."""
    found = []
    if (junk := facts.get("suspect", {}).get("junk", 0)) > 0:
        found.append(f"{junk:,} row(s) like nothing in the dataset")
    if faults := sum(facts.get("picture_faults", {}).values()):
        found.append(f"{faults:,} fault(s) of pictures ({', '.join(facts['picture_faults'])})")
    if leaks := facts.get("leaks", {}).get("rows", 0):
        found.append(f"{leaks:,} row(s) of other splits stand in split {printable(facts['leaks']['in'])} too")
    return found


def again(given: dict[str, Any], output: Path) -> list[str]:
    """The flags of the next round: those that were given, with what is decided by then, into a folder of its own."""
    from curator.config.flags import as_words
    from curator.decisions.journal import FILE

    number = next(i for i in range(2, 10_000) if not Path(f"{output}-{i}").exists())
    kept = {name: value for name, value in given.items() if name not in OF_THIS_RUN}
    return as_words({**kept, "verified": output / FILE, "output": f"{output}-{number}"})
