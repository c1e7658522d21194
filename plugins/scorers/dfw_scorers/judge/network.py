"""A small classifier of the shipped prior's world: form, colour and view.

`tools/prior/train_judge.py` trains it apart from the prior that it judges, and writes the weights next to this file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Verdict:
    """Logits of one batch of B images."""

    kind: Tensor
    """(B, forms)."""
    colour: Tensor
    """(B, 10)."""
    second: Tensor
    """(B, 10), the colour of the lower solid if one stands on another."""
    view: Tensor
    """(B, 9): the eight sectors of 45 degrees, counter-clockwise from the front, then overhead."""


class _Block(nn.Module):
    """Two convolutions with a shortcut. They halve the size."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inside, outside, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, outside)
        self.conv = nn.Conv2d(outside, outside, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns features at half the size."""
        x = functional.silu(self.norm(self.down(x)))
        return x + functional.silu(self.conv(x))


class Judge(nn.Module):
    """The classifier. `kinds`, `colours` and `views` name its outputs; of the kinds in `facing` it learned the view."""

    def __init__(self, kinds: list[str], colours: list[str], views: list[str], facing: list[str]) -> None:
        """Makes an untrained judge of the named classes."""
        super().__init__()
        self.kinds, self.colours, self.views, self.facing = kinds, colours, views, facing
        self.stem = nn.Conv2d(3, 24, 4, stride=2, padding=1)
        self.body = nn.Sequential(_Block(24, 48), _Block(48, 80), _Block(80, 120))
        self.mix = nn.Linear(120 * 16, 128)
        self.head = nn.Linear(128, len(kinds) + 2 * len(colours) + len(views))

    def features(self, images: Tensor) -> Tensor:
        """Returns what the answers are made of, (B, 128), for images (B, 3, 64, 64) in [0, 1]."""
        return functional.silu(self.mix(self.body(self.stem(images * 2 - 1)).flatten(1)))

    def forward(self, images: Tensor) -> Verdict:
        """Judges images (B, 3, 64, 64) in [0, 1]."""
        logits = self.head(self.features(images)).float()
        sizes = [len(self.kinds), len(self.colours), len(self.colours), len(self.views)]
        return Verdict(*logits.split(sizes, 1))

    def save(self, folder: Path) -> None:
        """Writes weights in half precision, and labels."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.half().contiguous() for key, value in self.state_dict().items()}
        save_file(weights, str(folder / "judge.safetensors"))
        labels = {"kinds": self.kinds, "colours": self.colours, "views": self.views, "facing": self.facing}
        (folder / "judge.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path = HERE) -> Judge:
        """Loads the trained judge in `folder`."""
        labels = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
        judge = cls(labels["kinds"], labels["colours"], labels["views"], labels["facing"])
        weights = load_file(str(folder / "judge.safetensors"))
        judge.load_state_dict({key: value.float() for key, value in weights.items()})
        return judge.eval().requires_grad_(False)

    def accuracy(self, images: Tensor, kind: str, colour: str) -> tuple[Tensor, Tensor]:
        """Returns whether each image shows `kind`, and whether it shows `colour`, as booleans (B,)."""
        with torch.no_grad():
            verdict = self(images)
        return verdict.kind.argmax(1) == self.kinds.index(kind), verdict.colour.argmax(1) == self.colours.index(colour)
