# /// script
# requires-python = ">=3.11"
# dependencies = ["label-curator>=0.1"]
# ///
"""Clean a dataset on a rented machine that may be taken away at any moment; the next start goes on.

    hf jobs uv run --flavor l4x1 --secrets HF_TOKEN URL/clean.py --dataset owner/name --push-to-hub owner/curated

Flags of its own are below; all others are those of `label-curator clean`. What a run needs to go on (its last
checkpoint, features that were computed) is kept in a private dataset repository, or in a folder that stays, a mounted
bucket say (`--volume hf://buckets/owner/name:/state`, `--state /state`). It is emptied when the run is done.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN, CACHE = "run", "cache"
KEPT = RUN, f"{CACHE}/label-curator"  # folders; what the Hub and torch keep beside them can be fetched again
LEFT_OUT = re.compile(r"\.curator-.*|\.lock")  # of processes that have ended
TRIES = 5


class Store:
    """Where the state is kept between starts: a dataset repository, or a folder that stays."""

    def __init__(self, where: str):
        self.folder = Path(where) if where.startswith(("/", "./", "../")) else None
        self.repo = where
        self.held: dict[str, tuple[int, int]] | None = None  # what was kept last: time and size by path

    def restore(self, work: Path) -> bool:
        """Bring the state of an earlier start; whether there was one."""
        if self.folder is not None:
            if self.folder.is_dir():
                shutil.copytree(self.folder, work, dirs_exist_ok=True)
        else:
            from huggingface_hub import HfApi, snapshot_download

            HfApi().create_repo(self.repo, repo_type="dataset", private=True, exist_ok=True)
            if HfApi().repo_info(self.repo, repo_type="dataset").private is False:
                sys.exit(f"error: --state {self.repo}: it is public, and would hold what the run has seen")
            snapshot_download(self.repo, repo_type="dataset", local_dir=work)
            shutil.rmtree(work / ".cache", ignore_errors=True)
        return (work / RUN).exists()

    def keep(self, work: Path) -> None:
        """Keep the state as it is now; tried again where the network fails, and at the next time if it goes on so."""
        for attempt in range(TRIES):
            try:
                with tempfile.TemporaryDirectory() as folder:
                    snapshot = Path(folder)
                    found = take(work, snapshot)
                    if found != self.held:
                        self._put(snapshot)
                        self.held = found
                return
            except Exception as e:  # the run goes on, whatever happens here
                print(f"the state was not kept ({type(e).__name__})", file=sys.stderr, flush=True)
                time.sleep(min(30, 2**attempt))

    def _put(self, snapshot: Path) -> None:
        if self.folder is None:
            from huggingface_hub import HfApi

            HfApi().upload_folder(
                repo_id=self.repo, repo_type="dataset", folder_path=snapshot, delete_patterns="*",
                commit_message="state of a run",
            )  # fmt: skip
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        new, old = self.folder / ".new", {path for path in self.folder.rglob("*") if path.is_file()}
        for path in sorted(snapshot.rglob("*"), key=lambda p: p.name == "latest"):  # the pointer last
            if path.is_file():
                target = self.folder / path.relative_to(snapshot)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, new)
                os.replace(new, target)
                old.discard(target)
        for path in old:
            path.unlink(missing_ok=True)
        for path in sorted((path for path in self.folder.rglob("*") if path.is_dir()), reverse=True):
            if not any(path.iterdir()):
                path.rmdir()

    def empty(self) -> None:
        """The run is done: the next start begins anew."""
        with tempfile.TemporaryDirectory() as nothing:
            self._put(Path(nothing))


def take(work: Path, to: Path) -> dict[str, tuple[int, int]]:
    """Copy a state that a run is writing, with one whole checkpoint; times and sizes of its files, by their paths.

    A checkpoint is a numbered folder that the file `latest` names; it is removed once the next one is there.
    """
    checkpoints = work / RUN / "checkpoints"
    pointer = checkpoints / "latest"
    while True:
        name = pointer.read_text() if pointer.exists() else ""
        found: dict[str, tuple[int, int]] = {}
        try:
            for path in (path for top in KEPT for path in sorted((work / top).rglob("*"))):
                inside = path.relative_to(work)
                if not path.is_file() or any(map(LEFT_OUT.fullmatch, inside.parts)) or path == pointer:
                    continue
                if path.is_relative_to(checkpoints) and path.parent not in (checkpoints, checkpoints / name.strip()):
                    continue
                (to / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to / inside)
                found[inside.as_posix()] = path.stat().st_mtime_ns, path.stat().st_size
            if (pointer.read_text() if pointer.exists() else "") == name:
                break
        except FileNotFoundError:  # it was replaced meanwhile
            pass
        shutil.rmtree(to)
        to.mkdir()
    if name:
        (to / RUN / "checkpoints").mkdir(parents=True, exist_ok=True)
        (to / RUN / "checkpoints" / "latest").write_text(name)
    return {**found, "latest": (int(name or 0), 0)}


def main() -> int:
    """Restore, run, keep; the exit code of the run."""
    about, _, how = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=how, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--state", help="owner/name of a dataset, or a folder; default: that of --push-to-hub + -state")
    parser.add_argument("--every", type=float, default=10.0, help="minutes between two times that it is kept")
    parser.add_argument("--push-to-hub", help="owner/name of the curated dataset")
    own, words = parser.parse_known_args()
    if own.push_to_hub:
        words += ["--push-to-hub", own.push_to_hub]
    state = own.state or (own.push_to_hub and f"{own.push_to_hub}-state")
    if not state:
        parser.error("give --push-to-hub, or --state: a machine that is taken away would lose everything")
    if any(word.split("=")[0] == "--output" for word in words):
        parser.error("--output is this script's own: the result is pushed, or kept in the state")
    work = Path(tempfile.mkdtemp(prefix="clean-"))
    store = Store(state)
    if store.restore(work):
        print(f"going on with the state in {state}", file=sys.stderr, flush=True)
    from huggingface_hub.constants import HF_HOME

    environment = {**os.environ, "XDG_CACHE_HOME": str(work / CACHE), "HF_HOME": HF_HOME}  # there the login is, too
    command = [sys.executable, "-m", "curator.cli", "clean", *words, "--output", str(work / RUN)]
    run = subprocess.Popen(command, env=environment)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: run.terminate())
    while True:
        try:
            code = run.wait(timeout=60 * own.every)
            break
        except subprocess.TimeoutExpired:
            store.keep(work)
    if code == 0 and own.push_to_hub:
        store.empty()
    else:
        store.keep(work)
    shutil.rmtree(work, ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
