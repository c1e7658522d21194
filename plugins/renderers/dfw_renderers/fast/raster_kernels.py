"""Warp kernels of the rasteriser: one source for CPU and CUDA. Imported when a surface is first drawn.

They work in float64, on points as `dfw_renderers.rasteriser` has them: (x, y, z) is seen x/z pixels right of the picture's middle
and y/z below it, z ahead. The ray through a pixel is d = (right, below, 1). With edges e_i = p_j x p_k of a triangle, the ray
meets it where all d . e_i have the sign of its determinant, at depth z = determinant / sum(d . e_i) (Olano and Greer 1997). That
holds for triangles that reach behind the camera, too.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

import warp as wp


@wp.func
def edge(p: wp.vec3d, q: wp.vec3d, i: wp.int32, j: wp.int32) -> wp.vec3d:
    """p x q, computed from the vertex of lower index, so that two triangles have the same bits for the edge they share."""
    if i < j:
        return wp.cross(p, q)
    return -wp.cross(q, p)


@wp.func
def grown(box: wp.vec4d, p: wp.vec3d) -> wp.vec4d:
    """The box (left, top, right, bottom) with the place where p is seen."""
    x = p[0] / p[2]
    y = p[1] / p[2]
    return wp.vec4d(wp.min(box[0], x), wp.min(box[1], y), wp.max(box[2], x), wp.max(box[3], y))


@wp.func
def with_side(box: wp.vec4d, p: wp.vec3d, q: wp.vec3d, near: wp.float64) -> wp.vec4d:
    """The box with p, if it is ahead of the near plane, and with the point where the side from p to q crosses that plane."""
    found = box
    if p[2] >= near:
        found = grown(found, p)
    if (p[2] >= near) != (q[2] >= near):
        found = grown(found, p + (q - p) * ((near - p[2]) / (q[2] - p[2])))
    return found


@wp.func
def pixel(place: wp.float64, middle: wp.float64, side: wp.int32) -> wp.int32:
    """The first pixel whose centre is not before `place`, from 0 to `side`."""
    return wp.int32(wp.clamp(wp.ceil(place + middle - wp.float64(0.5)), wp.float64(0.0), wp.float64(side)))


@wp.kernel(enable_backward=False)
def prepare(
    points: wp.array2d(dtype=wp.vec3d),
    faces: wp.array2d(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    near: wp.float64,
    offset: wp.int32,
    edges: wp.array2d(dtype=wp.mat33d),
    box: wp.array2d(dtype=wp.vec4i),
):
    """Each triangle of a view: its edges, as if seen from its front, and its pixels (left, top, past right, past bottom)."""
    view, face = wp.tid()
    face += offset
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    p, q, r = points[view, i], points[view, j], points[view, k]
    determinant = wp.dot(p, wp.cross(q - p, r - p))
    sign = wp.sign(determinant)
    a = sign * edge(q, r, j, k)
    b = sign * edge(r, p, k, i)
    c = sign * edge(p, q, i, j)
    edges[view, face] = wp.matrix_from_rows(a, b, c)
    far = wp.float64(1.0e30)
    found = wp.vec4d(far, far, -far, -far)
    found = with_side(found, p, q, near)
    found = with_side(found, q, r, near)
    found = with_side(found, r, p, near)
    spare = wp.float64(1.0e-6)  # pixels: rounding must lose none
    right, down = wp.float64(0.5) * wp.float64(width), wp.float64(0.5) * wp.float64(height)
    inside = wp.vec4i(
        pixel(found[0] - spare, right, width),
        pixel(found[1] - spare, down, height),
        pixel(found[2] + spare, right, width),
        pixel(found[3] + spare, down, height),
    )
    size = wp.abs(determinant)
    if not (size > wp.float64(0.0) and size < far):  # edge-on, or not finite
        inside = wp.vec4i(0, 0, 0, 0)
    box[view, face] = inside


@wp.kernel(enable_backward=False)
def draw(
    points: wp.array2d(dtype=wp.vec3d),
    faces: wp.array2d(dtype=wp.int32),
    edges: wp.array2d(dtype=wp.mat33d),
    box: wp.array2d(dtype=wp.vec4i),
    near: wp.float64,
    view: wp.int32,
    first: wp.int32,
    last: wp.int32,
    stride: wp.int32,
    nearest: wp.array3d(dtype=wp.int64),
):
    """Rows `first` to before `last` of a view: the least (depth, face) of each pixel, as one number whose order is theirs.

    Depth is a float32 above 0, whose bits have its order. The least does not depend on the order in which triangles come.
    """
    face, lane = wp.tid()
    b = box[view, face]
    low = wp.max(b[1], first)
    high = wp.min(b[3], last)
    if low + lane >= high or b[0] >= b[2]:
        return
    e = edges[view, face]
    determinant = wp.abs(wp.dot(points[view, faces[face, 0]], e[0]))
    middle = wp.float64(0.5) * wp.float64(nearest.shape[2])
    centre = wp.float64(0.5) * wp.float64(nearest.shape[1])
    half = wp.float64(0.5)
    zero = wp.float64(0.0)
    for y in range(low + lane, high, stride):
        below = wp.float64(y) + half - centre
        for x in range(b[0], b[2]):
            d = wp.vec3d(wp.float64(x) + half - middle, below, wp.float64(1.0))
            s = e * d
            if s[0] >= zero and s[1] >= zero and s[2] >= zero:
                total = s[0] + s[1] + s[2]
                if total > zero and determinant >= near * total:
                    depth = wp.float32(determinant / total)
                    key = (wp.int64(wp.cast(depth, wp.int32)) << wp.int64(32)) | wp.int64(face)
                    wp.atomic_min(nearest, view, y, x, key)
