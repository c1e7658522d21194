"""A picture by Mitsuba 3, and its gradients: `python mitsuba_picture.py GIVEN.npz MADE.npz`, in a process of its own.

It needs libLLVM (`DRJIT_LIBLLVM_PATH` names another than the system's). An old one ends the process: 15 does, 19 works.
Exit code 77: there is none.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

NO_LLVM = 77


def scene(mi: Any, given: Any) -> Any:
    """A mesh that glows white, or is grey and lit from the camera's direction, and the view's sensor."""
    props = mi.Properties()
    lit, eye = bool(given["lit"]), given["eye"].tolist()
    if lit:
        props["bsdf"] = mi.load_dict(
            {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.5}}}
        )
    else:
        props["emitter"] = mi.load_dict({"type": "area", "radiance": {"type": "rgb", "value": 1.0}})
    mesh = mi.Mesh("thing", len(given["vertices"]), len(given["faces"]), has_vertex_normals=False, props=props)
    params = mi.traverse(mesh)
    params["vertex_positions"] = given["vertices"].ravel()
    params["faces"] = given["faces"].ravel()
    params.update()
    height, width = given["weight"].shape
    film = {"type": "hdrfilm", "width": width, "height": height, "rfilter": {"type": "box"}, "pixel_format": "rgb"}
    pose = mi.ScalarTransform4f().look_at(origin=eye, target=[0, 0, 0], up=[0, 0, 1])
    sensor = {"type": "perspective", "fov": float(given["fov"]), "fov_axis": "y", "to_world": pose, "film": film}
    parts = {"type": "scene", "thing": mesh, "sensor": sensor}
    if lit:  # a reflectance of 0.5 under an irradiance of pi has the radiance 0.5 cos
        towards = [-c for c in eye]
        parts["light"] = {"type": "directional", "direction": towards, "irradiance": {"type": "rgb", "value": np.pi}}
    return mi.load_dict(parts)


def main() -> None:
    """Writes `image` (H, W) and `gradient` (V, 3), that of the sum of weight times image."""
    import mitsuba as mi

    try:
        mi.set_variant("llvm_ad_rgb")
        mi.Float([1.0]).numpy()
    except Exception as error:
        print(error, file=sys.stderr)
        sys.exit(NO_LLVM)
    import drjit as dr

    given = np.load(sys.argv[1])
    there = scene(mi, given)
    params = mi.traverse(there)
    key = next(name for name in params.keys() if name.endswith("vertex_positions"))  # noqa: SIM118
    dr.enable_grad(params[key])
    params.update()
    integrator = mi.load_dict({"type": "direct_projective", "sppp": 1024, "sppi": 0, "sppc": 64})
    image = mi.render(there, params, integrator=integrator, spp=128, seed=1)
    weight = np.repeat(given["weight"][..., None], 3, axis=2).astype(np.float32)
    dr.backward(dr.sum(image * mi.TensorXf(weight), axis=None))
    gradient = np.array(dr.grad(params[key])).reshape(-1, 3) / 3
    np.savez(sys.argv[2], image=np.array(image)[..., 0], gradient=gradient)


if __name__ == "__main__":
    main()
