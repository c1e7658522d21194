"""Warp kernels of the multi-resolution hash grid: one source for CPU and CUDA. Imported when a hash grid first meets float32.

`hash_grid` launches them, and says what they replace and what they gain.

Each kernel works on tiles of points and on a range of levels. On a CPU a tile is all points of a thread, level after level, so
that one level's rows (1 MiB) stay in the L2 cache; on a GPU a tile is one point. `meta` (L, 4) int32 holds for each level: cells
per side, first table row, row mask (rows - 1, where rows is a power of two for hashed levels), and vertices per side where it
is stored densely (0: hashed). Arrays of `Any` hold vectors of F floats: kernels are generic in F, the number of features.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

from typing import Any

import warp as wp

# Instant-NGP's primes, which `hash_grid_twin` and `hash_grid_vectors` hold as well.
PRIME_Y = wp.constant(wp.uint32(2654435761))
PRIME_Z = wp.constant(wp.uint32(805459861))


@wp.func
def corner_row(x: wp.int32, y: wp.int32, z: wp.int32, mask: wp.int32, stride: wp.int32) -> wp.int32:
    """Row of vertex (x, y, z) within its level. Instant-NGP (Mueller et al. 2022), eq. 4."""
    row = x + stride * (y + stride * z)
    if stride == 0:
        row = wp.int32((wp.uint32(x) ^ (wp.uint32(y) * PRIME_Y) ^ (wp.uint32(z) * PRIME_Z)) & wp.uint32(mask))
    return row


@wp.func
def locate(point: wp.vec3, cells: wp.int32):
    """Lower corner of the point's cell (the far face belongs to the last one), and the position within it, in [0, 1]."""
    p = point * wp.float32(cells)
    x = wp.clamp(wp.int32(p[0]), 0, cells - 1)
    y = wp.clamp(wp.int32(p[1]), 0, cells - 1)
    z = wp.clamp(wp.int32(p[2]), 0, cells - 1)
    return x, y, z, p[0] - wp.float32(x), p[1] - wp.float32(y), p[2] - wp.float32(z)


@wp.func
def pick(bit: wp.int32, low: wp.float32, high: wp.float32) -> wp.float32:
    """`high` where the bit is set, else `low`."""
    value = low
    if bit != 0:
        value = high
    return value


@wp.func
def slope(bx: wp.int32, by: wp.int32, bz: wp.int32, fx: wp.float32, fy: wp.float32, fz: wp.float32) -> wp.vec3:
    """Gradient of a corner's trilinear weight with respect to the position within the cell."""
    wx = pick(bx, 1.0 - fx, fx)
    wy = pick(by, 1.0 - fy, fy)
    wz = pick(bz, 1.0 - fz, fz)
    return wp.vec3(pick(bx, -1.0, 1.0) * wy * wz, pick(by, -1.0, 1.0) * wx * wz, pick(bz, -1.0, 1.0) * wx * wy)


@wp.kernel(enable_backward=False)  # here and below: torch differentiates, so Warp need not compile adjoints
def encode(
    points: wp.array(dtype=wp.vec3),
    table: wp.array(dtype=Any),
    meta: wp.array2d(dtype=wp.int32),
    count: wp.int32,
    tile: wp.int32,
    first_tile: wp.int32,
    first_level: wp.int32,
    out: wp.array2d(dtype=Any),
):
    """out[i, level] = sum over corners of weight times row."""
    block, lane = wp.tid()
    level = lane + first_level
    offset, mask, stride = meta[level, 1], meta[level, 2], meta[level, 3]
    begin = (block + first_tile) * tile
    for i in range(begin, wp.min(begin + tile, count)):
        x, y, z, fx, fy, fz = locate(points[i], meta[level, 0])
        total = table.dtype(0.0)
        for c in range(8):
            bx, by, bz = c & 1, (c >> 1) & 1, c >> 2
            w = pick(bx, 1.0 - fx, fx) * pick(by, 1.0 - fy, fy) * pick(bz, 1.0 - fz, fz)
            total += w * table[offset + corner_row(x + bx, y + by, z + bz, mask, stride)]
        out[i, level] = total


@wp.kernel(enable_backward=False)
def scatter(
    points: wp.array(dtype=wp.vec3),
    upstream: wp.array2d(dtype=Any),
    meta: wp.array2d(dtype=wp.int32),
    count: wp.int32,
    tile: wp.int32,
    first_tile: wp.int32,
    first_level: wp.int32,
    out: wp.array(dtype=Any),
):
    """out[row] += weight times upstream[i, level]: the adjoint of `encode` in the table."""
    block, lane = wp.tid()
    level = lane + first_level
    offset, mask, stride = meta[level, 1], meta[level, 2], meta[level, 3]
    begin = (block + first_tile) * tile
    for i in range(begin, wp.min(begin + tile, count)):
        x, y, z, fx, fy, fz = locate(points[i], meta[level, 0])
        g = upstream[i, level]
        for c in range(8):
            bx, by, bz = c & 1, (c >> 1) & 1, c >> 2
            w = pick(bx, 1.0 - fx, fx) * pick(by, 1.0 - fy, fy) * pick(bz, 1.0 - fz, fz)
            wp.atomic_add(out, offset + corner_row(x + bx, y + by, z + bz, mask, stride), w * g)


