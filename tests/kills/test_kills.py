"""kill -9 and SIGTERM before every event on files: nothing that was there is lost, and the same command ends well.

The events are those of the process, of its libraries in C among them: opening for writing, renaming, removing, making
folders, flushing, and what SQLite writes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import curator
from curator.cli.main import main
from curator.decisions.journal import Journal
from curator.result.read import Rows
from tests.conftest import ROOT, hf_dataset

HERE = Path(__file__).parent
LIBRARIES = [
    "torch._dynamo", "sklearn.metrics", "scipy.stats", "datasets.arrow_dataset", "pyarrow.parquet", "PIL.Image",
    "accelerate", "huggingface_hub.hf_api",
]  # fmt: skip
COMMANDS = [
    "curator.cli.main", "curator.curate", "curator.train", "curator.result.write", "curator.publish.hub",
    "curator.publish.relabel",
]  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass
class Ended:
    code: int  # minus the signal that ended it
    events: int  # that it had, where it came to its end
    first_rename: int
    text: str


class Forks:
    """Processes that start in no time, and get a signal before one of their events."""

    def __init__(self, folder: Path, *modules: str):
        shim = folder / "shim.so"
        build = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(shim), str(HERE / "shim.c"), "-ldl"]
        subprocess.run(build, check=True)
        env = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.log = folder / "log"
        self.server = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), str(shim), *modules],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.server.stdout.readline() == "ready\n"

    def __call__(self, root: Path, what: str, *argv, at: int = 0, sent: int = 0, exchange=True, renames=True, watch=""):
        """Run a job; what it is, its arguments and what else it takes is in server.py."""
        events = Path(f"{self.log}.events")
        events.unlink(missing_ok=True)
        job = {"root": str(root), "what": what, "argv": [*map(str, argv)], "at": at, "sent": int(sent)}
        self.server.stdin.write(
            json.dumps({**job, "watch": watch, "exchange": exchange, "renames": renames, "log": str(self.log)}) + "\n"
        )
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        counted = [int(n) for n in events.read_text().split()] if events.exists() else [0, 0]
        return Ended(code, *counted, self.log.read_text(errors="replace"))

    def close(self) -> None:
        self.server.kill()
        self.server.wait(60)


def forks_of(tmp_path_factory, *modules: str) -> Iterator[Forks]:
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("no cc, or no LD_PRELOAD")
    forks = Forks(tmp_path_factory.mktemp("forks"), *modules)
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def small_forks(tmp_path_factory):
    yield from forks_of(tmp_path_factory, "curator.system", "curator.result.layout")


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    yield from forks_of(tmp_path_factory, *LIBRARIES, *COMMANDS)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".curator-*"))


def interrupted(
    run: Callable[..., Ended],
    prepare: Callable[[], None],
    check: Callable[[Ended, bool], None],
    kinds=SIGNALS,
    near: bool = False,
    watch: str = "",
) -> None:
    """Run once, then again and again with a signal before one event each, and the same once more after each.

    Only before the events around the first renaming, with near; or from that to a name that ends so, with watch.
    """
    prepare()
    straight = run(watch=watch)
    assert straight.code == 0 and straight.events > 5, straight.text
    first = straight.first_rename
    start, end = (first - 1, first + 4) if near else (first - 1 if watch else 1, straight.events + 1)
    for sent in kinds:
        # What the signal sets off comes after the event: with the last one all is done already.
        for at in range(start, end if sent == signal.SIGKILL or near else end - 1):
            prepare()
            ended = run(at=at, sent=sent)
            assert ended.code in ((-sent,) if sent == signal.SIGKILL else (-sent, 128 + sent, 0)), (at, ended)
            check(ended, False)
            again = run()
            assert again.code == 0 and "Traceback" not in ended.text + again.text, (at, sent, ended, again)
            check(again, True)


NEAR = pytest.mark.parametrize("near", [True, pytest.param(False, marks=pytest.mark.slow)])


@NEAR
@pytest.mark.parametrize("exchange, before", [(True, True), (False, True), (True, False)])
def test_a_folder_is_replaced(small_forks, tmp_path, exchange, before, near):
    """The old one or the new one stands, whole; only where two renames are needed, the next start brings it back."""
    target, old, new = tmp_path / "v", {"data/file": b"old", "more": b"old"}, {"data/file": b"new"}

    def prepare() -> None:
        for path in tmp_path.iterdir():
            shutil.rmtree(path)
        if before:
            (target / "data").mkdir(parents=True)
            (target / "data" / "file").write_text("old")
            (target / "more").write_text("old")

    def check(ended: Ended, done: bool) -> None:
        if done:
            assert tree(target) == new
        elif before and not target.exists():
            assert not exchange and ended.code == -signal.SIGKILL
            assert [tree(left / "old") for left in leftovers(tmp_path)] == [old]
        else:
            assert tree(target) in ((old, new) if before else ({}, new))
        assert not done or not leftovers(tmp_path)

    interrupted(
        lambda **at: small_forks(tmp_path, "replace", target, exchange=exchange, **at), prepare, check, near=near
    )


RESULTS = {"data/file", "README.md", "features.npy", "curation.json"}


@NEAR
@pytest.mark.parametrize("before", [True, False])
def test_results_are_replaced(small_forks, tmp_path, before, near):
    """The old ones are whole, or the new ones are, though perhaps not in their places yet; what is not ours stays."""
    old = {**{name: b"old" for name in RESULTS}, "review.sqlite": b"decisions"} if before else {}
    new = {"data/file": b"new", "README.md": b"new", "trusted.parquet": b"new", "curation.json": b"new"}
    new |= {"review.sqlite": b"decisions"} if before else {}

    def prepare() -> None:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        for name, content in old.items():
            (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "out" / name).write_bytes(content)
        (tmp_path / "out").mkdir(exist_ok=True)

    def check(ended: Ended, done: bool) -> None:
        now = tree(tmp_path / "out")
        placed = {name: content for name, content in now.items() if not name.startswith(".")}
        if done:
            assert now == new
        elif any(name.startswith(".ready/curation.json") for name in now):
            waiting = {name.removeprefix(".ready/"): c for name, c in now.items() if name.startswith(".ready/")}
            assert {**placed, **waiting}.items() >= new.items()
        else:
            assert placed in (old, new)
        assert not before or now["review.sqlite"] == b"decisions"

    argv = [tmp_path / "out", "trusted.parquet"]
    interrupted(lambda **at: small_forks(tmp_path, "stage", *argv, **at), prepare, check, near=near)


@pytest.mark.slow
def test_the_journal(forks, tmp_path):
    """What was answered as saved is there, whole steps only; and the steps that are sent again count once."""

    def prepare() -> None:
        for path in tmp_path.iterdir():
            path.unlink()

    def check(ended: Ended, done: bool) -> None:
        answered = set(ended.text.split())
        if not answered:
            return
        with closing(Journal(tmp_path / "j.sqlite")) as journal:
            there = {f"step-{row}" for row in journal.verified().labels}
            assert answered <= there and journal.log(0) == sorted(set(journal.log(0)))
            assert not done or len(there) == 4

    interrupted(lambda **at: forks(tmp_path, "journal", tmp_path / "j.sqlite", **at), prepare, check, SIGNALS[:1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run without pictures, and a file of decisions."""
    base = tmp_path_factory.mktemp("run")
    rows = hf_dataset(40, 3, 0.4, size=8)
    rows.to_parquet(base / "rows.parquet")
    curator.curate(rows, method="ce", epochs=1, output=base / "out")
    probs = np.full((40, 3), 0.05)
    probs[np.arange(40), rows["true_label"][:]] = 0.9
    np.save(base / "probs.npy", probs)
    (base / "decisions.csv").write_text("row,label\n3,class 1\n5,class 2\n")
    return base


