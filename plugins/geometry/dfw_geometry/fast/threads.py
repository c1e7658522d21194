"""Independent pieces of work on torch's number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="fast-path")


def in_parallel(jobs: Sequence[Callable[[], None]]) -> None:
    """Runs the jobs on torch.get_num_threads() threads, and raises what they raise. Warp's launches release the GIL."""
    workers = min(torch.get_num_threads(), len(jobs))
    if workers <= 1:
        for job in jobs:
            job()
        return
    for future in [_pool(workers).submit(job) for job in jobs]:
        future.result()
