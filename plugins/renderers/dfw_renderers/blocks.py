"""Work over many samples in blocks of whole rays. Memory holds what one block computes, on the way back to the scene as well.

Legend: R rays, N samples packed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Block:
    """Samples [start, stop) of the packed ones: all those of the rays [first, last)."""

    start: int
    stop: int
    first: int
    last: int


Work = Callable[[Block], dict[Any, Tensor]]
"""From a block to named tensors with a row for each of its rays or samples. It draws no random numbers: it may run twice."""


def cut(ray: Tensor, rays: int, size: int) -> list[Block]:
    """Cuts samples with the sorted ray indices `ray` (N,) into blocks of about `size`, which together hold all R = `rays` rays.

    A block may have as many samples more as its last ray has. Waits for the device only where there is more than one block.
    """
    count = len(ray)
    if count <= size:
        return [Block(0, count, 0, rays)]
    firsts = ray[::size].contiguous()
    starts = torch.searchsorted(ray, firsts)
    marks = dict(zip(*torch.stack([starts, firsts]).tolist(), strict=True))  # a ray longer than a block would start two
    marks[0] = 0
    edges = [*marks.items(), (count, rays)]
    return [Block(start, stop, first, last) for (start, first), (stop, last) in pairwise(edges)]


def in_blocks(work: Work, blocks: Sequence[Block], sources: Sequence[Tensor], device: torch.device) -> dict[Any, Tensor]:
    """Returns what `work` makes of all blocks on `device`, joined. Gradients reach `sources`, tensors that `work` reads.

    With several blocks no graph is kept: the way back computes each block again, and takes one forward pass longer. Gradients are
    the same up to rounding, and can be taken once, not differentiated again.
    """
    if len(blocks) == 1:
        return work(blocks[0])
    names: list[Any] = []

    def values(block: Block) -> tuple[Tensor, ...]:
        found = work(block)
        names[:] = found
        return tuple(found.values())

    joined: tuple[Tensor, ...] = _Recomputed.apply(values, blocks, device.type, *sources)  # type: ignore[no-untyped-call]
    return dict(zip(names, joined, strict=True))


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Callable[[Block], tuple[Tensor, ...]], blocks: Sequence[Block], device: str, *sources: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.values, ctx.blocks = values, blocks
        # autocast of older torch would hand a weight that it rounded here, without a graph, to whoever asks for it next
        ctx.precision = torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False)
        ctx.save_for_backward(*sources)
        ctx.set_materialize_grads(False)
        with ctx.precision:
            columns = list(zip(*(values(block) for block in blocks), strict=True))
        return tuple(torch.cat(column) for column in columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        sources = ctx.saved_tensors
        totals: list[Tensor | None] = [None] * len(sources)
        rest = {place: gradient for place, gradient in enumerate(upstream) if gradient is not None}
        for block in ctx.blocks:
            with torch.enable_grad(), ctx.precision:
                found = ctx.values(block)
            pairs = [
                (found[place], gradient[: len(found[place])]) for place, gradient in rest.items() if found[place].requires_grad
            ]
            rest = {place: gradient[len(found[place]) :] for place, gradient in rest.items()}
            # the graph is kept, since a geometry may have made a tensor that all blocks read
            values, gradients = zip(*pairs, strict=True) if pairs else ((), ())
            moved = torch.autograd.grad(values, sources, gradients, retain_graph=True, allow_unused=True)
            for place, gradient in enumerate(moved):
                if gradient is not None:
                    before = totals[place]
                    totals[place] = gradient.clone() if before is None else before.add_(gradient)
        return (None, None, None, *totals)