@wp.kernel(enable_backward=False)
def input_gradient(
    points: wp.array(dtype=wp.vec3),
    table: wp.array(dtype=Any),
    upstream: wp.array2d(dtype=Any),
    meta: wp.array2d(dtype=wp.int32),
    count: wp.int32,
    tile: wp.int32,
    first_tile: wp.int32,
    out: wp.array(dtype=wp.vec3),
):
    """out[i] = sum over levels and corners of (upstream . row) times the weight's gradient; `out` comes zeroed."""
    begin = (wp.tid() + first_tile) * tile
    for level in range(meta.shape[0]):
        cells, offset, mask, stride = meta[level, 0], meta[level, 1], meta[level, 2], meta[level, 3]
        for i in range(begin, wp.min(begin + tile, count)):
            x, y, z, fx, fy, fz = locate(points[i], cells)
            g = upstream[i, level]
            gradient = wp.vec3(0.0, 0.0, 0.0)
            for c in range(8):
                bx, by, bz = c & 1, (c >> 1) & 1, c >> 2
                s = wp.dot(g, table[offset + corner_row(x + bx, y + by, z + bz, mask, stride)])
                gradient += s * slope(bx, by, bz, fx, fy, fz)
            out[i] = out[i] + wp.float32(cells) * gradient


@wp.kernel(enable_backward=False)
def directional(
    points: wp.array(dtype=wp.vec3),
    direction: wp.array(dtype=wp.vec3),
    table: wp.array(dtype=Any),
    meta: wp.array2d(dtype=wp.int32),
    count: wp.int32,
    tile: wp.int32,
    first_tile: wp.int32,
    first_level: wp.int32,
    out: wp.array2d(dtype=Any),
):
    """out[i, level]: the encoding's derivative along direction[i]."""
    block, lane = wp.tid()
    level = lane + first_level
    offset, mask, stride = meta[level, 1], meta[level, 2], meta[level, 3]
    begin = (block + first_tile) * tile
    for i in range(begin, wp.min(begin + tile, count)):
        x, y, z, fx, fy, fz = locate(points[i], meta[level, 0])
        v = direction[i] * wp.float32(meta[level, 0])
        total = table.dtype(0.0)
        for c in range(8):
            bx, by, bz = c & 1, (c >> 1) & 1, c >> 2
            w = wp.dot(v, slope(bx, by, bz, fx, fy, fz))
            total += w * table[offset + corner_row(x + bx, y + by, z + bz, mask, stride)]
        out[i, level] = total


@wp.kernel(enable_backward=False)
def directional_scatter(
    points: wp.array(dtype=wp.vec3),
    direction: wp.array(dtype=wp.vec3),
    upstream: wp.array2d(dtype=Any),
    meta: wp.array2d(dtype=wp.int32),
    count: wp.int32,
    tile: wp.int32,
    first_tile: wp.int32,
    first_level: wp.int32,
    out: wp.array(dtype=Any),
):
    """The adjoint of `directional` in the table."""
    block, lane = wp.tid()
    level = lane + first_level
    offset, mask, stride = meta[level, 1], meta[level, 2], meta[level, 3]
    begin = (block + first_tile) * tile
    for i in range(begin, wp.min(begin + tile, count)):
        x, y, z, fx, fy, fz = locate(points[i], meta[level, 0])
        v = direction[i] * wp.float32(meta[level, 0])
        g = upstream[i, level]
        for c in range(8):
            bx, by, bz = c & 1, (c >> 1) & 1, c >> 2
            w = wp.dot(v, slope(bx, by, bz, fx, fy, fz))
            wp.atomic_add(out, offset + corner_row(x + bx, y + by, z + bz, mask, stride), w * g)


@wp.kernel(enable_backward=False)
def curvature(
    points: wp.array(dtype=wp.vec3),
    direction: wp.array(dtype=wp.vec3),
    table: wp.array(dtype=Any),
    upstream: wp.array2d(dtype=Any),
    meta: wp.array2d(dtype=wp.int32),
    count: wp.int32,
    tile: wp.int32,
    first_tile: wp.int32,
    out: wp.array(dtype=wp.vec3),
):
    """out[i] = d/dx of upstream[i] . (the derivative along direction[i]): mixed second derivatives; `out` comes zeroed."""
    begin = (wp.tid() + first_tile) * tile
    for level in range(meta.shape[0]):
        cells, offset, mask, stride = meta[level, 0], meta[level, 1], meta[level, 2], meta[level, 3]
        for i in range(begin, wp.min(begin + tile, count)):
            x, y, z, fx, fy, fz = locate(points[i], cells)
            v = direction[i] * wp.float32(cells)
            g = upstream[i, level]
            total = wp.vec3(0.0, 0.0, 0.0)
            for c in range(8):
                bx, by, bz = c & 1, (c >> 1) & 1, c >> 2
                s = wp.dot(g, table[offset + corner_row(x + bx, y + by, z + bz, mask, stride)])
                xy = pick(bx ^ by, s, -s) * pick(bz, 1.0 - fz, fz)
                xz = pick(bx ^ bz, s, -s) * pick(by, 1.0 - fy, fy)
                yz = pick(by ^ bz, s, -s) * pick(bx, 1.0 - fx, fx)
                total += wp.vec3(v[1] * xy + v[2] * xz, v[0] * xy + v[2] * yz, v[0] * xz + v[1] * yz)
            out[i] = out[i] + wp.float32(cells) * total
