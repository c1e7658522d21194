"""Trains the shipped prior further so that it knows a picture from other sides, as Zero-1-to-3 was made from Stable Diffusion.

The picture's latents stand next to the noisy ones, as four more channels. The U-Net attends to tokens in the place of words:
three layers make them of the picture's CLIP embedding and the relative pose. These layers and the image encoder, which is small,
are trained first. Autoencoder and noise schedule stay as they are. 10 % of the views are predicted without the picture.
Zero-1-to-3 (Liu et al. 2023), section 3.2; the pose is that of Stable Zero123.

    python tools/prior/novelview.py --out OUT --minutes 120      # the result is OUT/model; --resume continues
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from captions import caption, describe, neighbours, view_words
from data import FACING, RGB, Words, World
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from export import settle
from further import SHIPPED, options, plan_of, rendered
from model import MAX_TOKENS
from pairs import Pairs
from precision import fast_autocast
from rounds import FORMS
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection
from unet import Encoded, State, UnetPlan, keeper, train_unet

from dfw_geometry.shapes import COLOURS, Single
from dfw_guidance.clip_vision import for_clip
from dfw_guidance.pose_projection import WordsProjection
from dfw_guidance.zero123 import polar, relative_pose

TARGETS = 2
"""Other views that are predicted of each picture."""
LOOKS = 128
"""Pictures a step while the eyes are trained alone, each with one other view."""
KEPT = 6144
"""Pictures in memory then."""
WITHOUT = 0.1
"""Share of the views that are predicted without the picture."""
PIPELINE = "Zero1to3StableDiffusionPipeline"
_FACING = torch.tensor([isinstance(form, Single) and form.kind in FACING for form in FORMS])


class Eyes(nn.Module):
    """What makes the tokens that the U-Net attends to."""

    def __init__(self, width: int) -> None:
        """``width`` is that of the tokens and of the picture's embedding."""
        super().__init__()
        config = CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=64,
            patch_size=16,
            projection_dim=width,
            hidden_act="quick_gelu",
            attn_implementation="eager",  # 17 tokens: in bfloat16 the fused kernel takes twice as long on a CPU
        )
        self.image_encoder = CLIPVisionModelWithProjection(config)
        with torch.no_grad():  # as large as what is embedded: else patches stay a bag without order for thousands of pictures
            self.image_encoder.vision_model.embeddings.position_embedding.weight.mul_(25.0)
        self.cc_projection = WordsProjection(width + 4, width, MAX_TOKENS, hidden=768)

    def embed(self, shown: Tensor) -> Tensor:
        """Returns the embeddings ``[S, D]`` of pictures ``[S, 3, H, H]`` in [0, 1]."""
        found: Tensor = self.image_encoder(for_clip(shown, self.image_encoder.config.image_size)).image_embeds
        return found

    def tokens(self, embedding: Tensor, pose: Tensor) -> Tensor:
        """Returns tokens ``[B, T, D]`` of embeddings ``[B, D]`` and poses ``[B, 4]``."""
        found: Tensor = self.cc_projection(torch.cat((embedding, pose.to(embedding)), 1)[:, None])
        return found


def build(folder: Path = SHIPPED) -> UNet2DConditionModel:
    """Makes the network from the model in ``folder``. It starts with the answers of that model, whatever the picture is."""
    like = UNet2DConditionModel.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_config({**like.config, "in_channels": 2 * like.config.in_channels})
    weights = like.state_dict()
    first = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat((first, torch.zeros_like(first)), 1)
    unet.load_state_dict(weights)
    return unet


@dataclass(frozen=True)
class Seen:
    """A batch of ``S`` pictures with ``T`` other views each. Angles ``[S, 2]`` and ``[S T, 2]`` are in degrees."""

    shown: Tensor
    beside: Tensor
    """The pictures' latents ``[S, 4, h, h]``, not scaled."""
    latents: Tensor
    """The other views' latents ``[S T, 4, h, h]``, scaled."""
    own: Tensor
    angles: Tensor
    form: Tensor
    colours: Tensor


