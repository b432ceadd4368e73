"""The review as a Space of the Hub serves it: people log in there, and what they decide outlives a restart.

Everything comes from the Space's variables: the run is in a dataset repository (CURATOR_RUN), the journal on a mounted
bucket (CURATOR_STORAGE) with copies beside the run; without a bucket the copies are all there is, and a decision shows
as saved when it is in one.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from curator.decisions.journal import FILE
from curator.errors import CuratorError
from curator.publish.space import REVIEWERS, RUN, STORAGE
from curator.review.copies import Copies
from curator.review.door import LOG_IN, LOOPBACK
from curator.review.guests import Guest, Guests, House, HubDoor, settings_of
from curator.review.page import answer, build, web_file
from curator.review.publishing import TAKEN
from curator.review.sent import field
from curator.review.session import Session
from curator.system import is_path
from curator.text import say

OF_THE_OWNER = "public", "branch", "tag", "overwrite", "format"  # what a pull request has not
COPY = 40.0  # seconds that a save waits for its copy; the page then sends it again


class SpaceSession(Session):
    """A session whose reviewers are accounts of the Hub.

    Args:
        folder: of the run.
        journal: file of the decisions.
        owner: of the Space.
        person: who has logged in under a name.
        stored: whether the journal's disk outlives the Space; else a decision is saved when it is in a copy.
        copies: makes what copies the journal.
    """

    def __init__(
        self, folder: Path, journal: Path, owner: str, person: Callable[[str], Guest | None], *, stored: bool,
        copies: Callable[[Any], Copies],
    ):  # fmt: skip
        super().__init__([folder], journal, publisher=owner)
        self.owner, self.person, self.stored = owner, person, stored
        self.copies = copies(self.journal)

    def hello(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """As Session's, with what the account may do."""
        guest = self._guest(reviewer)
        may = {"decides": guest.decides, "publishes": guest.decides, "space": {"owns": guest.owns}}
        return {**super().hello(data, reviewer), **may}

    def save(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """As Session's, from those who may decide; what it says is saved outlives the Space."""
        self._require_decider(reviewer)
        saved = super().save(data, reviewer)
        self.copies.look()
        if not self.stored and not self.copies.wait(COPY):
            raise CuratorError("the Hub has not taken the copy yet")
        return saved

    def audit(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """As Session's; a new sample only for those who may decide."""
        if data.get("size") is not None:
            self._require_decider(reviewer)
        return super().audit(data, reviewer)

    def export(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Nothing: files of the Space are nobody's."""
        raise CuratorError(
            "in a Space there is no folder for files: label-curator space pull brings the decisions home"
        )

    def publish(self, data: dict[str, Any], reviewer: str) -> dict[str, Any]:
        """Begin to open a pull request in the account's name; the owner may push with the Space's token instead.

        Raises:
            CuratorError: for what the account may not do.
        """
        self._require_publisher(reviewer)
        self._require_page(data, reviewer)
        guest, target = self._guest(reviewer), field(data, "target", str, "").strip()
        if target and is_path(target):
            raise CuratorError("publish: expected a Hub id (owner/name); a Space has no folders")
        if guest.owns and not data.get("create_pr"):
            self._publishing.start(data)
            return self._publishing.state()
        if not guest.owns and (data.get("create_pr") is False or any(data.get(name) for name in OF_THE_OWNER)):
            raise CuratorError("publish: only the owner of this Space pushes; you may open a pull request")
        source = self.rows.facts["source"].get("id")
        if not guest.owns and target != source and target.split("/")[0] != self.owner:
            raise CuratorError(f"publish: expected a dataset of {self.owner}, or the source of these rows")
        kept = {name: data.get(name) for name in TAKEN if name not in OF_THE_OWNER}
        self._publishing.start({**kept, "create_pr": True}, guest.token)
        return self._publishing.state()

    def _require_publisher(self, reviewer: str) -> None:
        self._require_decider(reviewer)

    def _require_decider(self, reviewer: str) -> None:
        if not self._guest(reviewer).decides:
            raise CuratorError("you may look, but not decide: the owner of this Space names its reviewers")

    def _guest(self, reviewer: str) -> Guest:
        guest = self.person(reviewer)
        if guest is None:
            raise CuratorError(LOG_IN)
        return guest


def serve_space(variables: Mapping[str, str] = os.environ) -> None:
    """Serve the review until a signal.

    Raises:
        CuratorError: for a Space that was not made by label-curator space, or a run that cannot be had.
    """
    from curator.review.server import Proxied, listen, serve

    repo, space, hosts = (variables.get(name, "") for name in (RUN, "SPACE_ID", "SPACE_HOST"))
    if not repo or "/" not in space or not hosts:
        raise CuratorError(
            f"expected the variables {RUN}, SPACE_ID and SPACE_HOST, as a Space of label-curator has them"
        )
    names = [host.strip() for host in hosts.split(",")]
    local = urlsplit(f"//{names[0]}").hostname in LOOPBACK
    owner = space.split("/")[0]
    reviewers = tuple(name for name in variables.get(REVIEWERS, "").split(",") if name)
    guests = Guests(
        House(owner, variables.get("SPACE_CREATOR_USER_ID", ""), reviewers),
        f"http{'' if local else 's'}://{names[0]}", **settings_of(variables),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        run, copy = fetched(repo, Path(work))
        storage = variables.get(STORAGE, "")
        journal = (Path(storage) if storage else Path(work)) / FILE
        begins = not journal.exists()
        if begins and copy is not None:
            shutil.copyfile(copy, journal)  # with its id, by which browsers keep what is not saved yet
        port = int(variables.get("GRADIO_SERVER_PORT") or 7860)
        session: SpaceSession

        def asked(call: dict[str, Any], who: str) -> tuple[int, dict[str, Any]]:
            return answer(session, call, who)

        door = HubDoor(build(), asked, guests, names, port=port, login_page=web_file("login_hub.html"))
        session = SpaceSession(
            run,
            journal,
            owner,
            door.person,
            stored=bool(storage),
            copies=lambda of: Copies(of, put_in(repo), behind=not begins),
        )
        try:
            if not begins and copy is not None:
                session.journal.merge(copy)  # what the journal's disk may have lost, and what was brought by a push
            with listen(variables.get("GRADIO_SERVER_NAME") or "0.0.0.0", port) as listening:
                print(f"the review of {repo} is served", flush=True)
                serve(door, listening, protocol=Proxied)
        finally:
            if not session.copies.close():
                say("the last decisions are not in a copy" + (f"; they are in {journal}" if storage else ""))
            session.journal.close()


def fetched(repo: str, work: Path) -> tuple[Path, Path | None]:
    """The run's folder, downloaded, and the copy of the decisions that lies beside it, if there is one.

    Raises:
        CuratorError: it cannot be had.
    """
    from huggingface_hub import snapshot_download

    from curator.publish.refusals import explained
    from curator.sources.network import hub_limits

    try:
        with hub_limits():
            run = Path(snapshot_download(repo, repo_type="dataset", local_dir=work / repo.split("/")[1]))
    except Exception as e:
        error = explained(e, "fetching the run", repo)
        if error is None:
            raise
        raise error from e
    copy = run / FILE
    return run, copy.rename(work / f"copy-{FILE}") if copy.exists() else None


def put_in(repo: str) -> Callable[[Path], None]:
    """What commits a copy of the decisions to the run's repository."""

    def put(file: Path) -> None:
        from huggingface_hub import HfApi

        HfApi().upload_file(
            path_or_fileobj=file, path_in_repo=FILE, repo_id=repo, repo_type="dataset", commit_message="decisions"
        )

    return put


def main() -> None:
    """What app.py of a Space calls."""

    def terminate(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, terminate)
    try:
        serve_space()
    except CuratorError as e:
        say(f"error: {e}")
        sys.exit(2)
