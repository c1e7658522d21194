"""A hash grid with two networks of one hidden layer on it, and the gradient of the first in the points, for float32 on the CPU.

This replaces the rest of `EncodedField._networks`, which calls `hash_grid` and `networks` in turn. They visit the table rows of
each point five times, and this does three times. A chunk of points goes through the grid and both networks while the processor's
cache holds it, and on the way back one pass adds all gradients to the table.
Without it the part of a step outside the diffusion model takes 1.50 times as long (default run), and a whole step 1.14 times. The
version before had a vector kernel for every part of the grid, and took 1.17 times as long.

Legend: N points, L levels, F features per level, D = L F, K outputs of the second network, E table rows of all levels together.

With x(p, T) the encoding, J = dx/dp, and y(x) the first network with u = dy/dx, the slope is J^T u. Let v be its upstream
gradient. The networks' way back asks for q = J v (see `networks`), and gives a gradient e in x. Then the gradient in the table is
that of e . x + u . J v, which is linear in the rows.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dfw import in_parallel, load_warp

from . import hash_grid, hash_grid_vectors, networks
from .modules import load_kernels

enabled = True  # tests and benchmarks/fast_paths.py switch it off, to compare with the twin

_CHUNK = 1024  # points, so that the nearest caches hold J, which is 3 D numbers for each

_CONTRACT = """
    typedef float V __attribute__((ext_vector_type(WIDTH), aligned(4)));
    const V *u = (const V*)by_feature + (size_t)begin * levels, *slope = (const V*)slopes;
    for (int i = begin; i < begin + size && i < count; ++i) {
        V sum[3] = {0.0f, 0.0f, 0.0f};
        for (int level = 0; level < levels; ++level, ++u)
            for (int axis = 0; axis < 3; ++axis) sum[axis] += *u * *slope++;
        for (int axis = 0; axis < 3; ++axis) {
            float total = 0;
            for (int k = 0; k < WIDTH; ++k) total += sum[axis][k];
            ((float*)out)[3 * (size_t)i + axis] = total;
        }
    }
"""


def serves(points: Tensor, table: Tensor, *weights: Sequence[Tensor]) -> bool:
    """Whether there are kernels for points (N, 3) without gradient, a table (E, F), and each network's W1, b1, W2, b2."""
    if not enabled or points.device.type != "cpu" or points.requires_grad or not hash_grid.serves(points, table):
        return False
    return hash_grid_vectors.serves("encode", table.shape[1]) and all(networks.serves(points, each) for each in weights)


@cache
def _kernels(features: int) -> dict[str, Any]:
    """The kernels for F features: `forward`, and `backward` for all gradients except the table's."""
    return load_kernels(f"{__name__}.{features}", {"forward": _forward(features), "backward": _backward(features)})


def _forward(features: int) -> Any:
    """The source of the kernel `forward`. `shape` and `colour` are the networks' `arrays`."""
    wp = load_warp()
    encode, network = hash_grid_vectors.level_function("encode", features), networks.chunk_function("forward")

    def contract(
        by_feature: wp.uint64,
        slopes: wp.uint64,
        levels: wp.int32,
        count: wp.int32,
        size: wp.int32,
        begin: wp.int32,
        out: wp.uint64,
    ): ...

    contract.__name__ = contract.__qualname__ = f"contract_{features}"
    to_points = wp.func_native(_CONTRACT.replace("WIDTH", str(features)))(contract)

    def kernel(
        points: wp.uint64,
        table: wp.uint64,
        meta: wp.uint64,
        x: wp.uint64,
        u: wp.uint64,
        out: wp.uint64,
        shape: wp.uint64,
        colour: wp.uint64,
        slopes: wp.uint64,
        levels: wp.int32,
        D: wp.int32,
        H1: wp.int32,
        H2: wp.int32,
        K: wp.int32,
        count: wp.int32,
        size: wp.int32,
        skipped: wp.int32,
    ):
        chunk = wp.tid() + skipped
        begin = chunk * size
        scratch = slopes + wp.uint64(12 * D * size)
        for level in range(levels):
            encode(points, wp.uint64(0), table, slopes, meta, levels, count, size, begin, level, x)
        network(shape, scratch, D, H1, 1, 1, count, size, chunk)
        network(colour, scratch, D, H2, K, 0, count, size, chunk)
        to_points(u, slopes, levels, count, size, begin, out)

    return kernel


