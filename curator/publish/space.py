"""A run's review as a Space of the Hub: the run to a private dataset repository, and a Space that serves it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from curator.decisions.journal import FILE, Journal
from curator.errors import CuratorError
from curator.publish.build import COPIED
from curator.publish.hub import _require_ours, patiently, require_id, require_inside
from curator.publish.refusals import refusal
from curator.result.layout import OPTIONAL
from curator.result.read import Rows
from curator.sources.network import hub_limits
from curator.text import Log

RUN, REVIEWERS, STORAGE = "CURATOR_RUN", "CURATOR_REVIEWERS", "CURATOR_STORAGE"  # variables of the Space
TOKEN = "CURATOR_SPACE_TOKEN"  # of who pushes: the Space's secret; by default the one that pushes
MOUNT = "/data"
SENT = tuple(name for name in (*COPIED, *OPTIONAL) if not name.startswith("."))
FILES = {"README.md", "app.py", "requirements.txt"}  # of the Space
UNWRITTEN = {".gitattributes"}
T = TypeVar("T")


def push_space(
    run: Path,
    space: str,
    *,
    private: bool = False,
    hardware: str | None = None,
    bucket: str | None = None,
    storage: bool = True,
    reviewers: Sequence[str] = (),
    package: str | None = None,
    journal: Path | None = None,
    say: Log,
    wait: float = 1.0,
) -> str:
    """Push a run and the Space that serves its review; the Space's address. Again: the new run, the same decisions.

    Args:
        run: output folder of the run.
        space: `owner/name` of the Space, and of the private dataset that holds the run and copies of the decisions.
        private: let only those see the Space who may see the owner's private repositories.
        hardware: of the Space, as the Hub calls it.
        bucket: that holds the decisions, `owner/name` or the name alone; by default that of the Space's name.
        storage: False: no bucket; a decision is saved once a copy of it is in the dataset.
        reviewers: accounts that may decide beside the owner, or the members of an organisation; none: as before.
        package: what pip installs in the Space; by default this version of Curator.
        journal: decisions that were made already; by default the run's, if it has some.
        say: prints progress.
        wait: seconds before the second try of what failed; doubled each time.

    Raises:
        CuratorError: the same command again does the rest.
    """
    from huggingface_hub import HfApi, Volume, get_token

    require_id(space)
    owner, name = space.split("/")
    if bucket is not None and not storage:
        raise CuratorError("--bucket and --no-storage: give only one of the two")
    if odd := next((who for who in reviewers if not who or not who.replace("-", "").replace("_", "").isalnum()), None):
        raise CuratorError(f"--reviewers: expected names of accounts with commas between them, found {odd!r}")
    bucket = space if bucket is None else bucket if "/" in bucket else f"{owner}/{bucket}"
    require_id(bucket)
    token = os.environ.get(TOKEN) or get_token()
    api = HfApi()

    def tried(work: Callable[[], T], what: str) -> T:
        return patiently(work, what, space, say, wait)

    with hub_limits(), _readable(run) as rows:
        me = tried(api.whoami, "asking who you are")
        orgs = [org.get("name") for org in me.get("orgs") or []]
        if owner != me.get("name") and owner not in orgs:
            raise CuratorError(f"{space}: you are {', '.join([str(me.get('name')), *map(str, orgs)])}; choose an owner")
        tried(lambda: api.create_repo(space, repo_type="dataset", private=True, exist_ok=True), "creating the dataset")
        tried(lambda: _push_run(api, rows, space, journal), "pushing the run")
        say(f"the run is in the dataset {space}")
        if storage:
            tried(lambda: api.create_bucket(bucket, private=True, exist_ok=True), f"creating the bucket {bucket}")
        kind: dict[str, Any] = {"repo_id": space, "repo_type": "space"}
        tried(
            lambda: api.create_repo(
                **kind, space_sdk="gradio", space_hardware=hardware, private=private, exist_ok=True  # type: ignore
            ),
            "creating the Space",
        )  # fmt: skip
        tried(lambda: _require_free(api, space), "looking at the Space")
        tried(lambda: api.add_space_secret(space, "HF_TOKEN", str(token)), "giving it a token")
        values = {RUN: space, STORAGE: MOUNT if storage else ""}
        if reviewers:
            values[REVIEWERS] = ",".join(reviewers)
        for key, value in values.items():
            tried(lambda k=key, v=value: api.add_space_variable(space, k, v), f"setting {key}")  # type: ignore[misc]
        if storage:
            volume = Volume(type="bucket", source=bucket, mount_path=MOUNT, path=name)
            tried(lambda: api.set_space_volumes(space, [volume]), "mounting the bucket")
        if hardware is not None:
            tried(lambda: api.request_space_hardware(space, hardware), f"--hardware {hardware}")  # type: ignore[arg-type]
        tried(lambda: _push_files(api, rows, space, owner in orgs, package), "pushing the Space")
        private = bool(tried(lambda: api.space_info(space), "looking at the Space").private)
    if not private:
        say(f"note: the Space is public: whoever logs in sees the rows of {space}; --private hides a new one")
    if TOKEN not in os.environ:
        say(f"note: the Space has your own token as its secret; {TOKEN} names one that may write {space} alone")
    return f"{api.endpoint}/spaces/{space}"


@contextmanager
def _readable(run: Path) -> Iterator[Rows]:
    """The run, whose files are its own."""
    rows = Rows(run)
    home = run.resolve()
    for path in _files(run).values():
        if path.is_symlink() or home not in path.resolve().parents:
            raise CuratorError(f"{path}: a link; a Space is given the run's own files alone")
    yield rows


def _files(run: Path) -> dict[str, Path]:
    """What the Space needs of a run, by its path there."""
    top = [run / name for name in SENT if (run / name).exists()]
    found = [path for place in top for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return {path.relative_to(run).as_posix(): path for path in found if path.is_symlink() or path.is_file()}


def _push_run(api: Any, rows: Rows, repo: str, journal: Path | None) -> None:
    """The run's files in one commit, with the decisions there and here."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    info = api.repo_info(repo, repo_type="dataset")
    if info.private is False:
        raise CuratorError(f"the dataset {repo} is public, and a run to review holds all rows; choose another name")
    head = info.sha
    there = set(api.list_repo_files(repo, repo_type="dataset", revision=head))
    require_inside(there)
    _require_ours(there - {FILE}, repo)
    sent = _files(rows.folder)
    with tempfile.TemporaryDirectory() as work:
        sent[FILE] = Path(work) / FILE
        old = api.hf_hub_download(repo, FILE, repo_type="dataset", revision=head) if FILE in there else None
        if old is not None:
            shutil.copyfile(old, sent[FILE])
        with closing(Journal(sent[FILE], rows.facts_for_a_journal())) as merged:
            merged.require(rows.classes, rows.facts["split"], rows.digests)
            mine = journal or rows.folder / FILE
            if journal is not None or mine.exists():
                merged.merge(mine)
            merged.copy(Path(work) / "whole")
        sent[FILE] = Path(work) / "whole"
        gone = sorted(path for path in there - set(sent) if path.split("/")[0] in SENT)
        api.create_commit(
            repo, repo_type="dataset", commit_message=f"a run of {rows.facts['method']} to review", parent_commit=head,
            operations=[
                *(CommitOperationAdd(path, file) for path, file in sorted(sent.items())),
                *(CommitOperationDelete(path, is_folder=False) for path in gone),
            ],
        )  # fmt: skip


