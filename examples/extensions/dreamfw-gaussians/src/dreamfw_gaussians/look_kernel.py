"""The Warp kernel that sums Gaussians at points: one source for CPU and CUDA, float32. Imported when a cloud is first asked."""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

import warp as wp

CUT = 3.0
"""Standard deviations beyond which a Gaussian counts as nothing: its density is 1.1 % of that in its centre there."""
_FURTHEST = wp.constant(wp.float32(CUT * CUT))


@wp.kernel(enable_backward=False)
def look(
    tree: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    mean: wp.array(dtype=wp.vec3),
    inverse: wp.array(dtype=wp.mat33),
    peak: wp.array(dtype=wp.float32),
    colour: wp.array(dtype=wp.vec3),
    density: wp.array(dtype=wp.float32),
    painted: wp.array(dtype=wp.vec3),
    slope: wp.array(dtype=wp.vec3),
):
    """Density, density times colour, and the density's gradient at each point, from the Gaussians whose boxes it lies in."""
    i = wp.tid()
    place = points[i]
    total = wp.float32(0.0)
    shown = wp.vec3(0.0, 0.0, 0.0)
    rise = wp.vec3(0.0, 0.0, 0.0)
    query = wp.bvh_query_aabb(tree, place, place)
    k = wp.int32(0)
    while wp.bvh_query_next(query, k):
        away = place - mean[k]
        pull = inverse[k] * away
        squared = wp.dot(away, pull)
        if squared < _FURTHEST:
            one = peak[k] * wp.exp(-0.5 * squared)
            total += one
            shown += one * colour[k]
            rise -= one * pull
    density[i] = total
    painted[i] = shown
    slope[i] = rise
