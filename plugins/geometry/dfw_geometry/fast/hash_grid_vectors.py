"""The hash grid's kernels for CPUs, where a table row is one vector register of the processor.

These replace the kernels of the same names in `hash_grid_kernels`, which serve every device and number of features.
Without them the part of a step outside the diffusion model takes 1.27 times as long (default run), and a whole step 1.09 times.

Warp compiles the C++ below with its own clang. A row is one of clang's vectors, and interpolation goes axis by axis: with
rows t0..t7 (x fastest), seven steps a + f (b - a) instead of eight weights. Arrays are contiguous and come as addresses.

Legend: F features, N points, L levels.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

from functools import cache
from typing import Any

from dfw import load_warp

enabled = True  # tests and benchmarks/fast_paths.py switch it off, to compare with the twin

_WIDTHS = (2, 4, 8)  # numbers of features that fill a vector register; clang pads a vector of 3 to 4, and the table does not

_LEVEL = """
    typedef float V __attribute__((ext_vector_type(WIDTH), aligned(4)));
    const int levels = meta.shape[0], cells = meta.data[4 * level], offset = meta.data[4 * level + 1];
    const int mask = meta.data[4 * level + 2], stride = meta.data[4 * level + 3];
    const int end = begin + tile < count ? begin + tile : count;
    const float scale = (float)cells;
"""
_POINT = """
    for (int i = begin; i < end; ++i) {
        const float* point = (const float*)points + 3 * (size_t)i;
        const float px = point[0] * scale, py = point[1] * scale, pz = point[2] * scale;
        int x = (int)px, y = (int)py, z = (int)pz;
        x = x < 0 ? 0 : (x < cells ? x : cells - 1);
        y = y < 0 ? 0 : (y < cells ? y : cells - 1);
        z = z < 0 ? 0 : (z < cells ? z : cells - 1);
        const float fx = px - x, fy = py - y, fz = pz - z;
        unsigned r[8];
        if (stride) {
            const unsigned low = x + stride * (y + stride * z), high = low + stride * stride;
            r[0] = low; r[1] = low + 1; r[2] = low + stride; r[3] = r[2] + 1;
            r[4] = high; r[5] = high + 1; r[6] = high + stride; r[7] = r[6] + 1;
        } else {
            const unsigned y0 = y * 2654435761u, y1 = y0 + 2654435761u, z0 = z * 805459861u, z1 = z0 + 805459861u;
            const unsigned x0 = x, x1 = x + 1, a = y0 ^ z0, b = y1 ^ z0, c = y0 ^ z1, d = y1 ^ z1, m = mask;
            r[0] = (x0 ^ a) & m; r[1] = (x1 ^ a) & m; r[2] = (x0 ^ b) & m; r[3] = (x1 ^ b) & m;
            r[4] = (x0 ^ c) & m; r[5] = (x1 ^ c) & m; r[6] = (x0 ^ d) & m; r[7] = (x1 ^ d) & m;
        }
"""
_ROWS = """
        const V* rows = (const V*)table + offset;
        const V t0 = rows[r[0]], t1 = rows[r[1]], t2 = rows[r[2]], t3 = rows[r[3]];
        const V t4 = rows[r[4]], t5 = rows[r[5]], t6 = rows[r[6]], t7 = rows[r[7]];
        const V e0 = t1 - t0, e1 = t3 - t2, e2 = t5 - t4, e3 = t7 - t6;
        const V a = t0 + fx * e0, b = t2 + fx * e1, c = t4 + fx * e2, d = t6 + fx * e3;
"""
_GRADIENT = """
        const V e4 = e0 + fy * (e1 - e0), e5 = e2 + fy * (e3 - e2);
        const V gx = e4 + fz * (e5 - e4), gy = (b - a) + fz * ((d - c) - (b - a));
        const V gz = (c + fy * (d - c)) - (a + fy * (b - a));
"""
_SPREAD = """
        V* rows = (V*)out + offset;
        const float nx = 1 - fx, ny = 1 - fy, nz = 1 - fz;
"""

_ENCODE = (
    _LEVEL
    + _POINT
    + _ROWS
    + """
        const V low = a + fy * (b - a), high = c + fy * (d - c);
        ((V*)out)[(size_t)i * levels + level] = low + fz * (high - low);
    }
"""
)
_DIRECTIONAL = (
    _LEVEL
    + _POINT
    + _ROWS
    + _GRADIENT
    + """
        const float* v = (const float*)direction + 3 * (size_t)i;
        ((V*)out)[(size_t)i * levels + level] = scale * (v[0] * gx + v[1] * gy + v[2] * gz);
    }
