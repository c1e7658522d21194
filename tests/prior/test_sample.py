"""DDIM against the differential equation it discretises, solved in closed form for a Gaussian, and the sheet it makes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_diffusion import save_tiny_model

from dfw import ConfigError, Guidance, PromptBatch
from dfw.compose import Composition, compose
from dfw.config.settings import RunConfig
from dfw.prior.sample import _knows_cameras, ddim, ddim_timesteps, denoise, sample
from dfw_guidance.gaussian import Gaussian
from dfw_guidance.stable_diffusion import StableDiffusion

MEAN, STD = (0.7, 0.4, 0.5), 0.2


def gaussian() -> Gaussian:
    return Gaussian(Gaussian.Config(means={"a": MEAN, "b": (0.2, 0.2, 0.9)}, std=STD, resolution=4))


def prompt(guidance: Guidance, count: int, text: str = "a") -> PromptBatch:
    return PromptBatch(guidance.encode_text([text] * count), guidance.encode_text([""] * count))


def mean() -> torch.Tensor:
    return 2 * torch.tensor(MEAN).view(1, 3, 1, 1) - 1


def start(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("count", "asked"), [(1, False), (2, True), (4, True)])
def test_a_prior_that_sees_several_views_is_sampled_with_cameras(count: int, asked: bool) -> None:
    class Several(Gaussian):
        @classmethod
        def sees(cls, config: object) -> int:
            return count

    made = Several(Gaussian.Config(means={"a": MEAN}, std=STD, resolution=4))
    assert _knows_cameras(made) is asked


def test_timesteps_go_down_evenly_from_the_last() -> None:
    assert ddim_timesteps(1000, 4) == [999, 749, 499, 249]
    assert ddim_timesteps(1000, 1) == [999]
    assert ddim_timesteps(1000, 1000) == list(range(999, -1, -1))
    for steps in (0, 1001):
        with pytest.raises(ConfigError, match="must lie in 1 to 1000"):
            ddim_timesteps(1000, steps)


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_each_step_has_its_closed_form(steps: int) -> None:
    """For a Gaussian a step is linear around alpha mu: y' = y (alpha alpha' s^2 + sigma sigma') / (alpha^2 s^2 + sigma^2)."""
    guidance = gaussian()
    alpha, sigma = guidance.schedule.alpha.double(), guidance.schedule.sigma.double()
    ends = [(alpha[t].item(), sigma[t].item()) for t in ddim_timesteps(1000, steps)] + [(1.0, 0.0)]
    offset = start().double() - ends[0][0] * mean()
    for (a, s), (a_next, s_next) in pairwise(ends):
        offset = offset * (a * a_next * STD**2 + s * s_next) / (a**2 * STD**2 + s**2)
    found = denoise(guidance, start(), prompt(guidance, 3), steps, scale=1)
    torch.testing.assert_close(found.double(), mean() + offset, rtol=1e-4, atol=1e-4)


def test_many_steps_reach_the_solution_of_the_differential_equation() -> None:
    """(z - alpha mu) / sqrt(alpha^2 s^2 + sigma^2) is constant along it, so noise ends at mu + s noise."""
    guidance = gaussian()
    a, s = guidance.schedule.alpha[-1], guidance.schedule.sigma[-1]
    expected = mean() + STD * (start() - a * mean()) / (a**2 * STD**2 + s**2).sqrt()
    errors = [
        (denoise(guidance, start(), prompt(guidance, 3), steps, 1) - expected).abs().max().item() for steps in (25, 100, 400)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_samples_have_the_prompts_mean_and_spread() -> None:
    guidance = gaussian()
    images = ddim(guidance, prompt(guidance, 500), 100, 1, torch.Generator().manual_seed(0))
    assert images.shape == (500, 3, 4, 4)
    encoded = guidance.encode_image(images)
    torch.testing.assert_close(encoded.mean((0, 2, 3)), mean().flatten(), rtol=0, atol=0.02)
    assert encoded[:, 2].std().item() == pytest.approx(STD, rel=0.15)


def test_unguided_samples_choose_one_of_the_prompts() -> None:
    guidance = gaussian()
    found = guidance.encode_image(ddim(guidance, prompt(guidance, 200, ""), 60, 1, torch.Generator().manual_seed(0)))
    colours = guidance.means[:, :, 0, 0]
    distance = torch.cdist(found.mean((2, 3)), colours)
    assert distance.min(1).values.max() < 0.35
    assert 60 < distance.argmin(1).sum() < 140


def test_samples_depend_on_the_generator_alone() -> None:
    guidance = gaussian()
    first, same, other = (ddim(guidance, prompt(guidance, 2), 5, 3, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_stable_diffusion_agrees_with_diffusers_own_pipeline(tmp_path: Path, kind: str) -> None:
    """Same weights, same noise, same timesteps: the pipeline's DDIM scheduler and this one give the same picture."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    folder = save_tiny_model(tmp_path / "tiny", prediction_type=kind)
    guidance = StableDiffusion(StableDiffusion.Config(model=str(folder), precision="fp32"))
    pipeline = StableDiffusionPipeline.from_pretrained(str(folder))
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = pipeline(
        "a red car", latents=noise, num_inference_steps=4, guidance_scale=5.0, output_type="pt", height=16, width=16
    )
    ours = guidance.decode_image(denoise(guidance, noise, prompt(guidance, 1, "a red car"), 4, 5.0))
    torch.testing.assert_close(ours, theirs.images, rtol=0, atol=1e-4)


def composition(**changes: object) -> Composition:
    plain = {
        "prompt": "a",
        "device": "cpu",
        "geometry": {"type": "image"},
        "renderer": {"type": "plane"},
        "guidance": {"type": "gaussian", "means": {"a": list(MEAN)}, "resolution": 4},
        "losses": {"sds": {}},
    }
    return compose(RunConfig.model_validate(plain | changes))


def test_sample_writes_a_sheet_and_never_over_another(tmp_path: Path) -> None:
    first, second = (sample(composition(), 3, 20, 1.0, tmp_path / "new") for _ in range(2))
    assert first != second
    assert first.parent == second.parent == tmp_path / "new"
    assert Image.open(first).size == (3 * 4 + 4, 4)
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))
    named = sample(composition(seed=1), 2, 2, 1.0, tmp_path / "mine.png", views=True)
    assert named == tmp_path / "mine.png"
    assert Image.open(named).size == (2 * 4 + 2, 5 * 4 + 8)


def test_the_sheet_has_a_row_for_each_view_in_order(tmp_path: Path) -> None:
    """Each view's words have a colour of their own, and its row has it: front, side, back, side, overhead."""
    colours = {"front": (1, 0, 0), "side": (0, 1, 0), "back": (0, 0, 1), "overhead": (1, 1, 0)}
    means = {f"a, {word} view": list(colour) for word, colour in colours.items()}
    guidance = {"type": "gaussian", "means": means, "resolution": 4, "std": 0.05}
    sheet = np.asarray(Image.open(sample(composition(guidance=guidance), 2, 20, 1.0, tmp_path, views=True)))
    for row, word in enumerate(("front", "side", "back", "side", "overhead")):
        for column in range(2):
            found = sheet[row * 6 : row * 6 + 4, column * 6 : column * 6 + 4].mean((0, 1)) / 255
            np.testing.assert_allclose(found, colours[word], atol=0.05)


def test_sampling_without_guidance_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="guidance"):
        sample(composition(guidance=None, losses={"opacity": {}}), 1, 1, 1.0, tmp_path)