class ScenePool:
    """A ring of pictures with the latents of their other views, like `unet.LatentPool`. Every step replaces a few."""

    def __init__(self, vae: AutoencoderKL, pairs: Pairs, plan: UnetPlan, seed: int) -> None:
        self.vae, self.pairs, self.plan = vae, pairs, plan
        self.generator = torch.Generator().manual_seed(seed)
        self.size, self.batch = plan.pool // pairs.targets, plan.batch // pairs.targets
        self.kept: dict[str, Tensor] = {}
        self.filled, self.cursor = 0, 0

    def restrict(self, kinds: tuple[str, ...]) -> None:
        """Empties the pool and draws only ``kinds``, or everything if empty."""
        self.pairs.world.only(kinds)
        self.filled = self.cursor = 0

    @torch.no_grad()
    def add(self, count: int) -> None:
        """Encodes ``count`` new pictures and their other views, over the oldest entries."""
        scenes = self.pairs.draw(count, self.generator)
        shown = (scenes.shown * 255).round().byte()
        with fast_autocast():
            both = torch.cat((shown.float() / 255, scenes.images)) * 2 - 1
            mean, logvar = self.vae.encode(both).latent_dist.parameters.float().chunk(2, 1)
        noise = torch.randn(mean[count:].shape, generator=self.generator)
        latents = (mean[count:] + (0.5 * logvar[count:].clamp(-20, 10)).exp() * noise) * self.vae.config["scaling_factor"]
        record = {
            "shown": shown,
            "beside": mean[:count].half(),
            "latents": latents.half().view(count, self.pairs.targets, *latents.shape[1:]),
            "own": scenes.own,
            "angles": scenes.angles.view(count, self.pairs.targets, 2),
            "form": scenes.form,
            "colours": scenes.colours,
        }
        place = (torch.arange(count) + self.cursor) % self.size
        for name, values in record.items():
            self.kept.setdefault(name, values.new_zeros(self.size, *values.shape[1:]))[place] = values
        self.cursor = (self.cursor + count) % self.size
        self.filled = min(self.size, self.filled + count)

    def draw(self, count: int | None = None) -> Seen:
        """Adds a few new scenes, then draws ``count`` from the pool, or a batch."""
        fresh = (count or 0) // 16 or self.batch // self.plan.uses
        self.add(min(self.size, max(1, fresh if self.filled >= 8 * self.batch else self.batch)))
        rows = torch.randint(self.filled, (count or self.batch,), generator=self.generator)
        drawn = {name: values[rows] for name, values in self.kept.items()}
        drawn["shown"] = drawn["shown"].float() / 255
        drawn["beside"], drawn["latents"] = drawn["beside"].float(), drawn["latents"].float().flatten(0, 1)
        drawn["angles"] = drawn["angles"].flatten(0, 1)
        return Seen(**drawn)


def poses(own: Tensor, angles: Tensor) -> Tensor:
    """Returns the poses ``[B, 4]`` of cameras at ``angles`` relative to pictures' at ``own``, both ``[B, 2]``, degrees."""
    return relative_pose(*angles.T, *own.T, polar(own[:, 1]))


def said(drawn: Seen, tokenizer: CLIPTokenizer) -> Encoded:
    """Returns the captions of the other views. Between two sectors' centres both are mixed, as a run with words writes them.

    Where no picture tells the azimuth, because the thing has no front, azimuth 0 is that of the picture.
    """
    names, found = list(COLOURS), []
    together = len(drawn.angles) // len(drawn.own)
    for row, (azimuth, elevation) in enumerate(drawn.angles.tolist()):
        scene = row // together
        number = int(drawn.form[scene])
        first, second = drawn.colours[scene].tolist()
        lower, upper, share = neighbours(azimuth if _FACING[number] else azimuth - float(drawn.own[scene, 0]))
        texts = (
            caption(FORMS[number], (names[first], names[second]), view_words(side, elevation, angle=True))
            for side in (lower, upper)
        )
        found.append(Words(*texts, share))
    return Encoded.of(tokenizer, found)


