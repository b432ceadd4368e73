"""A curated version to a folder or to the Hub, where it arrives in one commit: a version is there or not."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from curator.errors import CuratorError
from curator.publish.build import Version, prepared, publish_folder, require_free
from curator.publish.refusals import CUT, explained, status_of
from curator.publish.source import is_source, propose
from curator.result.facts import FACTS
from curator.sources.network import HubLimit, hub_limits
from curator.system import is_path, user_path
from curator.text import Log

TRIES = 7
UNWRITTEN = {".gitattributes", "README.md"}  # what a new repository may hold
RETRIED = (409, 412, 429, 500, 502, 503, 504)
T = TypeVar("T")


def publish(
    run: Path,
    target: str,
    policy: str,
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    say: Log,
    public: bool = False,
    branch: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | None = None,
    **options: Any,
) -> str:
    """Publish a version of a run to a folder or to the Hub; where it is, "" after a dry run.

    A pull request with policy relabel to the repository that the run was made of changes labels in its own files.

    Args:
        run: output folder of the run.
        target: a Hub id (owner/name), or a folder that begins with ./ or / or is there already.
        policy: one of POLICIES.
        dry_run: only say what would change.
        overwrite: replace an older version in a folder.
        say: prints progress.
        public: make a new repository public.
        branch: commit there instead of to main.
        create_pr: open a pull request instead.
        tag: of the version.
        token: for the Hub; by default the one of this machine.
        **options: of prepared().

    Raises:
        CuratorError: the target holds the whole version or nothing of it.
    """
    hub: dict[str, Any] = {"public": public, "branch": branch, "create_pr": create_pr, "tag": tag}
    to_folder = is_path(target)
    unfit = next((f"--{name.replace('_', '-')}" for name, value in hub.items() if value), None)
    if to_folder and unfit:
        raise CuratorError(f"{unfit} is for the Hub; {target} is a folder")
    if not to_folder:
        require_id(target)
        if overwrite:
            raise CuratorError("--overwrite is for folders; on the Hub every version is a commit with a tag")
        if options.get("format", "parquet") != "parquet":
            raise CuratorError("--format imagefolder is for folders; the Hub shows and streams parquet")
        require_names(branch=branch, tag=tag)
    folder = user_path(target) if to_folder else None
    if options.get("min_confidence") is None:
        options.pop("min_confidence", None)
    try:
        if create_pr and policy == "relabel" and is_source(run, target):
            if branch or tag or options.get("drop_leaks"):
                raise CuratorError(
                    "--branch, --tag, --drop-leaks: a pull request to the source changes labels alone; leave them out"
                )
            known = {name: options[name] for name in ("min_confidence", "journal") if name in options}
            return propose(run, target, **known, dry_run=dry_run, token=token, say=say)
        if dry_run:
            if folder is not None:
                require_free(folder, overwrite=True)
            with prepared(run, policy, **options) as version:
                say(f"would publish {version.describe()}")
                say(_would_send(version, folder or target, branch, create_pr, token))
            return ""
        if folder is not None:
            return str(publish_folder(run, folder, policy, overwrite=overwrite, say=say, **options).folder)
        return publish_hub(run, target, policy, **hub, token=token, say=say, **options)[1]
    except OSError as e:
        raise CuratorError(f"publish {run}: {e.filename or target}: {e.strerror or e}") from e


def _would_send(
    version: Version, target: Path | str, branch: str | None, create_pr: bool, token: str | None = None
) -> str:
    """How many of the version's files and bytes the target does not hold as they are, and how many of its go."""
    there: dict[str, str] = {}
    if isinstance(target, Path):
        there = {p.relative_to(target).as_posix(): _hash(p, "sha256") for p in target.rglob("*") if p.is_file()}
        gone = set(there) - set(version.files())
    else:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
        from huggingface_hub.hf_api import RepoFile

        try:
            with hub_limits():
                for found in HfApi(token=token).list_repo_tree(
                    target, recursive=True, revision=branch, repo_type="dataset"
                ):
                    if isinstance(found, RepoFile):
                        there[found.path] = found.lfs.sha256 if found.lfs else found.blob_id
            require_inside(there)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            pass  # all of it is new
        except Exception as e:
            error = explained(e, "looking", target)
            if error is None:
                raise
            return f"what {target} holds could not be asked: {error}"
        if not branch and not create_pr:
            _require_ours(set(there), target)
        gone = _replaced(set(there), version)
    new = [
        path.stat().st_size
        for name, path in version.files().items()
        if there.get(name) not in (_hash(path, "sha256"), _hash(path, "git"))
    ]
    return (
        f"{len(new)} files, {sum(new) / 2**20:,.1f} MiB, would be written to {target}; "
        f"{len(gone)} of its files would be removed"
    )


