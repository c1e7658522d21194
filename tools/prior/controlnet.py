"""Trains a ControlNet that shows the shipped prior the depth of a scene, as Zhang et al. 2023 made theirs of Stable Diffusion.

It starts as a copy of the shipped U-Net's first half, and its closing convolutions start at zero. The prior stays as it is. The
network's middle block is one residual block without attention, because all shipped models together have 48 MiB.

    python tools/prior/controlnet.py --out OUT --minutes 40      # the result is OUT/model; --resume continues
"""

from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from data import World
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from export import settle
from further import SHIPPED, options, plan_of, rendered
from precision import fast_autocast
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from unet import Drawn, LatentPool, State, keeper, noised, train_unet

from dfw import cameras_at
from dfw.interfaces.pictures import depth_picture

SILENT = 0.35
"""Share of the captions without view words. The depth says the view in all of them."""
ROUGH = 0.2
"""Share of the depth pictures that are blurred: a field is fog before it is a shape."""
EMA = 0.995
"""Share of the averaged weights that stays in a step. The training is short."""
EMBEDDING = (8, 16, 32)
"""Channels of the layers that make 16x16 features of the 64x64 picture."""


def build(folder: Path = SHIPPED) -> ControlNetModel:
    """Makes the network from the first half of the U-Net in ``folder``. It adds nothing to the U-Net's answers yet."""
    like = UNet2DConditionModel.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32)
    whole = ControlNetModel.from_unet(like, conditioning_embedding_out_channels=EMBEDDING)
    small = ControlNetModel.from_config({**whole.config, "mid_block_type": "UNetMidBlock2D"})
    weights = whole.state_dict()
    small.load_state_dict({name: weights[name] for name in small.state_dict()})
    embedding = small.controlnet_cond_embedding
    for layer in (embedding.conv_in, *embedding.blocks):
        # by default each layer shrinks the signal threefold, and the picture is not seen for the first 400 steps
        torch.nn.init.normal_(layer.weight, std=1.5 / layer.weight[0].numel() ** 0.5)
        torch.nn.init.zeros_(layer.bias)
    return small


def depths(buffers: Tensor, cameras: dict[str, Tensor]) -> Tensor:
    """Returns the depth pictures ``[B, 3, H, W]`` in [0, 1] of the world's ``buffers``, as a guidance draws them of a render."""
    layers = buffers.float() * (1 / 255.0)
    cover = layers[:, 5]
    distance = layers[:, 9] / cover.clamp_min(1e-3) * 2 + (cameras["distance"] - 1.0)[:, None, None]
    side = buffers.shape[-1]
    seen = cameras_at(cameras["azimuth"], cameras["elevation"], cameras["distance"], cameras["fovy"], side, side)
    return depth_picture(torch.where(cover > 0, distance, 0.0), cover, seen).permute(0, 3, 1, 2)


def roughened(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Blurs ``ROUGH`` of the ``pictures`` ``[B, 3, H, W]``, over four pixels."""
    rows = torch.nonzero(torch.rand(len(pictures), generator=generator) < ROUGH).squeeze(1)
    coarse = F.interpolate(F.avg_pool2d(pictures[rows], 4), pictures.shape[-2:], mode="bilinear", align_corners=False)
    return pictures.index_copy(0, rows, coarse)


class ControlLoss:
    """The mean squared error of the velocity that the frozen ``unet`` predicts with the network's help, for views of a world."""

    def __init__(self, unet: UNet2DConditionModel, world: World) -> None:
        self.unet, self.world = unet.requires_grad_(False), world
        unet.set_attn_processor(AttnProcessor())  # as in `train_unet`

    def shown(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Returns what the network sees of the world's views ``rows`` ``[B]``."""
        data = self.world.data
        cameras = {name: data[name][rows] for name in ("azimuth", "elevation", "fovy", "distance")}
        return roughened(depths(data["buffers"][rows], cameras), generator)

    def __call__(
        self, state: State, drawn: Drawn, noise_levels: DDIMScheduler, generator: torch.Generator, contrast: float, margin: float
    ) -> Tensor:
        """Returns the loss of a batch. Captions are not compared, so ``contrast`` and ``margin`` say nothing."""
        noisy, target, times = noised(drawn.latents, noise_levels, generator)
        control = self.shown(drawn.rows, generator)
        with torch.no_grad(), fast_autocast():
            words = drawn.words.states(state.text)
        with fast_autocast():
            down, middle = state.unet(noisy, times, words, control, return_dict=False)
            guess = self.unet(
                noisy,
                times,
                encoder_hidden_states=words,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
        return (guess.float() - target).pow(2).mean()


def export(state: State, folder: Path) -> None:
    """Writes the averaged network to ``folder`` in diffusers' format, in half precision."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    copy.deepcopy(state.slow[0]).half().save_pretrained(str(part), safe_serialization=True)
    settle(part, folder)


def main(argv: list[str]) -> None:
    """Renders what is missing, trains, and writes ``OUT/model``."""
    args = options(__doc__, seed=17, rounds=5, views=96, minutes=40.0, rate=1e-3, batch=16).parse_args(argv)
    torch.manual_seed(args.seed)
    world = World(rendered(args), silent=SILENT)
    vae = AutoencoderKL.from_pretrained(str(SHIPPED / "vae"), torch_dtype=torch.float32).requires_grad_(False).eval()
    text = CLIPTextModel.from_pretrained(str(SHIPPED / "text_encoder"), torch_dtype=torch.float32).requires_grad_(False)
    unet = UNet2DConditionModel.from_pretrained(str(SHIPPED / "unet"), torch_dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(str(SHIPPED / "tokenizer"))
    plan = plan_of(args, ema=EMA)
    state = State.fresh(build(), text, plan)
    if args.resume and (args.out / "checkpoint.pt").exists():
        state.load(args.out / "checkpoint.pt")
    seed = args.seed + state.step
    noise_levels = DDIMScheduler.from_pretrained(str(SHIPPED / "scheduler"))
    pool = LatentPool(vae, world, tokenizer, plan, seed)
    train_unet(state, pool, noise_levels, plan, seed, keeper(args.out, export), ControlLoss(unet, world))
    keeper(args.out, export, 0)(state)


if __name__ == "__main__":
    main(sys.argv[1:])
