"""The fast compositing: Gaussians listed per tile of 8 x 8 pixels, and Warp kernels that walk through those lists.

Legend: B views, N Gaussians, M of all B N are drawn, K pairs of a Gaussian and a tile it touches. Splats as in `compositing`.

On a CPU the launches are split over torch.get_num_threads() Python threads, so that no two write the same row: their number
changes no bit. On CUDA atomics sum the gradients of a tile's pixels, in no fixed order. M and K are read from the device.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dfw import load_warp

from . import compositing
from .compositing import SPLAT
from .projection import ALPHA_MIN, footprint

_PARTS = 4  # parts of a launch for each thread, to even out full and empty tiles


@dataclass(frozen=True)
class Lists:
    """What is drawn where; all but `chosen` int32.

    chosen (M,): rows of the B N Gaussians, sorted by view, then depth. first (M + 1,): each one's first pair. slot (K,): each
    pair's place, by tile. gaussian (K,): whose each slot is, below M. tile_first (tiles + 1,): each tile's first slot, view by
    view. across, down: tiles of a view.
    """

    chosen: Tensor
    first: Tensor
    slot: Tensor
    gaussian: Tensor
    tile_first: Tensor
    across: int
    down: int


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="gaussians")


@cache
def _kernels(device: str) -> Any:
    """The kernels, compiled and loaded on `device` before any thread launches one."""
    warp = load_warp()
    from . import kernels

    warp.load_module(kernels, device=device)
    return kernels


def _launch(name: str, count: int, lanes: int, inputs: list[Any], offset_at: int, outputs: list[Any]) -> None:
    """Runs a kernel over `count` x `lanes`; on a CPU in parts, each told its first row as input number `offset_at`."""
    import warp as wp

    device = outputs[0].device
    kernel = getattr(_kernels(str(device)), name)
    stream: Any = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def run(begin: int, end: int) -> None:
        dim = (end - begin, lanes) if lanes else (end - begin,)
        given = [_array(value) for value in (*inputs[:offset_at], begin, *inputs[offset_at:])]
        written = [_array(value) for value in outputs]
        wp.launch(kernel, dim, given, written, device=str(device), stream=stream, record_tape=False)

    threads = torch.get_num_threads() if device.type == "cpu" else 1
    size = max(1, -(-count // (threads * _PARTS if threads > 1 else 1)))
    starts = range(0, count, size)
    if threads == 1 or len(starts) == 1:
        for begin in starts:
            run(begin, min(begin + size, count))
        return
    jobs = [_pool(threads).submit(run, begin, min(begin + size, count)) for begin in starts]
    for job in jobs:
        job.result()


def _array(value: Any) -> Any:
    """A tensor as Warp sees it: rows of splats, four-vectors or single numbers."""
    import warp as wp

    from .kernels import Splat

    if not isinstance(value, Tensor):
        return value
    single = {torch.float32: wp.float32, torch.int32: wp.int32}[value.dtype]
    vectors = {(wp.float32, SPLAT): Splat, (wp.float32, 4): wp.vec4, (wp.int32, 4): wp.vec4i}
    kind = vectors[single, value.shape[-1]] if value.dim() in (2, 4) else single
    return wp.from_torch(value.detach(), dtype=kind, requires_grad=False)


def sorted_slots(tile: Tensor, tile_first: Tensor, view_first: Tensor) -> Tensor:
    """Where each pair (K,) goes when pairs are sorted by tile, stably; `view_first` (B + 1,): each view's first pair."""
    slot = torch.empty_like(tile)
    if tile.device.type == "cpu":
        cursor = tile_first[:-1].clone()
        _launch("place_pairs", len(view_first) - 1, 0, [tile, view_first], 2, [cursor, slot])
    else:
        order = torch.sort(tile, stable=True).indices
        slot[order] = torch.arange(len(tile), device=tile.device, dtype=tile.dtype)
    return slot