def _require_ours(there: set[str], repo: str) -> None:
    """Refuse to put a version among files of somebody else."""
    if there - UNWRITTEN and FACTS not in there:
        raise CuratorError(
            f"{repo} holds files that no version of Curator wrote; push to another id, or with --branch or --create-pr"
        )


def _replaced(there: set[str], version: Version) -> set[str]:
    """Files of an older version that this one does not have."""
    return {path for path in there - set(version.files()) if path.split("/")[0] in ("data", "clean", "report")}


def _hash(path: Path, kind: str) -> str:
    """Of a file's content: SHA-256, or git's id of it, by which the Hub knows large and small files."""
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def publish_hub(
    run: Path,
    repo: str,
    policy: str,
    *,
    public: bool = False,
    branch: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | None = None,
    say: Log,
    wait: float = 1.0,
    **options: Any,
) -> tuple[Version, str]:
    """Push a version in one commit; the version and the address of the commit or pull request.

    Args:
        run: output folder of the run.
        repo: `owner/name`; made, private unless public, where it is not there.
        policy: one of POLICIES.
        public: for a new repository only.
        branch: commit there instead of to main; made where it is not there.
        create_pr: open a pull request instead, which needs no write access.
        tag: of this version; by default v1, v2, …; a pull request gets none.
        token: for the Hub; by default the one of this machine.
        say: prints progress.
        wait: seconds before the second try of what failed; doubled each time.
        **options: of prepared().

    Raises:
        CuratorError: the repository holds the whole version or nothing of it.
    """
    from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    require_id(repo)
    if create_pr and branch:
        raise CuratorError("--branch and --create-pr: a pull request is made against main; give only one")
    api = HfApi(token=token)
    kind: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}

    def tried(work: Callable[[], T], what: str) -> T:
        return patiently(work, what, repo, say, wait)

    with hub_limits(), prepared(run, policy, **options) as version:
        say(version.describe())
        if not version.facts["source"].get("license"):
            say("note: the license of the source is not known, so the card names none; its README.md should name it")
        try:
            there_already = tried(lambda: api.repo_info(**kind), "looking for the repository")
            if there_already.private is False and not public:
                say(f"note: {repo} is public: everyone will see this version")
            elif public and there_already.private:
                say(f"note: {repo} exists already and is private; --public does not change that")
        except RepositoryNotFoundError:
            tried(lambda: api.create_repo(**kind, private=not public, exist_ok=True), "creating the repository")
        if branch:
            tried(lambda: api.create_branch(**kind, branch=branch, exist_ok=True), f"creating branch {branch}")
        settings = version.facts["settings"]
        message = (
            f"{policy} by {version.facts['method']}, seed {version.facts['seed']}, "
            f"{version.facts['dataset']} {settings.get('revision') or ''}".strip()
        )

        def commit() -> CommitInfo:
            """All of the version against the head as it is now; if it moves meanwhile, tried again with the new one."""
            head = api.repo_info(**kind, revision=branch).sha
            if not isinstance(head, str) or not re.fullmatch(r"[0-9a-f]{7,64}", head):
                raise ValueError(f"its head is {head!r}")
            there = set(api.list_repo_files(**kind, revision=head))
            require_inside(there)
            if not branch and not create_pr:
                _require_ours(there, repo)
            files = version.files()
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                *(CommitOperationAdd(path, file) for path, file in sorted(files.items())),
                *(CommitOperationDelete(path, is_folder=False) for path in sorted(_replaced(there, version))),
            ]
            made = api.create_commit(
                **kind, operations=operations, commit_message=message, commit_description=version.describe(),
                revision=branch, create_pr=create_pr, parent_commit=head,
            )  # fmt: skip
            if not isinstance(made.oid, str) or not isinstance(made.commit_url, str):
                raise ValueError("it names no commit")
            return made

        def put_tag() -> str:
            tags = {t.name: t.target_commit for t in api.list_repo_refs(**kind).tags}
            name = tag or next_tag(list(tags))
            if tags.get(name) != done.oid:
                api.create_tag(**kind, tag=name, revision=done.oid, exist_ok=False)
            return name

        if tag and tag in [t.name for t in tried(lambda: api.list_repo_refs(**kind), "reading tags").tags]:
            raise CuratorError(f"--tag {tag}: {repo} has that tag; choose another")
        done = tried(commit, "pushing")
        if create_pr:
            say(
                f"pull request: {done.pr_url}" if done.pr_url else "nothing differs from main: no pull request was made"
            )
            return version, str(done.pr_url)
        name = tried(put_tag, "creating a tag")
        say(f"pushed to {done.commit_url}, tag {name}")
        return version, str(done.commit_url)


