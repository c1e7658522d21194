"""Samples a model and counts the kinds, colours and views that the judge finds right, for seen and held-out captions."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from captions import SECTORS, caption
from diffusers import StableDiffusionPipeline
from heldout import HELD_OUT, HELD_OUT_STACKS, allowed_colours
from torch import Tensor

from dfw.export.pictures import save_grid
from dfw_geometry.shapes import COLOURS, KINDS, SOLIDS, Single, Stack
from dfw_scorers.judge.network import HERE, Judge


@dataclass(frozen=True)
class Question:
    """A caption and the answers that the judge should give. ``second`` is None for one object."""

    text: str
    kind: str
    colour: str
    second: str | None
    sector: int


def questions(per_kind: int, held_out: bool, generator: torch.Generator) -> list[Question]:
    """Draws captions with view words, of pairs of kind and colour that training saw, or of held-out pairs."""
    found = []
    for kind in KINDS:
        colours = [c for c in COLOURS if (c, kind) in HELD_OUT] if held_out else allowed_colours(kind)
        for _ in range(per_kind):
            colour = colours[int(torch.randint(len(colours), (), generator=generator))]
            place = int(torch.randint(9, (), generator=generator))
            view = f"{(*SECTORS, 'overhead')[place]} view"
            found.append(Question(caption(Single(kind), (colour,), view), kind, colour, None, place))
    return found


def stack_questions(count: int, held_out: bool, generator: torch.Generator) -> list[Question]:
    """Draws captions of solids on solids. Held-out ones combine solids that training never stacked."""
    pairs = [(t, b) for t in SOLIDS for b in SOLIDS if t != b and ((t, b) in HELD_OUT_STACKS) == held_out]
    found, names = [], list(COLOURS)
    for number in range(count):
        top, bottom = pairs[number % len(pairs)]
        first = int(torch.randint(10, (), generator=generator))
        second = (first + (1, 2, 4, 5, 6, 7, 8, 9)[int(torch.randint(8, (), generator=generator))]) % 10
        form = Stack(top, bottom)
        text = caption(form, (names[first], names[second]), "front view")
        found.append(Question(text, form.name, names[first], names[second], 0))
    return found


@torch.no_grad()
def sample(
    pipeline: StableDiffusionPipeline, texts: Sequence[str], steps: int, scale: float, seed: int, batch: int = 32
) -> Tensor:
    """Samples images ``[B, 3, 64, 64]`` in [0, 1] by DDIM."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, len(texts), batch):
        result = pipeline(
            list(texts[start : start + batch]),
            num_inference_steps=steps,
            guidance_scale=scale,
            generator=generator,
            height=64,
            width=64,
            output_type="pt",
        )
        parts.append(result.images.float())
    return torch.cat(parts)


def score(judge: Judge, images: Tensor, group: Sequence[Question]) -> dict[str, float]:
    """Returns shares of right kinds, colours, both, and of sectors, exactly and within one, for kinds that have a front."""
    verdict = judge(images)
    kind = verdict.kind.argmax(1) == torch.tensor([judge.kinds.index(q.kind) for q in group])
    colour = verdict.colour.argmax(1) == torch.tensor([judge.colours.index(q.colour) for q in group])
    pairs = torch.tensor([q.second is not None for q in group])
    wanted = torch.tensor([judge.colours.index(q.second) if q.second else -1 for q in group])
    colour &= ~pairs | (verdict.second.argmax(1) == wanted)
    place = torch.tensor([q.sector for q in group])
    seen = torch.tensor([q.kind in KINDS and not KINDS[q.kind].turned for q in group])
    guess = verdict.view.argmax(1)
    apart = (guess - place).abs()
    near = (apart == 0) | ((guess < 8) & (place < 8) & ((apart == 1) | (apart == 7)))
    shares = {"kind": kind, "colour": colour, "both": kind & colour}
    figures = {name: float(value.float().mean()) for name, value in shares.items()}
    if bool(seen.any()):
        figures["view"] = float((apart == 0)[seen].float().mean())
        figures["view within 45"] = float(near[seen].float().mean())
    return figures


COLUMNS = ("group", "images", "kind", "colour", "both", "view", "view within 45")


def write_card(card: Path, rows: list[dict[str, object]], how: str, names: Sequence[str] = COLUMNS) -> None:
    """Replaces the table between the two ``figures`` marks of a model card. It has the columns ``names``."""
    lines = [how, "", f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    lines += [f"| {' | '.join(str(row.get(name, '')) for name in names)} |" for row in rows]
    before, rest = card.read_text(encoding="utf-8").split("<!-- figures -->", 1)
    after = rest.split("<!-- /figures -->", 1)[1]
    body = "\n".join(lines)
    card.write_text(f"{before}<!-- figures -->\n{body}\n<!-- /figures -->{after}", encoding="utf-8")


def load(folder: Path) -> StableDiffusionPipeline:
    """Loads the model in ``folder`` in single precision, without warnings."""
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    pipeline = StableDiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main(argv: list[str]) -> None:
    """Prints the figures as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--judge", type=Path, default=HERE)
    parser.add_argument("--per-kind", type=int, default=8)
    parser.add_argument("--stacks", type=int, default=108)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--scale", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets")
    parser.add_argument("--card", type=Path, help="model card whose table of figures to replace")
    args = parser.parse_args(argv)
    pipeline, judge = load(args.model), Judge.load(args.judge)
    generator = torch.Generator().manual_seed(args.seed)
    groups = {
        "seen": questions(args.per_kind, False, generator),
        "held out": questions(args.per_kind, True, generator),
        "stacks seen": stack_questions(args.stacks, False, generator),
        "stacks held out": stack_questions(args.stacks // 3, True, generator),
    }
    rows: list[dict[str, object]] = []
    for name, group in groups.items():
        if not group:
            continue
        images = sample(pipeline, [q.text for q in group], args.steps, args.scale, args.seed)
        figures = {key: round(value, 3) for key, value in score(judge, images, group).items()}
        rows.append({"group": name, "images": len(group), **figures})
        print(json.dumps(rows[-1]), flush=True)
        if args.sheet:
            args.sheet.mkdir(parents=True, exist_ok=True)
            save_grid(images.permute(0, 2, 3, 1), args.sheet / f"{name.replace(' ', '_')}.png", columns=14)
    if args.card:
        how = f"DDIM, {args.steps} steps, guidance {args.scale:g}, seed {args.seed}. The judge counts the shares."
        write_card(args.card, rows, how)


if __name__ == "__main__":
    main(sys.argv[1:])
