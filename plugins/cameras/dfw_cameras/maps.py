"""Maps of depth and normals next to a picture: how files hold them, and what they mean in the scene.

Legend: H x W pixels of a map; B views. A depth in a file is measured along the camera's axis, as renderers and estimators write
it. A normal in a file is in the camera's axes: x to the right, y up, z towards the camera (OpenGL).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dfw import CameraBatch, ConfigError, read_picture, stretched

Numbers = npt.NDArray[np.float32]


def read_depth(path: Path, where: str) -> Tensor:
    """Returns the numbers (H, W, 1) of a depth map: of a .npy array, or of a grey picture of 8, 16 or 32 bits.

    Raises ConfigError that begins with `where`.
    """
    if path.suffix == ".npy":
        return _array(path, where, 1)
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("L", "I", "F", "I;16", "I;16B", "I;16L"):
                raise ConfigError(f"{where}: {path} has colours; a depth map is a grey picture or a .npy array")
            numbers = np.asarray(picture, dtype=np.float32)
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no file {path}; give a grey picture or a .npy array") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{where}: {path} cannot be read ({error}); give a grey picture or a .npy array") from None
    return torch.from_numpy(_finite(numbers.copy(), path, where))[..., None]


def read_normals(path: Path, where: str) -> Tensor:
    """Returns the normals (H, W, 3) of a map, in the camera's axes: a .npy array, or a picture of (n + 1) / 2.

    Raises ConfigError that begins with `where`.
    """
    return _array(path, where, 3) if path.suffix == ".npy" else 2 * read_picture(path, where)[..., :3] - 1


def _array(path: Path, where: str, channels: int) -> Tensor:
    try:
        numbers = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{where}: {path} cannot be read: {reason}; give an array that numpy.save wrote") from None
    shape = numbers.shape
    if channels == 1 and numbers.ndim == 2:
        numbers = numbers[..., None]
    if numbers.ndim != 3 or numbers.shape[-1] != channels or numbers.dtype.kind not in "fiu" or 0 in shape:
        wanted = "(height, width)" if channels == 1 else "(height, width, 3)"
        raise ConfigError(f"{where}: {path} has shape {shape} of {numbers.dtype}; it must be numbers {wanted}")
    return torch.from_numpy(_finite(numbers.astype(np.float32), path, where))


def _finite(numbers: Numbers, path: Path, where: str) -> Numbers:
    if not np.isfinite(numbers).all():
        raise ConfigError(f"{where}: {path} holds numbers that are not finite; write 0 there, outside the mask")
    return numbers


def shrunk(numbers: Tensor, mask: Tensor, height: int, width: int) -> Tensor:
    """Returns a map (H, W, C) at another size, where only pixels inside `mask` (H, W, 1) count. It is 0 where none does."""
    weight = stretched(mask, height, width)
    return torch.where(weight > 1e-3, stretched(numbers * mask, height, width) / weight.clamp_min(1e-3), 0.0)


def along_rays(depth: Tensor, cameras: CameraBatch) -> Tensor:
    """Turns depths (B, H, W) along the cameras' axes into distances along the rays, which renderers give. World units."""
    axis = -cameras.camera_to_world[:, :3, 2]
    return depth / (cameras.rays().direction * axis[:, None, None]).sum(-1)


def in_world(normal: Tensor, cameras: CameraBatch) -> Tensor:
    """Turns normals (B, H, W, 3) in the cameras' axes into unit normals in the world's. One of no length stays 0."""
    return F.normalize(torch.einsum("bij,bhwj->bhwi", cameras.camera_to_world[:, :3, :3], normal), dim=-1)
