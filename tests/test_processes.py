"""The command as real processes: launchers, kills, locks, signals."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import curator
from tests.conftest import ROOT, hf_dataset

CLEAN = [sys.executable, "curator/clean.py"]


def start(*argv, launcher=CLEAN, core: int | None = None) -> subprocess.Popen:
    """Start a command. Two at a time get a core each: threads of both on the same cores would wait for each other."""
    cores = sorted(os.sched_getaffinity(0))
    pin = [] if core is None or not shutil.which("taskset") else ["taskset", "-c", str(cores[core % len(cores)])]
    words = [*pin, *launcher, *map(str, argv)]
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_listen_to_ctrl_c
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


def reached(folder: Path, number: int) -> bool:
    pointer = folder / "checkpoints" / "latest"
    try:
        return int(pointer.read_text()) >= number
    except (OSError, ValueError):
        return False


def wait_for(condition, process=None, seconds=120):
    """Until the condition holds, or the process has ended."""
    end = time.monotonic() + seconds
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < end
        time.sleep(0.01)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "method, epochs, kills",
    [
        ("ce", 160, 2),
        *(
            pytest.param(m, e, 5, marks=SLOW)
            for m, e in (
                ("promix", 24),
                ("cpc", 24),
                ("bootstrap", 150),
                ("confident", 60),
                ("ce", 300),
                ("mixup", 300),
            )
        ),
    ],
)
def test_killed_at_random_moments(source, tmp_path, method, epochs, kills):
    """kill -9, then the same command: the parquet of an uninterrupted run, byte for byte."""
    argv = ["--dataset", source, "--method", method, "--epochs", epochs, "--output"]
    straight = start(*argv, tmp_path / "straight", core=0)
    rng = random.Random()
    seed = rng.randrange(10**6)
    rng.seed(seed)
    done = 0
    for kill in range(kills):
        process = start(*argv, tmp_path / "killed", core=1)
        if kill:
            target = done + rng.randint(int(kill == kills - 1), epochs // 8)  # the last one leaves a checkpoint
            wait_for(lambda: reached(tmp_path / "killed", target), process)  # noqa: B023
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
    assert "continuing from train epoch" in finish(start(*argv, tmp_path / "killed", core=1))
    finish(straight)
    assert parquet(tmp_path / "killed") == parquet(tmp_path / "straight"), f"seed {seed}"
    left = {p.name for p in (tmp_path / "killed").iterdir()}
    assert left == {p.name for p in (tmp_path / "straight").iterdir()} and "checkpoints" not in left


def test_sigterm_and_ctrl_c_and_the_lock(source, tmp_path):
    """143 and 130, the checkpoint stands; meanwhile a second run on the folder is refused."""
    argv = ["--dataset", source, "--method", "ce", "--epochs", "2000", "--output", tmp_path / "out"]
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = start(*argv, core=0)
        before = int((tmp_path / "out" / "checkpoints" / "latest").read_text()) if (tmp_path / "out").exists() else 0
        wait_for(lambda: reached(tmp_path / "out", before + 3), process)  # noqa: B023
        if sent == signal.SIGTERM:
            second = start(*argv, core=1)
            _, err = second.communicate(timeout=120)
            assert second.returncode == 2 and "another run is writing there" in err.splitlines()[-1]
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code and "continues from the last checkpoint" in err and "Traceback" not in err
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


@pytest.mark.parametrize(
    "method, epochs, kill",
    [("mixup", 12, False), *(pytest.param(m, 14, True, marks=SLOW) for m in ("mixup", "promix", "cpc", "bootstrap"))],
)
def test_two_processes(source, tmp_path, method, epochs, kill):
    """Every row once, about what one process finds, and a killed run ends like one that was not.

    ProMix has priors, selections and two optimizer groups besides the nets; CPC has prototypes, scores and splits.
    """
    import datasets
    import numpy as np

    argv = ["--dataset", source, "--method", method, "--epochs", epochs, "--method.batch-size", "16"]
    argv += [*(["--method.warmup-batch", "16"] if method == "cpc" else []), "--output"]
    finish(start(*argv, tmp_path / "two", launcher=torchrun(2)))
    if kill:
        process = start(*argv, tmp_path / "killed", launcher=torchrun(2))
        wait_for(lambda: reached(tmp_path / "killed", 4), process)
        process.kill()  # the launcher only: its workers ask to die with it
        process.communicate()
        assert not (tmp_path / "killed" / "curation.json").exists()
        wait_for(lambda: _lock_is_free(tmp_path / "killed"), seconds=30)
        assert "continuing from train epoch" in finish(start(*argv, tmp_path / "killed", launcher=torchrun(2)))
        assert parquet(tmp_path / "killed") == parquet(tmp_path / "two")
    finish(start(*argv, tmp_path / "one"))
    one, two = (datasets.load_dataset(str(tmp_path / name)) for name in ("one", "two"))
    for split in ("train", "test"):
        assert two[split]["row"][:] == list(range(len(one[split])))
        assert np.isfinite(np.array(two[split]["teacher_soft_label"][:])).all()
    accuracy = [np.mean(np.array(d["train"]["corrected_label"]) == d["train"]["true_label"]) for d in (one, two)]
    assert abs(accuracy[0] - accuracy[1]) < 0.05 and min(accuracy) > 0.9  # up to the statistics of BatchNorm


def _lock_is_free(folder: Path) -> bool:
    import fcntl

    with open(folder / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False


def test_curate_in_two_processes(source, tmp_path):
    """Every process gets the result, one writes it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import curator\n"
        "out = curator.curate(sys.argv[2], method='ce', epochs=2, output=sys.argv[3])\n"
        "print(f'{len(out)} rows; {sum(out[\"clean_score\"]):.4f}', flush=True)\n"
    )
    launcher = [*torchrun(2)[:-1], str(script)]
    text = finish(start(ROOT, source, tmp_path / "out", launcher=launcher))
    lines = [line for line in text.splitlines() if line.startswith("203 rows; ")]
    assert len(lines) == 2 and len(set(lines)) == 1
    assert (tmp_path / "out" / "curation.json").exists()


