"""Shows the cells of `objectives.py` as Markdown tables and one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw
from quality import Judge, prompts, retrieval
from torch import Tensor

SHOWN = {"2d": (0, 1), "3d": (1, 5)}
"""The pictures of a cell on the sheet. Of eight renders: a little left of the front, a little right of the back."""
SIDE = 64
GAP = 2
LABEL = 84
HEAD = 16
COLUMNS = {
    "likelihood": ("log-likelihood", "z.2f"),
    "iou": ("IoU", ".2f"),
    "colour error": ("colour error", ".3f"),
    "two-faced": ("two-faced", ".0%"),
    "seconds": ("CPU s / step", ".3f"),
    "calls": ("calls / step", ".1f"),
    "images": ("images / step", ".1f"),
}
"""Figure of a cell -> its heading and its format."""


@dataclass
class Cell:
    """One objective on one prompt."""

    objective: str
    """Name of the configuration."""
    prompt: str
    """The prompt."""
    steps: int
    """Steps of the run."""
    figures: dict[str, float] = field(default_factory=dict)
    """Name -> figure."""
    failure: str = ""
    """The exception that ended the run; empty if none did."""

    def line(self) -> str:
        """Returns one line for a console."""
        outcome = self.failure or ", ".join(f"{key} {value:.3f}" for key, value in self.figures.items())
        return f"{self.objective}, {self.prompt}: {outcome}"


Found = Sequence[tuple[Cell, Tensor | None]]


def table(judge: Judge, found: Found) -> str:
    """Returns a row for each objective with means over the prompts that it finished. Failures follow the table.

    R-precision: share of pictures for which the judge ranks their own prompt first of quality.py's 24.
    """
    texts = [text for text, _ in prompts()]
    keys = [key for key in COLUMNS if any(key in cell.figures for cell, _ in found)]
    heads = ["objective", "steps", "R-precision", *(COLUMNS[key][0] for key in keys), "failed"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(cell.objective for cell, _ in found):
        cells = [(cell, pictures) for cell, pictures in found if cell.objective == name]
        done = {cell.prompt: pictures for cell, pictures in cells if pictures is not None}
        right = retrieval(judge, done, texts)
        means = [_mean([cell.figures[key] for cell, pictures in cells if pictures is not None]) for key in keys]
        shown = [_text(_mean(list(right.values())), ".2f")]
        shown += [_text(mean, COLUMNS[key][1]) for key, mean in zip(keys, means, strict=True)]
        failed = len(cells) - len(done)
        lines.append(
            "| " + " | ".join([name, str(cells[0][0].steps), *shown, f"{failed} of {len(cells)}" if failed else ""]) + " |"
        )
    failures = [f"- {cell.line()}" for cell, _ in found if cell.failure]
    return "\n".join([*lines, *(["", *failures] if failures else [])])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _text(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def contact_sheet(parts: Mapping[str, Found]) -> Image.Image:
    """Draws a row for each objective and a column for each picture. A failed cell is a grey box that says so."""
    names = list(dict.fromkeys(cell.objective for found in parts.values() for cell, _ in found))
    columns = [(part, prompt) for part, found in parts.items() for prompt in dict.fromkeys(cell.prompt for cell, _ in found)]
    width = 2 * (SIDE + GAP)
    sheet = Image.new("RGB", (LABEL + width * len(columns), HEAD + (SIDE + GAP) * len(names)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        draw.text((4, HEAD + row * (SIDE + GAP) + SIDE // 2), name, fill="black", anchor="lm")
    for column, (part, prompt) in enumerate(columns):
        left = LABEL + column * width
        draw.text((left + width // 2, HEAD // 2), f"{part}: {prompt}", fill="black", anchor="mm")
        for cell, pictures in parts[part]:
            if cell.prompt == prompt:
                _paste(sheet, (left, HEAD + names.index(cell.objective) * (SIDE + GAP)), part, pictures)
    return sheet


def _paste(sheet: Image.Image, corner: tuple[int, int], part: str, pictures: Tensor | None) -> None:
    if pictures is None:
        box = Image.new("RGB", (2 * SIDE + GAP, SIDE), "#dddddd")
        ImageDraw.Draw(box).text((SIDE, SIDE // 2), "failed", fill="black", anchor="mm")
        sheet.paste(box, corner)
        return
    for place, index in enumerate(SHOWN[part]):
        if index < len(pictures):
            pixels = (pictures[index].numpy() * 255).round().astype(np.uint8)
            sheet.paste(Image.fromarray(pixels).resize((SIDE, SIDE)), (corner[0] + place * (SIDE + GAP), corner[1]))
