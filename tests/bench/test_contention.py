import os
import signal
import subprocess
import sys
import time

import psutil

from bench import contention

STARTS = """
import time
from bench.contention import busy
with busy(1):
    print("busy", flush=True)
    time.sleep(60)
"""


def test_a_run_counts_as_its_limit_at_most():
    started = time.perf_counter()
    assert contention.seconds(None, 1, limit=0.2) == 0.2
    assert time.perf_counter() - started < 20


def test_busy_loops_end_with_the_bench_that_was_killed():
    bench = subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, cwd=contention.ROOT)
    assert bench.stdout is not None and bench.stdout.readline() == b"busy\n"
    (loop,) = psutil.Process(bench.pid).children()
    os.kill(bench.pid, signal.SIGKILL)
    bench.communicate()
    gone, _ = psutil.wait_procs([loop], timeout=20)
    assert gone
