"""The commands: their flags, and what they call."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from curator.cli.parse import parse, read_flags
from curator.errors import CuratorError
from curator.system import is_main
from curator.text import printable, say


def clean(argv: list[str]) -> int:
    """Find wrong labels and write the columns."""
    given = parse(argv)
    from curator.config.resolve import resolve
    from curator.curate import execute

    done = execute(resolve(given), noise_given="label_noise" in given)
    if done is not None and is_main():
        summary(done.output, done.facts)
    return 0


@dataclasses.dataclass
class Review:
    """Review the rows of a finished run that are held to be wrong, in the browser."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Output folder of the run; more runs of the same rows show where they disagree."""
    host: str = "127.0.0.1"
    """Address to serve on; any other than this machine's own needs --auth or --auth-file."""
    port: int = 7860
    """Port to serve on. Without accounts the printed address holds a token, another one at each start; the variable
    CURATOR_TOKEN sets it."""
    auth: tuple[str, ...] = ()
    """NAME:PASSWORD of everybody who may log in; decisions are theirs. Only the first may publish. Everybody on this
    machine can read a command line: --auth-file, or the variable CURATOR_AUTH (one a line), keeps them to yourself."""
    auth_file: Path | None = None
    """File with NAME:PASSWORD lines, instead of --auth."""
    reviewer: str | None = None
    """Whose decisions they are, without --auth. Default: the user's name."""
    journal: Path | None = None
    """File of the decisions. Default: review.sqlite in the first run's folder."""


def review(argv: list[str]) -> int:
    """Serve the page of a finished run."""
    flags = read_flags(Review, argv, "label-curator review")
    from curator.review.page import launch

    if not flags.runs:
        raise CuratorError("expected the output folder of a run, as in: python app.py runs/digits-promix")
    try:
        launch(
            flags.runs,
            host=flags.host,
            port=flags.port,
            auth=flags.auth,
            auth_file=flags.auth_file,
            reviewer=flags.reviewer,
            journal=flags.journal,
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
    """A Hub id (owner/name), or a folder that begins with ./ or / or is there already."""
    policy: str = "relabel"
    """annotate (the columns only), relabel (verified and confident labels take the place of the given ones), or
    filter (rows that are neither selected nor verified are out)."""
    min_confidence: float = 0.9
    """With relabel: how sure the nets must be of a label that nobody verified, 0 to 1."""
    journal: Path | None = None
    """File of the decisions. Default: review.sqlite in the run's folder."""
    format: str = "parquet"
    """Of a folder: parquet, or imagefolder (images/SPLIT/CLASS with the original bytes, and labels.csv)."""
    public: bool = False
    """Make a new repository public instead of private."""
    branch: str | None = None
    """Push to this branch instead of main."""
    create_pr: bool = False
    """Open a pull request, which needs no write access."""
    tag: str | None = None
    """Tag of the version. Default: v1, v2, ..."""
    overwrite: bool = False
    """Replace an older version in a local folder."""
    dry_run: bool = False
    """Say how many rows, labels and bytes would change, and stop."""


def publish(argv: list[str]) -> int:
    """Publish a curated version."""
    flags = read_flags(Publish, argv, "label-curator publish")
    from curator.publish import hub as publishing

    options = {name: value for name, value in vars(flags).items() if name not in ("run", "target", "policy")}
    publishing.publish(flags.run, flags.target, flags.policy, say=say, **options)
    return 0


@dataclasses.dataclass
class Diff:
    """Say what changed between two runs or versions of the same rows."""

    a: tyro.conf.Positional[str]
    """Folder of a run or a version, or a version on the Hub: owner/name, owner/name@v1."""
    b: tyro.conf.Positional[str]
    """The other one."""
    csv: Path | None = None
    """Write every row that differs to this file."""


def diff(argv: list[str]) -> int:
    """Compare two runs or versions."""
    flags = read_flags(Diff, argv, "label-curator diff")
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
    """Append decisions that were made elsewhere to the journal of a run, as one step of their reviewer."""

    run: tyro.conf.Positional[Path]
    """Output folder of the run."""
    file: tyro.conf.Positional[Path]
    """CSV or parquet: row,label (verified labels), or a table of cleanlab's label issues, which are relabelled as it
    predicts."""
    reviewer: str | None = None
    """Whose decisions they are; on the page only who has this name can undo them. Default: the file's name, or
    cleanlab."""
    journal: Path | None = None
    """File of the decisions. Default: review.sqlite in the run's folder."""


def import_(argv: list[str]) -> int:
    """Import decisions."""
    flags = read_flags(Import, argv, "label-curator import")
    from curator.review.imports import import_decisions

    try:
        done = import_decisions(flags.run, flags.file, flags.reviewer, flags.journal)
    except OSError as e:
        raise CuratorError(f"import {flags.file}: it cannot be read ({e.strerror})") from e
    print(f"{done['keep']:,} rows kept, {done['relabel']:,} relabelled; as decisions they count as verified")
    return 0


def summary(output: Path, facts: dict[str, Any]) -> None:
    """What was found, where it is and what to do next."""
    shown = printable(str(output))
    flagged = facts["n"] - facts["selected"]
    print(f"\n{flagged:,} of {facts['n']:,} labels ({flagged / facts['n']:.1%}) are held to be wrong; ", end="")
    print(f"{facts['changed']:,} get another label", end="")
    trusted = facts["trusted"]["count"]
    print(f"; {trusted:,} rows were trusted" if trusted else "")
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
        print(f"{count:,} groups of alike images have different labels: {shown}/duplicates.parquet")
    for warning in facts["warnings"]:
        print(f"warning: {printable(warning)}")
    print(f"result: {shown}/    findings: {shown}/report/report.md    rows to look at: {shown}/issues.csv")
    print(f"next:   python app.py {shown}")
