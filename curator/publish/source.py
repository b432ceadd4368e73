"""A pull request to the dataset that a run was made of: other labels in its own files, and the evidence for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.evidence import FOLDER, Evidence, comment, description, thumbnails
from curator.publish.files import Layout, changed_since, codes_in, layout_of, rewritten
from curator.publish.policy import Fix, decisions, fixes_of, require_share
from curator.result.facts import open_parquet, read_facts
from curator.result.read import Rows
from curator.sources.network import hub_limits
from curator.system import workspace
from curator.text import Log

T = TypeVar("T")
PEOPLE = "the run's verified rows"


@dataclass
class Edit:
    """What a pull request changes: files by their new content, and files that move."""

    files: dict[str, Path]
    moves: dict[str, str]


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
        say: prints progress.
        wait: seconds before the second try of what failed.

    Raises:
        CuratorError: nothing was sent.
    """
    from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

    from curator.publish.hub import patiently

    if min_confidence is not None:
        require_share(min_confidence)
    api, rows = HfApi(), Rows(run)
    kind: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}

    def tried(work: Callable[[], T], what: str) -> T:
        return patiently(work, what, repo, say, wait)

    with hub_limits(), decisions(rows, journal) as opened, workspace() as work:
        fixes = fixes_of(rows, opened, min_confidence)
        changes = [fix for fix in fixes if fix.label is not None]
        if not changes:
            raise CuratorError(
                f"{repo}: nobody has given a row another label; review some rows first, or add --min-confidence to "
                "include labels that nobody verified"
            )
        head = tried(lambda: api.repo_info(**kind).sha, "looking for the repository")
        layout = tried(lambda: layout_of(repo, str(head), rows.facts), "reading its files")
        found = Evidence(rows, changes, _deciders(rows, opened, changes), len(fixes) - len(changes), opened)
        make = _moved if layout.images else _tables
        edit = tried(lambda: make(repo, str(head), layout, found, work), "reading its labels")
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


def _tables(repo: str, commit: str, layout: Layout, found: Evidence, work: Path) -> Edit:
    """The parquet files with changes, written anew; every label of the run must be there as it was given."""
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem, hf_hub_download

    rows, column, hub = found.rows, found.rows.facts["label_column"], HfFileSystem()
    codes, starts, total = [], [], 0
    for file in layout.files:
        with hub.open(f"datasets/{repo}@{commit}/{file}") as content:
            table = pq.ParquetFile(content)
            if column not in table.schema_arrow.names:
                raise changed_since(repo, f"{file} has no column {column}")
            values = table.read([column]).column(0)
        codes.append(codes_in(values, rows))
        starts.append(total)
        total += len(values)
    _require_labels(repo, rows, np.concatenate(codes))
    edit = Edit({}, {})
    for place, (file, start) in enumerate(zip(layout.files, starts, strict=True)):
        end = start + len(codes[place])
        here = {fix.row - start: fix for fix in found.changes if start <= fix.row < end}
        if not here:
            continue
        path = Path(hf_hub_download(repo, file, repo_type="dataset", revision=commit))
        _require_content(repo, path, rows, here)
        edit.files[file] = work / f"{place}.parquet"
        rewritten(path, edit.files[file], rows, {at: int(fix.label or 0) for at, fix in here.items()})
    return edit


def _require_labels(repo: str, rows: Rows, there: np.ndarray) -> None:
    """Refuse a source whose labels are not those that the run was given."""
    if len(there) <= rows.row.max():
        raise changed_since(repo, f"it has {len(there):,} rows, the run is of row {rows.row.max():,} too")
    differ = np.flatnonzero(there[rows.row] != rows.given)
    if len(differ):
        raise changed_since(repo, f"row {rows.row[differ[0]]} has another label than the run was given")


def _require_content(repo: str, path: Path, rows: Rows, changes: dict[int, Fix]) -> None:
    """Refuse rows that show something else than what was judged."""
    name = rows.facts["image_column"] or rows.facts.get("text_column")
    if name is None:
        return
    column = open_parquet(path).read([name]).column(0)
    for at, fix in sorted(changes.items()):
        value = column[at].as_py()
        if rows.facts["image_column"] is None:
            same = value == rows.texts(np.array([fix.at]))[0]
        else:
            same = isinstance(value, dict) and value.get("bytes") == rows.images(np.array([fix.at]))[0][0]
        if not same:
            raise changed_since(repo, f"row {fix.row} shows something else than the run has seen")


def _moved(repo: str, commit: str, layout: Layout, found: Evidence, work: Path) -> Edit:
    """The images with changes, moved to the folder of their class."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    rows, code = found.rows, {name: i for i, name in enumerate(found.rows.classes)}
    there = np.array([code.get(PurePosixPath(file).parent.name, -1) for file in layout.files])
    _require_labels(repo, rows, there)
    taken, moves = {file.lower() for file in layout.files}, {}
    for fix in found.changes:
        file = PurePosixPath(layout.files[fix.row])
        folder, number = file.parent.parent / rows.classes[int(fix.label or 0)], 0
        target = folder / file.name
        while str(target).lower() in taken:
            number += 1
            target = folder / f"{file.stem}-{number}{file.suffix}"
        taken.add(str(target).lower())
        moves[str(file)] = str(target)
    known = HfApi().get_paths_info(repo, list(moves), revision=commit, repo_type="dataset")
    ids = {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in known if isinstance(file, RepoFile)}
    for fix in found.changes:
        ((content, _),) = rows.images(np.array([fix.at]))
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        if ids.get(layout.files[fix.row]) not in (hashlib.sha256(content).hexdigest(), blob):
            raise changed_since(repo, f"row {fix.row} shows something else than the run has seen")
    return Edit({}, moves)
