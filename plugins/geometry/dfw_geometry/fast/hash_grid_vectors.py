"""The hash grid's kernels for CPUs, where a table row is one vector register of the processor.

These replace the kernels `encode` and `scatter` of `hash_grid_kernels`, which serve every device and number of features. `field`
calls the functions below as well, with more arguments.
Without them the part of a step outside the diffusion model takes 1.27 times as long (default run), and a whole step 1.09 times.

Warp compiles the C++ below with its own clang. Eight points find their cells at once. A row is one of clang's vectors, and
interpolation goes axis by axis: with rows t0..t7 (x fastest), seven steps a + f (b - a) instead of eight weights. Arrays are
contiguous and come as addresses.

Legend: F features, N points, L levels.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

from functools import cache
from typing import Any

from dfw import load_warp

from .modules import load_kernels

enabled = True  # tests and benchmarks/fast_paths.py switch it off, to compare with the twin

_WIDTHS = (2, 4, 8)  # numbers of features that fill a vector register; clang pads a vector of 3 to 4, and the table does not

_START = """
#pragma clang fp contract(fast)
    typedef float V __attribute__((ext_vector_type(WIDTH), aligned(4)));
    typedef float Eight __attribute__((ext_vector_type(8)));
    typedef int Ints __attribute__((ext_vector_type(8)));
    typedef unsigned Rows __attribute__((ext_vector_type(8)));
    const int *layout = (const int*)meta + 4 * level, cells = layout[0], offset = layout[1];
    const unsigned mask = layout[2], stride = layout[3];
    const int end = begin + tile < count ? begin + tile : count;
    const float scale = (float)cells;
    const auto cell = [&](Eight& place) {  // the lower corner, and in `place` what is left
        Ints corner = __builtin_convertvector(place * scale, Ints);
        const Ints zero = 0, last = cells - 1;
        corner = corner < zero ? zero : (corner < last ? corner : last);
        place = place * scale - __builtin_convertvector(corner, Eight);
        return __builtin_convertvector(corner, Rows);
    };
    for (int first = begin; first < end; first += 8) {
        Eight f[3];
        for (int k = 0; k < 8; ++k) {
            const float* point = (const float*)points + 3 * (size_t)(first + k < end ? first + k : end - 1);
            f[0][k] = point[0]; f[1][k] = point[1]; f[2][k] = point[2];
        }
        const Rows x = cell(f[0]), y = cell(f[1]), z = cell(f[2]);
        Rows r[8];
        if (stride) {
            r[0] = x + stride * (y + stride * z);
            r[2] = r[0] + stride; r[4] = r[0] + stride * stride; r[6] = r[4] + stride;
            for (int c = 0; c < 8; c += 2) r[c + 1] = r[c] + 1;
        } else {
            const Rows y0 = y * 2654435761u, y1 = y0 + 2654435761u, z0 = z * 805459861u, z1 = z0 + 805459861u;
            r[0] = y0 ^ z0; r[2] = y1 ^ z0; r[4] = y0 ^ z1; r[6] = y1 ^ z1;
            for (int c = 0; c < 8; c += 2) { r[c + 1] = ((x + 1) ^ r[c]) & mask; r[c] = (x ^ r[c]) & mask; }
        }
        const int some = end - first < 8 ? end - first : 8;
        for (int k = 0; k < some; ++k) {
            const int i = first + k;
            const float fx = f[0][k], fy = f[1][k], fz = f[2][k];
"""
_ROWS = """
            const V* rows = (const V*)source + offset;
            const V t0 = rows[r[0][k]], t1 = rows[r[1][k]], t2 = rows[r[2][k]], t3 = rows[r[3][k]];
            const V t4 = rows[r[4][k]], t5 = rows[r[5][k]], t6 = rows[r[6][k]], t7 = rows[r[7][k]];
            const V e0 = t1 - t0, e1 = t3 - t2, e2 = t5 - t4, e3 = t7 - t6;
            const V a = t0 + fx * e0, b = t2 + fx * e1, c = t4 + fx * e2, d = t6 + fx * e3;
            const V low = a + fy * (b - a), high = c + fy * (d - c);
"""
_GRADIENT = """
            const V e4 = e0 + fy * (e1 - e0), e5 = e2 + fy * (e3 - e2);
            const V gx = e4 + fz * (e5 - e4), gy = (b - a) + fz * ((d - c) - (b - a)), gz = high - low;
"""

_ENCODE = (
    _START
    + _ROWS
    + """
            ((V*)out)[(size_t)i * levels + level] = low + fz * (high - low);
            if (!slopes) continue;
"""
    + _GRADIENT
    + """
            V* slope = (V*)slopes + 3 * ((size_t)(i - begin) * levels + level);
            slope[0] = scale * gx; slope[1] = scale * gy; slope[2] = scale * gz;
        }
    }
