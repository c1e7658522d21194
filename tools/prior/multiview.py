"""Trains the shipped prior further so that it sees four views of a scene at once, as MVDream was made from Stable Diffusion.

Self-attention runs over the pixels of four orthogonal views, and the cameras' poses are added to the embedding of the timestep.
Autoencoder and text encoder stay as they are. 10 % of the steps see single pictures without a camera (30 % in the paper).
MVDream (Shi et al. 2024), sections 3.1 and 3.3.

    python tools/prior/multiview.py --out OUT --minutes 120      # the result is OUT/model; --resume continues
    python tools/prior/multiview.py --out OUT --start MODEL      # trains a finished model of scenes further
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from data import FACING, World
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from export import settle
from further import SHIPPED, options, plan_of, rendered
from precision import fast_autocast
from rounds import FORMS
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from unet import Drawn, LatentPool, State, keeper, train_unet

from dfw import cameras_at
from dfw_geometry.shapes import Single
from dfw_guidance.across_views import POSE, inflate, poses
from dfw_guidance.mvdream_weights import PIPELINE

VIEWS = 4
SINGLES = 0.1
"""Share of the steps that see single pictures without a camera."""
SILENT = 0.2
"""Share of the captions without view words. The camera says the view in all of them."""
MIRRORED = 0.4
"""Share of the comparisons with the mirrored scene; the others are with the view from behind."""
_FACING = torch.tensor([isinstance(form, Single) and form.kind in FACING for form in FORMS])


def build(folder: Path = SHIPPED) -> UNet2DConditionModel:
    """Makes the network of scenes from the model in ``folder``, and starts with its answers. One of scenes stays as it is."""
    like = UNet2DConditionModel.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32)
    if like.class_embedding is not None:
        return like
    options = {**like.config, "class_embed_type": "projection", "projection_class_embeddings_input_dim": POSE}
    unet = UNet2DConditionModel.from_config(options)
    unet.load_state_dict(like.state_dict(), strict=False)
    for parameter in unet.class_embedding.linear_2.parameters():
        torch.nn.init.zeros_(parameter)
    return unet


@contextmanager
def pictures(unet: Any) -> Iterator[None]:
    """Lets ``unet`` answer for single pictures meanwhile: no camera, and attention within each."""
    embedding, unet.class_embedding = unet.class_embedding, None
    inflate(unet, 1)
    try:
        yield
    finally:
        unet.class_embedding = embedding


def seen_from(angles: Tensor) -> Tensor:
    """Returns the poses ``[B, 16]`` of ``angles`` ``[B, 2]``, azimuth and elevation in degrees."""
    azimuth, elevation = angles.unbind(1)
    full = torch.full_like(azimuth, 3.0)
    return poses(cameras_at(azimuth, elevation, full, full, 1, 1))


def compared(drawn: Drawn) -> Tensor:
    """Returns which scenes show a kind with a front and have a caption without view words, ``[S]``."""
    tokens = drawn.words.first.view(-1, VIEWS, drawn.words.first.shape[1])
    silent = (tokens == tokens[:, :1]).all(2).all(1) & (drawn.words.share.view(-1, VIEWS) == 0).all(1)
    named = tokens[:, 0, 1] != tokens[:, 0, -1]
    return silent & named & _FACING[drawn.form.view(-1, VIEWS)[:, 0]]


def scene_loss(
    state: State, drawn: Drawn, noise_levels: DDIMScheduler, generator: torch.Generator, contrast: float, margin: float
) -> Tensor:
    """Returns the mean squared error of the predicted velocity, plus ``contrast`` times a comparison of cameras.

    The views of a scene have one timestep. The comparison is that of `unet.step_loss`: where no words say the view, the same
    scene should be predicted worse from behind or mirrored, by ``margin``, where noise hides the view.
    """
    latents = drawn.latents
    single = float(torch.rand((), generator=generator)) < SINGLES
    together = 1 if single else VIEWS
    scenes = len(latents) // together
    place = (torch.arange(scenes) + torch.rand(scenes, generator=generator)) / scenes
    times = (place * noise_levels.config["num_train_timesteps"]).long().repeat_interleave(together)
    noise = torch.randn(latents.shape, generator=generator)
    noisy = noise_levels.add_noise(latents, noise, times)
    target = noise_levels.get_velocity(latents, noise, times)
    with torch.no_grad(), fast_autocast():
        words = drawn.words.states(state.text)
    if single:
        with pictures(state.unet), fast_autocast():
            guess = state.unet(noisy, times, encoder_hidden_states=words).sample
        return (guess.float() - target).pow(2).mean()
    chosen = compared(drawn) & (times[::VIEWS] > 350) if contrast else torch.zeros(scenes, dtype=torch.bool)
    rows = torch.arange(len(latents)).view(-1, VIEWS)[chosen].flatten()
    each = torch.cat((torch.arange(len(latents)), rows))
    mirrored = (torch.rand(scenes, generator=generator) < MIRRORED).repeat_interleave(VIEWS)
    azimuth, elevation = drawn.angles.unbind(1)
    wrong = torch.stack((torch.where(mirrored, -azimuth, azimuth + 180.0), elevation), 1)
    cameras = seen_from(torch.cat((drawn.angles, wrong[rows])))
    inflate(state.unet, VIEWS)
    with fast_autocast():
        guess = state.unet(noisy[each], times[each], encoder_hidden_states=words[each], class_labels=cameras).sample
    error = (guess.float() - target[each]).pow(2).mean((1, 2, 3)).view(-1, VIEWS).mean(1)
    right, other = error[:scenes], error[scenes:]
    return right.mean() + contrast * (margin + right[chosen] - other).clamp_min(0).sum() / scenes


def export(state: State, folder: Path) -> None:
    """Writes the averaged model to ``folder`` in diffusers' format, in half precision, with the shipped one's other parts."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(SHIPPED, part, ignore=shutil.ignore_patterns("README.md", "unet", "SHA256SUMS"))
    copy = UNet2DConditionModel.from_config(state.unet.config)
    copy.load_state_dict(state.slow[0].state_dict())
    copy.half().save_pretrained(str(part / "unet"), safe_serialization=True)
    index = part / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace("StableDiffusionPipeline", PIPELINE), encoding="utf-8")
    settle(part, folder)


def main(argv: list[str]) -> None:
    """Renders what is missing, trains, and writes ``OUT/model``."""
    parser = options(__doc__, seed=11, batch=48)
    parser.add_argument("--start", type=Path, default=SHIPPED, help="model to start from: of single pictures (default) or scenes")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    world = World(rendered(args, "--rings"), together=VIEWS, silent=SILENT)
    vae = AutoencoderKL.from_pretrained(str(SHIPPED / "vae"), torch_dtype=torch.float32).requires_grad_(False).eval()
    text = CLIPTextModel.from_pretrained(str(SHIPPED / "text_encoder"), torch_dtype=torch.float32).requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(str(SHIPPED / "tokenizer"))
    plan = plan_of(args, contrast_until=0.25 if args.start == SHIPPED else 0.0)  # a model of scenes tells the views apart
    state = State.fresh(build(args.start), text, plan)
    if args.resume and (args.out / "checkpoint.pt").exists():
        state.load(args.out / "checkpoint.pt")
    seed = args.seed + state.step
    noise_levels = DDIMScheduler.from_pretrained(str(SHIPPED / "scheduler"))
    keep = keeper(args.out, export)
    train_unet(state, LatentPool(vae, world, tokenizer, plan, seed), noise_levels, plan, seed, keep, scene_loss)
    keeper(args.out, export, 0)(state)


if __name__ == "__main__":
    main(sys.argv[1:])
