"""Trains the denoiser and the text encoder together on latents."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from data import FACING, Words, World
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from model import MAX_TOKENS
from precision import fast_autocast
from torch import Tensor, distributed, nn
from transformers import CLIPTextModel, CLIPTokenizer
from vae import schedule

CURRICULUM = ((0.03, ("chair",)), (0.08, ("chair", "car", "duck", "airplane")), (0.2, FACING))
"""Kinds drawn until each share of the training, then all. Left and right are learnt one kind after another."""


@dataclass(frozen=True)
class UnetPlan:
    """Size of the training. It ends after ``steps`` or ``minutes``, whichever comes first."""

    steps: int = 12000
    minutes: float = 1e9
    batch: int = 24
    rate: float = 1e-3
    ema: float = 0.999
    pool: int = 16384
    """Latents in memory. New ones replace the oldest."""
    uses: int = 4
    """How often a latent is drawn, on average, before it is replaced."""
    contrast: float = 4.0
    """Weight of the comparison with the opposite view's caption, until ``contrast_until``."""
    contrast_until: float = 0.6
    margin: float = 0.03
    curriculum: tuple[tuple[float, tuple[str, ...]], ...] = CURRICULUM


@dataclass(frozen=True)
class Encoded:
    """Captions as tokens ``first`` and ``second`` ``[B, T]``, and the ``share`` ``[B]`` of the second one's encoding."""

    first: Tensor
    second: Tensor
    share: Tensor

    @classmethod
    def empty(cls, count: int) -> Encoded:
        """Makes room for ``count`` captions."""
        tokens = torch.zeros(2, count, MAX_TOKENS, dtype=torch.int64)
        return cls(tokens[0], tokens[1], torch.zeros(count))

    @classmethod
    def of(cls, tokenizer: CLIPTokenizer, words: list[Words]) -> Encoded:
        """Turns ``words`` into tokens."""
        first, second = (tokenize(tokenizer, [getattr(one, name) for one in words]) for name in ("first", "second"))
        return cls(first, second, torch.tensor([one.share for one in words]))

    def put(self, place: Tensor, other: Encoded) -> None:
        """Writes ``other`` over the rows ``place``."""
        self.first[place], self.second[place], self.share[place] = other.first, other.second, other.share

    def at(self, rows: Tensor) -> Encoded:
        """Returns the rows ``rows``."""
        return Encoded(self.first[rows], self.second[rows], self.share[rows])

    def join(self, other: Encoded) -> Encoded:
        """Joins both, one after the other."""
        return Encoded(*(torch.cat(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def states(self, text: CLIPTextModel) -> Tensor:
        """Returns the text encoder's states ``[B, T, D]``, mixed by their share."""
        mixed = torch.nonzero(self.share > 0).squeeze(1)
        count = len(self.first)
        found = text(torch.cat((self.first, self.second[mixed]))).last_hidden_state
        first, second = found[:count], found[count:]
        return first.index_add(0, mixed, self.share[mixed, None, None].to(found) * (second - first[mixed]))


@dataclass(frozen=True)
class Drawn:
    """Latents ``[B, 4, 16, 16]``, their captions, those of the opposite views, and whether these differ ``[B]``.

    ``form`` ``[B]`` numbers the shape, and ``angles`` ``[B, 2]`` are azimuth and elevation in degrees. ``rows`` ``[B]`` are
    those of the views in ``World.data``.
    """

    latents: Tensor
    words: Encoded
    opposite: Encoded
    compared: Tensor
    form: Tensor
    angles: Tensor
    rows: Tensor


class LatentPool:
    """A ring of encoded images with their tokens. Every step replaces a few. The images of a scene stay together."""

    def __init__(self, vae: AutoencoderKL, world: World, tokenizer: CLIPTokenizer, plan: UnetPlan, seed: int) -> None:
        self.vae, self.world, self.tokenizer, self.plan = vae, world, tokenizer, plan
        self.generator = torch.Generator().manual_seed(seed)
        self.latents = torch.zeros(plan.pool, 4, 16, 16, dtype=torch.float16)
        self.words = [Encoded.empty(plan.pool), Encoded.empty(plan.pool)]
        self.compared = torch.zeros(plan.pool, dtype=torch.bool)
        self.form, self.angles = torch.zeros(plan.pool, dtype=torch.long), torch.zeros(plan.pool, 2)
        self.rows = torch.zeros(plan.pool, dtype=torch.long)
        self.filled, self.cursor = 0, 0

    def restrict(self, kinds: tuple[str, ...]) -> None:
        """Empties the pool and draws only ``kinds``, or everything if empty."""
        self.world.only(kinds)
        self.filled = self.cursor = 0

    @torch.no_grad()
    def add(self, count: int) -> None:
        """Encodes ``count`` new images, or the whole scenes in them, over the oldest entries."""
        batch = self.world.draw(max(1, count // self.world.together), self.generator)
        count = len(batch.images)
        with fast_autocast():
            mean, logvar = self.vae.encode(batch.images * 2 - 1).latent_dist.parameters.float().chunk(2, 1)
        noise = torch.randn(mean.shape, generator=self.generator)
        latents = (mean + (0.5 * logvar.clamp(-20, 10)).exp() * noise) * self.vae.config["scaling_factor"]
        place = (torch.arange(count) + self.cursor) % self.plan.pool
        self.latents[place] = latents.half()
        others = [other or Words("", "") for other in batch.opposite]
        for kept, words in zip(self.words, (batch.words, others), strict=True):
            kept.put(place, Encoded.of(self.tokenizer, words))
        self.compared[place] = torch.tensor([other is not None for other in batch.opposite])
        self.form[place], self.rows[place] = batch.form, batch.rows
        self.angles[place] = torch.stack((batch.cameras["azimuth"], batch.cameras["elevation"]), 1)
        self.cursor = (self.cursor + count) % self.plan.pool
        self.filled = min(self.plan.pool, self.filled + count)

    def draw(self) -> Drawn:
        """Adds a few new images, then draws a batch of the pool."""
        size, uses, together = self.plan.batch, self.plan.uses, self.world.together
        self.add(min(self.plan.pool, max(1, size // uses if self.filled >= 8 * size else size)))
        scenes = torch.randint(self.filled // together, (size // together,), generator=self.generator)
        index = (scenes[:, None] * together + torch.arange(together)).flatten()
        words, opposite = (kept.at(index) for kept in self.words)
        kept = (values[index] for values in (self.compared, self.form, self.angles, self.rows))
        return Drawn(self.latents[index].float(), words, opposite, *kept)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Returns token numbers ``[B, T]``."""
    found = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    return found["input_ids"]


@dataclass
class State:
    """Everything that a resumed training needs."""

    unet: UNet2DConditionModel
    text: Any
    """What makes the conditions: the text encoder, or the `novelview.Eyes` of a model that sees a picture."""
    slow: nn.ModuleList
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def fresh(cls, unet: UNet2DConditionModel, text: nn.Module, plan: UnetPlan) -> State:
        """Makes the state before the first step."""
        parameters = [*unet.parameters(), *text.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=plan.rate, betas=(0.9, 0.99), weight_decay=0.01)
        slow = copy.deepcopy(nn.ModuleList([unet, text])).requires_grad_(False)
        return cls(unet, text, slow, optimizer)

    def save(self, path: Path) -> None:
        """Writes a checkpoint atomically."""
        live = nn.ModuleList([self.unet, self.text]).state_dict()
        part = path.with_suffix(".part")
        record = {"live": live, "slow": self.slow.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**record, "step": self.step, "seconds": self.seconds}, part)
        part.rename(path)

    def load(self, path: Path) -> None:
        """Restores a checkpoint."""
        record: dict[str, Any] = torch.load(path, weights_only=True)
        nn.ModuleList([self.unet, self.text]).load_state_dict(record["live"])
        self.slow.load_state_dict(record["slow"])
        self.optimizer.load_state_dict(record["optimizer"])
        self.step, self.seconds = record["step"], record["seconds"]

    def start_from(self, folder: Path, tokenizer: CLIPTokenizer) -> None:
        """Starts from the finished model in ``folder``. Words that only ``tokenizer`` has start at random."""
        unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32).state_dict()
        text = CLIPTextModel.from_pretrained(str(folder / "text_encoder"), torch_dtype=torch.float32)
        known, words = CLIPTokenizer.from_pretrained(str(folder / "tokenizer")).get_vocab(), tokenizer.get_vocab()
        shared = [word for word in words if word in known]
        old = text.get_input_embeddings().weight.detach()
        table = torch.randn(len(words), old.shape[1]) * old.std()
        table[[words[word] for word in shared]] = old[[known[word] for word in shared]]
        text.resize_token_embeddings(len(words), mean_resizing=False)
        text.get_input_embeddings().weight.data = table
        for module in (self.unet, self.slow[0]):
            module.load_state_dict(unet)
        for module in (self.text, self.slow[1]):
            module.load_state_dict(text.state_dict())

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Moves the averaged weights towards the live ones."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        live = [*self.unet.parameters(), *self.text.parameters()]
        torch._foreach_lerp_(list(self.slow.parameters()), live, 1 - decay)


def noised(latents: Tensor, noise_levels: DDIMScheduler, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draws noise and timesteps. Returns noisy latents and velocities, both like ``latents``, and the timesteps ``[B]``."""
    noise = torch.randn(latents.shape, generator=generator)
    # one timestep from every stratum keeps the loss steady
    count = len(latents)
    place = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    times = (place * noise_levels.config["num_train_timesteps"]).long()
    return noise_levels.add_noise(latents, noise, times), noise_levels.get_velocity(latents, noise, times), times


def step_loss(
    state: State,
    drawn: Drawn,
    noise_levels: DDIMScheduler,
    generator: torch.Generator,
    contrast: float,
    margin: float,
) -> Tensor:
    """Returns the mean squared error of the predicted velocity, plus ``contrast`` times a comparison of captions.

    What "left" looks like depends on the kind. So a denoiser for which left and right mean the same sits at a saddle: neither
    the words nor the layers that read them can improve alone. The comparison leaves the saddle. With the opposite view's words
    the same picture should be predicted worse, by ``margin``, where noise hides the view.
    """
    count = len(drawn.latents)
    noisy, target, times = noised(drawn.latents, noise_levels, generator)
    rows = torch.nonzero(drawn.compared & (times > 350)).squeeze(1) if contrast else torch.zeros(0, dtype=torch.long)
    each = torch.cat((torch.arange(count), rows))
    with fast_autocast():
        words = drawn.words.join(drawn.opposite.at(rows)).states(state.text)
        guess = state.unet(noisy[each], times[each], encoder_hidden_states=words).sample
    error = (guess.float() - target[each]).pow(2).mean((1, 2, 3))
    loss = error[:count].mean()
    if len(rows):
        loss = loss + contrast * (margin + error[rows] - error[count:]).clamp_min(0).sum() / count
    return loss


def average(parameters: list[nn.Parameter], seconds: float) -> float:
    """Averages all gradients and the time passed over the processes that train together. Returns the time."""
    if not distributed.is_initialized():
        return seconds
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([g.flatten() for g in grads] + [torch.tensor([seconds])])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for p, value in zip(parameters, flat[:-1].split([p.numel() for p in parameters]), strict=True):
        p.grad = value.view_as(p)
    return float(flat[-1])


def train_unet(
    state: State,
    pool: Any,
    noise_levels: DDIMScheduler,
    plan: UnetPlan,
    seed: int,
    every: Callable[[State], None] | None = None,
    loss_of: Callable[[State, Any, DDIMScheduler, torch.Generator, float, float], Tensor] = step_loss,
) -> None:
    """Trains in place on what ``pool`` draws, a `LatentPool` or one like it. Calls ``every`` after each step, for snapshots."""
    generator = torch.Generator().manual_seed(seed + state.step)
    parameters = [*state.unet.parameters(), *state.text.parameters()]
    # the sequences are so short that plain attention is a quarter faster on a CPU
    state.unet.set_attn_processor(AttnProcessor())
    begin, shown, drawn = time.monotonic() - state.seconds, 1.0, ()
    while state.step < plan.steps and state.seconds < plan.minutes * 60:
        progress = max(state.step / plan.steps, state.seconds / (plan.minutes * 60))
        rate = plan.rate * schedule(int(progress * 10000), 10000, 200)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        wanted = next((kinds for until, kinds in plan.curriculum if progress <= until), ())
        if wanted != drawn:
            pool.restrict(wanted)
            drawn = wanted
        contrast = plan.contrast if progress < plan.contrast_until else 0.0
        loss = loss_of(state, pool.draw(), noise_levels, generator, contrast, plan.margin)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.seconds = average(parameters, time.monotonic() - begin)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        state.optimizer.step()
        state.step += 1
        state.follow(plan.ema)
        shown = 0.98 * shown + 0.02 * float(loss.detach())
        if state.step % 50 == 0:
            print(f"unet {state.step} loss {shown:.4f} rate {rate:.1e} {state.seconds:.0f} s", flush=True)
        if every is not None:
            every(state)


def keeper(out: Path, export: Callable[[State, Path], None], seconds: float = 240) -> Callable[[State], None]:
    """Returns what writes ``out/checkpoint.pt`` and ``out/model`` when it is called, if the last time is ``seconds`` ago."""
    last = time.monotonic()

    def keep(state: State) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            state.save(out / "checkpoint.pt")
            export(state, out / "model")
            last = time.monotonic()

    return keep
