"""What components hand to each other, checked as it passes: types, shapes, dtypes, devices and gradients.

Only what the host knows is looked at, so a check costs microseconds and never waits for a device. Values (NaN, negative
density) are checked in `dfw.runs.first_step`. Every function raises ContractError, which names the component, its distribution
and version. Shapes: legend in `dfw.interfaces.data`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dfw.errors import ConfigError, ContractError
from dfw.interfaces.component import Component, name_of
from dfw.interfaces.data import (
    CameraBatch,
    Conditioning,
    FieldSample,
    NoiseSchedule,
    RaySamples,
    RenderOutput,
    Views,
    Wording,
)
from dfw.interfaces.predictions import PREDICTIONS
from dfw.interfaces.scorer import Score, Scorer, Shown

GUIDANCE_FACTS = ("schedule", "space", "resolution", "channels", "latent_resolution")
"""Attributes that every guidance sets in its constructor."""


def broken(component: Component, what: str) -> ContractError:
    """The error to raise: `geometry (acme/ball, acme 0.3) breaks its contract: density ...`."""
    return ContractError(f"{name_of(component)} breaks its contract: {what}")


def check_tensor(component: Component, what: str, value: object, shape: Sequence[int], legend: str, like: Tensor) -> None:
    """That `value` is a tensor of `shape` (-1: any length), on the device of `like`, of floating dtype no wider than its."""
    if not isinstance(value, Tensor):
        raise broken(component, f"{what} is a {type(value).__name__}, not a tensor {legend}")
    if value.dim() != len(shape) or any(want not in (-1, got) for want, got in zip(shape, value.shape, strict=True)):
        expected = tuple("any" if side == -1 else side for side in shape)
        raise broken(component, f"{what} has shape {tuple(value.shape)}, not {legend} = ({', '.join(map(str, expected))})")
    if not value.is_floating_point() or (value.dtype == torch.float64 and like.dtype != torch.float64):
        raise broken(component, f"{what} is of {value.dtype}, not {like.dtype}")
    if value.device != like.device:
        raise broken(component, f"{what} is on {value.device}, not on {like.device}")


def check_field(geometry: Component, points: Tensor, found: object) -> None:
    """A DensityField's answer at `points` (..., 3); gradients reach its parameters, where it has any."""
    if not isinstance(found, FieldSample):
        raise broken(geometry, f"sample gave a {type(found).__name__}, not a FieldSample")
    shape = tuple(points.shape[:-1])
    check_tensor(geometry, "density", found.density, shape, "the points' (...)", points)
    check_tensor(geometry, "albedo", found.albedo, (*shape, 3), "the points' (..., 3)", points)
    trainable = any(p.requires_grad for p in _parameters(geometry))
    if trainable and torch.is_grad_enabled() and not (found.density.requires_grad or found.albedo.requires_grad):
        raise broken(geometry, f"neither density nor albedo carries a gradient to its parameters; {_CUT}")


def check_render(renderer: Component, geometry: Component, cameras: CameraBatch, render: object) -> None:
    """A renderer's answer; in training some of it carries a gradient, where there is anything to train."""
    if not isinstance(render, RenderOutput):
        raise broken(renderer, f"it gave a {type(render).__name__}, not a RenderOutput")
    like = cameras.camera_to_world
    sides = (-1, -1, -1 if render.latent else 3)
    check_tensor(renderer, "colour", render.colour, (len(cameras), *sides), "(B, H, W, 3)", like)
    pixels = tuple(render.colour.shape[:3])
    check_tensor(renderer, "opacity", render.opacity, pixels, "colour's (B, H, W)", like)
    check_tensor(renderer, "depth", render.depth, pixels, "colour's (B, H, W)", like)
    if render.normal is not None:
        check_tensor(renderer, "normal", render.normal, (*pixels, 3), "colour's (B, H, W, 3)", like)
    if render.samples is not None:
        _check_samples(renderer, render.samples, like)
    if render.colour.requires_grad or render.opacity.requires_grad or not torch.is_grad_enabled():
        return
    if any(p.requires_grad for part in (renderer, geometry) for p in _parameters(part)):
        raise broken(renderer, f"neither colour nor opacity carries a gradient to {name_of(geometry)}; {_CUT}")