class Pictures:
    """A ring of pictures without latents, each with the angles of another view. Every step replaces an eighth of a batch."""

    def __init__(self, pairs: Pairs, generator: torch.Generator) -> None:
        self.pairs, self.generator = pairs, generator
        self.kept: dict[str, Tensor] = {}
        self.cursor = 0

    def add(self, count: int) -> None:
        """Composes ``count`` new pictures, over the oldest ones."""
        scenes = self.pairs.draw(count, self.generator)
        place = (torch.arange(count) + self.cursor) % KEPT
        record = {"shown": (scenes.shown * 255).round().byte(), "own": scenes.own, "form": scenes.form, "colours": scenes.colours}
        for name, values in record.items():
            self.kept.setdefault(name, values.new_zeros(KEPT, *values.shape[1:]))[place] = values
        self.cursor += count

    def draw(self, views: int) -> Seen:
        """Adds a few new pictures, then draws `LOOKS` of them with the angles of ``views`` other views each."""
        self.add(LOOKS // 8 if self.cursor >= 16 * LOOKS else 16 * LOOKS)
        rows = torch.randint(min(self.cursor, KEPT), (LOOKS,), generator=self.generator)
        drawn = {name: values[rows] for name, values in self.kept.items()}
        drawn["shown"] = drawn["shown"].float() / 255
        turn = torch.rand(LOOKS * views, 2, generator=self.generator)
        angles = turn * torch.tensor([360.0, 120.0]) - torch.tensor([0.0, 40.0])
        return Seen(**drawn, angles=angles, beside=angles[:0], latents=angles[:0])


def look(
    eyes: Eyes, pictures: Pictures, text: CLIPTextModel, tokenizer: CLIPTokenizer, steps: int, minutes: float, rate: float = 2e-3
) -> None:
    """Trains the eyes alone: the tokens are to be what the text encoder makes of the view's caption.

    It ends after ``steps`` or ``minutes``. Then the U-Net understands the tokens from its own beginning. Each number of a token
    counts by its own variance. What a view changes is a small part of that, so the difference between two views of a picture is
    compared as well. Next to that, the embedding must tell the form, the colour, the sector and sine and cosine of the picture's
    azimuth, by a linear layer that is not kept.
    """
    reader = nn.Linear(eyes.image_encoder.config.projection_dim, len(FORMS) + 13)
    trained = [*eyes.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    begin, shown, spread = time.monotonic(), [1.0, 1.0], None
    for step in range(steps):
        progress = max(step / steps, (time.monotonic() - begin) / (60 * minutes))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100, (1 - progress) / 0.6)
        drawn = pictures.draw(2)
        with torch.no_grad(), fast_autocast():
            words = said(drawn, tokenizer).states(text).float().unflatten(0, (LOOKS, 2))
        now = torch.stack((words.flatten(0, 1).var(0), (words[:, 0] - words[:, 1]).pow(2).mean(0)))
        spread = now if spread is None else torch.lerp(spread, now, 0.02)
        scale = spread + 0.05 * spread.mean((1, 2), keepdim=True)  # a number that never changes says nothing
        with fast_autocast():
            embedding = eyes.embed(drawn.shown)
            pose = poses(drawn.own.repeat_interleave(2, 0), drawn.angles)
            tokens = eyes.tokens(embedding.repeat_interleave(2, 0), pose).float().unflatten(0, (LOOKS, 2))
            form, rgb, turned, sector = reader(embedding).float().split((len(FORMS), 3, 2, 8), 1)
        away = tokens - words
        word = (away.pow(2) / scale[0]).mean()
        view = ((away[:, 0] - away[:, 1]).pow(2) / scale[1]).mean()
        azimuth, facing = torch.deg2rad(drawn.own[:, 0]), _FACING[drawn.form]
        lower, _, share = (torch.tensor(values) for values in zip(*map(neighbours, drawn.own[:, 0].tolist()), strict=True))
        place = (lower / 45).long()
        chances = sector.log_softmax(1).gather(1, torch.stack((place, (place + 1) % 8), 1))
        between = -(torch.stack((1 - share, share), 1) * chances).sum(1)
        side = (turned - torch.stack((azimuth.sin(), azimuth.cos()), 1)).pow(2).sum(1)
        colour = (rgb - RGB[drawn.colours[:, 0]]).pow(2).mean()
        loss = 2 * word + 2 * view + F.cross_entropy(form, drawn.form) + 10 * colour + (facing * (between + side)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        shown = [0.95 * old + 0.05 * float(new.detach()) for old, new in zip(shown, (word, view), strict=True)]
        if step % 50 == 49:
            right = float((form.argmax(1) == drawn.form).float().mean())
            off = (torch.rad2deg(torch.atan2(turned[:, 0], turned[:, 1])) - drawn.own[:, 0] + 180) % 360 - 180
            near = float((off.abs() < 45)[facing].float().mean())
            print(
                f"eyes {step + 1} words {shown[0]:.3f} views {shown[1]:.3f} form {right:.2f} azimuth within 45 {near:.2f} "
                f"{time.monotonic() - begin:.0f} s",
                flush=True,
            )


def view_loss(
    state: State, drawn: Seen, noise_levels: DDIMScheduler, generator: torch.Generator, _contrast: float, _margin: float
) -> Tensor:
    """Returns the mean squared error of the predicted velocity. No comparison is needed: the tokens name the view already."""
    latents, count = drawn.latents, len(drawn.latents)
    together = count // len(drawn.own)
    times = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    times = (times * noise_levels.config["num_train_timesteps"]).long()
    noise = torch.randn(latents.shape, generator=generator)
    noisy = noise_levels.add_noise(latents, noise, times)
    target = noise_levels.get_velocity(latents, noise, times)
    known = (torch.rand(count, generator=generator) >= WITHOUT)[:, None, None]
    with fast_autocast():
        embedding = state.text.embed(drawn.shown).repeat_interleave(together, 0)
        tokens = known * state.text.tokens(embedding, poses(drawn.own.repeat_interleave(together, 0), drawn.angles))
        beside = known[..., None] * drawn.beside.repeat_interleave(together, 0)
        guess = state.unet(torch.cat((noisy, beside), 1), times, encoder_hidden_states=tokens).sample
    return (guess.float() - target).pow(2).mean()


def export(state: State, folder: Path) -> None:
    """Writes the averaged model to ``folder`` in diffusers' layout, in half precision, with the shipped one's autoencoder."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("vae", "scheduler"):
        shutil.copytree(SHIPPED / name, part / name)
    unet = UNet2DConditionModel.from_config(state.unet.config)
    eyes = Eyes(state.unet.config.cross_attention_dim)
    unet.load_state_dict(state.slow[0].state_dict())
    eyes.load_state_dict(state.slow[1].state_dict())
    parts: dict[str, Any] = {"unet": unet, "image_encoder": eyes.image_encoder, "cc_projection": eyes.cc_projection}
    for name, network in parts.items():
        network.half().save_pretrained(str(part / name), safe_serialization=True)
    index = {
        "_class_name": PIPELINE,
        "vae": ["diffusers", "AutoencoderKL"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "cc_projection": ["dfw_guidance.pose_projection", "WordsProjection"],
    }
    (part / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (part / "vocabulary.json").write_text(json.dumps(describe(), indent=1) + "\n", encoding="utf-8")
    settle(part, folder)


def main(argv: list[str]) -> None:
    """Renders what is missing, trains, and writes ``OUT/model``."""
    parser = options(__doc__, seed=21, batch=32)
    parser.add_argument("--look", type=int, default=1_000_000, help="steps of the eyes alone, before the others")
    parser.add_argument("--look-minutes", type=float, default=20, help="time limit of that part")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    world = World(rendered(args, "--rings"))
    vae = AutoencoderKL.from_pretrained(str(SHIPPED / "vae"), torch_dtype=torch.float32).requires_grad_(False).eval()
    plan = plan_of(args)
    unet = build()
    eyes = Eyes(unet.config.cross_attention_dim)
    pairs = Pairs(world, TARGETS)
    resumed = args.resume and (args.out / "checkpoint.pt").exists()
    if args.resume and (args.out / "eyes.pt").exists():
        eyes.load_state_dict(torch.load(args.out / "eyes.pt", weights_only=True))
    elif not resumed:
        text = CLIPTextModel.from_pretrained(str(SHIPPED / "text_encoder"), torch_dtype=torch.float32).requires_grad_(False)
        words = CLIPTokenizer.from_pretrained(str(SHIPPED / "tokenizer"))
        pictures = Pictures(Pairs(world, 0), torch.Generator().manual_seed(args.seed))
        look(eyes, pictures, text, words, args.look, args.look_minutes)
        torch.save(eyes.state_dict(), args.out / "eyes.pt")
    eyes.requires_grad_(False)  # trained along, they forgot the views within a thousand steps
    pool = ScenePool(vae, pairs, plan, args.seed)
    state = State.fresh(unet, eyes, plan)
    if resumed:
        state.load(args.out / "checkpoint.pt")
    pool.generator.manual_seed(args.seed + state.step)
    noise_levels = DDIMScheduler.from_pretrained(str(SHIPPED / "scheduler"))
    train_unet(state, pool, noise_levels, plan, args.seed + state.step, keeper(args.out, export), view_loss)
    keeper(args.out, export, 0)(state)


if __name__ == "__main__":
    main(sys.argv[1:])
