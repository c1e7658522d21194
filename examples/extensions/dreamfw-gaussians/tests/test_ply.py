"""The file against the 3DGS layout, read by a reader of its own and by trimesh."""

import math
import struct

import numpy as np
import torch
import trimesh
from clouds import gaussians, single
from dreamfw_gaussians.geometry import Gaussians
from dreamfw_gaussians.ply import write_ply

ORDER = [
    "x",
    "y",
    "z",
    "nx",
    "ny",
    "nz",
    "f_dc_0",
    "f_dc_1",
    "f_dc_2",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
]


def rows(path):
    """Properties and rows of a PLY file of floats, byte by byte."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(lines[2].removeprefix("element vertex "))
    names = [line.removeprefix("property float ") for line in lines[3:]]
    assert len(body) == 4 * len(names) * count
    return names, list(struct.iter_unpack(f"<{len(names)}f", body))


def test_one_gaussian_in_the_conventions_of_the_reference_implementation(tmp_path):
    """Viewers show sigmoid(opacity), exp(scale), normalise rot (w first), and 0.5 + f_dc / (2 sqrt(pi))."""
    geometry = single(
        mean=(0.1, -0.2, 0.3), scale=(0.01, 0.02, 0.04), opacity=0.75, colour=(0.9, 0.5, 0.2), rotation=(0, 2, 0, 0)
    )
    names, [row] = rows(write_ply(geometry.cloud(), tmp_path / "one.ply"))
    assert names == ORDER
    found = dict(zip(names, row, strict=True))
    assert [found[n] for n in ("x", "y", "z", "nx", "ny", "nz")] == [np.float32(v) for v in (0.1, -0.2, 0.3, 0, 0, 0)]
    assert math.isclose(1 / (1 + math.exp(-found["opacity"])), 0.75, rel_tol=1e-6)
    assert np.allclose([math.exp(found[f"scale_{i}"]) for i in range(3)], [0.01, 0.02, 0.04], rtol=1e-6)
    assert np.allclose([0.5 + found[f"f_dc_{i}"] / (2 * math.sqrt(math.pi)) for i in range(3)], [0.9, 0.5, 0.2], atol=1e-6)
    assert [found[f"rot_{i}"] for i in range(4)] == [0, 1, 0, 0]


def test_the_export_holds_the_live_gaussians_only(tmp_path):
    geometry = gaussians(30, capacity=50)
    with torch.no_grad():
        geometry.means[3] = 9.0
        geometry.opacities[:30] = 1.0
        geometry.opacities[7] = -9.0
    made = geometry.export_assets(tmp_path)
    assert made == {"gaussians": tmp_path / "gaussians.ply"}
    live = [i for i in range(30) if i not in (3, 7)]
    points = trimesh.load(made["gaussians"])
    assert np.allclose(points.vertices, geometry.means[live].detach().numpy())


def test_an_empty_scene_is_an_empty_file(tmp_path):
    names, found = rows(Gaussians(Gaussians.Config()).export_assets(tmp_path)["gaussians"])
    assert (names, found) == (ORDER, [])
