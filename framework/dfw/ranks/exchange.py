"""What autograd must know of tensors that several processes share. Legend: n rows of this process, N rows of all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Group(Protocol):
    """Processes that exchange tensors of one device."""

    rank: int
    count: int

    def gather(self, part: Tensor, counts: Sequence[int]) -> Tensor:
        """Joins each process's `part` (n, ...); counts: every process's n."""

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by their sums over the processes."""


@dataclass(frozen=True)
class Rows:
    """How N rows are shared out: process r has `counts[r]` of them, in order. One without rows works on the first, in vain."""

    counts: tuple[int, ...]
    rank: int

    @staticmethod
    def of(rows: int, block: int, rank: int, processes: int) -> Rows:
        """Shares out `rows`, of which `block` consecutive ones stay together, as evenly as that allows."""
        blocks, more = divmod(rows // block, processes)
        return Rows(tuple(block * (blocks + (one < more)) for one in range(processes)), rank)

    @property
    def first(self) -> int:
        """The first row of this process."""
        return sum(self.counts[: self.rank]) if self.counts[self.rank] else 0

    @property
    def kept(self) -> int:
        """How many rows of this process count."""
        return self.counts[self.rank]

    def slice(self, block: int = 1) -> slice:
        """The rows that this process works on."""
        return slice(self.first, self.first + (self.kept or block))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, group: Group, counts: Sequence[int], scale: float) -> Tensor:
        ctx.rows, ctx.scale, ctx.shape = Rows(tuple(counts), group.rank), scale, part.shape
        return group.gather(part.detach()[: counts[group.rank]], counts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows: Rows = ctx.rows
        if not rows.kept:
            return grad.new_zeros(ctx.shape), None, None, None
        own = grad[rows.first : rows.first + rows.kept]
        return own if ctx.scale == 1 else own * ctx.scale, None, None, None


def gathered(part: Tensor, group: Group, counts: Sequence[int], scale: float = 1.0) -> Tensor:
    """Returns all N rows of what each process has n of. The gradient of the own rows comes back, times `scale`.

    A process of count 0 gives rows that are dropped; their gradient is 0.
    """
    found: Tensor = _Gather.apply(part, group, counts, scale)  # type: ignore[no-untyped-call]
    return found


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: Tensor, group: Group, rows: Rows, block: int) -> Tensor:
        ctx.group, ctx.rows = group, rows
        return whole[rows.slice(block)].clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.group.gather(grad[: ctx.rows.kept], ctx.rows.counts), None, None, None


def entering(whole: Tensor, group: Group, rows: Rows, block: int) -> Tensor:
    """Returns this process's rows of a tensor that all processes have. Every process gets the gradient of all N rows."""
    if not (torch.is_grad_enabled() and whole.requires_grad):
        return whole[rows.slice(block)]
    found: Tensor = _Enter.apply(whole, group, rows, block)  # type: ignore[no-untyped-call]
    return found


class _Parameters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, group: Group, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.group = group
        ctx.set_materialize_grads(False)  # what is not used has no gradient, and no optimiser steps it
        return tuple(one.view_as(one) for one in parameters)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        summed = [None if grad is None else grad.clone() for grad in grads]
        ctx.group.sum([one for one in summed if one is not None])
        return None, *summed


def shared_parameters(group: Group, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Returns parameters that each process uses for its own rows. Their gradient is the sum over all processes."""
    found: tuple[Tensor, ...] = _Parameters.apply(group, *parameters)  # type: ignore[no-untyped-call]
    return found
