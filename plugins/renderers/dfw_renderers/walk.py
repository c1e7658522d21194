"""Marching on the CPU, ray by ray, in a kernel that Warp compiles: as the dense form in `marching`, which remains its slow twin.

A ray stops where its light does, so most of the samples that the dense form looks at are never seen here.

Legend: M rays, N samples kept, G cells per side of the grid.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

import math
import os
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor

enabled = True
"""Tests switch it off to compare."""

_WALK = """
    const float* start_of = (const float*)start;
    const float* slope_of = (const float*)slope;
    const float* shift_of = (const float*)shift;
    const float* first_of = (const float*)first;
    const float* count_of = (const float*)count;
    const bool* matter = (const bool*)occupied;
    const float* hides = (const float*)density;
    long long* kept = (long long*)total;
    const float top = (float)(size - 1);
    for (int r = 0; r < rays; ++r) {
        const float* s = start_of + 3 * (size_t)r;
        const float* v = slope_of + 3 * (size_t)r;
        const int last = (int)count_of[r];
        long long found = 0;
        const long long begin = ray ? kept[r] : 0;
        float before = 0;
        for (int k = 0; k < last; ++k) {
            const float distance = shift_of[r] + (first_of[r] + k) * step;
            int cell = 0;
            for (int axis = 0; axis < 3; ++axis) {
                const float place = s[axis] + distance * v[axis];
                cell = cell * size + (int)(place > 0 ? (place < top ? place : top) : 0.0f);
            }
            if (!matter[cell]) continue;
            if (hides) {
                if (before > limit) break;
                before += hides[cell] * step;
            }
            if (ray) {
                ((long long*)ray)[begin + found] = ((const long long*)name)[r];
                ((float*)along)[begin + found] = distance;
            }
            ++found;
        }
        if (!ray) kept[r] = found;
    }
"""


def serves(origin: Tensor) -> bool:
    """Whether rays with these origins can be marched here: float32 on the CPU."""
    return enabled and origin.device.type == "cpu" and origin.dtype == torch.float32


def walk(
    rays: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], occupied: Tensor, density: Tensor | None, step: float, early_stop: float
) -> tuple[Tensor, Tensor]:
    """The samples in occupied cells: index of the ray (N,), from 0 to M - 1, and distance (N,), sorted.

    rays: start and slope (M, 3) in cells, shift, first and count (M,): sample k < count lies at shift + (first + k) step.
    occupied, density: (G, G, G); where `density` is given and `early_stop` > 0, a ray ends where its light falls below that.
    """
    import warp as wp

    start, slope, shift, first, count = (tensor.contiguous() for tensor in rays)
    occupied, opaque = occupied.contiguous(), None if density is None or early_stop <= 0 else density.float().contiguous()
    total, name = torch.empty(len(start), dtype=torch.int64), torch.arange(len(start))
    limit = 0.0 if opaque is None else -math.log(early_stop)

    def launch(ray: int, along: int) -> None:
        fixed = [t.data_ptr() for t in (start, slope, shift, first, count, occupied)]
        grid = [0 if opaque is None else opaque.data_ptr(), occupied.shape[0], len(start), step, limit]
        wp.launch(_kernel(), 1, [*fixed, *grid, name.data_ptr(), total.data_ptr(), ray, along], device="cpu", record_tape=False)

    launch(0, 0)
    size = int(total.sum())
    total = total.cumsum(0) - total
    ray, along = torch.empty(max(size, 1), dtype=torch.int64), torch.empty(max(size, 1))
    launch(ray.data_ptr(), along.data_ptr())
    return ray[:size], along[:size]


@cache
def _kernel() -> Any:
    """The kernel, compiled and loaded."""
    wp = _warp()

    @wp.func_native(_WALK)
    def walk_rays(
        start: wp.uint64,
        slope: wp.uint64,
        shift: wp.uint64,
        first: wp.uint64,
        count: wp.uint64,
        occupied: wp.uint64,
        density: wp.uint64,
        size: wp.int32,
        rays: wp.int32,
        step: wp.float32,
        limit: wp.float32,
        name: wp.uint64,
        total: wp.uint64,
        ray: wp.uint64,
        along: wp.uint64,
    ): ...

    @wp.kernel(enable_backward=False)
    def walk_kernel(
        start: wp.uint64,
        slope: wp.uint64,
        shift: wp.uint64,
        first: wp.uint64,
        count: wp.uint64,
        occupied: wp.uint64,
        density: wp.uint64,
        size: wp.int32,
        rays: wp.int32,
        step: wp.float32,
        limit: wp.float32,
        name: wp.uint64,
        total: wp.uint64,
        ray: wp.uint64,
        along: wp.uint64,
    ):
        walk_rays(start, slope, shift, first, count, occupied, density, size, rays, step, limit, name, total, ray, along)

    wp.load_module(sys.modules[__name__], device="cpu")
    return walk_kernel


def _warp() -> Any:
    """Warp, initialised without its banner, and without its note to stderr about an absent CUDA driver."""
    import warp as wp

    wp.config.log_level = wp.LOG_WARNING
    if torch.cuda.is_available():
        wp.init()
        return wp
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            wp.init()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return wp