def _check_samples(renderer: Component, samples: object, like: Tensor) -> None:
    if not isinstance(samples, RaySamples):
        raise broken(renderer, f"samples is a {type(samples).__name__}, not a RaySamples")
    check_tensor(renderer, "samples.weight", samples.weight, (-1,), "(N,)", like)
    count = len(samples.weight)
    check_tensor(renderer, "samples.distance", samples.distance, (count,), "(N,)", like)
    check_tensor(renderer, "samples.direction", samples.direction, (count, 3), "(N, 3)", like)
    if samples.normal is not None:
        check_tensor(renderer, "samples.normal", samples.normal, (count, 3), "(N, 3)", like)
    ray: object = samples.ray
    if not isinstance(ray, Tensor) or ray.shape != (count,) or ray.dtype != torch.int64:
        given = f"{tuple(ray.shape)} of {ray.dtype}" if isinstance(ray, Tensor) else f"a {type(ray).__name__}"
        raise broken(renderer, f"samples.ray is {given}, not (N,) of torch.int64")


def check_groups(component: Any) -> dict[str, list[nn.Parameter]]:
    """The component's `parameter_groups()`: name -> parameters."""
    given: object = component.parameter_groups()
    if not isinstance(given, dict):
        raise broken(component, f"parameter_groups() gave a {type(given).__name__}, not a dict of name to parameters")
    groups: dict[str, list[nn.Parameter]] = {}
    for name, members in given.items():
        if not isinstance(name, str) or not isinstance(members, Iterable):
            raise broken(component, f"parameter_groups() gave {name!r}: a {type(members).__name__}, not a name and parameters")
        groups[name] = list(members)  # whatever they come in, a generator too
        wrong = [type(member).__name__ for member in groups[name] if not isinstance(member, nn.Parameter)]
        if wrong:
            raise broken(component, f"group {name!r} of parameter_groups() holds a {wrong[0]}, not nn.Parameters alone")
    return groups


def check_guidance(guidance: Any) -> None:
    """Checks that a guidance has set every attribute the losses read, with a valid value."""
    for fact in GUIDANCE_FACTS:
        if not hasattr(guidance, fact):
            raise broken(guidance, f"it does not set self.{fact}, which every guidance does in __init__")
    if not isinstance(guidance.schedule, NoiseSchedule):
        raise broken(guidance, f"self.schedule is a {type(guidance.schedule).__name__}, not a NoiseSchedule")
    for fact in ("resolution", "channels", "latent_resolution"):
        value = getattr(guidance, fact)
        if not isinstance(value, int) or value < 1:
            raise broken(guidance, f"self.{fact} is {value!r}, not a whole number above 0")
    if guidance.space not in ("pixel", "latent"):
        raise broken(guidance, f"self.space is {guidance.space!r}, not 'pixel' or 'latent'")
    if guidance.prediction_type not in PREDICTIONS:
        raise broken(guidance, f"self.prediction_type is {guidance.prediction_type!r}, not one of {', '.join(PREDICTIONS)}")


def check_conditioning(guidance: Component, texts: Sequence[str], found: object) -> None:
    """The embedding of `texts`: one row each."""
    if not isinstance(found, Conditioning):
        raise broken(guidance, f"encode_text gave a {type(found).__name__}, not a Conditioning")
    given: tuple[tuple[str, object], ...] = (("embedding", found.embedding), ("pooled", found.pooled))
    for what, value in given:
        if not isinstance(value, Tensor) and not (what == "pooled" and value is None):
            raise broken(guidance, f"encode_text gave a {type(value).__name__} as {what}, not a tensor")
    shape = tuple(found.embedding.shape)
    if len(shape) != 3 or len(found) != len(texts):
        raise broken(guidance, f"encode_text gave an embedding of shape {shape} for {len(texts)} texts, not (B, L, D)")


def check_condition(guidance: Component, method: str, found: object) -> None:
    """What `conditional` or `unconditional` gave: one row, which is repeated for every view."""
    if not isinstance(found, Conditioning) or not isinstance(found.embedding, Tensor):
        raise broken(guidance, f"{method}() gave a {type(found).__name__}, not a Conditioning of one row")
    shape = tuple(found.embedding.shape)
    if len(shape) != 3 or len(found) != 1:
        raise broken(guidance, f"{method}() gave an embedding of shape {shape}, not one row (1, L, D)")


