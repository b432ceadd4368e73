"""A curated version of a run: labels and rows by a policy, with what reviewers decided, to a folder or to the Hub.

    annotate   the columns of the run, labels as they were given
    relabel    label := the verified one, else the corrected one where the nets are sure, else the given one
    filter     rows that are neither selected nor verified, and dropped ones, are out

Config `default` holds all rows (those that are left, with filter), config `clean` the rows that filter keeps, with the
same labels. What goes to the Hub is written to a folder first and arrives in one commit: a version is there or not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features

from curator.curation.output import ROW_GROUP, content_hash, write_json
from curator.errors import CuratorError
from curator.review.journal import FILE, Journal
from curator.review.rows import Rows, split_of
from curator.sources.table import is_string
from curator.system import did_you_mean, sync_folder

POLICIES = ("annotate", "relabel", "filter")
ORIGINAL = "original_label"
WRITTEN = {"README.md", "clean", "curation.json", "data", "issues.csv", "report"}  # top level of a version
TRIES = 6
CUT = 0  # in place of a status: no answer came
UNWRITTEN = {".gitattributes", "README.md"}  # what a new repository may hold
RETRIED = (409, 412, 429, 500, 502, 503, 504)
T = TypeVar("T")
Say = Callable[[str], None]


@dataclass
class Version:
    """A version that is ready: its folder, and what the policy did.

    Attributes:
        rows, clean: rows of the curated split in the configs of these names.
        changed: labels that are not the given ones.
        bytes: of all files.
    """

    folder: Path
    policy: str
    facts: dict[str, Any]
    rows: int
    clean: int
    changed: int
    verified: int
    dropped: int
    bytes: int

    def describe(self) -> str:
        """One line."""
        return (
            f"{self.policy}: {self.rows:,} rows, {self.changed:,} labels changed, {self.verified:,} verified and "
            f"{self.dropped:,} dropped by reviewers, {self.clean:,} rows in config clean, {self.bytes / 2**20:,.1f} MiB"
        )


@dataclass(frozen=True)
class Verdict:
    """What the policy says of the n rows."""

    labels: np.ndarray  # (n,) int32
    kept: np.ndarray  # (n,) bool: in config clean
    verified: np.ndarray  # (n,) bool
    dropped: np.ndarray  # (n,) bool


def verdict(rows: Rows, journal: Journal | None, policy: str, min_confidence: float) -> Verdict:
    """Labels and rows by the policy. Verified are the rows that the run trusted, and those that reviewers verified.

    A row on which reviewers conflict is as if nobody had looked, and not clean.
    """
    n = len(rows)
    verified, dropped, contested = (np.zeros(n, bool) for _ in range(3))
    label_of = rows.given.copy()
    found = dict(rows.trusted)
    if journal is not None:
        found |= journal.verified().labels
        contested[rows.positions(journal.conflicts())] = True
        dropped[rows.positions(journal.dropped())] = True
    places = rows.positions(list(found))
    code = {name: i for i, name in enumerate(rows.classes)}
    verified[places] = True
    label_of[places] = [code[found[int(row)]] for row in rows.row[places]]
    verified &= ~contested
    labels = label_of if policy == "filter" else rows.given.copy()
    if policy == "relabel":
        labels = np.where(verified, label_of, np.where(rows.confidence >= min_confidence, rows.suggested, rows.given))
    right = verified if policy != "annotate" else verified & (label_of == rows.given)
    kept = np.where(verified, right, rows.selected) & ~dropped & ~contested
    return Verdict(labels.astype(np.int32), kept, verified, dropped)


@contextmanager
def prepared(
    run: Path, policy: str, *, min_confidence: float = 0.9, journal: Path | None = None, beside: Path | None = None
) -> Iterator[Version]:
    """A version in a temporary folder (beside the path, to be renamed to it), removed at the end of the block.

    Raises:
        CuratorError: for a folder that is no finished run, an unknown policy, a journal of other rows.
    """
    if policy not in POLICIES:
        raise CuratorError(
            f"--policy: expected one of {', '.join(POLICIES)}{did_you_mean(policy, POLICIES)}; found {policy!r}"
        )
    if not 0 <= min_confidence <= 1:
        raise CuratorError(f"--min-confidence: expected a number from 0 to 1, found {min_confidence}")
    rows = Rows(run)
    path = journal or run / FILE
    if journal is not None and not path.is_file():
        raise CuratorError(f"--journal {journal}: no such file")
    folder = Path(tempfile.mkdtemp(prefix=".curator-", dir=beside.parent if beside else None))
    try:
        if path.is_file():
            with closing(Journal(path)) as opened:
                opened.require(rows.classes, rows.facts["split"])
                said = verdict(rows, opened, policy, min_confidence)
                people = {"reviewers": opened.reviewers(), "decisions": opened.verified().counts}
        else:
            said, people = verdict(rows, None, policy, min_confidence), {"reviewers": {}, "decisions": {}}
        if policy == "filter" and not said.kept.any():
            raise CuratorError("--policy filter: no row is left; review some rows, or choose another policy")
        _write_data(folder, rows, said, policy)
        everything = np.ones(len(rows), bool) if policy != "filter" else said.kept
        version = Version(
            folder, policy, rows.facts, int(everything.sum()), int(said.kept.sum()),
            int((said.labels != rows.given)[everything].sum()), int(said.verified.sum()), int(said.dropped.sum()), 0,
        )  # fmt: skip
        _write_rest(folder, run, version, rows, min_confidence, people)
        version.bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        yield version
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_data(folder: Path, rows: Rows, said: Verdict, policy: str) -> None:
    """data/ and, where it differs, clean/: the run's files with the policy's labels, image bytes as they are."""
    column, split = rows.facts["label_column"], rows.facts["split"]
    (folder / "data").mkdir()
    if policy != "filter":
        (folder / "clean").mkdir()
    start = 0
    for path in sorted((rows.folder / "data").glob("*.parquet")):
        curated = split_of(path) == split
        file = pq.ParquetFile(path)
        features = Features.from_arrow_schema(file.schema_arrow)
        if policy == "relabel":
            if ORIGINAL in features:
                raise CuratorError(f"the dataset has a column {ORIGINAL}; rename it, or publish with --policy annotate")
            features[ORIGINAL] = features[column]
        schema = features.arrow_schema
        with pq.ParquetWriter(folder / "data" / path.name, schema) as writer:
            apart = curated and policy != "filter" and said.kept.any()
            clean = pq.ParquetWriter(folder / "clean" / path.name, schema) if apart else None
            try:
                for batch in file.iter_batches(ROW_GROUP):
                    part, kept = pa.table(batch), None
                    if curated:
                        here = slice(start, start + len(batch))
                        start, kept = here.stop, pa.array(said.kept[here])
                    if policy != "annotate":
                        original = part[column]
                        values = _encoded(said.labels[here], rows.classes, features[column]) if curated else original
                        part = part.set_column(part.column_names.index(column), column, values)
                        if policy == "relabel":
                            part = part.append_column(ORIGINAL, original)
                    part = part.cast(schema)
                    left = part.filter(kept) if kept is not None else part
                    writer.write_table(left if policy == "filter" else part)
                    if clean is not None:
                        clean.write_table(left)
            finally:
                if clean is not None:
                    clean.close()


def _encoded(codes: np.ndarray, classes: list[str], feature: Any) -> pa.Array:
    """Class numbers as values of the label column's type."""
    if isinstance(feature, ClassLabel):
        return pa.array(codes, pa.int64())
    values = [classes[i] for i in codes]
    return pa.array(values if is_string(feature) else [int(v) for v in values]).cast(feature.pa_type)


