"""Warp kernels of the rasteriser: one source for CPU and CUDA, float32. Imported when float32 Gaussians are first drawn.

Legend: M drawn Gaussians of all views together, sorted by view, then by depth; K pairs of a Gaussian and a tile it touches. Pairs
are made in the Gaussians' order; their slots are sorted by tile, within a tile front to back. A tile is TILE x TILE pixels.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

import warp as wp

from .compositing import ALPHA_MAX, LIGHT_MIN, SPLAT

TILE = 8
_TILE = wp.constant(wp.int32(TILE))
_ALPHA_MAX = wp.constant(wp.float32(ALPHA_MAX))
_LIGHT_MIN = wp.constant(wp.float32(LIGHT_MIN))

Splat = wp.types.vector(length=SPLAT, dtype=wp.float32)


@wp.kernel(enable_backward=False)
def list_pairs(
    box: wp.array(dtype=wp.vec4i),
    view: wp.array(dtype=wp.int32),
    first: wp.array(dtype=wp.int32),
    across: wp.int32,
    down: wp.int32,
    offset: wp.int32,
    tile: wp.array(dtype=wp.int32),
    gaussian: wp.array(dtype=wp.int32),
):
    """Gaussian m fills its pairs, from first[m] on: the tiles of its box (left, top, right, bottom), and itself."""
    m = wp.tid() + offset
    b = box[m]
    k = first[m]
    for y in range(b[1], b[3] + 1):
        for x in range(b[0], b[2] + 1):
            tile[k] = (view[m] * down + y) * across + x
            gaussian[k] = m
            k += 1


@wp.kernel(enable_backward=False)
def place_pairs(
    tile: wp.array(dtype=wp.int32),
    view_first: wp.array(dtype=wp.int32),
    offset: wp.int32,
    cursor: wp.array(dtype=wp.int32),
    slot: wp.array(dtype=wp.int32),
):
    """Counting sort of each view's pairs by tile, stable: slot[k] is where pair k goes; `cursor` holds each tile's next slot."""
    b = wp.tid() + offset
    for k in range(view_first[b], view_first[b + 1]):
        s = cursor[tile[k]]
        slot[k] = s
        cursor[tile[k]] = s + 1


@wp.func
def exponent(g: Splat, dx: wp.float32, dy: wp.float32) -> wp.float32:
    """-d^T C^-1 d / 2."""
    return -0.5 * (g[2] * dx * dx + g[4] * dy * dy) - g[3] * dx * dy


@wp.kernel(enable_backward=False)
def composite(
    splat: wp.array(dtype=Splat),
    lowest: wp.array(dtype=wp.float32),
    gaussian: wp.array(dtype=wp.int32),
    tile_first: wp.array(dtype=wp.int32),
    across: wp.int32,
    down: wp.int32,
    offset: wp.int32,
    total: wp.array3d(dtype=wp.vec4),
    light: wp.array3d(dtype=wp.float32),
    last: wp.array3d(dtype=wp.int32),
):
    """One pixel, front to back. 3DGS, eq. 3. `lowest`: the exponent where alpha is 1/255; `last`: one past the last slot used."""
    tile, lane = wp.tid()
    tile += offset
    view = tile // (across * down)
    y = (tile // across % down) * _TILE + lane // _TILE
    x = tile % across * _TILE + lane % _TILE
    if y >= light.shape[1] or x >= light.shape[2]:
        return
    left = wp.float32(1.0)
    sums = wp.vec4(0.0, 0.0, 0.0, 0.0)
    end = tile_first[tile]
    for s in range(tile_first[tile], tile_first[tile + 1]):
        m = gaussian[s]
        g = splat[m]
        power = exponent(g, wp.float32(x) + 0.5 - g[0], wp.float32(y) + 0.5 - g[1])
        if power >= lowest[m]:
            alpha = wp.min(_ALPHA_MAX, g[5] * wp.exp(power))
            after = left * (1.0 - alpha)
            if after < _LIGHT_MIN:
                break
            sums += alpha * left * wp.vec4(g[6], g[7], g[8], g[9])
            left = after
            end = s + 1
    total[view, y, x] = sums
    light[view, y, x] = left
    last[view, y, x] = end


@wp.kernel(enable_backward=False)
def composite_backward(
    splat: wp.array(dtype=Splat),
    lowest: wp.array(dtype=wp.float32),
    gaussian: wp.array(dtype=wp.int32),
    tile_first: wp.array(dtype=wp.int32),
    across: wp.int32,
    down: wp.int32,
    offset: wp.int32,
    light: wp.array3d(dtype=wp.float32),
    last: wp.array3d(dtype=wp.int32),
    total_grad: wp.array3d(dtype=wp.vec4),
    light_grad: wp.array3d(dtype=wp.float32),
    grad: wp.array(dtype=Splat),
):
    """The adjoint of `composite` for one pixel, back to front; adds to each slot's gradient. 3DGS, appendix C.

    With v = feature . gradient and `behind` what lies behind a Gaussian times the gradient, alpha gets T v - behind/(1 - alpha).
    """
    tile, lane = wp.tid()
    tile += offset
    view = tile // (across * down)
    y = (tile // across % down) * _TILE + lane // _TILE
    x = tile % across * _TILE + lane % _TILE
    if y >= light.shape[1] or x >= light.shape[2]:
        return
    u = total_grad[view, y, x]
    left = light[view, y, x]
    behind = left * light_grad[view, y, x]
    end = last[view, y, x]
    for back in range(end - tile_first[tile]):
        s = end - 1 - back
        m = gaussian[s]
        g = splat[m]
        dx = wp.float32(x) + 0.5 - g[0]
        dy = wp.float32(y) + 0.5 - g[1]
        power = exponent(g, dx, dy)
        if power >= lowest[m]:
            fall = wp.exp(power)
            alpha = wp.min(_ALPHA_MAX, g[5] * fall)
            left = left / (1.0 - alpha)
            w = alpha * left
            v = g[6] * u[0] + g[7] * u[1] + g[8] * u[2] + g[9] * u[3]
            to_alpha = left * v - behind / (1.0 - alpha)
            behind += w * v
            if g[5] * fall >= _ALPHA_MAX:
                to_alpha = 0.0
            q = to_alpha * alpha
            out = Splat()
            out[0] = q * (g[2] * dx + g[3] * dy)
            out[1] = q * (g[4] * dy + g[3] * dx)
            out[2] = -0.5 * q * dx * dx
            out[3] = -q * dx * dy
            out[4] = -0.5 * q * dy * dy
            out[5] = to_alpha * fall
            out[6] = w * u[0]
            out[7] = w * u[1]
            out[8] = w * u[2]
            out[9] = w * u[3]
            wp.atomic_add(grad, s, out)


@wp.kernel(enable_backward=False)
def gather(
    grad: wp.array(dtype=Splat),
    slot: wp.array(dtype=wp.int32),
    first: wp.array(dtype=wp.int32),
    offset: wp.int32,
    out: wp.array(dtype=Splat),
):
    """out[m] = the sum of the gradients of m's pairs."""
    m = wp.tid() + offset
    sums = Splat()
    for k in range(first[m], first[m + 1]):
        sums += grad[slot[k]]
    out[m] = sums
