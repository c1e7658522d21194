"""A connection of a run's processes: messages between hosts, and tensors between devices. Imports torch.distributed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(days=7)
"""For messages: the leader may write a mesh meanwhile. A process that ends is noticed at once."""
TENSORS = timedelta(minutes=10)
"""For tensors on GPUs, which are exchanged only where messages say that all processes are there."""


class Connection:
    """Exchanges messages and tensors with all processes of a run, which do the same in the same order.

    `lost` turns the error of a broken connection into the one to raise.
    """

    def __init__(self, store: Any, rank: int, count: int, device: torch.device, lost: Callable[[Exception], Exception]) -> None:
        self.rank, self.count, self._lost = rank, count, lost
        self._broken = False
        with self._noticing():
            dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE)
            self._tensors = dist.new_group(backend="nccl", timeout=TENSORS) if device.type == "cuda" else None

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo's and NCCL's
            self._broken = True
            raise self._lost(error) from error

    def close(self) -> None:
        """Ends the connection; processes that still wait for this one notice it."""
        if not (self._broken and self._tensors):  # NCCL would wait for what the lost process never sends; this process ends
            dist.destroy_process_group()

    def tell(self, message: Any) -> list[Any]:
        """Gives `message`, something small, to all, and returns every process's."""
        found: list[Any] = [None] * self.count
        with self._noticing():
            dist.all_gather_object(found, message)
        return found

    def gather(self, part: Tensor, counts: Sequence[int]) -> Tensor:
        """Joins each process's `part` (n, ...) along the first side; counts: every process's n."""
        own = part.new_zeros(max(counts), *part.shape[1:])
        own[: len(part)] = part
        if not own.numel():
            return own
        raw = own.contiguous().view(-1).view(torch.uint8)
        found = [torch.empty_like(raw) for _ in counts]
        with self._noticing():
            dist.all_gather(found, raw, group=self._tensors)
        return torch.cat([one.view(part.dtype).view_as(own)[:n] for one, n in zip(found, counts, strict=True)])

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each of `tensors` by its sum over the processes; all get the same bits."""
        for dtype in dict.fromkeys(one.dtype for one in tensors):
            same = [one for one in tensors if one.dtype == dtype]
            flat = torch.cat([one.reshape(-1) for one in same])
            with self._noticing():
                dist.all_reduce(flat, group=self._tensors)
            for one, summed in zip(same, torch.split(flat, [one.numel() for one in same]), strict=True):
                one.copy_(summed.view_as(one))
