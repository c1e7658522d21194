"""Independent pieces of work on several Python threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import torch


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="dfw-parallel")


def in_parallel(jobs: Sequence[Callable[[], object]], threads: int | None = None) -> None:
    """Runs the jobs on `threads` threads, torch.get_num_threads() by default. Returns when all have run.

    It pays for work that releases the GIL, such as Warp's launches on a CPU. Jobs must not write to the same place. On one thread
    they run in the caller's, in their order. Raises what the first job in the list that failed has raised.
    """
    workers = min(torch.get_num_threads() if threads is None else threads, len(jobs))
    if workers <= 1:
        for job in jobs:
            job()
        return
    futures = [_pool(workers).submit(job) for job in jobs]
    wait(futures)
    for future in futures:
        future.result()
