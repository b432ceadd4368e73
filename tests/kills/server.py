"""Runs jobs in forks of itself, each with a signal before one of the events on its files (shim.c): a job a line."""

import ctypes
import errno
import importlib
import json
import os
import signal
import sys
from contextlib import closing
from pathlib import Path


def command(*argv: str) -> int:
    from curator.cli.main import main

    return main(list(argv))


def terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def replace(target: str) -> int:
    """A folder takes the place of the target, as publish does it."""
    from curator.system import replace_folder, workspace

    signal.signal(signal.SIGTERM, terminate)
    with workspace(Path(target)) as work:
        (work / "version" / "data").mkdir(parents=True)
        (work / "version" / "data" / "file").write_text("new")
        replace_folder(work / "version", Path(target))
    return 0


def stage(folder: str, optional: str) -> int:
    """Results take the place of others, as a run does it."""
    from curator.result.layout import staged

    signal.signal(signal.SIGTERM, terminate)
    with staged(Path(folder)) as staging:
        (staging / "data").mkdir()
        for name in ("data/file", "README.md", optional, "curation.json"):
            (staging / name).write_text("new")
    return 0


def journal(path: str) -> int:
    """Steps are saved one by one; those that are written down were answered as saved."""
    from curator.decisions.journal import Journal

    facts = {"classes": ["a", "b"], "dataset": "x", "split": "train", "id": "1"}
    with closing(Journal(Path(path), facts)) as opened:
        for row in range(4):
            opened.save([{"key": f"step-{row}", "kind": "do", "rows": [(row, "relabel", "b")]}], "ann")
            os.write(1, f"step-{row}\n".encode())
    return 0


JOBS = {job.__name__: job for job in (command, replace, stage, journal)}


def child(shim: ctypes.CDLL, job: dict) -> None:
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    if not job["exchange"]:
        importlib.import_module("curator.system")._exchange = lambda a, b: False
    if not job["renames"]:
        importlib.import_module("curator.system")._rename = lambda a, b, how: errno.EINVAL
    if job["what"] == "command":  # what takes longer than so small a training
        importlib.import_module("curator.result.write").write_report = lambda *args: None
        importlib.import_module("curator.train").expected_seconds = lambda *args: 1.0
    shim.arm(job["root"].encode(), job["watch"].encode(), job["at"], job["sent"])
    try:
        code = JOBS[job["what"]](*job["argv"])
    except SystemExit as e:
        code = e.code
    shim.disarm()
    Path(job["log"] + ".events").write_text(f"{shim.events()} {shim.first_rename()}")
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    for module in sys.argv[2:]:
        importlib.import_module(module)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the tiny nets of these jobs train faster on one core
    shim = ctypes.CDLL(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            try:
                child(shim, json.loads(line))
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(99)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
