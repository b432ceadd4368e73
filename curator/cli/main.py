"""A command and its exit code: errors as one line, signals, standard streams that are closed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import traceback
from importlib import import_module

from curator.cli.commands import apply, clean, diff, import_, publish, review
from curator.cli.space import space
from curator.errors import CuratorError
from curator.text import PROGRAM, command_line, say


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1, 2, 130 (Ctrl-C), 141 (nobody reads its output) or 143 (SIGTERM)."""
    _open_streams()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()  # not when Python ends, which would complain of a closed pipe in words of its own
    except OSError as e:
        error = _lost_output() if _is_of_a_stream(e) else None
        if error is None:
            raise
        if not isinstance(error, BrokenPipeError):
            print(f"error: standard output: {error.strerror}", file=sys.stderr)
            return 1
        return 141


def _run(argv: list[str]) -> int:
    if argv[:1] == ["--version"]:
        print(f"{PROGRAM} {import_module('curator').__version__}")
        return 0
    if not argv or argv[0] not in COMMANDS:
        asked = bool(argv) and argv[0] in ("-h", "--help")
        print(usage(), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2

    def terminate(signum: int, frame: object) -> None:
        with contextlib.suppress(OSError):  # not print: it may be at work itself at this moment
            os.write(2, f"terminated: {STOPPED[argv[0]]}\n".encode())
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, terminate)
    _die_with_launcher()
    try:
        return COMMANDS[argv[0]](argv[1:])
    except CuratorError as e:
        say(f"error: {_brief(str(e))}")
        return e.exit_code
    except KeyboardInterrupt:
        print(f"interrupted: {STOPPED[argv[0]]}", file=sys.stderr)
        return 130
    except MemoryError:
        print("error: this machine has not enough free memory; close other programs and try again", file=sys.stderr)
        return 1
    except Exception as e:  # a fault of ours; its text may quote a stranger's file
        if _is_of_a_stream(e):
            raise
        for line in traceback.format_exc().splitlines():
            say(line)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def usage() -> str:
    """What label-curator prints by itself."""
    about = [f"  {name:<9}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    start = command_line()
    lines = [f"usage: {start} COMMAND [FLAGS]", "", "Find, review and fix wrong labels.", "", *about, ""]
    return "\n".join([*lines, f"{start} COMMAND --help lists the flags of a command, {start} --version the version."])


def _is_of_a_stream(e: Exception) -> bool:
    """Whether an error may be of standard output: a pipe that nobody reads, a full disk behind it."""
    return isinstance(e, OSError) and e.filename is None and e.errno in (errno.EPIPE, errno.ENOSPC)


def _open_streams() -> None:
    """Let the standard streams that the caller closed lead nowhere; else the next file that is opened would be one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115


def _lost_output() -> OSError | None:
    """Why a standard stream cannot be written, a pipe that nobody reads say; it leads nowhere from then on."""
    found = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            os.write(stream.fileno(), b"\n")  # where nothing is buffered, only writing tells
        except io.UnsupportedOperation:  # no stream of the system's
            continue
        except OSError as e:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            found = e
    return found


def console() -> None:
    """Entry point of the console script."""
    sys.exit(main())


COMMANDS = {
    "clean": clean, "review": review, "publish": publish, "diff": diff, "import": import_, "apply": apply,
    "space": space,
}  # fmt: skip
STOPPED = {
    "clean": "the same command continues from the last checkpoint",
    "review": "every decision that showed as saved is in the journal",
    "publish": "the target holds the whole version or nothing of it; run the same command again",
    "diff": "nothing was changed",
    "apply": "no file is lost; run the same command again to do the rest, or with --undo",
    "space": "run the same command again; what was uploaded is not sent again",
    "import": "the journal holds all of the file or nothing of it; run the same command again",
}


def _brief(text: str, most: int = 1000) -> str:
    """The text as one line; what it quotes of a stranger's file may be long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most // 2]} … {line[-most // 2 :]}"


def _die_with_launcher() -> None:
    """A worker of accelerate launch or torchrun dies with its launcher, which Linux does not see to by itself."""
    if sys.platform != "linux" or not ("LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ):
        return
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
