"""The command for Spaces: its flags, and what it calls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from curator.cli.parse import read_flags
from curator.errors import CuratorError
from curator.text import command_line, printable, say


@dataclasses.dataclass
class Space:
    """Push a run, and a Space of the Hub to review it in. `space pull owner/name RUN` brings the decisions home."""

    run: tyro.conf.Positional[Path]
    """Output folder of the run."""
    space: tyro.conf.Positional[str]
    """The Space, owner/name. A private dataset of that name holds the run and copies of the decisions."""
    private: bool = False
    """Make a new Space private. In a public one whoever logs in sees the rows."""
    hardware: str | None = None
    """Hardware of the Space, as the Hub calls it. Default: cpu-basic."""
    bucket: str | None = None
    """Bucket of the Hub for the decisions. Default: the Space's name."""
    storage: bool = True
    """Without storage there is no bucket, and a decision shows as saved only once a copy is in the dataset."""
    reviewers: str = ""
    """Accounts that may decide, with commas between them, beside the owner or the members of the organisation; others
    only look. Default: as the Space has it."""
    package: str | None = None
    """What pip installs in the Space, a wheel's address say. Default: this version of label-curator."""
    journal: Path | None = None
    """File with decisions made so far, which the Space begins with. Default: review.sqlite in the run's folder."""


@dataclasses.dataclass
class Pull:
    """Bring the decisions of a Space into the run's journal, each once, as often as you like."""

    space: tyro.conf.Positional[str]
    """The Space, owner/name."""
    run: tyro.conf.Positional[Path]
    """Output folder of the run."""
    journal: Path | None = None
    """File with the decisions. Default: review.sqlite in the run's folder."""


def space(argv: list[str]) -> int:
    """Review in a Space of the Hub; space pull brings the decisions home."""
    try:
        return _pull(argv[1:]) if argv[:1] == ["pull"] else _push(argv)
    except OSError as e:
        if e.filename is None:  # perhaps of standard output, which main() tells
            raise
        raise CuratorError(f"space: {e.filename}: {e.strerror or e}") from e


def _push(argv: list[str]) -> int:
    flags = vars(read_flags(Space, argv, command_line("space")))
    from curator.publish.space import push_space

    run, name, reviewers = flags.pop("run"), flags.pop("space"), flags.pop("reviewers")
    names = [word.strip() for word in reviewers.split(",")] if reviewers else []
    address = push_space(run, name, reviewers=names, **flags, say=say)
    print(f"the Space: {printable(address)}    (the Hub builds it now)")
    print(f"later:     {command_line('space', 'pull', name, run)}")
    return 0


def _pull(argv: list[str]) -> int:
    flags = read_flags(Pull, argv, command_line("space", "pull"))
    from curator.publish.space import pull_space

    new, commit = pull_space(flags.space, flags.run, flags.journal)
    print(f"{new:,} decisions are new, of the copy {printable(commit)[:12]} in the dataset {flags.space}")
    return 0
