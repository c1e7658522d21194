"""Writes pictures for people: contact sheets of views, and turntables as animation, video or folder of frames."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image
from torch import Tensor

from dfw.atomic import filling, put_new, rename_new, write_file, write_whole, writing
from dfw.errors import ExportError

SECONDS_PER_TURN = 4.0  # slow enough to follow, short enough to watch
QUALITY = 85  # of WebP; above it files grow faster than the eye can tell
CONSTANT_RATE = "20"  # x264's quality: 0 is lossless, 18 looks so, 23 is its default
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
    return _write(path, _png(Image.fromarray(sheet)))


def check_turntable(path: Path) -> None:
    """Raises ExportError for a path that `save_turntable` cannot write: an unknown ending, or an MP4 without its library."""
    if not _is_folder(path) and path.suffix.lower() not in _ENCODERS:
        *most, last = _ENCODERS
        endings = f"{', '.join(most)} or {last}"
        raise ExportError(f"{path}: a turntable ends in {endings}; a name without an ending is a folder of PNG frames")
    if path.suffix.lower() == ".mp4" and find_spec("av") is None:
        raise ExportError(f"{path}: an MP4 needs the library av; install it with: pip install av")


def save_turntable(images: Tensor, path: Path, seconds: float = SECONDS_PER_TURN) -> Path:
    """Writes the frames (B, H, W, 3) in [0, 1] of one turn that takes `seconds`. Returns `path`, or path-2 ... if that exists.

    The path's ending decides: .webp and .gif loop, .mp4 is a video, and no ending is a folder with a PNG for each frame. An empty
    folder is used as it is. Raises ExportError where there are no frames, as `check_turntable` does, or where the path cannot be
    written.
    """
    if not len(images):
        raise ExportError("a turntable needs at least one frame; set export.turntable_frames above 0")
    check_turntable(path)
    frames = [Image.fromarray(frame) for frame in to_bytes(images)]
    if not _is_folder(path):
        data = _ENCODERS[path.suffix.lower()](frames, seconds / len(frames))
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return put_new(path.parent, path.stem, [path.suffix], lambda _: {path.suffix: data})[path.suffix]
    with writing(path), filling(path) as folder:
        for index, frame in enumerate(frames):
            write_file(folder / f"frame-{index:03d}.png", _png(frame))
        return rename_new(folder, path)


def _is_folder(path: Path) -> bool:
    return path.is_dir() or not path.suffix


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _webp(frames: Sequence[Image.Image], each: float) -> bytes:
    """Shows every frame for `each` seconds."""
    buffer, duration = io.BytesIO(), max(1, round(1000 * each))
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=duration, loop=0, quality=QUALITY, method=4)
    return buffer.getvalue()


def _gif(frames: Sequence[Image.Image], each: float) -> bytes:
    """Frame by frame, since Pillow joins equal neighbours. GIF counts hundredths of a second, and viewers slow down below two."""
    duration = 10 * max(2, round(100 * each))
    shown = [frame.quantize() for frame in frames]
    blocks = list(GifImagePlugin.getheader(shown[0], info={"loop": 0})[0])
    for frame in shown:
        blocks += GifImagePlugin.getdata(frame, duration=duration, include_color_table=True)
    return b"".join([*blocks, b";"])


def _mp4(frames: Sequence[Image.Image], each: float) -> bytes:
    """H.264 with 4:2:0 colours, which every player shows; it needs even sides, so the last row and column may be doubled."""
    av: Any = import_module("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1 / Fraction(each).limit_denominator(1000), options={"crf": CONSTANT_RATE})
        stream.width, stream.height = (side + side % 2 for side in frames[0].size)
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            even = np.pad(np.asarray(frame), [(0, side % 2) for side in (frame.height, frame.width)] + [(0, 0)], mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


_ENCODERS = {".webp": _webp, ".gif": _gif, ".mp4": _mp4}
"""Ending -> frames and seconds of each -> file."""


def _write(path: Path, data: bytes) -> Path:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    return path