def require_id(repo: str) -> None:
    """Refuse what is no Hub id with an owner."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        if "/" not in repo:
            raise HFValidationError("no owner")
    except HFValidationError as e:
        raise CuratorError(f"expected a Hub id as owner/name, found {repo!r}; a folder begins with ./ or /") from e


def require_names(**names: str | None) -> None:
    """Refuse names of branches and tags that git does not take, before anything is pushed."""
    for flag, name in names.items():
        fits = name is None or re.fullmatch(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)*", name)
        if not fits or ".." in (name or "") or (name or "").endswith((".", ".lock")):
            raise CuratorError(f"--{flag}: expected a name of letters, digits, '.', '-', '_' and '/', found {name!r}")


def require_hub(repo: str) -> None:
    """Refuse an id that is not one, and a Hub that does not know who we are or would not let us write there.

    Raises:
        CuratorError: with what to do about it.
    """
    from huggingface_hub import HfApi

    require_id(repo)

    def ask() -> tuple[Any, list[Any]]:
        me: dict[str, Any] = HfApi().whoami()
        role = ((me.get("auth") or {}).get("accessToken") or {}).get("role")
        return role, [me.get("name"), *(org.get("name") for org in me.get("orgs") or [])]

    with hub_limits():
        role, owners = patiently(ask, "asking who you are", repo, lambda line: None, 1.0)
    if role == "read" or repo.split("/")[0] not in owners:
        why = "the token may only read" if role == "read" else f"you are {', '.join(map(str, owners))}"
        raise CuratorError(f"--push-to-hub {repo}: {why}; use a token that may write there, or another id")


def next_tag(tags: list[str]) -> str:
    """v1, v2, …: one more than the largest that is there."""
    return f"v{1 + max([int(t[1:]) for t in tags if re.fullmatch(r'v[0-9]{1,6}', t)], default=0)}"


def patiently(work: Callable[[], T], what: str, repo: str, say: Log, wait: float) -> T:
    """Try again, later and later, what may pass; say in one line what will not."""
    from huggingface_hub.errors import RepositoryNotFoundError

    for attempt in range(TRIES):
        try:
            return work()
        except CuratorError as e:
            if not isinstance(e, HubLimit):
                raise
            raise explained(e, what, repo) or e from e
        except Exception as e:
            error, status = explained(e, what, repo), status_of(e)
            if error is None or (status == 404 and isinstance(e, RepositoryNotFoundError)):
                raise
            if attempt + 1 == TRIES or status not in (*RETRIED, CUT):
                raise error from e
            reason = "the connection was cut" if status == CUT else f"the Hub answered {status}"
        pause = wait * 2**attempt
        say(f"{what}: {reason}, trying again in {pause:.0f} s")
        time.sleep(pause)
    raise AssertionError


def require_inside(paths: Iterable[str]) -> None:
    """Refuse a list of a repository's files that names what lies outside of it."""
    for path in paths:
        if path.startswith("/") or "\\" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise CuratorError(f"the Hub lists the file {path[:100]!r}, which lies outside of the repository")
