"""Holds the scorer `image-reward` to the authors' own code on the same random weights. It fetches nothing.

    python benchmarks/peers/imagereward.py ImageReward    # a checkout of zai-org/ImageReward

The authors' network is built with two layers of each transformer, and its tensors are saved as `ImageReward.pt`. The scorer reads
that file. Both then score the same square pictures with the same words. The authors' code was written for a transformers of 2021,
and what has moved or gone since is put where it looks for it. What it takes from timm and torchvision is written out here: the
layer that cuts a picture into patches, and for a square picture a resize by PIL and arithmetic.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import HEADER, compare, finish, shake, stand_ins
from PIL import Image
from torch import Tensor, nn
from transformers import BertTokenizer, modeling_utils, pytorch_utils

from dfw import Shown, orbit
from dfw_scorers.image_reward import TEXT_CONFIG, WEIGHTS, ImageReward

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "cube", "car")
PROMPTS = ("a red cube", "a blue car")
EYE = {"patch_size": 16, "embed_dim": 128, "depth": 2, "num_heads": 2}
"""Heads are 64 wide, as in the published sizes."""
ABSENT = (
    *("torchvision", "torchvision.transforms", "timm", "timm.models", "timm.models.helpers", "timm.models.hub"),
    *("timm.models.layers", "timm.models.registry", "timm.models.vision_transformer"),
    *("fairscale", "fairscale.nn", "fairscale.nn.checkpoint", "fairscale.nn.checkpoint.checkpoint_activations"),
)
UNUSED = ("_cfg", "DropPath", "adapt_input_conv", "checkpoint_wrapper", "download_cached_file", "named_apply", "register_model")
"""What only training and loading ask for."""
TEXT = {
    "hidden_size": 768,  # the authors' head reads that many numbers
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "vocab_size": len(WORDS) + 2,
    "max_position_embeddings": 64,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "add_cross_attention": True,
}


class Compose:
    """One step after the other."""

    def __init__(self, steps: Sequence[Callable[[Any], Any]]) -> None:
        self.steps = steps

    def __call__(self, picture: Any) -> Any:
        """Returns what the last step makes of it."""
        for step in self.steps:
            picture = step(picture)
        return picture


def resize(side: int, interpolation: Image.Resampling) -> Callable[[Image.Image], Image.Image]:
    """Returns a step that makes a square picture `side` wide."""
    return lambda picture: picture.resize((side, side), interpolation)


def crop(_: int) -> Callable[[Any], Any]:
    """Returns a step that leaves a square picture as it is."""
    return lambda picture: picture


def to_tensor() -> Callable[[Image.Image], Tensor]:
    """Returns a step from bytes (H, W, 3) to (3, H, W) in [0, 1]."""
    return lambda picture: torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def normalise(mean: Sequence[float], deviation: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """Returns a step to mean 0 and deviation 1 in each channel."""
    return lambda picture: (picture - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]


class Patches(nn.Module):
    """A picture (B, 3, H, W) as patches (B, N, D), which timm cuts by a convolution."""

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

    def forward(self, picture: Tensor) -> Tensor:
        """Row by row, from the top left."""
        cut: Tensor = self.proj(picture)
        return cut.flatten(2).transpose(1, 2)


STEPS = {"Compose": Compose, "Resize": resize, "CenterCrop": crop, "ToTensor": to_tensor, "Normalize": normalise}


LAYERS = {"InterpolationMode": Image.Resampling, "PatchEmbed": Patches, "trunc_normal_": nn.init.trunc_normal_}


def authors_network(checkout: Path, folder: Path) -> Any:
    """Builds the authors' network with small transformers, on the words in `folder`."""
    for name in ("apply_chunking_to_forward", "prune_linear_layer"):
        setattr(modeling_utils, name, getattr(pytorch_utils, name))
    setattr(modeling_utils, "find_pruneable_heads_and_indices", None)  # noqa: B010, only pruning asks for it
    package: Any = ModuleType("ImageReward")  # without its __init__, which imports the training
    package.__path__ = [str(checkout / "ImageReward")]
    models: Any = ModuleType("ImageReward.models")  # nor this one's, which imports two more scorers
    models.__path__ = [str(checkout / "ImageReward" / "models")]
    parts = {"ImageReward": package, "ImageReward.models": models}
    with (
        patch.dict(sys.modules, parts),
        stand_ins(ABSENT, **dict.fromkeys(UNUSED), **STEPS, **LAYERS),
    ):
        from ImageReward.ImageReward import ImageReward as Theirs  # type: ignore[import-not-found]
        from ImageReward.models.BLIP import blip_pretrain, med, vit  # type: ignore[import-not-found]

    def eye(_: str, side: int, *_others: Any) -> tuple[Any, int]:
        return vit.VisionTransformer(img_size=side, **EYE), EYE["embed_dim"]

    words = BertTokenizer.from_pretrained(folder)
    gone = {
        "get_head_mask": lambda _, mask, count: [mask] * count,
        "invert_attention_mask": lambda _, mask: (1 - mask[:, None, None].float()) * torch.finfo(torch.float32).min,
        "init_weights": lambda _: None,
    }
    with patch.multiple(blip_pretrain, create_vit=eye, init_tokenizer=lambda: words):
        for name, method in gone.items():
            setattr(med.BertModel, name, method)
        return Theirs(str(folder / TEXT_CONFIG))


def views() -> Shown:
    """Returns eight pictures of coloured squares, larger than the network's."""
    colour = torch.randint(0, 256, (8, 4, 4, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    colour = colour.repeat_interleave(64, 1).repeat_interleave(64, 2)
    return Shown(PROMPTS[0], orbit(8, 0.0, 3.0, 40.0, 256, 256), colour, torch.full((8, 256, 256), 255, dtype=torch.uint8))


@torch.no_grad()
def main() -> None:
    """Prints a table. The exit code is 1 if they differ by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("imagereward", type=Path, help="a checkout of zai-org/ImageReward")
    checkout = parser.parse_args().imagereward
    torch.manual_seed(0)  # the authors' constructors take no generator
    shown, pairs = views(), {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / TEXT_CONFIG).write_text(json.dumps(TEXT), encoding="utf-8")
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        vocabulary = str(folder / "vocab.txt")
        BertTokenizer(vocab=vocabulary, vocab_file=vocabulary).save_pretrained(folder)
        theirs = authors_network(checkout, folder)
        shake(theirs)
        torch.save(theirs.state_dict(), folder / WEIGHTS)
        ours = ImageReward(ImageReward.Config(model=place, tokenizer=place))
    for prompt in PROMPTS:
        pictures = [Image.fromarray(one.numpy()) for one in shown.colour]
        scores: list[Tensor] = [torch.tensor(theirs.score(prompt, one)) for one in pictures]
        (own,) = ours.score([Shown(prompt, shown.cameras, shown.colour, shown.opacity)])
        pairs[prompt] = (torch.stack(scores), torch.tensor(own.per_view))
    print(f"ImageReward\n{HEADER}")
    worst = compare(pairs)
    spread = min(float(one.std() / one.abs().max()) for one, _ in pairs.values())
    print(f"the pictures' scores spread by {spread:.2g} of the largest value or more")
    finish(worst)


if __name__ == "__main__":
    main()