def _require_free(api: Any, space: str) -> None:
    """Refuse to write over a Space of another kind."""
    there = set(api.list_repo_files(space, repo_type="space")) - UNWRITTEN
    require_inside(there)
    if there - FILES or ("app.py" in there and "requirements.txt" not in there):
        raise CuratorError(f"{space} is a Space with files that Curator did not write; choose another name")


def _push_files(api: Any, rows: Rows, space: str, is_org: bool, package: str | None) -> None:
    from huggingface_hub import CommitOperationAdd

    written = space_files(rows, space, is_org, package)
    api.create_commit(
        space, repo_type="space", commit_message=f"review by Curator {version('label-curator')}",
        operations=[CommitOperationAdd(path, text.encode()) for path, text in written.items()],
    )  # fmt: skip


def space_files(rows: Rows, space: str, is_org: bool, package: str | None = None) -> dict[str, str]:
    """What the Space consists of, by name.

    Args:
        rows: of the run.
        space: `owner/name`.
        is_org: whether the owner is an organisation, whose members alone may then log in.
        package: what pip installs there, instead of this version.
    """
    import yaml

    head: dict[str, Any] = {
        "title": f"Review of {space.split('/')[1]}"[:60], "emoji": "🏷️", "colorFrom": "yellow", "colorTo": "gray",
        "sdk": "gradio", "sdk_version": version("gradio"), "python_version": "3.12", "app_file": "app.py",
        "pinned": False, "hf_oauth": True, "hf_oauth_expiration_minutes": 480,
        "hf_oauth_scopes": ["write-discussions"], "datasets": [space], "tags": ["label-curator"],
    }  # fmt: skip
    if is_org:
        head["hf_oauth_authorized_org"] = space.split("/")[0]
    text = files("curator.publish").joinpath("space.md").read_text(encoding="utf-8")
    return {
        "README.md": f"---\n{yaml.safe_dump(head, allow_unicode=True, sort_keys=False)}---\n\n"
        + text.replace("{space}", space),
        "app.py": '"""A review of labels; README.md says more."""\n\nfrom curator.review.space import main\n\nmain()\n',
        "requirements.txt": f"{package or 'label-curator[space]==' + version('label-curator')}\n",
    }


def pull_space(space: str, run: Path, journal: Path | None = None) -> tuple[int, str]:
    """Bring the decisions of a Space into a run's journal, each once; how many were new, and the copy's commit.

    They are those of the Space's last copy, which it makes every minute while people decide, and when it ends.

    Raises:
        CuratorError: nothing was saved.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    require_id(space)
    rows, api = Rows(run), HfApi()

    def fetch() -> tuple[str, str]:
        head = str(api.repo_info(space, repo_type="dataset").sha)
        if FILE not in api.list_repo_files(space, repo_type="dataset", revision=head):
            raise CuratorError(f"{space}: the dataset holds no decisions; was it made by label-curator space?")
        return head, api.hf_hub_download(space, FILE, repo_type="dataset", revision=head)

    what = "fetching the decisions"
    with hub_limits():
        try:
            head, copy = patiently(fetch, what, space, lambda line: None, 1.0)
        except RepositoryNotFoundError as e:
            raise refusal(404, what, space) from e
    with closing(Journal(journal or run / FILE, rows.facts_for_a_journal())) as opened:
        opened.require(rows.classes, rows.facts["split"], rows.digests)
        return opened.merge(Path(copy)), head
