"""Measures where the time and the memory of a step go, without making the host wait for the device."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

_resource: Any = import_module("resource") if find_spec("resource") else None  # Windows has none

Mark = tuple[float, torch.cuda.Event | None]


class Clock:
    """Records the time of the named parts of a step. On CUDA it records events, which `seconds_of` reads later."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._spans: list[tuple[str, Mark, Mark]] = []

    def _mark(self) -> Mark:
        if not self._cuda:
            return time.perf_counter(), None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return 0.0, event

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times the body as `part`. Times of the same part add up."""
        start = self._mark()
        try:
            yield
        finally:
            self._spans.append((part, start, self._mark()))

    def take(self) -> list[tuple[str, Mark, Mark]]:
        """Returns the spans since the last `take`, still unread."""
        spans, self._spans = self._spans, []
        return spans


def seconds_of(spans: list[tuple[str, Mark, Mark]]) -> dict[str, float]:
    """Returns part -> seconds. On CUDA the caller must have synchronised after the spans were recorded."""
    seconds: dict[str, float] = {}
    for part, (start, start_event), (end, end_event) in spans:
        if start_event is not None and end_event is not None:
            elapsed = start_event.elapsed_time(end_event) / 1000
        else:
            elapsed = end - start
        seconds[part] = seconds.get(part, 0.0) + elapsed
    return seconds


def peak_memory(device: torch.device) -> float | None:
    """Returns the largest memory so far, in MB (10^6 bytes): of tensors on a CUDA device, elsewhere of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if _resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, and kibibytes elsewhere
    return float(_resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
