"""Labels that somebody edited in a published version, as in the Hub's viewer: they come back as decisions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from curator.errors import CuratorError
from curator.publish.diff import difference
from curator.publish.hub import require_id
from curator.publish.refusals import explained
from curator.result.facts import FACTS
from curator.result.read import Rows
from curator.sources.network import hub_limits

CARD = "README.md"


def is_version(name: str) -> bool:
    """Whether a name is a version on the Hub (owner/name, owner/name@revision) and no file."""
    repo = re.fullmatch(r"[\w.-]+/[\w.-]+(@.+)?", name)
    return repo is not None and not name.endswith((".csv", ".parquet")) and not Path(name).exists()


def edited_labels(name: str, rows: Rows) -> list[tuple[int, Any]]:
    """(row, label there) of the rows whose label is another than in the version that Curator pushed.

    Args:
        name: owner/name@revision; the revision may be a branch, a commit or a pull request (refs/pr/1).
        rows: of the run that the version was made of, or of another on the same rows.

    Raises:
        CuratorError: for what is no version, or one of other rows.
    """
    repo, _, revision = name.partition("@")
    require_id(repo)
    found = difference(f"{repo}@{_tag(repo, revision or 'main', name)}", name)
    ours, theirs = rows.facts, found.b.facts
    same = [theirs.get(key) == ours.get(key) for key in ("source_fingerprint", "split", "label_column")]
    if not all(same):
        raise CuratorError(
            f"import {name}: it is a version of other rows: expected the source, split and label column of "
            f"{rows.folder}; name the run that it was published from"
        )
    return [(row, found.b.rows[row][0]) for row in found.differ["label"]]


def _tag(repo: str, revision: str, name: str) -> str:
    """The tag of the version that a revision was edited from: it has the same curation.json."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()

    def files(at: str) -> dict[str, str]:
        found = api.get_paths_info(repo, [FACTS, CARD], revision=at, repo_type="dataset")
        return {file.path: file.blob_id for file in found if isinstance(file, RepoFile)}

    try:
        with hub_limits():
            here = files(revision)
            tags = {tag.name: files(tag.target_commit) for tag in api.list_repo_refs(repo, repo_type="dataset").tags}
    except Exception as e:
        error = explained(e, "reading", name)
        if error is None:
            raise
        raise error from e
    same = [tag for tag, there in tags.items() if FACTS in here and there.get(FACTS) == here[FACTS]]
    if not same:
        raise CuratorError(
            f"import {name}: expected a version that label-curator publish has pushed and somebody has edited; no tag "
            f"of {repo} has the same {FACTS}"
        )

    def newest(tag: str) -> tuple[bool, int]:
        number = re.fullmatch(r"v([0-9]{1,6})", tag)
        return tags[tag].get(CARD) == here.get(CARD), int(number[1]) if number else -1

    return max(same, key=newest)
