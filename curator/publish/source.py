"""A pull request to the dataset that a run was made of: other labels in its own files, and the evidence for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.evidence import FOLDER, Evidence, comment, description, thumbnails
from curator.publish.files import Source, layout_of
from curator.publish.originals import edited
from curator.publish.policy import Fix, decisions, fixes_of, require_share
from curator.result.facts import read_facts
from curator.result.read import Rows
from curator.sources.columns import quiet
from curator.sources.network import hub_limits
from curator.system import workspace
from curator.text import Log

T = TypeVar("T")
PEOPLE = "the run's verified rows"


def is_source(run: Path, repo: str) -> bool:
    """Whether a run was made of a repository of the Hub."""
    return read_facts(run)["source"].get("id") == repo


def propose(
    run: Path,
    repo: str,
    *,
    min_confidence: float | None = None,
    journal: Path | None = None,
    dry_run: bool = False,
    token: str | None = None,
    say: Log,
    wait: float = 1.0,
) -> str:
    """Open a pull request that changes label cells of the source and nothing else; its address, "" after a dry run.

    Args:
        run: output folder of a run on the repository.
        repo: owner/name.
        min_confidence: in [0, 1]; not only labels that people verified, but those of which the nets are that sure.
        journal: file of the decisions; by default the run's.
        dry_run: only say what would change.
        token: for the Hub, in whose account's name it is; by default the one of this machine.
        say: prints progress.
        wait: seconds before the second try of what failed.

    Raises:
        CuratorError: nothing was sent.
    """
    from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

    from curator.publish.hub import patiently

    if min_confidence is not None:
        require_share(min_confidence)
    api, rows = HfApi(token=token), Rows(run)
    kind: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}

    def tried(work: Callable[[], T], what: str) -> T:
        return patiently(work, what, repo, say, wait)

    with quiet(), hub_limits(), decisions(rows, journal) as opened, workspace() as work:
        fixes = fixes_of(rows, opened, min_confidence)
        changes = [fix for fix in fixes if fix.label is not None]
        if not changes:
            raise CuratorError(
                f"{repo}: nobody has given a row another label; review some rows first, or add --min-confidence to "
                "include labels that nobody verified"
            )
        head = tried(lambda: api.repo_info(**kind).sha, "looking for the repository")
        source = Source(repo, str(head), token)
        layout = tried(lambda: layout_of(source, rows.facts), "reading its files")
        found = Evidence(rows, changes, _deciders(rows, opened, changes), len(fixes) - len(changes), opened)
        edit = tried(lambda: edited(source, layout, rows, changes, _empty(work / "files")), "reading its labels")
        say(f"{len(changes):,} labels in {len(edit.files) + len(edit.moves):,} of {len(layout.files):,} files")
        if dry_run:
            say(f"would open a pull request to {repo}; {found.dropped:,} dropped rows stay in it")
            return ""
        text = description(found)
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(path, file) for path, file in sorted(edit.files.items())),
            *(CommitOperationCopy(old, new) for old, new in sorted(edit.moves.items())),
            *(CommitOperationDelete(old, is_folder=False) for old in sorted(edit.moves)),
        ]

        def commit() -> CommitInfo:
            return api.create_commit(
                **kind, operations=operations, commit_message=f"Correct {len(changes):,} labels",
                commit_description=text, create_pr=True, parent_commit=str(head),
            )  # fmt: skip

        made = tried(commit, "opening the pull request")
        number = int(str(made.pr_url).rpartition("/")[2])
        say(f"pull request: {made.pr_url}")
        try:  # the change is there, whole: what follows only shows it
            pictures = thumbnails(found)
            if pictures:
                at = _shown(api, kind, number, made.oid, pictures)
                api.comment_discussion(**kind, discussion_num=number, comment=comment(found, repo, at, pictures))
        except Exception as e:
            say(f"note: the pictures of the changed rows could not be added to it ({type(e).__name__})")
        return str(made.pr_url)


def _empty(folder: Path) -> Path:
    """The folder, new where there was one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _shown(api: Any, kind: dict[str, Any], number: int, parent: str, pictures: dict[int, bytes]) -> str:
    """Put pictures into a commit of the pull request and take them out in the next, so that it does not change them.

    The commit that has them keeps an address, by which a comment shows them.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    paths = {f"{FOLDER}/{row}.jpg": content for row, content in pictures.items()}
    reference = f"refs/pr/{number}"
    added = api.create_commit(
        **kind, operations=[CommitOperationAdd(path, content) for path, content in paths.items()],
        commit_message="Pictures of changed rows, for the discussion", revision=reference, parent_commit=parent,
    )  # fmt: skip
    api.create_commit(
        **kind, operations=[CommitOperationDelete(path, is_folder=False) for path in paths],
        commit_message="Remove them again", revision=reference, parent_commit=added.oid,
    )  # fmt: skip
    return str(added.oid)


def _deciders(rows: Rows, journal: Journal | None, changes: list[Fix]) -> dict[int, str]:
    """Who gave each changed row its label."""
    found = {}
    for fix in changes:
        name = rows.classes[fix.label] if fix.label is not None else None
        of = {} if journal is None else journal.of_row(fix.row)
        people = sorted(who for who, made in of.items() if made.label == name)
        sure = PEOPLE if rows.trusted.get(fix.row) == name else f"the method, {rows.confidence[fix.at]:.2f} sure"
        found[fix.row] = ", ".join(people) or sure
    return found
