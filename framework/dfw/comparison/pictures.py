"""Small pictures for a comparison: the turntable of a run as a strip of frames, all runs at the same angles. Imports no torch."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence

from dfw.atomic import remove, sweep, write_whole, writing
from dfw.comparison.entries import Entry
from dfw.errors import one_line

log = logging.getLogger("dfw.comparison")

FRAMES = 36  # as many as a turntable has by default: ten degrees from one to the next
WIDTH = 144  # pixels of a frame; a strip of 36 is 5184 wide, and WebP ends at 16383
QUALITY = 78  # of WebP; at this size faults are not seen


@dataclass(frozen=True)
class Shown:
    """What a run's tile shows."""

    file: str
    """Name in the folder of pictures."""
    turns: bool
    """Whether it is a strip of FRAMES frames, or a single picture."""
    ratio: float
    """Width of a frame over its height."""


def shown(entries: Sequence[Entry], folder: Path) -> list[Shown | None]:
    """Makes the picture of each run in `folder`, which may hold those of an earlier call: what has not changed is kept.

    Removes pictures of runs that are not compared any more. Raises ExportError where the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets go of the interpreter while it reads and writes WebP
            found = list(pool.map(lambda one: _shown(one, folder), entries))
        used = {one.file for one in found if one is not None}
        for path in folder.glob("*.webp"):
            if path.name not in used and len(path.stem) == _DIGITS and set(path.stem) <= set("0123456789abcdef"):
                remove(path)
    return found


_DIGITS = 20
_UNREADABLE = (OSError, ValueError, SyntaxError, ImportError, Image.DecompressionBombError)
"""What Pillow and av raise for damaged files, and where av is missing."""


def _shown(entry: Entry, folder: Path) -> Shown | None:
    for source, make, turns in ((entry.turntable, _strip, True), (entry.preview, _front, False)):
        if source is None:
            continue
        try:
            path = folder / f"{_digest(source, turns)}.webp"
            data = path.read_bytes() if path.is_file() else _webp(make(source))
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
        except _UNREADABLE as error:
            log.warning("%s: cannot be read as a picture (%s); the comparison goes without it", source, one_line(error))
            continue
        if not path.is_file():
            write_whole(path, data)
        return Shown(path.name, turns, width / (FRAMES if turns else 1) / height)
    return None


def _digest(source: Path, turns: bool) -> str:
    """Changes when the picture does: by place, time and size of its file."""
    said = source.stat()
    text = f"{source.resolve()}\0{said.st_mtime_ns}\0{said.st_size}\0{FRAMES if turns else 1}\0{WIDTH}\0{QUALITY}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]


def front(entry: Entry) -> Image.Image | None:
    """Returns a run's first frame, or the front of its newest preview, in full size. Warns if a file cannot be read."""
    reads: tuple[tuple[Path | None, Callable[[Path], Image.Image]], ...] = (
        (entry.turntable, lambda path: next(_frames(path))),
        (entry.preview, _front),
    )
    for source, read in reads:
        if source is not None:
            try:
                return read(source)
            except (*_UNREADABLE, StopIteration) as error:
                log.warning("%s: cannot be read as a picture (%s); the comparison goes without it", source, one_line(error))
    return None


def _strip(source: Path) -> Image.Image:
    """Returns FRAMES frames of a turntable side by side, at equal angles whatever number it has."""
    frames = list(_frames(source))
    if not frames:
        raise ValueError("it has no frame")
    small: dict[int, Image.Image] = {}
    width, height = WIDTH, max(1, round(WIDTH * frames[0].height / frames[0].width))
    strip = Image.new("RGB", (FRAMES * width, height))
    for place in range(FRAMES):
        number = place * len(frames) // FRAMES
        if number not in small:
            small[number] = frames[number].resize((width, height), Image.Resampling.BOX, reducing_gap=2)
        strip.paste(small[number], (place * width, 0))
    return strip


def _frames(source: Path) -> Iterator[Image.Image]:
    """Gives the frames of a turntable as RGB: of an animation, a film, or a folder of pictures."""
    if source.is_dir():
        for path in sorted(source.glob("*.png")):
            with Image.open(path) as image:
                yield image.convert("RGB")
    elif source.suffix.lower() == ".mp4":
        av: Any = import_module("av")
        with av.open(str(source)) as container:
            for frame in container.decode(video=0):
                yield frame.to_image()
    else:
        with Image.open(source) as image:
            for one in ImageSequence.Iterator(image):
                yield one.convert("RGB")


VIEWS, GAP = 4, 2  # of a preview: front, left, back and right, with pixels between them


def _front(source: Path) -> Image.Image:
    """Returns the first view of a preview."""
    with Image.open(source) as image:
        views = VIEWS if image.width > 2 * image.height else 1
        found = image.convert("RGB").crop((0, 0, (image.width - (views - 1) * GAP) // views, image.height))
    return found


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()
