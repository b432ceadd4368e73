"""The command as real processes: launchers, kills, locks, signals."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import curator
from curator.cli.main import main
from curator.methods import METHODS
from tests.conftest import ROOT, hf_dataset
from tests.forks import FORKS

CLEAN = [sys.executable, "curator/clean.py"]
# What a method needs besides; fewer nets than by default.
FEW_NETS = {"rounds": 2, "classifiers": 3, "votes": 3}
VERIFIED = {"pudistill": ["--verified", "0.3", *(f"--method.{name}={n}" for name, n in FEW_NETS.items())]}


def start(*argv, launcher=CLEAN, core: int | None = None, **env) -> subprocess.Popen:
    """Start a command. Two at a time get a core each: threads of both on the same cores would wait for each other."""
    cores = sorted(os.sched_getaffinity(0))
    pin = [] if core is None or not shutil.which("taskset") else ["taskset", "-c", str(cores[core % len(cores)])]
    words = [*pin, *launcher, *map(str, argv)]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_listen_to_ctrl_c,
    )


def _listen_to_ctrl_c() -> None:
    """As in a terminal: a worker of pytest-xdist ignores it, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out + err


def parquet(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "data").iterdir())}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "rows"
    folder.mkdir()
    hf_dataset(203, 3, 0.3).to_parquet(folder / "train.parquet")
    hf_dataset(40, 3, 0.1).to_parquet(folder / "test.parquet")
    return folder


def flags(source: Path, method: str, epochs: int) -> list[str]:
    """A run of the method on the rows, from scratch; what must be verified for it is."""
    of_run = ["--dataset", str(source), "--net", "small", "--method", method, "--epochs", str(epochs)]
    return [*of_run, *VERIFIED.get(method, [])]


def reached(folder: Path, number: int) -> bool:
    pointer = folder / "checkpoints" / "latest"
    try:
        return int(pointer.read_text()) >= number
    except (OSError, ValueError):
        return False


def wait_for(condition, alive=lambda: True, seconds=300):
    """Until the condition holds, or the process is not alive."""
    end = time.monotonic() + seconds
    while not condition() and alive():
        assert time.monotonic() < end
        time.sleep(0.005)


def warnings_of(folder: Path) -> list[str]:
    return json.loads((folder / "curation.json").read_text())["warnings"]


# One with folds, one without batches: what is written when is the same for all.
OFTEN = ("confident", "linear")