def check_texts(prompter: Component, given: object) -> tuple[str, ...]:
    """What a prompter's `texts` gave: one text or more."""
    texts = tuple(given) if isinstance(given, list | tuple) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise broken(prompter, f"texts() gave {given!r}, not a list of one text or more")
    return texts


def check_wishes(loss: Component, method: str, given: object) -> tuple[str, ...]:
    """What a loss's `texts` or `view_texts` gave."""
    if not isinstance(given, list | tuple) or not all(isinstance(text, str) for text in given):
        raise broken(loss, f"{method}() gave {given!r:.80}, not a tuple of texts")
    return tuple(given)


def check_wording(prompter: Component, found: object, views: int) -> None:
    """Which texts describe each of so many `views`."""
    if not isinstance(found, Wording):
        raise broken(prompter, f"choose() gave a {type(found).__name__}, not a Wording")
    given: tuple[tuple[str, Tensor | None, Tensor | None], ...] = (
        ("rows", found.rows, found.weights),
        ("away_rows", found.away_rows, found.away_weights),
    )
    for name, rows, weights in given:
        if rows is None and weights is None and name != "rows":
            continue
        if rows is None or weights is None or rows.dim() != 2 or len(rows) != views or rows.shape != weights.shape:
            shapes = [None if one is None else tuple(one.shape) for one in (rows, weights)]
            raise broken(prompter, f"{name} and its weights have shapes {shapes[0]} and {shapes[1]}, not ({views}, K) both")
        if rows.dtype != torch.int64:
            raise broken(prompter, f"{name} is of {rows.dtype}, not of torch.int64")


def check_views(cameras: Component, views: object, together: int) -> None:
    """What cameras gave for a step; its targets have the cameras' number of views and size."""
    if not isinstance(views, Views) or not isinstance(views.cameras, CameraBatch):
        raise broken(cameras, f"sample() gave a {type(views).__name__}, not Views of a CameraBatch")
    batch = views.cameras
    pose, count = batch.camera_to_world, len(batch)
    check_tensor(cameras, "camera_to_world", pose, (count, 4, 4), "(B, 4, 4)", pose)
    for name in ("fov_y", "azimuth", "elevation", "distance"):
        check_tensor(cameras, name, getattr(batch, name), (count,), "(B,)", pose)
    if count == 0 or batch.together != together or count % together:
        raise broken(cameras, f"sample() gave {count} views in groups of {batch.together}, and together() says {together}")
    for name, target in views.targets.items():
        if not isinstance(target, Tensor) or len(target) != count:
            given = f"{tuple(target.shape)}" if isinstance(target, Tensor) else f"a {type(target).__name__}"
            raise broken(cameras, f"the target {name!r} is {given}, not a tensor of {count} views")


def check_noise(noise: Component, encoded: Tensor, found: object) -> None:
    """Noise for `encoded` views (B, C, h, w)."""
    check_tensor(noise, "the noise", found, tuple(encoded.shape), "the encoded views' (B, C, h, w)", encoded)


def check_files(exporter: Component, suffixes: Sequence[str], given: object) -> None:
    """What an exporter gave: bytes for its main ending, and for no ending that it does not name."""
    named = isinstance(given, dict) and {suffixes[0]} <= set(given) <= set(suffixes)
    if not named or not all(isinstance(data, bytes) for data in given.values()):  # type: ignore[attr-defined]
        listed = ", ".join(map(str, given)) if isinstance(given, dict) else f"a {type(given).__name__}"
        others = f", or for some of {', '.join(suffixes[1:])}" if suffixes[1:] else ""
        raise broken(exporter, f"files() gave {listed}, not bytes for {suffixes[0]}{others}")


def check_encoded(guidance: Any, image: Tensor, encoded: object) -> None:
    """The encoding of `image` (B, 3, H, W), differentiable."""
    side = guidance.latent_resolution
    check_tensor(guidance, "encode_image's result", encoded, (len(image), guidance.channels, side, side), "(B, C, h, w)", image)
    if image.requires_grad and torch.is_grad_enabled() and not (isinstance(encoded, Tensor) and encoded.requires_grad):
        raise broken(guidance, f"encode_image's result carries no gradient to the image; {_CUT}")


