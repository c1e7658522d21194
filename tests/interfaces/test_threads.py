"""Independent work runs side by side, ends before the call returns, and its errors are the caller's."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
import torch

from dfw import in_parallel


def test_jobs_run_side_by_side_on_torchs_number_of_threads_and_on_one_in_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs that wait for each other end only if there are three threads."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    meeting = threading.Barrier(3)
    in_parallel([partial(meeting.wait, 20)] * 3)
    ran: list[tuple[str, int]] = []

    def note(number: int) -> None:
        ran.append((threading.current_thread().name, number))

    in_parallel([partial(note, number) for number in range(4)], 1)
    assert ran == [(threading.current_thread().name, number) for number in range(4)]


def test_what_a_job_raises_reaches_the_caller_when_all_have_ended() -> None:
    """Else the caller would let go of memory that a job still writes to."""
    ended: list[str] = []

    def fails() -> None:
        raise ValueError("no room")

    def slow() -> None:
        time.sleep(0.2)
        ended.append("slow")

    with pytest.raises(ValueError, match="no room"):
        in_parallel([fails, slow], 2)
    assert ended == ["slow"]