@pytest.mark.parametrize(
    "method", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_killed_at_a_random_moment(method, tmp_path, monkeypatch):
    """kill -9, then the same command: the parquet of an uninterrupted run, byte for byte."""
    hf_dataset(60, 3, 0.3, size=8).to_parquet(tmp_path / "source" / "train.parquet")
    argv = ["clean", *flags(tmp_path / "source", method, 8)]
    if method not in ("linear", "posterior"):  # linear models have no batches
        argv += ["--method.batch-size", "30"]
    argv += ["--output"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    process = FORKS.Process(target=main, args=([*argv, str(killed)],))
    process.start()
    if rng.random() < 0.8:  # else before the training, mostly
        target = rng.randrange(3 if method == "posterior" else 5)  # its labels may settle after two rounds
        wait_for(lambda: reached(killed, target), process.is_alive)
    time.sleep(rng.uniform(0, 0.1))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (killed / "curation.json").exists(), f"seed {seed}"
    assert main([*argv, str(killed)]) == 0
    monkeypatch.setenv("XDG_CACHE_HOME", f"{tmp_path}/cache")  # nothing of what the first has kept for other runs
    assert main([*argv, str(straight)]) == 0
    assert parquet(killed) == parquet(straight), f"seed {seed}"
    assert {p.name for p in killed.iterdir()} == {p.name for p in straight.iterdir()}
    said = warnings_of(killed)
    assert said == warnings_of(straight) and any("few verified rows" in w for w in said) == (method == "pudistill")


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, epochs",
    [
        ("promix", 24),
        ("dividemix", 24),
        ("cpc", 24),
        ("bootstrap", 150),
        ("pudistill", 60),
        ("confident", 60),
        ("ce", 300),
        ("mixup", 300),
    ],
)
def test_killed_at_random_moments(source, tmp_path, method, epochs, kills=5):
    """The same in processes that nothing prepared, over and over: 40 kills, of every method in all its phases."""
    argv = [*flags(source, method, epochs), "--output"]
    straight = start(*argv, tmp_path / "straight", core=0, XDG_CACHE_HOME=f"{tmp_path}/cache")
    rng = random.Random()
    seed = rng.randrange(10**6)
    rng.seed(seed)
    done = 0
    for kill in range(kills):
        process = start(*argv, tmp_path / "killed", core=1)
        if kill:
            target = done + rng.randint(int(kill == kills - 1), epochs // 8)  # the last one leaves a checkpoint
            wait_for(lambda: reached(tmp_path / "killed", target), lambda: process.poll() is None)  # noqa: B023
            time.sleep(rng.uniform(0, 0.4))
        else:
            time.sleep(rng.uniform(0.1, 6))  # before training, mostly
        assert process.poll() is None, f"it ended before kill {kill}, seed {seed}: {process.communicate()[1][-500:]}"
        process.kill()
        process.communicate()
        assert not (tmp_path / "killed" / "curation.json").exists()
        pointer = tmp_path / "killed" / "checkpoints" / "latest"
        done = int(pointer.read_text()) if pointer.exists() else 0
    assert done > 0, f"seed {seed}"
    assert "continuing from " in finish(start(*argv, tmp_path / "killed", core=1))
    finish(straight)
    assert parquet(tmp_path / "killed") == parquet(tmp_path / "straight"), f"seed {seed}"
    left = {p.name for p in (tmp_path / "killed").iterdir()}
    assert left == {p.name for p in (tmp_path / "straight").iterdir()} and "checkpoints" not in left


def from_a_terminal(argv: list[str], err: Path) -> None:
    """What clean.py does, in a fork; its stderr goes to a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.exit(main(argv))


def test_sigterm_and_ctrl_c_and_the_lock(source, tmp_path, capsys):
    """143 and 130, the checkpoint stands; meanwhile a second run on the folder is refused."""
    argv = ["clean", *flags(source, "ce", 2000), "--output", f"{tmp_path}/out"]
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = FORKS.Process(target=from_a_terminal, args=(argv, tmp_path / "err"))
        process.start()
        before = int((tmp_path / "out" / "checkpoints" / "latest").read_text()) if (tmp_path / "out").exists() else 0
        wait_for(lambda: reached(tmp_path / "out", before + 3), process.is_alive)  # noqa: B023
        if sent == signal.SIGTERM:
            assert main(argv) == 2 and "another run is writing there" in capsys.readouterr().err.splitlines()[-1]
        os.kill(process.pid, sent)
        process.join(60)
        err = (tmp_path / "err").read_text()
        assert process.exitcode == code and "continues from the last checkpoint" in err and "Traceback" not in err
        assert reached(tmp_path / "out", before + 3)


def torchrun(n: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(n),
        "curator/clean.py",
    ]


def agree(one: Path, two: Path, within: float) -> None:
    """Every row once, and about what one process finds: up to the statistics of BatchNorm."""
    import datasets
    import numpy as np

    a, b = (datasets.load_dataset(str(folder)) for folder in (one, two))
    for split in ("train", "test"):
        assert b[split]["row"][:] == list(range(len(a[split])))
        assert np.isfinite(np.array(b[split]["teacher_soft_label"][:])).all()
    accuracy = [np.mean(np.array(d["train"]["corrected_label"]) == d["train"]["true_label"]) for d in (a, b)]
    assert abs(accuracy[0] - accuracy[1]) <= within and min(accuracy) > 0.9, accuracy


def process_of_two(rank: int, port: int, argv: list[str]) -> None:
    """One of two processes, with the environment that torchrun gives it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.exit(main(argv))


STREAM = ["--memory-budget", "0.000001", "--image-size", "12"]


@pytest.mark.slow
@pytest.mark.parametrize("method, epochs, own", [
    ("mixup", 12, STREAM),  # one process holds what two decode
    ("mixup", 12, []), ("pudistill", 10, []),
])  # fmt: skip
def test_two_processes_agree_with_one(method, epochs, own, source, tmp_path):
    argv = ["clean", *flags(source, method, epochs)]
    argv += ["--method.batch-size", "16", "--output"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [*argv, f"{tmp_path}/two", *own]
    two = [FORKS.Process(target=process_of_two, args=(r, port, both)) for r in range(2)]
    for process in two:
        process.start()
    assert main([*argv, f"{tmp_path}/one"]) == 0
    for process in two:
        process.join(120)
    assert [process.exitcode for process in two] == [0, 0]
    agree(tmp_path / "one", tmp_path / "two", within=0.05 if method == "mixup" else 0.015)


PLUS = {
    "elr": ["--method.plus", "--method.soft-label", "target", "--method.restart", "7"],
    "sop": ["--method.consistency", "0.9", "--method.balance", "0.1", "--method.rate-u", "30"],
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mixup", "promix", "cpc", "bootstrap", "elr", "sop", "pudistill"])
def test_two_processes(source, tmp_path, method):
    """A killed run under a launcher ends like one that was not.

    ProMix has priors, selections and two optimizer groups besides the nets; CPC has prototypes, scores and splits;
    PUDistill has ensembles, votes and two stages; ELR and SOP move numbers of a row where it is seen.
    """
    argv = ["--dataset", source, "--method", method, "--net", "small", "--epochs", 14, "--method.batch-size", "16"]
    argv += PLUS.get(method, [])
    argv += [*(["--method.warmup-batch", "16"] if method == "cpc" else []), *VERIFIED.get(method, []), "--output"]
    finish(start(*argv, tmp_path / "two", launcher=torchrun(2), XDG_CACHE_HOME=f"{tmp_path}/cache"))
    process = start(*argv, tmp_path / "killed", launcher=torchrun(2))
    wait_for(lambda: reached(tmp_path / "killed", 4), lambda: process.poll() is None)
    process.kill()  # the launcher only: its workers ask to die with it
    process.communicate()
    assert not (tmp_path / "killed" / "curation.json").exists()
    wait_for(lambda: _lock_is_free(tmp_path / "killed"), seconds=30)
    assert "continuing from " in finish(start(*argv, tmp_path / "killed", launcher=torchrun(2)))
    assert parquet(tmp_path / "killed") == parquet(tmp_path / "two")
    finish(start(*argv, tmp_path / "one", core=0))
    agree(tmp_path / "one", tmp_path / "two", within=0.05)


@pytest.mark.slow
def test_two_machines(source, tmp_path):
    """As README says, but with both on this one: every launcher starts one process and they share the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["--dataset", source, "--method", "mixup", "--net", "small", "--epochs", 14, "--method.batch-size", "16"]
    argv += ["--output"]
    nodes = [
        start(*argv, tmp_path / "two", launcher=[
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank),
            "--master_addr", "127.0.0.1", "--master_port", str(port), "--nproc_per_node", "1", "curator/clean.py",
        ])
        for rank in range(2)
    ]  # fmt: skip
    for node in nodes:
        finish(node)
    finish(start(*argv, tmp_path / "one"))
    agree(tmp_path / "one", tmp_path / "two", within=0.05)


def _lock_is_free(folder: Path) -> bool:
    import fcntl

    with open(folder / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False


@pytest.mark.slow
def test_curate_in_two_processes(source, tmp_path):
    """Every process gets the result, one writes it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import curator\n"
        "out = curator.curate(sys.argv[2], method='ce', net='small', epochs=2, output=sys.argv[3])\n"
        "print(f'{len(out)} rows; {sum(out[\"clean_score\"]):.4f}', flush=True)\n"
    )
    launcher = [*torchrun(2)[:-1], str(script)]
    text = finish(start(ROOT, source, tmp_path / "out", launcher=launcher))
    lines = [line for line in text.splitlines() if line.startswith("203 rows; ")]
    assert len(lines) == 2 and len(set(lines)) == 1
    assert (tmp_path / "out" / "curation.json").exists()


@pytest.mark.slow
def test_errors_under_a_launcher_come_first(tmp_path):
    launcher = [str(Path(sys.executable).parent / "accelerate"), "launch", "--cpu", "curator/clean.py"]
    process = start("--dataset", "digitz", "--output", tmp_path / "out", launcher=launcher)
    _, err = process.communicate(timeout=120)
    lines = [line for line in err.splitlines() if line.startswith("error: --dataset: 'digitz'")]
    assert process.returncode == 1 and len(lines) == 1


def test_three_ways_one_result(source, tmp_path):
    """accelerate launch on clean.py, the command that is installed and curate() give the same parquet."""
    argv = ["--dataset", source, "--method", "ce", "--net", "small", "--epochs", "3", "--output"]
    beside = Path(sys.executable).parent
    if not (beside / "label-curator").exists():
        pytest.fail("label-curator is not installed: pip install -e .")
    accelerate = [str(beside / "accelerate"), "launch", "curator/clean.py"]
    finish(start(*argv, tmp_path / "launched", launcher=accelerate))
    text = finish(start("clean", *argv, tmp_path / "installed", launcher=[str(beside / "label-curator")]))
    assert f"result: {tmp_path}/installed" in text and (tmp_path / "installed" / "curation.json").exists()
    curator.curate(str(source), method="ce", net="small", epochs=3, output=tmp_path / "called")
    files = parquet(tmp_path / "installed")
    assert set(files) == {"train-00000-of-00001.parquet", "test-00000-of-00001.parquet"}
    assert parquet(tmp_path / "launched") == files
    assert parquet(tmp_path / "called") == files
