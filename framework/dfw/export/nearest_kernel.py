"""The Warp kernel behind `dfw.export.nearest`. Imported when a nearest point is first asked for."""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

import warp as wp


@wp.kernel(enable_backward=False)  # torch differentiates what follows, so Warp need not compile adjoints
def nearest(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    farthest: wp.float32,
    face: wp.array(dtype=wp.int32),
    place: wp.array(dtype=wp.vec3),
):
    """The triangle nearest to each point, and the barycentric coordinates of the nearest place in it."""
    i = wp.tid()
    found = wp.mesh_query_point_no_sign(mesh, points[i], farthest)
    if found.result:
        face[i] = found.face
        place[i] = wp.vec3(found.u, found.v, 1.0 - found.u - found.v)
