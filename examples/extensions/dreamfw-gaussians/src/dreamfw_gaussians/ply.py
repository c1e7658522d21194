"""Gaussians as the PLY file that splat viewers open: the layout of the 3DGS reference implementation, without view dependence.

Legend: N Gaussians. Colours are spherical harmonics of degree 0, opacities logits, scales logarithms, rotations w x y z.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .cloud import Cloud

DEGREE_0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)): viewers show 0.5 + DEGREE_0 * f_dc."""
FIELDS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
"""Columns, all float32, in the order of the file."""
_CERTAIN = 1e-6  # opacities are kept this far from 0 and 1, so that their logits are finite


def columns(cloud: Cloud) -> Tensor:
    """The file's numbers, (N, 17)."""
    dc = (cloud.colour - 0.5) / DEGREE_0
    logit = torch.logit(cloud.opacity, eps=_CERTAIN)[:, None]
    return torch.cat([cloud.mean, torch.zeros_like(cloud.mean), dc, logit, cloud.scale.log(), cloud.rotation], dim=-1)


def write_ply(cloud: Cloud, path: Path) -> Path:
    """Writes the cloud, in world axes (z up), as binary little-endian PLY. Returns `path`."""
    table = columns(cloud).detach().cpu().numpy().astype("<f4")
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    lines += [f"property float {name}" for name in FIELDS]
    path.write_bytes("\n".join([*lines, "end_header", ""]).encode("ascii") + np.ascontiguousarray(table).tobytes())
    return path
