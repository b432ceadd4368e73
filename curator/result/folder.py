"""The output folder as a run's command finds it: its own, finished or interrupted, or somebody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from curator.config.flags import Settings
from curator.engine import checkpoint
from curator.engine.checkpoint import Checkpoints
from curator.errors import CuratorError
from curator.methods import AUTO, METHODS
from curator.result.facts import FACTS, read_json, reading
from curator.result.layout import FEATURES, OPTIONAL, PENDING, STAGING, lock, settle
from curator.sources.opening import NAMED
from curator.system import is_main, is_path, user_path, write_text

# What a run reads, by its name in the identity of an interrupted one.
CONTENT = {
    "source": "the dataset",
    "fingerprint": "the weights or the code of --backbone",
    "verified_rows": "the rows of --verified",
}

GIVEN = "given"  # beside the identity: the flags of the interrupted run

# What a run replaces or removes in its output folder, but for what no dataset is.
RUNS_OWN = {"data", "report", "checkpoints", *OPTIONAL}


class RunFolder:
    """The output folder of a run, which only the main process changes, and a dry run does not.

    The identity of a run is what decides its result, by name. An interrupted run has it beside its checkpoints, a
    finished one as PENDING until its command ends; nothing is trained again where the same command comes back.
    """

    def __init__(self, path: Path, settings: Settings, given: dict[str, Any] | None = None):
        self.path, self.settings, self.given = path, settings, given or {}
        self.writes = is_main() and not settings.dry_run
        self.checkpoints = Checkpoints(path / "checkpoints")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, with the results in it whole.

        Raises:
            CuratorError: when another run holds it.
        """
        with lock(self.path) if self.writes else nullcontext():
            if self.writes:
                settle(self.path)
            yield

    @property
    def resumes(self) -> bool:
        """Whether there is a run to go on with."""
        return self.settings.resume and self.checkpoints.interrupted()

    def picked(self) -> dict[str, Any] | None:
        """What the interrupted run that goes on here noted of the method that was picked for it; None of a named one.

        Raises:
            CuratorError: for what no run notes.
        """
        if not self.resumes:
            return None
        file = self.checkpoints.folder / checkpoint.SETTINGS
        with reading(file):
            found = read_json(file).get(AUTO)
            if found is not None and not (
                isinstance(found, dict) and found.get("method") in METHODS and isinstance(found.get("why"), str)
            ):
                raise ValueError(f"{AUTO}: it names no method")
        return found

    def finished(self, identity: dict[str, Any]) -> bool:
        """Whether a run of this identity is finished here, and its command was stopped before it could end."""
        if not self.writes:
            return False
        try:
            before = dict(json.loads((self.path / PENDING).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return False
        return (self.path / FACTS).exists() and first_difference(before, identity) is None

    def require_ours(self, identity: dict[str, Any]) -> None:
        """Refuse a folder that the run may not write to.

        Raises:
            CuratorError: for a finished run without --overwrite, an interrupted one of another identity, and files of
                somebody else.
        """
        if not self.writes:
            return
        finished, interrupted = (self.path / FACTS).exists(), self.checkpoints.interrupted()
        if finished and not interrupted and not self.settings.overwrite:
            raise CuratorError(
                f"--output {self.path}: it holds a finished run; add --overwrite to replace its results, "
                "or name another folder"
            )
        foreign = [f"checkpoints/{name}" for name in self.checkpoints.foreign()]
        if not (finished or interrupted or (self.path / STAGING).exists()):
            ours = ("README.md", "data", "report", "issues.csv", FEATURES)
            foreign += [name for name in ours if (self.path / name).exists()]
        if foreign:
            raise CuratorError(
                f"--output {self.path}: it holds {', '.join(foreign[:5])} that no run of Curator wrote; "
                "name another folder"
            )
        if self.resumes:
            self._require_same(identity)

    def prepare(self, identity: dict[str, Any]) -> None:
        """Leave the checkpoints that the run goes on from, and no others."""
        if self.writes and self.resumes:
            self._require_same(identity)
        elif self.writes:
            self.checkpoints.remove()

    def begin(self, identity: dict[str, Any]) -> None:
        """Note whose checkpoints will be here."""
        if self.writes:
            self.close()  # the run whose results this one replaces
            self.checkpoints.folder.mkdir(exist_ok=True)
            write_text(
                self.checkpoints.folder / checkpoint.SETTINGS, json.dumps({**identity, GIVEN: self.given}, indent=2)
            )

    def failed(self) -> None:
        """Remove what no run can go on from."""
        if self.writes and self.checkpoints.latest() is None:
            self.checkpoints.remove()

    def done(self) -> None:
        """The results stand: remove the checkpoints, or keep them as those of a finished run."""
        if not self.writes:
            return
        if not self.settings.keep_checkpoints:
            self.checkpoints.remove()
        elif self.checkpoints.folder.is_dir():
            (self.checkpoints.folder / checkpoint.FINISHED).touch()

    def close(self) -> None:
        """The command has nothing left to do."""
        if self.writes:
            (self.path / PENDING).unlink(missing_ok=True)

    def _require_same(self, identity: dict[str, Any]) -> None:
        """Refuse to continue a run under other settings, naming the first that differs."""
        file = self.checkpoints.folder / checkpoint.SETTINGS
        try:
            before = read_json(file)
        except (OSError, ValueError) as e:
            raise CuratorError(f"{file} cannot be read ({e}); start anew with --no-resume") from e
        name = first_difference(before, identity)
        if name is None:
            return
        then = before[GIVEN] if isinstance(before.get(GIVEN), dict) else None
        name = _given_difference(before, identity, then, self.given) or name
        was, value = (
            {**(named or {}), **all_of}.get(name) for named, all_of in ((then, before), (self.given, identity))
        )
        if name in CONTENT:
            what = f"{CONTENT[name]} changed since its run was interrupted"
        elif name in ("device", "processes"):
            what = f"it holds an interrupted run with {name} {was!r}, here it is {value!r}"
        else:
            flag = f"--{name.replace('_', '-')}"
            held = f"with {flag} {was!r}" if was is not None else f"without {flag}"
            what = f"it holds an interrupted run {held}, " + (
                f"now it is {value!r}" if value is not None else "now with none"
            )
        raise CuratorError(
            f"--output {self.path}: {what}: give the same to continue it, --no-resume to start anew, "
            "or another --output"
        )


def _given_difference(
    before: dict[str, Any], identity: dict[str, Any], then: dict[str, Any] | None, now: dict[str, Any]
) -> str | None:
    """The first flag that the user gave, then or now, by which the settings differ; what follows from it is no name."""
    current = json.loads(json.dumps(identity))
    named = [*now, *(then or {})]
    differ = [name for name in named if name in current and before.get(name) != current[name]]
    if then is not None:  # these change others, and are no part of the identity themselves
        differ += [name for name in ("epochs", "recipe") if then.get(name) != now.get(name)]
    return next(iter(differ), None)


def first_difference(before: dict[str, Any], identity: dict[str, Any]) -> str | None:
    """The first setting that is another than in a file that was written before."""
    now = json.loads(json.dumps(identity))
    if now.get("mixed_precision") is None:  # not resolved yet
        now.pop("mixed_precision", None)
    return next((name for name, value in now.items() if before.get(name) != value), None)


def require_apart(settings: Settings, output: Path) -> None:
    """Refuse to write among the rows that are read, and to read what the run would replace.

    Raises:
        CuratorError: naming both folders.
    """
    dataset, data_dir = settings.dataset, settings.data_dir
    if dataset in NAMED and data_dir is not None:
        below = data_dir / NAMED[dataset][1]
        source, flag = below if below.is_dir() else data_dir, "--data-dir"
    elif dataset not in NAMED and is_path(dataset):
        source, flag = user_path(dataset), "--dataset"
    else:
        return
    source, there = source.resolve(), output.resolve()
    if source.is_dir() and any(p.exists() and p.samefile(source) for p in (there, *there.parents)):
        raise CuratorError(
            f"--output {output}: it is in the folder of {flag}, {source}, whose files would be mixed with the "
            "result's; name a folder outside"
        )
    if source.is_relative_to(there) and {*source.relative_to(there).parts[:1]} & RUNS_OWN:
        raise CuratorError(
            f"--output {output}: {flag} {source} is among the files that the run would replace; name another folder"
        )