# Commands that replace something: their words, and whether the system can exchange two names.
REPLACING = {
    "publish": (["publish", "{run}/out", "{root}/v", "--policy", "relabel", "--overwrite"], True),
    "publish in two renames": (["publish", "{run}/out", "{root}/v", "--policy", "relabel", "--overwrite"], False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPLACING)
def test_commands_that_replace_a_folder(forks, run, tmp_path, name):
    words, exchange = REPLACING[name]
    argv = [word.format(run=run, root=tmp_path) for word in words]
    target, kept = tmp_path / "v", run / f"old of {name}"
    first = [*argv[:4], "annotate"]
    assert forks(tmp_path, "command", *first).code == 0
    shutil.copytree(target, kept)
    assert forks(tmp_path, "command", *argv).code == 0
    old, new = tree(kept), tree(target)
    assert old != new

    def prepare() -> None:
        for path in tmp_path.iterdir():
            shutil.rmtree(path)
        shutil.copytree(kept, target)

    def check(ended: Ended, done: bool) -> None:
        if target.exists():
            assert tree(target) in ((new,) if done else (old, new))
        else:
            assert not exchange and ended.code == -signal.SIGKILL
            assert old in [tree(left / "old") for left in leftovers(tmp_path)]
        assert not done or not leftovers(tmp_path)

    kinds = SIGNALS if exchange else SIGNALS[:1]
    interrupted(lambda **at: forks(tmp_path, "command", *argv, exchange=exchange, **at), prepare, check, kinds)


@pytest.mark.slow
def test_import(forks, run, tmp_path):
    """All of the file's decisions or none; the same command again makes them once."""
    path = tmp_path / "j.sqlite"

    def prepare() -> None:
        for left in tmp_path.iterdir():
            left.unlink()

    def check(ended: Ended, done: bool) -> None:
        if not path.exists() or not (done or path.stat().st_size):
            return
        try:
            with closing(Journal(path)) as journal:
                found = journal.verified().labels, journal.log(0)
        except curator.CuratorError:  # killed before its tables were made
            assert not done
            return
        whole = {3: "class 1", 5: "class 2"}, [3, 5]
        assert found in ((whole,) if done else (whole, ({}, [])))

    argv = ["import", run / "out", run / "decisions.csv", "--journal", path]
    interrupted(lambda **at: forks(tmp_path, "command", *argv, **at), prepare, check, SIGNALS[:1])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images and a CSV file of their labels, a run of them, and what people decided."""
    base = tmp_path_factory.mktemp("photos")
    rows = hf_dataset(12, 3, 0)
    lines = ["file,label"]
    for i, image in enumerate(rows["image"]):
        file = base / "photos" / f"kind{i % 3}" / f"{i // 3}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
        lines.append(f"{file.relative_to(base / 'photos')},{file.parent.name}")
    (base / "labels.csv").write_text("\n".join(lines))
    np.save(base / "probs.npy", np.eye(3)[np.arange(12) // 4])
    argv = ["--dataset", base / "photos", "--pred-probs", base / "probs.npy", "--output", base / "out"]
    assert main(["clean", *map(str, argv)]) == 0
    read = Rows(base / "out")
    with closing(Journal(base / "out" / "review.sqlite", read.facts_for_a_journal())) as journal:
        acts = [(0, "relabel", "kind1"), (1, "drop", None), (4, "relabel", "kind2")]
        journal.save([{"key": "a-step", "kind": "do", "rows": acts}], "ann")
    return base


# Words after `apply {root}/out`, and after the whole of it was done once.
APPLIED = {
    "move": (["--folder", "{root}/photos"], []),
    "move, undo": (["--folder", "{root}/photos"], ["--undo"]),
    "csv": (["--csv", "{root}/labels.csv"], []),
    "csv, undo": (["--csv", "{root}/labels.csv"], ["--undo"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name, renames", [*((name, True) for name in APPLIED), ("move", False), ("move, undo", False)])
def test_apply(forks, photos, tmp_path, name, renames):
    """Every image is there once, with its content, in a place of its own; the CSV file is the old or the new one.

    Where the system cannot rename without replacing, an image may have two names until the same command is run again.
    """
    words, undo = APPLIED[name]
    argv = ["apply", tmp_path / "out", *(word.format(root=tmp_path) for word in words), "--yes"]

    def prepare() -> None:
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for part in ("photos", "out"):
            shutil.copytree(photos / part, tmp_path / part)
        shutil.copy(photos / "labels.csv", tmp_path)
        if undo:
            assert forks(tmp_path, "command", *argv).code == 0

    def users() -> dict[str, bytes]:
        return {file: content for file, content in tree(tmp_path).items() if not file.startswith("out/")}

    def applied(**at) -> Ended:
        return forks(tmp_path, "command", *argv, *undo, renames=renames, **at)

    prepare()
    old = users()
    assert applied().code == 0
    new = users()
    assert old != new and sorted(old.values()) == sorted(new.values()) or "csv" in name

    def check(ended: Ended, done: bool) -> None:
        now = users()
        if done:
            assert now == new and not leftovers(tmp_path)
            return
        now = {file: content for file, content in now.items() if ".curator-" not in file}
        assert now.items() <= {*old.items(), *new.items()}
        if renames:
            assert "csv" in name or sorted(now.values()) == sorted(old.values())
        else:
            assert {*now.values()} == {*old.values()}

    def again(**at) -> Ended:
        ended = applied(**at)
        # What an undo has done wholly before the kill is not there to be done again.
        nothing = "was changed by it" in ended.text or "was moved by it" in ended.text
        return replace(ended, code=0) if undo and nothing else ended

    interrupted(again, prepare, check, SIGNALS[:1])


TRAINED = ["--method", "ce", "--net", "small", "--method.epochs", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("words, overwrite, kinds, watch", [
    (["--pred-probs", "{run}/probs.npy"], False, SIGNALS[:1], ""),
    (["--pred-probs", "{run}/probs.npy"], True, SIGNALS[:1], ""),
    (TRAINED, False, SIGNALS, "/.ready"),  # its last checkpoint is there
    (TRAINED, True, SIGNALS[:1], "/.ready"),
])  # fmt: skip
def test_clean(forks, run, tmp_path, words, overwrite, kinds, watch):
    """To the last thing removed: the same bytes as without a kill, never both versions lost."""
    out, kept = tmp_path / "out", tmp_path.parent / f"{tmp_path.name}-kept"
    argv = ["clean", "--dataset", run / "rows.parquet", "--output", out, *(word.format(run=run) for word in words)]
    assert forks(tmp_path, "command", *argv, "--flag-worst", 3).code == 0
    old = tree(out)
    out.rename(kept)
    argv += ["--overwrite"] * overwrite
    assert forks(tmp_path, "command", *argv).code == 0
    data = {name: content for name, content in tree(out).items() if name.startswith("data/")}
    names = tree(out).keys()
    assert not data.items() <= old.items()

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if overwrite:
            shutil.copytree(kept, out)

    def check(ended: Ended, done: bool) -> None:
        now = tree(out) if out.exists() else {}
        if done:
            assert now.keys() == names and now.items() >= data.items()
        elif overwrite and now.get("curation.json") == old["curation.json"]:
            assert now.items() >= old.items()
        elif overwrite:
            waiting = {name.removeprefix(".ready/"): c for name, c in now.items() if name.startswith(".ready/")}
            assert {**now, **waiting}.items() >= data.items() and "curation.json" in {**now, **waiting}

    interrupted(lambda **at: forks(tmp_path, "command", *argv, **at), prepare, check, kinds, watch=watch)