def test_errors_under_a_launcher_come_first(tmp_path):
    launcher = [str(Path(sys.executable).parent / "accelerate"), "launch", "--cpu", "curator/clean.py"]
    process = start("--dataset", "digitz", "--output", tmp_path / "out", launcher=launcher)
    _, err = process.communicate(timeout=120)
    lines = [line for line in err.splitlines() if line.startswith("error: --dataset: 'digitz'")]
    assert process.returncode == 1 and len(lines) == 1


def test_three_ways_one_result(source, tmp_path):
    """accelerate launch, python and curate() give the same parquet."""
    argv = ["--dataset", source, "--method", "ce", "--epochs", "3", "--output"]
    accelerate = [str(Path(sys.executable).parent / "accelerate"), "launch", "curator/clean.py"]
    finish(start(*argv, tmp_path / "launched", launcher=accelerate))
    finish(start(*argv, tmp_path / "python"))
    curator.curate(str(source), method="ce", epochs=3, output=tmp_path / "called")
    files = parquet(tmp_path / "python")
    assert set(files) == {"train-00000-of-00001.parquet", "test-00000-of-00001.parquet"}
    assert parquet(tmp_path / "launched") == files
    assert parquet(tmp_path / "called") == files


def test_console_script(source, tmp_path):
    script = Path(sys.executable).parent / "label-curator"
    if not script.exists():
        pytest.fail("label-curator is not installed: pip install -e .")
    text = finish(
        start(
            "clean",
            "--dataset",
            source,
            "--method",
            "ce",
            "--epochs",
            "1",
            "--output",
            tmp_path / "out",
            launcher=[str(script)],
        )
    )
    assert f"result: {tmp_path}/out" in text and (tmp_path / "out" / "curation.json").exists()
