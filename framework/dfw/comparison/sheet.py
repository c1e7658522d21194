"""A contact sheet: one picture of prompts times methods, with labels. Imports no torch."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dfw.atomic import unused, write_whole, writing
from dfw.comparison.entries import Entry
from dfw.comparison.pictures import front
from dfw.errors import ConfigError
from dfw.text import printable, shortened

TILE = 192  # pixels, the width of a turntable by default
GAP = 6
LABELS = 170  # pixels of the column of prompts
HEAD = 46  # pixels of the row of methods: two lines
SIZE = 16  # of letters
PAPER, INK, EMPTY = (255, 255, 255), (28, 29, 31), (236, 236, 232)
LARGEST = 250_000_000  # pixels: 750 MB while it is made


def check_sheet(path: Path) -> None:
    """Raises ConfigError for a file that is not a PNG."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--contact-sheet {path}: a contact sheet ends in .png")


def write_sheet(path: Path, entries: Sequence[Entry]) -> Path:
    """Writes the sheet: a row for each prompt, a column for each method and seed. A run without a picture shows its status.

    Returns `path`, or path-2 ... if that exists. Raises ConfigError where it cannot be written, or would be larger than LARGEST.
    """
    check_sheet(path)
    prompts = list(dict.fromkeys(one.record.subject for one in entries))
    seeds = sorted({one.record.seed for one in entries}, key=lambda seed: (seed is None, seed))
    methods = dict.fromkeys(one.method for one in entries)
    there = {(one.method, one.record.seed) for one in entries}
    columns = [(method, seed) for method in methods for seed in seeds if (method, seed) in there]
    cells: dict[tuple[str, str, int | None], Entry] = {}
    for one in entries:
        cells.setdefault((one.record.subject, one.method, one.record.seed), one)
    width, height = LABELS + len(columns) * (TILE + GAP), HEAD + len(prompts) * (TILE + GAP)
    if width * height > LARGEST:
        raise ConfigError(f"--contact-sheet {path}: it would have {width} x {height} pixels; name fewer runs")
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SIZE)
    for column, (method, seed) in enumerate(columns):
        text = method if len(seeds) == 1 else f"{method}, seed {seed}"
        _write(draw, font, text, (LABELS + column * (TILE + GAP), GAP), TILE, 2)
    for row, prompt in enumerate(prompts):
        top = HEAD + row * (TILE + GAP)
        _write(draw, font, prompt or "–", (GAP, top), LABELS - 2 * GAP, 8)
        for column, (method, seed) in enumerate(columns):
            _put(sheet, draw, font, (LABELS + column * (TILE + GAP), top), cells.get((prompt, method, seed)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    with writing(path, ConfigError, otherwise="name another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path = unused(path)
        write_whole(path, buffer.getvalue())
    return path


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _put(sheet: Image.Image, draw: ImageDraw.ImageDraw, font: Font, at: tuple[int, int], entry: Entry | None) -> None:
    picture = front(entry) if entry is not None else None
    if picture is None:
        draw.rectangle((*at, at[0] + TILE - 1, at[1] + TILE - 1), EMPTY)
        said = "no run" if entry is None else entry.record.status or "not begun"
        _write(draw, font, said, (at[0] + 2 * GAP, at[1] + 2 * GAP), TILE - 4 * GAP, 2)
        return
    picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    if picture.width < TILE and picture.height < TILE:
        scale = TILE / max(picture.size)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    sheet.paste(picture, (at[0] + (TILE - picture.width) // 2, at[1] + (TILE - picture.height) // 2))


def _write(draw: ImageDraw.ImageDraw, font: Font, text: str, at: tuple[int, int], width: int, lines: int) -> None:
    """Writes text in at most `lines` lines of `width` pixels."""
    plain = printable(shortened(" ".join(text.split()), 200))
    letters = max(4, int(width / max(draw.textlength("abcdefgh mnopqrs", font=font) / 16, 1)))
    wrapped = textwrap.wrap(plain, letters, max_lines=lines, placeholder=" …")
    draw.multiline_text(at, "\n".join(wrapped), fill=INK, font=font, spacing=3)