def _write_rest(
    folder: Path, run: Path, version: Version, rows: Rows, min_confidence: float, people: dict[str, Any]
) -> None:
    from curator.curation.card import published_card

    splits = sorted({split_of(p) for p in (folder / "data").iterdir()})
    facts = {
        **version.facts,
        "published": {
            "policy": version.policy, "min_confidence": min_confidence, "rows": version.rows, "clean": version.clean,
            "labels_changed": version.changed, "verified": version.verified, "dropped": version.dropped, **people,
        },
    }  # fmt: skip
    write_json(folder / "curation.json", facts)
    shutil.copytree(run / "report", folder / "report")
    shutil.copy(run / "issues.csv", folder / "issues.csv")
    own, content = (run / "README.md").read_text(encoding="utf-8"), content_hash(folder)
    card = published_card(own, facts, splits, content)
    (folder / "README.md").write_text(card, encoding="utf-8")


def publish_folder(
    run: Path, target: Path, policy: str, *, overwrite: bool = False, say: Say, **options: Any
) -> Version:
    """Write a version to a local folder, all or nothing; an older version is replaced with overwrite only."""
    target = target.expanduser().resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        ours = _is_version(target)
        if not ours or not overwrite:
            raise CuratorError(
                f"{target} {'holds a version; add --overwrite, or ' if ours else 'is not empty; '}name another folder"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    with prepared(run, policy, beside=target, **options) as version:
        for path in version.folder.rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        version.folder.chmod(0o755)
        old = Path(tempfile.mkdtemp(prefix=".curator-old-", dir=target.parent))
        try:
            if target.exists():
                target.rename(old / "version")
            try:
                version.folder.rename(target)
            except BaseException:
                if (old / "version").exists():
                    (old / "version").rename(target)
                raise
            sync_folder(target.parent)
        finally:
            shutil.rmtree(old, ignore_errors=True)
        version.folder = target
        say(version.describe())
        say(f"written to {target}")
    return version


def _is_version(folder: Path) -> bool:
    """Whether a folder holds what publish_folder wrote, and nothing else: a run, say, is none."""
    try:
        facts = json.loads((folder / "curation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return "published" in facts and {path.name for path in folder.iterdir()} <= WRITTEN


def publish_hub(
    run: Path,
    repo: str,
    policy: str,
    *,
    public: bool = False,
    branch: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    say: Say,
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
    api = HfApi()
    kind: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}

    def tried(work: Callable[[], T], what: str) -> T:
        return _patiently(work, what, repo, say, wait)

    with prepared(run, policy, **options) as version:
        say(version.describe())
        try:
            tried(lambda: api.repo_info(**kind), "looking for the repository")
            if public:
                say(f"note: {repo} is there already; --public does not change who sees it")
        except RepositoryNotFoundError:
            tried(lambda: api.create_repo(**kind, private=not public, exist_ok=True), "making the repository")
        if branch:
            tried(lambda: api.create_branch(**kind, branch=branch, exist_ok=True), f"making branch {branch}")
        settings = version.facts["settings"]
        message = (
            f"{policy} by {version.facts['method']}, seed {version.facts['seed']}, "
            f"{version.facts['dataset']} {settings.get('revision') or ''}".strip()
        )

        def commit() -> CommitInfo:
            """All of the version against the head as it is now; if it moves meanwhile, tried again with the new one."""
            head = api.repo_info(**kind, revision=branch).sha
            there = set(api.list_repo_files(**kind, revision=head))
            if not branch and not create_pr and there - UNWRITTEN and "curation.json" not in there:
                raise CuratorError(
                    f"{repo} holds files that no version of Curator wrote; push to another id, or with --branch or "
                    "--create-pr"
                )
            files = {str(p.relative_to(version.folder)): p for p in version.folder.rglob("*") if p.is_file()}
            gone = [p for p in there - set(files) if p.split("/")[0] in ("data", "clean", "report")]
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                *(CommitOperationAdd(path, file) for path, file in sorted(files.items())),
                *(CommitOperationDelete(path, is_folder=False) for path in sorted(gone)),
            ]
            return api.create_commit(
                **kind, operations=operations, commit_message=message, commit_description=version.describe(),
                revision=branch, create_pr=create_pr, parent_commit=head,
            )  # fmt: skip

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
            say(f"pull request: {done.pr_url}" if done.pr_url else "nothing differs from main, so there is none")
            return version, str(done.pr_url)
        name = tried(put_tag, "making a tag")
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


def require_hub(repo: str) -> None:
    """Refuse an id that is none, and a Hub that does not know who we are.

    Raises:
        CuratorError: with what to do about it.
    """
    from huggingface_hub import HfApi

    require_id(repo)
    _patiently(HfApi().whoami, "asking who you are", repo, lambda line: None, 1.0)


def next_tag(tags: list[str]) -> str:
    """v1, v2, …: one more than the largest that is there."""
    return f"v{1 + max([int(t[1:]) for t in tags if re.fullmatch(r'v[0-9]{1,6}', t)], default=0)}"


def _patiently(work: Callable[[], T], what: str, repo: str, say: Say, wait: float) -> T:
    """Try again, later and later, what may pass; say in one line what will not."""
    from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

    for attempt in range(TRIES):
        last = attempt + 1 == TRIES
        try:
            return work()
        except LocalTokenNotFoundError as e:
            raise _refused(401, what, repo) from e
        except CuratorError:
            raise
        except Exception as e:
            status = _status(e)
            if status is None:
                raise
            if status == 404 and isinstance(e, RepositoryNotFoundError):
                raise
            if last or status not in (*RETRIED, CUT):
                raise _refused(status, what, repo, str(e) if status in (400, 422) else "") from e
            reason = "the connection was cut" if status == CUT else f"the Hub answered {status}"
        pause = wait * 2**attempt
        say(f"{what}: {reason}, trying again in {pause:.0f} s")
        time.sleep(pause)
    raise AssertionError


def _status(error: BaseException | None) -> int | None:
    """What the Hub answered, CUT where it did not, None where the error is none of the network's.

    The client wraps errors of its uploads, and its HTTP library has had several names.
    """
    from huggingface_hub.errors import HfHubHTTPError

    while error is not None:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return error.response.status_code
        if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(
            ("httpx", "httpcore")
        ):
            return CUT
        error = error.__cause__ or error.__context__
    return None


def _refused(status: int, what: str, repo: str, words: str = "") -> CuratorError:
    hints = {
        401: "the token is missing or not valid: log in with `hf auth login`, or set HF_TOKEN",
        403: "the token may not write there: use one that may, another id, or --create-pr",
        404: "it is not there, or private to others: check the id and the token",
        409: "somebody else is changing it: run the same command again",
    }
    hint = hints.get(status, "run the same command again; what was uploaded is not sent again")
    came = "the connection was cut" if status == CUT else f"the Hub answered {status}"
    return CuratorError(f"{what} ({repo}): {came}; {' '.join(words.split())[-300:] or hint}")
