"""3D Gaussian splatting once more, slowly and from its definitions, sharing no code with the package. float64.

Gaussians are walked through one by one over whole pictures; the projection's derivative comes from automatic differentiation of
the projection itself; covariances are formed in three dimensions, and inverted by torch.
"""

import math

import torch
from torch.func import jacrev


def quaternion_matrix(q):
    """Rotates a vector v to q v q*, by quaternion products."""

    def times(a, b):
        w = a[0] * b[0] - (a[1:] * b[1:]).sum()
        return torch.cat([w[None], a[0] * b[1:] + b[0] * a[1:] + torch.linalg.cross(a[1:], b[1:])])

    star = q * q.new_tensor([1, -1, -1, -1])
    zero = q.new_zeros(1)
    columns = [times(times(q, torch.cat([zero, e])), star)[1:] for e in torch.eye(3, dtype=q.dtype)]
    return torch.stack(columns, dim=1)


def pixel_of(point, pose, fov, height, width):
    """Where the ray of `CameraBatch.rays()` that meets a point crosses the picture, (x, y) in pixels; y grows downwards."""
    local = torch.linalg.solve(pose[:3, :3], point - pose[:3, 3])
    half = math.tan(math.radians(fov) / 2)
    x, y = local[0] / -local[2], local[1] / -local[2]
    return torch.stack([(x / (half * width / height) + 1) * width / 2, (1 - y / half) * height / 2])


def footprint(mean, scale, rotation, pose, fov, height, width):
    """Centre, covariance with its low-pass, and depth of one Gaussian."""
    turn = quaternion_matrix(rotation)
    sigma = turn @ torch.diag(scale**2) @ turn.T
    jacobian = jacrev(pixel_of)(mean, pose, fov, height, width)
    cov = jacobian @ sigma @ jacobian.T + 0.3 * torch.eye(2, dtype=mean.dtype)
    depth = -torch.linalg.solve(pose[:3, :3], mean - pose[:3, 3])[2]
    return pixel_of(mean, pose, fov, height, width), cov, depth


def render(mean, scale, rotation, opacity, colour, pose, fov, height, width, background):
    """Colour (H, W, 3), opacity and depth (H, W) of one view; the Gaussians inside the picture's 1.3-fold frustum, in float64."""
    parts = [footprint(m, s, r, pose, fov, height, width) for m, s, r in zip(mean, scale, rotation, strict=True)]
    row, column = (torch.arange(n, dtype=mean.dtype) + 0.5 for n in (height, width))
    pixel = torch.stack([column.expand(height, width), row[:, None].expand(height, width)], dim=-1)
    light, distance, total = mean.new_ones(height, width), mean.new_zeros(height, width), mean.new_zeros(height, width, 3)
    finished = torch.zeros(height, width, dtype=torch.bool)
    for i in sorted(range(len(parts)), key=lambda i: parts[i][2].item()):
        centre, cov, depth = parts[i]
        offset = pixel - centre
        alpha = (opacity[i] * torch.exp(-0.5 * (offset @ torch.linalg.inv(cov) * offset).sum(-1))).clamp(max=0.99)
        faint = alpha < 1 / 255
        finished = finished | (~faint & (light * (1 - alpha) < 1e-4))
        share = torch.where(faint | finished, 0.0, light * alpha)
        total = total + share[..., None] * colour[i]
        distance = distance + share * depth
        light = light - share
    half = math.tan(math.radians(fov) / 2)
    x, y = (pixel[..., 0] * 2 / width - 1) * width / height * half, (1 - pixel[..., 1] * 2 / height) * half
    seen = 1 - light
    mean_depth = torch.where(seen > 1e-6, distance / seen.clamp(min=1e-6), 0.0) * (1 + x * x + y * y).sqrt()
    return torch.cat([total + light[..., None] * background, seen[..., None], mean_depth[..., None]], dim=-1)