"""
)
_DIRECTIONAL = (
    _START
    + _ROWS
    + _GRADIENT
    + """
            const float* v = (const float*)direction + 3 * (size_t)i;
            ((V*)out)[(size_t)i * levels + level] = scale * (v[0] * gx + v[1] * gy + v[2] * gz);
        }
    }
"""
)
_SCATTER = (
    _START
    + """
            V* rows = (V*)out + offset;
            const float nx = 1 - fx, ny = 1 - fy, nz = 1 - fz;
            const V g = ((const V*)source)[(size_t)i * levels + level];
            const float p0 = nx * ny, p1 = fx * ny, p2 = nx * fy, p3 = fx * fy;
            V low = nz * g, high = fz * g;
            V s0 = p0 * low, s1 = p1 * low, s2 = p2 * low, s3 = p3 * low;
            V s4 = p0 * high, s5 = p1 * high, s6 = p2 * high, s7 = p3 * high;
            if (direction) {
                const float* v = (const float*)direction + 3 * (size_t)i;
                const float vx = scale * v[0], vy = scale * v[1];
                const float q0 = -vx * ny - vy * nx, q1 = vx * ny - vy * fx, q2 = vy * nx - vx * fy, q3 = vx * fy + vy * fx;
                const V u = ((const V*)slopes)[(size_t)i * levels + level], z = scale * v[2] * u;
                low = nz * u; high = fz * u;
                s0 += q0 * low - p0 * z; s1 += q1 * low - p1 * z; s2 += q2 * low - p2 * z; s3 += q3 * low - p3 * z;
                s4 += q0 * high + p0 * z; s5 += q1 * high + p1 * z; s6 += q2 * high + p2 * z; s7 += q3 * high + p3 * z;
            }
            rows[r[0][k]] += s0; rows[r[1][k]] += s1; rows[r[2][k]] += s2; rows[r[3][k]] += s3;
            rows[r[4][k]] += s4; rows[r[5][k]] += s5; rows[r[6][k]] += s6; rows[r[7][k]] += s7;
        }
    }
"""
)

_SOURCES = {"encode": _ENCODE, "directional": _DIRECTIONAL, "scatter": _SCATTER}


def serves(name: str, features: int) -> bool:
    """Whether the kernel `name` exists here for F features."""
    return enabled and features in _WIDTHS and name in ("encode", "scatter")


@cache
def level_function(name: str, features: int) -> Any:
    """The C++ function `encode`, `directional` or `scatter`, for the points [begin, begin + tile) on one level.

    Arrays come as addresses. `source` is the table, or for `scatter` the features that it adds to the table `out`. `encode` also
    writes each feature's gradient in the point to `slopes` (tile, L, 3, F), if that is not 0. `scatter` also adds the adjoint of
    `directional` for features `slopes` (N, L, F), if `direction` is not 0.
    """
    wp = load_warp()

    def tile_of_level(
        points: wp.uint64,
        direction: wp.uint64,
        source: wp.uint64,
        slopes: wp.uint64,
        meta: wp.uint64,
        levels: wp.int32,
        count: wp.int32,
        tile: wp.int32,
        begin: wp.int32,
        level: wp.int32,
        out: wp.uint64,
    ): ...

    tile_of_level.__name__ = tile_of_level.__qualname__ = f"{name}_{features}_tile"
    return wp.func_native(_SOURCES[name].replace("WIDTH", str(features)))(tile_of_level)


@cache
def kernels(features: int) -> dict[str, Any]:
    """The kernels `encode` and `scatter` for F features, compiled and loaded. They take a range of tiles, and one of levels."""
    return load_kernels(f"{__name__}.{features}", {name: _kernel(name, features) for name in ("encode", "scatter")})


def _kernel(name: str, features: int) -> Any:
    wp, run = load_warp(), level_function(name, features)

    def tiles_of_levels(
        points: wp.uint64,
        direction: wp.uint64,
        source: wp.uint64,
        slopes: wp.uint64,
        meta: wp.uint64,
        levels: wp.int32,
        count: wp.int32,
        tile: wp.int32,
        first_tile: wp.int32,
        first_level: wp.int32,
        last_level: wp.int32,
        out: wp.uint64,
    ):
        begin = (wp.tid() + first_tile) * tile
        for level in range(first_level, last_level):
            run(points, direction, source, slopes, meta, levels, count, tile, begin, level, out)

    return tiles_of_levels
