"""Writes pictures for people: a looping turntable, and grids of views."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dfw.atomic import write_whole
from dfw.errors import ExportError

SECONDS_PER_TURN = 4.0  # slow enough to follow, short enough to watch
QUALITY = 85  # of WebP; above it files grow faster than the eye can tell
GAP = 2  # pixels between the pictures of a grid
GAP_COLOUR = 255


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Rounds images (B, H, W, 3) from [0, 1] to 0..255, and clips them. Raises ExportError for NaN or infinity."""
    values = images.detach().float().cpu().numpy()
    if not np.isfinite(values).all():
        raise ExportError("the rendered images hold NaN or infinity, so they cannot be shown; the scene has diverged")
    return np.asarray(np.rint(values.clip(0, 1) * 255), dtype=np.uint8)


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> Path:
    """Writes images (B, H, W, 3) in [0, 1] as one PNG, `columns` to a row; by default one row of up to 8. Returns `path`."""
    count, height, width, _ = images.shape
    columns = columns or min(count, 8)
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), GAP_COLOUR, np.uint8)
    for index, image in enumerate(to_bytes(images)):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    return _write(path, buffer.getvalue())


def save_turntable(images: Tensor, path: Path, seconds: float = SECONDS_PER_TURN) -> Path:
    """Writes frames (B, H, W, 3) in [0, 1] of one turn as a looping WebP, `seconds` a turn. Returns `path`."""
    if not len(images):
        raise ExportError("a turntable needs at least one frame; set export.turntable_frames above 0")
    frames = [Image.fromarray(frame) for frame in to_bytes(images)]
    duration = max(1, round(1000 * seconds / len(frames)))
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=duration, loop=0, quality=QUALITY, method=4)
    return _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from error
    return path