def check_latents(guidance: Any, latents: Tensor) -> None:
    """Checks that a picture of latents (B, C, h, w) has the guidance's channels. Raises ConfigError."""
    if latents.shape[1] != guidance.channels:
        raise ConfigError(
            f"the scene is made of {latents.shape[1]} latents and {name_of(guidance)} works in {guidance.channels} channels; "
            "give the geometry as many, or choose another guidance"
        )


def check_prediction(guidance: Component, noisy: Tensor, output: object) -> None:
    """A prediction for `noisy` (B, C, h, w)."""
    check_tensor(guidance, "predict's result", output, tuple(noisy.shape), "the noisy input's (B, C, h, w)", noisy)


def version_of(tensor: Tensor) -> int:
    """How often a tensor was changed in place; torch counts it on the host. 0 in inference mode, where it does not count."""
    return 0 if tensor.is_inference() else tensor._version


def check_untouched(component: Component, what: str, tensor: Tensor, version: int) -> None:
    """That the component did not write into a tensor that had `version` when it got it."""
    if version_of(tensor) != version:
        raise broken(component, f"it wrote into {what} that it was given; work on a copy (.clone())")


def check_loss(loss: Any, value: object, render: RenderOutput, of: str = "colour") -> None:
    """Checks that the loss is a scalar, and that it has a gradient if what it reads of the render has one.

    What it reads is what it `requires` of the render, else the picture `of`.
    """
    if not isinstance(value, Tensor):
        raise broken(loss, f"the loss is a {type(value).__name__}, not a scalar tensor")
    if value.dim() or not value.is_floating_point() or value.device != render.colour.device:
        given = f"of shape {tuple(value.shape)}, {value.dtype}, on {value.device}"
        raise broken(loss, f"the loss is {given}, not a floating scalar () on {render.colour.device}; take a mean or a sum")
    if value.requires_grad or not torch.is_grad_enabled():
        return
    samples = render.samples
    read = {
        "opacity": render.opacity,
        "depth": render.depth,
        "normals": render.normal,
        "ray-samples": None if samples is None else samples.weight,
    }
    words = set(type(loss).requires(loss.config)) & set(read)
    pictures = {**read, **dict.fromkeys(("normal", "camera-normal", "normal-mask"), render.normal), **render.extras}
    wanted = [read[word] for word in words] or [pictures.get(of, render.colour)]
    if any(tensor is not None and tensor.requires_grad for tensor in wanted):
        raise broken(loss, f"the loss carries no gradient to the render; {_CUT}")


_CUT = "a .detach(), .item() or torch.no_grad() on the way cuts it"


def _parameters(component: Any) -> list[Tensor]:
    return list(component.parameters())


def check_scores(scorer: Scorer, scores: object, runs: Sequence[Shown]) -> None:
    """Raises ContractError unless there is a Score for each run, with finite numbers, one for each view, and plain details."""
    if not isinstance(scores, Sequence) or not all(isinstance(one, Score) for one in scores):
        raise broken(scorer, f"score gives a list of Score, and gave a {type(scores).__name__}")
    if len(scores) != len(runs):
        raise broken(scorer, f"score gives one Score for each run, and gave {len(scores)} for {len(runs)}")
    for one, run in zip(scores, runs, strict=True):
        numbers = [*([] if one.value is None else [one.value]), *(one.per_view or ())]
        numbers += [value for value in one.details.values() if not isinstance(value, str)]
        wrong = next((value for value in numbers if isinstance(value, bool) or not _is_finite(value)), None)
        if wrong is not None:
            raise broken(scorer, f"scores are finite numbers (float), and one is {wrong!r}; give None, and say why in details")
        if one.per_view is not None and len(one.per_view) != len(run):
            raise broken(scorer, f"per_view has {len(one.per_view)} numbers for {len(run)} views")
        if one.value is None and not one.per_view and not any(isinstance(value, str) for value in one.details.values()):
            raise broken(scorer, "a Score without value and per_view says in details why")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