def _backward(features: int) -> Any:
    """The source of the kernel `backward`."""
    wp = load_warp()
    directional, network = hash_grid_vectors.level_function("directional", features), networks.chunk_function("backward")

    def kernel(
        points: wp.uint64,
        table: wp.uint64,
        meta: wp.uint64,
        v: wp.uint64,
        q: wp.uint64,
        shape: wp.uint64,
        colour: wp.uint64,
        scratch: wp.uint64,
        levels: wp.int32,
        D: wp.int32,
        H1: wp.int32,
        H2: wp.int32,
        K: wp.int32,
        count: wp.int32,
        size: wp.int32,
        skipped: wp.int32,
    ):
        chunk = wp.tid() + skipped
        for level in range(levels):
            directional(points, v, table, wp.uint64(0), meta, levels, count, size, chunk * size, level, q)
        network(colour, scratch, D, H2, K, 0, count, size, chunk)
        network(shape, scratch, D, H1, 1, 1, count, size, chunk)

    return kernel


def _numbers(meta: Tensor, weights: Sequence[Tensor]) -> list[int]:
    """L, D, the hidden units of both networks, and K."""
    return [len(meta), weights[0].shape[1], len(weights[0]), len(weights[4]), len(weights[7])]


def _scratch(weights: Sequence[Tensor]) -> int:
    """How many numbers a chunk's networks work with, one after the other."""
    return max(networks.scratch(weights[:4]), networks.scratch(weights[4:]))


class Field(torch.autograd.Function):
    """y (N,), the second network's outputs (N, K), and dy/dp (N, 3). Differentiable once, in the table and the weights."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, meta: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points (N, 3) in [0, 1], table (E, F), meta (L, 4), then W1, b1, W2, b2 of both networks."""
        weights, count = tuple(each.contiguous() for each in weights), len(points)
        x = points.new_empty(count, weights[0].shape[1])
        y, colour, out, u = x.new_empty(count), x.new_empty(count, len(weights[7])), torch.empty_like(points), torch.empty_like(x)
        shape, paint = networks.addresses((x, *weights[:4], y, u)), networks.addresses((x, *weights[4:], colour, None))
        kernel, memory = _kernels(table.shape[1])["forward"], _scratch(weights) + 3 * _CHUNK * x.shape[1]
        arrays = points, table, meta, x, u, out, shape, paint
        networks.in_chunks(kernel, arrays, memory, _numbers(meta, weights), count, _CHUNK)
        ctx.save_for_backward(points, table, meta, x, u, *weights)
        return y, colour, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, c: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients in the table and the weights."""
        points, table, meta, x, u, *weights = ctx.saved_tensors
        g, c, v, count = g.contiguous(), c.contiguous(), v.contiguous(), len(points)
        q, e, to_table = torch.empty_like(x), torch.empty_like(x), torch.zeros_like(table)
        sums = [networks.empty_sums(each, count, _CHUNK) for each in (weights[:4], weights[4:])]
        shape = networks.addresses((x, *weights[:4], g, q, u, e, sums[0]))
        paint = networks.addresses((x, *weights[4:], c, None, None, e, sums[1]))
        arrays = points, table, meta, v, q, shape, paint
        networks.in_chunks(
            _kernels(table.shape[1])["backward"], arrays, _scratch(weights), _numbers(meta, weights), count, _CHUNK
        )
        inputs = [each.data_ptr() for each in (points, v, e, u, meta)]
        scatter = hash_grid_vectors.kernels(table.shape[1])["scatter"]

        def spread(level: int) -> None:
            numbers = [len(meta), count, count, 0, level, level + 1]
            load_warp().launch(scatter, 1, [*inputs, *numbers, to_table.data_ptr()], device="cpu", record_tape=False)

        in_parallel([partial(spread, level) for level in range(len(meta))])
        return None, to_table, None, *networks.split_sums(sums[0], weights[:4]), *networks.split_sums(sums[1], weights[4:])


def values(points: Tensor, table: Tensor, meta: Tensor, *weights: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """y (N,), the second network's outputs (N, K), and dy/dp (N, 3), for what `serves` has seen."""
    return Field.apply(points.contiguous(), table, meta, *weights[0], *weights[1])
