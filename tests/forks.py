"""Real processes that start in no time: forks of one that has imported everything."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["curator.train", "curator.result.write", "accelerate", "gradio", "curator.review.page", "curator.review.server",
     "tests.test_processes", "tests.review.serving"]
)  # fmt: skip