"""
)
_INPUT_GRADIENT = (
    _LEVEL
    + _POINT
    + _ROWS
    + _GRADIENT
    + """
        const V g = scale * ((const V*)upstream)[(size_t)i * levels + level];
        const V sx = g * gx, sy = g * gy, sz = g * gz;
        float* o = (float*)out + 3 * (size_t)i;
        float tx = 0, ty = 0, tz = 0;
        for (int k = 0; k < WIDTH; ++k) { tx += sx[k]; ty += sy[k]; tz += sz[k]; }
        o[0] += tx; o[1] += ty; o[2] += tz;
    }
"""
)
_SCATTER = (
    _LEVEL
    + _POINT
    + _SPREAD
    + """
        const V g = ((const V*)upstream)[(size_t)i * levels + level], low = nz * g, high = fz * g;
        const float p0 = nx * ny, p1 = fx * ny, p2 = nx * fy, p3 = fx * fy;
        rows[r[0]] += p0 * low; rows[r[1]] += p1 * low; rows[r[2]] += p2 * low; rows[r[3]] += p3 * low;
        rows[r[4]] += p0 * high; rows[r[5]] += p1 * high; rows[r[6]] += p2 * high; rows[r[7]] += p3 * high;
    }
"""
)
_DIRECTIONAL_SCATTER = (
    _LEVEL
    + _POINT
    + _SPREAD
    + """
        const float* v = (const float*)direction + 3 * (size_t)i;
        const float vx = scale * v[0], vy = scale * v[1], vz = scale * v[2];
        const V g = ((const V*)upstream)[(size_t)i * levels + level];
        const float p0 = nx * ny, p1 = fx * ny, p2 = nx * fy, p3 = fx * fy;
        const float q0 = -vx * ny - vy * nx, q1 = vx * ny - vy * fx, q2 = vy * nx - vx * fy, q3 = vx * fy + vy * fx;
        rows[r[0]] += (q0 * nz - p0 * vz) * g; rows[r[1]] += (q1 * nz - p1 * vz) * g;
        rows[r[2]] += (q2 * nz - p2 * vz) * g; rows[r[3]] += (q3 * nz - p3 * vz) * g;
        rows[r[4]] += (q0 * fz + p0 * vz) * g; rows[r[5]] += (q1 * fz + p1 * vz) * g;
        rows[r[6]] += (q2 * fz + p2 * vz) * g; rows[r[7]] += (q3 * fz + p3 * vz) * g;
    }
"""
)


_SOURCES = {
    "encode": _ENCODE,
    "scatter": _SCATTER,
    "input_gradient": _INPUT_GRADIENT,
    "directional": _DIRECTIONAL,
    "directional_scatter": _DIRECTIONAL_SCATTER,
}
ARGUMENTS = {
    "encode": ("points", "table", "out"),
    "scatter": ("points", "upstream", "out"),
    "input_gradient": ("points", "table", "upstream", "out"),
    "directional": ("points", "direction", "table", "out"),
    "directional_scatter": ("points", "direction", "upstream", "out"),
}
"""Which arrays each kernel takes, in the order of `hash_grid_kernels`. `curvature` is missing: no built-in loss asks for it."""


def serves(name: str, features: int) -> bool:
    """Whether the kernel `name` exists here for F features."""
    return enabled and features in _WIDTHS and name in ARGUMENTS


@cache
def kernels(features: int) -> dict[str, Any]:
    """The kernels for F features, compiled and loaded. All take the same arguments; addresses that one ignores may be 0."""
    wp = load_warp()
    module = wp.get_module(f"{__name__}.{features}")
    made = {name: _kernel(f"{name}_{features}", source, features, module) for name, source in _SOURCES.items()}
    module.load(wp.get_device("cpu"))
    return made


def _kernel(name: str, source: str, features: int, module: Any) -> Any:
    wp = load_warp()

    def tile_of_level(
        points: wp.uint64,
        direction: wp.uint64,
        table: wp.uint64,
        upstream: wp.uint64,
        meta: wp.array2d(dtype=wp.int32),
        count: wp.int32,
        tile: wp.int32,
        begin: wp.int32,
        level: wp.int32,
        out: wp.uint64,
    ): ...

    tile_of_level.__name__ = tile_of_level.__qualname__ = f"{name}_tile"
    run = wp.func_native(source.replace("WIDTH", str(features)))(tile_of_level)

    def kernel(
        points: wp.uint64,
        direction: wp.uint64,
        table: wp.uint64,
        upstream: wp.uint64,
        meta: wp.array2d(dtype=wp.int32),
        count: wp.int32,
        tile: wp.int32,
        first_tile: wp.int32,
        first_level: wp.int32,
        levels: wp.int32,
        out: wp.uint64,
    ):
        block = wp.tid()
        for level in range(first_level, first_level + levels):
            run(points, direction, table, upstream, meta, count, tile, (block + first_tile) * tile, level, out)

    kernel.__name__ = kernel.__qualname__ = name
    return wp.kernel(enable_backward=False, module=module)(kernel)
