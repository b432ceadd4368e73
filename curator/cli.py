"""The command line: flags to settings, errors to one line, signals to exit codes."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import itertools
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import tyro

from curator.errors import CuratorError
from curator.system import did_you_mean, printable, rank, say

USAGE = "usage: label-curator clean | review | publish | diff | import [FLAGS]    (--help lists the flags)"


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1, 2, 130 (Ctrl-C), 141 (nobody reads its output) or 143 (SIGTERM)."""
    _open_streams()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()  # not when Python ends, which would complain of a closed pipe in words of its own
    except OSError as e:
        error = _lost_output() if _is_of_a_stream(e) else None
        if error is None:
            raise
        if not isinstance(error, BrokenPipeError):
            print(f"error: standard output: {error.strerror}", file=sys.stderr)
            return 1
        return 141


def _run(argv: list[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        return 0 if argv and argv[0] in ("-h", "--help") else 2

    def terminate(signum: int, frame: object) -> None:
        with contextlib.suppress(OSError):  # not print: it may be at work itself at this moment
            os.write(2, f"terminated: {STOPPED[argv[0]]}\n".encode())
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, terminate)
    _die_with_launcher()
    try:
        return COMMANDS[argv[0]](argv[1:])
    except CuratorError as e:
        say(f"error: {_brief(str(e))}")
        return e.exit_code
    except KeyboardInterrupt:
        print(f"interrupted: {STOPPED[argv[0]]}", file=sys.stderr)
        return 130
    except MemoryError:
        print("error: this machine has not enough free memory; end other programs and try again", file=sys.stderr)
        return 1
    except Exception as e:  # a fault of ours; its text may quote a stranger's file
        if _is_of_a_stream(e):
            raise
        for line in traceback.format_exc().splitlines():
            say(line)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_of_a_stream(e: Exception) -> bool:
    """Whether an error may be of standard output: a pipe that nobody reads, a full disk behind it."""
    return isinstance(e, OSError) and e.filename is None and e.errno in (errno.EPIPE, errno.ENOSPC)


def _open_streams() -> None:
    """Let the standard streams that the caller closed lead nowhere; else the next file that is opened would be one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115


def _lost_output() -> OSError | None:
    """Why a standard stream cannot be written, a pipe that nobody reads say; it leads nowhere from then on."""
    found = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            os.write(stream.fileno(), b"\n")  # where nothing is buffered, only writing tells
        except io.UnsupportedOperation:  # no stream of the system's
            continue
        except OSError as e:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            found = e
    return found


def console() -> None:
    """Entry point of the console script."""
    sys.exit(main())


def clean(argv: list[str]) -> int:
    """Find wrong labels and write the columns."""
    given = parse(argv)
    from curator.curate import execute
    from curator.settings import resolve

    done = execute(resolve(given), noise_given="label_noise" in given)
    if done is not None and rank() == 0:
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
    flags = _tyro(Review, argv, "label-curator review")
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
    flags = _tyro(Publish, argv, "label-curator publish")
    from curator.curation import publish as publishing

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
    flags = _tyro(Diff, argv, "label-curator diff")
    from curator.curation.diff import difference

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
    flags = _tyro(Import, argv, "label-curator import")
    from curator.review.imports import import_decisions

    try:
        done = import_decisions(flags.run, flags.file, flags.reviewer, flags.journal)
    except OSError as e:
        raise CuratorError(f"import {flags.file}: it cannot be read ({e.strerror})") from e
    print(f"{done['keep']:,} rows kept, {done['relabel']:,} relabelled; as decisions they count as verified")
    return 0


COMMANDS = {"clean": clean, "review": review, "publish": publish, "diff": diff, "import": import_}
STOPPED = {
    "clean": "the same command continues from the last checkpoint",
    "review": "every decision that showed as saved is in the journal",
    "publish": "the target holds the whole version or nothing of it; run the same command again",
    "diff": "nothing was changed",
    "import": "the journal holds all of the file or nothing of it; run the same command again",
}


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


def parse(argv: list[str]) -> dict[str, Any]:
    """The flags that were given, typed, by their names with underscores; hyperparameters as "method.NAME".

    Raises:
        CuratorError: for what tyro refuses, as one line.
        SystemExit: 0, after printing the help.
    """
    from curator.flags import Settings
    from curator.settings import hyperparameters, resolve

    wants_help = any(a in ("-h", "--help") for a in argv)
    words = [a for a in argv if a not in ("-h", "--help")]
    peeked = ("dataset", "method", "ensemble", "recipe", "label-noise", "net", "backbone", "features-column")
    named = {k: v for k in peeked if (v := _value_of(words, k)) is not None}
    if "ensemble" in named:  # resolve says that hyperparameters do not go with it
        named |= {w[2:].split("=")[0]: "" for w in words if w.startswith("--method.")}
    try:
        shown = resolve(dict(named))
    except CuratorError:
        if not wants_help:
            raise
        shown = resolve({})
    flags = Annotated[Settings, tyro.conf.arg(name="")]
    fields, defaults = [("flags", flags)], {"flags": shown.settings}
    if dataclasses.is_dataclass(shown.method):  # an ensemble's hyperparameters are in recipes
        fields.append(("hyper", Annotated[type(shown.method), tyro.conf.arg(name="method")]))
        defaults["hyper"] = shown.method
    both = dataclasses.make_dataclass("clean", fields)
    try:
        parsed = _tyro(
            both, [*words, *(["--help"] if wants_help else [])], "label-curator clean", default=both(**defaults)
        )
    except CuratorError as e:
        known = [
            "--" + n.replace("_", "-")
            for n in (*vars(shown.settings), *(f"method.{n}" for n in hyperparameters(shown.method)))
        ]
        unknown = next((w for w in words if w.startswith("--") and w.split("=")[0] not in known), "")
        hint = did_you_mean(unknown, known) if "Unrecognized" in str(e) else ""
        raise CuratorError(str(e).replace(" (--help", f"{hint} (--help")) from e
    given = {}
    for word in words:
        name = word[2:].split("=")[0].replace("-", "_") if word.startswith("--") else ""
        head, _, last = name.rpartition(".")
        name = f"{head}.{last.removeprefix('no_')}" if head else last.removeprefix("no_")
        if name.startswith("method."):
            given[name] = getattr(parsed.hyper, name.removeprefix("method."))
        elif name and hasattr(parsed.flags, name):
            given[name] = getattr(parsed.flags, name)
    return given


def _tyro(cls: type, words: list[str], prog: str, **options) -> Any:
    """tyro.cli, with its box of an error as one line."""
    for before, word in itertools.pairwise(["", *words]):
        flag, _, value = (word if word.startswith("--") and "=" in word else f"{before}={word}").partition("=")
        if not value and flag != "--column-prefix":  # whose default it is
            name = flag if flag.startswith("--") else f"{prog}: an argument"
            raise CuratorError(f"{name}: it is empty; was a variable of the shell not set?")
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return tyro.cli(cls, args=words, prog=prog, **options)
    except SystemExit as e:
        if not e.code:
            print(out.getvalue() or err.getvalue(), end="")
            raise
        raise CuratorError(_one_line(err.getvalue() or out.getvalue())) from e


def _value_of(words: list[str], flag: str) -> str | None:
    """The last value of a flag, before the flags are parsed."""
    value = None
    for word, following in itertools.zip_longest(words, words[1:]):
        name, eq, rest = word.partition("=")
        if name.replace("_", "-") == f"--{flag}":
            value = rest if eq else following
    return value


def _one_line(box: str) -> str:
    """Tyro's box of an error as one line: its words up to the rule, and the flag it thinks was meant."""
    lines = [line.strip("│╭╮╰╯─|+- ") for line in box.splitlines()][1:]  # the first line is the box's title
    text: list[str] = []
    for line in lines:
        if not line and text or line.startswith(("For full helptext", "Argument helptext")):
            break
        text += [line] * bool(line)
    return " ".join([*text, "(--help lists the flags)"])


def _brief(text: str, most: int = 1000) -> str:
    """The text as one line; what it quotes of a stranger's file may be long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most // 2]} … {line[-most // 2 :]}"


def _die_with_launcher() -> None:
    """A worker of accelerate launch or torchrun dies with its launcher, which Linux does not see to by itself."""
    if sys.platform != "linux" or not ("LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ):
        return
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