def list_tiles(splat_BN: Tensor, depth_BN: Tensor, visible_BN: Tensor, height: int, width: int, tile: int) -> Lists:
    """Sorts the visible Gaussians by depth and lists them for every tile they touch."""
    views, count = depth_BN.shape
    device = depth_BN.device
    order = depth_BN.masked_fill(~visible_BN, torch.inf).argsort(dim=1, stable=True)
    shown = visible_BN.gather(1, order)
    view, rank = shown.nonzero().unbind(-1)
    chosen = order[view, rank] + view * count
    across, down = -(-width // tile), -(-height // tile)
    box = _boxes(splat_BN.reshape(-1, SPLAT).index_select(0, chosen), tile, across, down)
    pairs = (box[:, 2] - box[:, 0] + 1) * (box[:, 3] - box[:, 1] + 1)
    first = torch.cat([pairs.new_zeros(1), pairs.cumsum(0)]).int()
    total = int(first[-1])
    owner_tile, gaussian = (torch.empty(total, dtype=torch.int32, device=device) for _ in range(2))
    slot, by_slot = torch.empty_like(gaussian), torch.empty_like(gaussian)
    tile_first = torch.zeros(views * across * down + 1, dtype=torch.int32, device=device)
    if total:
        _launch("list_pairs", len(chosen), 0, [box.int(), view.int(), first, across, down], 5, [owner_tile, gaussian])
        tile_first[1:].index_add_(0, owner_tile, torch.ones_like(owner_tile)).cumsum_(0)
        ends = torch.cat([shown.new_zeros(1, dtype=torch.int64), shown.sum(1).cumsum(0)])
        slot = sorted_slots(owner_tile, tile_first, first[ends])
        by_slot[slot.long()] = gaussian
    return Lists(chosen, first, slot, by_slot, tile_first, across, down)


def _boxes(splat_M: Tensor, tile: int, across: int, down: int) -> Tensor:
    """Left, top, right and bottom tile (M, 4) of each Gaussian's footprint."""
    xx, xy, yy, opacity = splat_M[:, 2:6].unbind(-1)
    determinant = xx * yy - xy * xy
    reach = footprint(yy / determinant, xx / determinant, opacity) * 1.001 + 0.01  # rounding must lose no pixel
    corner = torch.stack([splat_M[:, :2] - reach, splat_M[:, :2] + reach], dim=1).div(tile).floor().long()
    return torch.stack([corner[..., 0].clamp(0, across - 1), corner[..., 1].clamp(0, down - 1)], dim=-1).flatten(1)


class Composite(torch.autograd.Function):
    """Splats (B, N, 10), float32 -> sums of their features (B, H, W, 4) and the light that is left (B, H, W)."""

    @staticmethod
    def forward(
        ctx: Any, splat_BN: Tensor, depth_BN: Tensor, visible_BN: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """Front to back in each pixel."""
        tile = _kernels(str(splat_BN.device)).TILE
        lists = list_tiles(splat_BN, depth_BN, visible_BN, height, width, tile)
        splat = splat_BN.reshape(-1, SPLAT).index_select(0, lists.chosen)
        lowest = math.log(ALPHA_MIN) - splat[:, 5].log()
        shape = (splat_BN.shape[0], height, width)
        total, light = splat.new_zeros(*shape, 4), splat.new_ones(shape)
        last = torch.zeros(shape, dtype=torch.int32, device=splat.device)
        if len(lists.slot):
            inputs = [splat, lowest, lists.gaussian, lists.tile_first, lists.across, lists.down]
            _launch("composite", len(lists.tile_first) - 1, tile * tile, inputs, 6, [total, light, last])
        ctx.lists, ctx.shape, ctx.tile = lists, splat_BN.shape, tile
        ctx.save_for_backward(splat, lowest, light, last)
        return total, light

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total_grad: Tensor, light_grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of every splat, (B, N, 10)."""
        splat, lowest, light, last = ctx.saved_tensors
        lists: Lists = ctx.lists
        gradient = splat.new_zeros(ctx.shape)
        if len(lists.slot):
            inputs = [splat, lowest, lists.gaussian, lists.tile_first, lists.across, lists.down]
            inputs += [light, last, total_grad.contiguous(), light_grad.contiguous()]
            by_slot, by_gaussian = splat.new_zeros(len(lists.slot), SPLAT), torch.empty_like(splat)
            _launch("composite_backward", len(lists.tile_first) - 1, ctx.tile**2, inputs, 6, [by_slot])
            _launch("gather", len(splat), 0, [by_slot, lists.slot, lists.first], 3, [by_gaussian])
            gradient.view(-1, SPLAT)[lists.chosen] = by_gaussian
        return gradient, None, None, None, None


def composite(splat_BN: Tensor, depth_BN: Tensor, visible_BN: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Sums of features (B, H, W, 4) and the light left (B, H, W): kernels for float32 on CPU and CUDA, else plain torch."""
    if splat_BN.dtype != torch.float32 or splat_BN.device.type not in ("cpu", "cuda"):
        return compositing.composite(splat_BN, depth_BN, visible_BN, height, width)
    drawn: tuple[Tensor, Tensor] = Composite.apply(splat_BN, depth_BN, visible_BN, height, width)  # type: ignore[no-untyped-call]
    return drawn
